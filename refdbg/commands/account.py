"""The balance of objects at one stop: each reference count against the words of the whole process."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress

from refdbg.analysis.audit import OWN_TYPE
from refdbg.analysis.balance import Balance, Trust, balance
from refdbg.cpython.referrers import Holder, Referrers
from refdbg.cpython.stop import Stop

_TRUST = {
    "frame": Trust.STACK,
    "abandoned frame": Trust.STATE,
    "interpreter": Trust.STATE,
    "thread": Trust.STATE,
    "runtime": Trust.STATE,
    "static": Trust.STATIC,
    "block": Trust.NATIVE,
    "stack": Trust.STACK,
    "memory": Trust.STACK,
}


@dataclass(frozen=True)
class Account:
    """An object's balance, and the holders that it counts (*balance.taken* are positions in *holders*)."""

    holders: Sequence[Holder]
    balance: Balance

    def standing(self) -> Iterator[Holder]:
        """The holders that stand for the object's references: known owners, and what the rest was laid to."""
        room = self.balance.count
        for holder in self.holders:
            if holder.exact and room:
                room -= 1
                yield holder
        for position in self.balance.taken:
            yield self.holders[position]

    def with_visits(self, visitors: Mapping[int, int]) -> Account:
        """This account, with the references that only a tp_traverse tells of: those of its visits without a word.

        *visitors*: how often each owner (``PyObject *``) visits the object.
        """
        words = Counter(holder.owner for holder in self.holders if holder.kind == "object")
        holders = [*self.holders]
        for owner, visits in visitors.items():
            more = Holder("object", 0, owner, "a reference that only its tp_traverse finds", False, declared=True)
            holders += [more] * (visits - words[owner])
        return Account(holders, balance(self.balance.count, [trust(holder) for holder in holders]))


def accounts(referrers: Referrers, counts: Mapping[int, int]) -> dict[int, Account]:
    """The account of each object. *counts*: reference counts by address (``PyObject *``). Raises RefdbgError."""
    found = {}
    for address, holders in referrers.of_many(list(counts)).items():
        words = [holder for holder in holders if holder.kind != "borrowed"]
        found[address] = Account(words, balance(counts[address], [trust(word) for word in words]))
    return found


def visitors_of(stop: Stop, addresses: Collection[int]) -> dict[int, Counter[int]]:
    """Which objects of the heap visit each of the addresses (``PyObject *``), and how often.

    Raises EmulationError, MissingDependency.
    """
    found: dict[int, Counter[int]] = {address: Counter() for address in addresses}
    if found:
        visits, owners = stop.visits, stop.heap.objects.addresses
        for position in compress(range(len(visits.targets)), map(found.__contains__, visits.targets)):
            found[visits.targets[position]][owners[bisect_right(visits.starts, position) - 1]] += 1
    return found


def unvisited(holders: Sequence[Holder], visits: Callable[[int], int]) -> list[Holder]:
    """Those of an object's *holders* that no visit stands for, and that may own.

    *visits*: how often the tp_traverse of an owner (``PyObject *``) reports the object, 0 where that is not collected.
    """
    # An owner's known references are served first by its visits, then those of its suspended stack, its own type last.
    words = [holder for holder in holders if holder.kind != "borrowed"]
    words.sort(key=lambda holder: (holder.label == OWN_TYPE, holder.suspended, trust(holder)))
    left = {owner: visits(owner) for owner in {holder.owner for holder in words if holder.kind == "object"}}
    found = []
    for holder in words:
        if holder.kind == "object" and left[holder.owner] > 0:
            left[holder.owner] -= 1
        else:
            found.append(holder)
    return found


def trust(holder: Holder) -> Trust:
    """How far the word is believed to own a reference."""
    if holder.exact:
        return Trust.OWNED
    if holder.suspended and not holder.declared:
        return Trust.NATIVE  # some of it is in use for certain, unlike memory that any C code may have forgotten
    if holder.kind == "object":
        return Trust.DECLARED if holder.declared else Trust.GUESSED
    return _TRUST[holder.kind]
