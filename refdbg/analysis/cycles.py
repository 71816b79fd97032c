"""Cycles: which there are in a component, what keeps it from outside, and which components hold a row."""

from __future__ import annotations

from collections.abc import Sequence

from refdbg.graph.components import Components
from refdbg.graph.edges import Edges
from refdbg.graph.paths import UNREACHED, path, search, shortest_cycle, transposed

_STARTS = 200  # members of a component from which a shortest cycle is searched


def covering(edges: Edges, members: Sequence[int], limit: int) -> list[list[int]]:
    """At most *limit* short cycles inside a component, each with rows that those before it have not; shortest first."""
    inside = frozenset(members)
    found = [shortest_cycle(edges, row, inside) for row in members[:_STARTS]]
    chosen: list[list[int]] = []
    covered: set[int] = set()
    for cycle in sorted(found, key=len):
        if len(chosen) == limit:
            break
        if cycle and not covered.issuperset(cycle):
            covered.update(cycle)
            chosen.append(cycle)
    return chosen


def passing(edges: Edges, row: int, members: Sequence[int], limit: int) -> list[list[int]]:
    """At most *limit* cycles inside a component that pass through *row*: a shortest one for each of its references."""
    inside = frozenset(members)
    seconds = [target for target in dict.fromkeys(edges.of(row)) if target in inside][:_STARTS]
    found = [shortest_cycle(edges, row, inside, second) for second in seconds]
    return sorted((cycle for cycle in found if cycle), key=len)[:limit]


def entries(edges: Edges, members: Sequence[int], counts: Sequence[int]) -> dict[int, int]:
    """The members with references that do not come from members, most first, and how many of those each has."""
    left = {row: counts[row] for row in members}
    for row in members:
        for target in edges.of(row):
            if target in left:
                left[target] -= 1
    return {row: left[row] for row in sorted(left, key=lambda row: -left[row]) if left[row] > 0}


def holding(edges: Edges, rows: Sequence[int], found: Components) -> dict[int, list[int]]:
    """The components with cycles that lead to one of *rows* and to no other on the way, nearest first.

    Index in ``found.cyclic`` → the rows of a shortest path, from the component's to one of *rows*.
    """
    component = {row: index for index, members in enumerate(found.cyclic) for row in members}
    after = search(transposed(edges), rows, without=component)
    paths: dict[int, list[int]] = {}
    for row, index in component.items():
        if after[row] != UNREACHED:
            way = path(after, row)[::-1]
            if index not in paths or len(way) < len(paths[index]):
                paths[index] = way
    return dict(sorted(paths.items(), key=lambda item: (len(item[1]), item[0])))
