"""Who keeps what: rows of a graph shared out among the roots that hold them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from refdbg.graph.dominators import Dominators, dominators
from refdbg.graph.edges import Edges, Taken


@dataclass(frozen=True)
class Share:
    """What one root keeps: *rows*, and the sum of their counts. *roots*: the rows that it holds directly."""

    holder: int
    roots: tuple[int, ...]
    rows: frozenset[int]
    references: int


def shares(
    holders: Mapping[int, Sequence[int]], edges: Edges, counts: Sequence[int], kept: Taken,
) -> list[Share]:
    """Each row that a holder reaches, given to exactly one: the holder that reaches most comes first.

    *holders*: rows held directly, by holder, in the order that decides between equals; *kept*: rows that stay
    anyway, and are nobody's. A holder that reaches nothing new has an empty share.
    """
    reached = {holder: edges.reach(rows, kept) for holder, rows in holders.items()}
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


@dataclass(frozen=True)
class Retention:
    """What would go with each row: by row, how many rows and bytes it dominates, itself included.

    *roots*: the rows that have references from outside of the graph.
    """

    tree: Dominators
    objects: list[int]
    bytes: list[int]
    roots: list[int]


def held_from_outside(edges: Edges, counts: Sequence[int]) -> list[int]:
    """The rows whose count is greater than the references to them in the graph."""
    left = list(counts)
    for target in edges.targets:
        left[target] -= 1
    return [row for row, count in enumerate(left) if count > 0]


def retention(edges: Edges, counts: Sequence[int], sizes: Sequence[int], also: Sequence[int] = ()) -> Retention:
    """The dominator tree from the rows that are held from outside, *also* taken for held, and its sums."""
    roots = held_from_outside(edges, counts)
    tree = dominators(edges, [*roots, *also])
    return Retention(tree, tree.retained([1] * len(sizes)), tree.retained(sizes), roots)


def retained_together(edges: Edges, roots: Sequence[int], rows: Sequence[int]) -> set[int]:
    """What would go if all of *rows* went, themselves included: what *roots* reach only through them."""
    together = frozenset(rows)
    return edges.reach(roots) - edges.reach(roots, together)
