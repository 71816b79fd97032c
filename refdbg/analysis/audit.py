"""Owned references held against visited ones: what a tp_traverse reports, and what it leaves out."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

OWN_TYPE = "ob_type"
EXAMPLES = 3  # unvisited targets that are kept of each field
_PATHS = (".", "module state.")  # what the labels of C members begin with
_INDEX = re.compile(r"\[.*", re.DOTALL)
_KEY = re.compile(r"(key|element|order|shared key) .*", re.DOTALL)


@dataclass(frozen=True)
class Owned:
    """One owned reference: its label, and what it refers to.

    *exact*: known to own; *declared*: C says that it is an object, which may be borrowed. Neither: a guess.
    *excuse*: why no traverse function needs to visit it: its target is "atomic", refers to nothing as str and int do,
    or is "uncollected", takes no part in collection; or it belongs to a frame that is "running". "" when there is none.
    *suspended*: it is on the object's suspended stack.
    """

    label: str
    target: int
    exact: bool
    declared: bool
    excuse: str
    suspended: bool = False


@dataclass(frozen=True)
class Matched:
    """One owned reference, and whether a visit stands for it.

    *elsewhere*: none does, but one of the same target stands for another reference.
    """

    owned: Owned
    visited: bool
    elsewhere: bool

    @property
    def matters(self) -> bool:
        """Whether it says something of the traverse function."""
        return self.visited or not self.owned.excuse


@dataclass(frozen=True)
class Audit:
    """One object's references. *extra*: targets that are visited and not owned, as often as they are."""

    matched: list[Matched]
    extra: list[int]

    @property
    def excused(self) -> dict[str, int]:
        """How many unvisited references matter to nobody, by excuse."""
        return Counter(match.owned.excuse for match in self.matched if not match.matters)


def audit(owned: Sequence[Owned], visits: Iterable[int]) -> Audit:
    """Each owned reference paired with a visit of the same target, while there are any.

    Where an object owns a target several times and visits it less often, known references are served
    first, what is on its suspended stack after all else, and the object's own type last: these are what traverse
    functions forget.
    """
    visits = list(visits)
    left = Counter(visits)

    def rank(number: int) -> tuple[bool, bool, bool, bool, int]:
        one = owned[number]
        return one.label == OWN_TYPE, one.suspended, not one.exact, not one.declared, number

    visited = [False] * len(owned)
    for number in sorted(range(len(owned)), key=rank):
        if left[owned[number].target] > 0:
            left[owned[number].target] -= 1
            visited[number] = True
    seen = set(visits)
    matched = [Matched(one, done, not done and one.target in seen) for one, done in zip(owned, visited)]
    return Audit(matched, list(left.elements()))


@dataclass(frozen=True)
class FieldCount:
    """One field over all objects of a type: how often it holds a reference, how often that is visited.

    *elsewhere*: how many of the others may be it, as their target is visited for another field; *unvisited*: the
    targets of some that are not.
    """

    label: str
    owned: int
    visited: int
    exact: bool
    declared: bool
    elsewhere: int
    unvisited: list[int]


def by_field(audits: Iterable[Audit]) -> list[FieldCount]:
    """The fields of a type, unvisited ones first. What does not matter is left out.

    The items of containers count as one field: ``['key']`` and ``[3]`` become ``[…]``. Those of C arrays do not.
    """
    fields: defaultdict[str, list[Matched]] = defaultdict(list)
    for one in audits:
        for match in one.matched:
            if match.matters:
                fields[_field(match.owned.label)].append(match)
    rows = [_count(label, matches) for label, matches in fields.items()]
    return sorted(rows, key=lambda row: (row.visited - row.owned, row.label))


def _field(label: str) -> str:
    return label if label.startswith(_PATHS) else _KEY.sub(r"\1 …", _INDEX.sub("[…]", label))


def _count(label: str, matches: list[Matched]) -> FieldCount:
    doubtful = [match.owned for match in matches if not match.owned.exact]
    unvisited = dict.fromkeys(match.owned.target for match in matches if not match.visited)
    return FieldCount(
        label, len(matches), sum(match.visited for match in matches),
        not doubtful, bool(doubtful) and all(owned.declared for owned in doubtful),
        sum(match.elsewhere for match in matches), list(unvisited)[:EXAMPLES],
    )


# What `refdbg visits` answers.
