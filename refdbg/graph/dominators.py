"""Dominators: the rows without which a row is not reached (semi-NCA: Georgiadis, Linear-Time Algorithms …, 2005)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from refdbg.graph.edges import Edges
from refdbg.graph.pause import collector_paused

ROOT = -1  # nothing but the roots as a whole: a virtual row that refers to each of them
UNREACHED = -2


@dataclass(frozen=True)
class Dominators:
    """The dominator tree. *parent*: by row, its immediate dominator, ROOT or UNREACHED.

    *order*: the rows that are reached; each comes after its dominators.
    """

    parent: list[int]
    order: list[int]

    def retained(self, sizes: Sequence[int]) -> list[int]:
        """By row: the sum of *sizes* over all rows that it dominates, itself included; 0 when it is not reached."""
        totals = [0] * len(self.parent)
        for row in reversed(self.order):
            totals[row] += sizes[row]
            above = self.parent[row]
            if above >= 0:
                totals[above] += totals[row]
        return totals

    def below(self, row: int) -> list[int]:
        """The rows that *row* dominates, itself first."""
        inside = {row}
        for each in self.order:
            if self.parent[each] in inside:
                inside.add(each)
        return [row, *(each for each in self.order if each in inside and each != row)]


@collector_paused()
def dominators(edges: Edges, roots: Iterable[int]) -> Dominators:
    """The dominator tree of the rows that *roots* reach, in O(edges × log rows)."""
    starts, targets = edges.starts, edges.targets
    number = [0] * (len(starts) - 1)  # by row: its place in the depth-first order; 0: not met
    order = [ROOT]
    # All that follows is by number. *semi* starts as the least predecessor among the ancestors.
    parent, semi = [0], [0]
    later: list[list[int] | None] = [None]  # predecessors that come after it
    own = 0
    following = iter(list(roots))
    path = []
    while True:
        for target in following:
            other = number[target]
            if not other:
                path.append((own, following))
                parent.append(own)
                semi.append(own)
                later.append(None)
                number[target] = own = len(order)
                order.append(target)
                following = iter(targets[starts[target] : starts[target + 1]])
                break
            if other < own:
                known = later[other]
                if known is None:
                    later[other] = [own]
                else:
                    known.append(own)
            elif semi[other] > own:
                semi[other] = own
        else:
            if not path:
                break
            own, following = path.pop()
    _semidominators(parent, semi, later)
    above = [0] * len(order)
    result = [UNREACHED] * len(number)
    for own in range(1, len(order)):
        found, limit = parent[own], semi[own]
        while found > limit:
            found = above[found]
        above[own] = found
        result[order[own]] = order[found]
    return Dominators(result, order[1:])


def _semidominators(parent: list[int], semi: list[int], later: list[list[int] | None]) -> None:
    # Completes *semi*. Rows after the one at hand are linked to their ancestor, and *best* of a row is
    # the least semidominator from it up to that ancestor; ancestors are shortened on the way (path compression).
    ancestor, best = parent[:], semi[:]
    for own in range(len(parent) - 1, 0, -1):
        predecessors = later[own]
        if not predecessors:
            continue
        least = semi[own]
        for row in predecessors:
            above = ancestor[row]
            if above > own:
                trail = [row]
                while ancestor[above] > own:
                    trail.append(above)
                    above = ancestor[above]
                top, lowest = ancestor[above], best[above]
                for each in reversed(trail):
                    if best[each] > lowest:
                        best[each] = lowest
                    else:
                        lowest = best[each]
                    ancestor[each] = top
            if best[row] < least:
                least = best[row]
        semi[own] = best[own] = least
