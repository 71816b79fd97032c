"""Shortest paths and cycles, by breadth-first search."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Sequence
from itertools import accumulate

from refdbg.graph.edges import Edges

UNREACHED = -1


def grouped(pairs: Sequence[tuple[int, int]], rows: int) -> Edges:
    """The (source, target) *pairs* as edges of *rows* rows; each row's stay in their order."""
    targets: list[list[int]] = [[] for _ in range(rows)]
    for source, target in pairs:
        targets[source].append(target)
    return Edges(
        array("Q", accumulate(map(len, targets), initial=0)), array("Q", (row for each in targets for row in each))
    )


def transposed(edges: Edges) -> Edges:
    """The same edges turned round."""
    starts, targets = edges.starts, edges.targets
    rows = len(starts) - 1
    counts = [0] * (rows + 1)
    for target in targets:
        counts[target + 1] += 1
    place = list(accumulate(counts))
    turned = array("Q", place)
    sources = array("Q", bytes(8 * len(targets)))
    for row in range(rows):
        for target in targets[starts[row] : starts[row + 1]]:
            sources[place[target]] = row
            place[target] += 1
    return Edges(turned, sources)


def search(
    edges: Edges, sources: Iterable[int], goals: Collection[int] = (), without: Iterable[int] = ()
) -> array[int]:
    """By row: the one before it on a shortest path from *sources*, itself for a source, UNREACHED.

    Of equally short paths the one from the earlier source is taken. With *goals* it ends when all of them are
    reached; rows *without* are not passed through, but reached.
    """
    starts, targets = edges.starts, edges.targets  # arrays, not lists: the processor's cache has room for more of them
    before = array("q", [UNREACHED]) * (len(starts) - 1)
    met = bytearray(len(before))
    level = list(dict.fromkeys(sources))
    for row in level:
        before[row] = row
        met[row] = 1
    walls, wanted = set(without), set(goals)
    ends = bool(wanted)
    while level:
        if ends:
            wanted.difference_update(level)
            if not wanted:
                break
        if walls:
            level = [row for row in level if row not in walls]
        following: list[int] = []
        for row in level:
            for target in targets[starts[row] : starts[row + 1]]:
                if not met[target]:
                    met[target] = 1
                    before[target] = row
                    following.append(target)
        level = following
    return before


def path(before: Sequence[int], goal: int) -> list[int]:
    """The rows from a source to *goal*, as `search` found them; [] when it is not reached."""
    if before[goal] == UNREACHED:
        return []
    found = [goal]
    while before[goal] != goal:
        goal = before[goal]
        found.append(goal)
    return found[::-1]


def shortest_cycle(
    edges: Edges, row: int, inside: Collection[int] | None = None, second: int | None = None
) -> list[int]:
    """The rows of a shortest cycle through *row*, which comes first; [] when there is none.

    *inside*: only through these rows (a set); *second*: with this row next. Costs what is searched, not the size of
    the graph.
    """
    if second == row:
        return [row]
    before = {row: row}
    level = [row]
    if second is not None:
        before[second] = row
        level = [second]
    while level:
        following = []
        for source in level:
            for target in edges.of(source):
                if target == row:
                    found = [source]
                    while source != row:
                        source = before[source]
                        found.append(source)
                    return found[::-1]
                if target not in before and (inside is None or target in inside):
                    before[target] = source
                    following.append(target)
        level = following
    return []
