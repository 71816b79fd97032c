"""Strongly connected components: the sets of rows that all reach each other (Tarjan's algorithm, without recursion)."""

from __future__ import annotations

from dataclasses import dataclass

from refdbg.graph.edges import Edges
from refdbg.graph.pause import collector_paused


@dataclass(frozen=True)
class Components:
    """*number*: each row's component; edges lead to lower numbers or stay in theirs. *count*: how many there are.

    *cyclic*: the rows of each component with a cycle (more than one row, or a reference to itself), largest first.
    """

    number: list[int]
    count: int
    cyclic: list[list[int]]


@collector_paused()
def components(edges: Edges) -> Components:
    """The components of all rows, in linear time."""
    starts, targets = edges.starts, edges.targets
    rows = len(starts) - 1
    closed = rows + 1
    # By row: 0 not met; up to *rows* the oldest open row that it is known to reach; from *closed* on its component.
    low = [0] * rows
    open_rows: list[int] = []
    cyclic: list[list[int]] = []
    met = count = 0
    for root in range(rows):
        if low[root]:
            continue
        met += 1
        low[root] = own = least = met
        row = root
        open_rows.append(row)
        following = iter(targets[starts[row] : starts[row + 1]])
        path = []
        while True:
            for target in following:
                number = low[target]
                if not number:
                    path.append((row, following, own, least))
                    met += 1
                    low[target] = own = least = met
                    row = target
                    open_rows.append(row)
                    following = iter(targets[starts[row] : starts[row + 1]])
                    break
                if number < least:
                    least = number
            else:
                if least == own:
                    member = open_rows.pop()
                    low[member] = closed + count
                    if member != row:
                        members = [member]
                        while member != row:
                            member = open_rows.pop()
                            low[member] = closed + count
                            members.append(member)
                        cyclic.append(members[::-1])
                    elif row in targets[starts[row] : starts[row + 1]]:
                        cyclic.append([row])
                    count += 1
                else:
                    low[row] = least
                if not path:
                    break
                found = least
                row, following, own, least = path.pop()
                if found < least:
                    least = found
    cyclic.sort(key=len, reverse=True)
    return Components([number - closed for number in low], count, cyclic)
