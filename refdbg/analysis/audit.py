"""Owned references held against visited ones: what a tp_traverse reports, and what it leaves out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

OWN_TYPE = "ob_type"
_INDEX = re.compile(r"\[[^\]]*\]")


@dataclass(frozen=True)
class Owned:
    """One owned reference: its label, what it refers to, and whether it is known to own."""

    label: str
    target: int
    exact: bool


@dataclass(frozen=True)
class Matched:
    """One owned reference, and whether a visit stands for it."""

    owned: Owned
    visited: bool


@dataclass(frozen=True)
class Audit:
    """One object's references. *extra*: targets that are visited and not owned, as often as they are."""

    matched: list[Matched]
    extra: list[int]


def audit(owned: Sequence[Owned], visits: Iterable[int]) -> Audit:
    """Each owned reference paired with a visit of the same target, while there are any.

    Where an object owns a target several times and visits it less often, known references are served
    first and the object's own type last: it is what traverse functions forget.
    """
    left = Counter(visits)
    order = sorted(range(len(owned)), key=lambda n: (owned[n].label == OWN_TYPE, not owned[n].exact, n))
    visited = [False] * len(owned)
    for number in order:
        if left[owned[number].target] > 0:
            left[owned[number].target] -= 1
            visited[number] = True
    return Audit([Matched(*pair) for pair in zip(owned, visited)], list(left.elements()))


@dataclass(frozen=True)
class FieldCount:
    """One field over all objects of a type: how often it owns a reference, how often that is visited."""

    label: str
    owned: int
    visited: int
    exact: bool


def by_field(audits: Iterable[Audit]) -> tuple[list[FieldCount], int]:
    """The fields of a type, unvisited ones first, and how many visits had no owner.

    Items of containers count as one field: ``['key']`` and ``[3]`` become ``[…]``.
    """
    owned: Counter[str] = Counter()
    visited: Counter[str] = Counter()
    exact: dict[str, bool] = {}
    extra = 0
    for one in audits:
        extra += len(one.extra)
        for match in one.matched:
            label = _INDEX.sub("[…]", match.owned.label)
            owned[label] += 1
            visited[label] += match.visited
            exact[label] = exact.get(label, True) and match.owned.exact
    rows = [FieldCount(label, number, visited[label], exact[label]) for label, number in owned.items()]
    return sorted(rows, key=lambda row: (row.visited - row.owned, row.label)), extra
