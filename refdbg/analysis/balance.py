"""The balance of an object: its reference count against the words of the process that hold it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum


class Trust(IntEnum):
    """How far a word that equals an object's address is believed to own a reference, best first."""

    OWNED = 0  # known to own
    DECLARED = 1  # a field of an object that its C struct declares as a reference
    STATE = 2  # a field of the runtime, interpreter or thread state
    GUESSED = 3  # a word of an object whose C struct is not known
    STATIC = 4  # a C variable
    NATIVE = 5  # a block of C code
    STACK = 6  # a C stack, or memory of nobody known


@dataclass(frozen=True)
class Balance:
    """One object's account.

    *owned*: how many words are known to own; *taken*: the further words, by position, that stand for the rest of
    the count, most trusted first; *spare*: how many more are as trusted as the last one taken, so that which of
    them own is not known; *lost*: the references that no word stands for; *surplus*: known owners beyond the count.
    """

    count: int
    owned: int
    taken: tuple[int, ...]
    spare: int
    lost: int
    surplus: int

    @property
    def closed(self) -> bool:
        """Whether every reference has exactly one word that stands for it."""
        return not (self.spare or self.lost or self.surplus)


def balance(count: int, trusts: Sequence[Trust]) -> Balance:
    """The account of an object with *count* references and the words *trusts* that hold it."""
    owned = sum(1 for trust in trusts if trust is Trust.OWNED)
    rest = count - owned
    candidates = sorted((n for n, trust in enumerate(trusts) if trust is not Trust.OWNED), key=lambda n: trusts[n])
    taken = tuple(candidates[: max(rest, 0)])
    spare = sum(1 for n in candidates[len(taken) :] if taken and trusts[n] == trusts[taken[-1]])
    return Balance(count, owned, taken, spare, max(rest - len(taken), 0), max(-rest, 0))
