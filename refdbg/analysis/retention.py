"""Who keeps what: rows of a graph shared out among the roots that hold them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from refdbg.graph.edges import Edges


@dataclass(frozen=True)
class Share:
    """What one root keeps: *rows*, and the sum of their counts. *roots*: the rows that it holds directly."""

    holder: int
    roots: tuple[int, ...]
    rows: frozenset[int]
    references: int


def shares(holders: Mapping[int, Sequence[int]], edges: Edges, counts: Sequence[int]) -> list[Share]:
    """Each row that a holder reaches, given to exactly one: the holder that reaches most comes first.

    *holders*: rows held directly, by holder, in the order that decides between equals. Holders that
    reach nothing new still have their share: the rows that they hold themselves, and no references.
    """
    reached = {holder: edges.reach(rows) for holder, rows in holders.items()}
    weight = {holder: sum(counts[row] for row in rows) for holder, rows in reached.items()}
    taken: set[int] = set()
    found = []
    for holder in sorted(holders, key=lambda holder: -weight[holder]):
        rows = reached[holder] - taken
        taken |= rows
        found.append(
            Share(holder, tuple(holders[holder]), frozenset(rows), sum(counts[row] for row in rows))
        )
    return sorted(found, key=lambda share: -share.references)
