"""References between objects, as columns grouped by their source."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, compress
from operator import add

from refdbg.dependencies import vectors


@dataclass
class Edges:
    """A directed multigraph over rows: the targets of row n stand at [starts[n], starts[n + 1])."""

    starts: array[int]
    targets: array[int]

    @classmethod
    def empty(cls) -> Edges:
        """No rows yet: call `add` for each reference of the first row, then `close_row`."""
        return cls(array("Q", [0]), array("Q"))

    def add(self, target: int) -> None:
        """A reference from the row that is being filled."""
        self.targets.append(target)

    def close_row(self) -> None:
        """The row is complete."""
        self.starts.append(len(self.targets))

    def of(self, row: int) -> Sequence[int]:
        """The targets of a row."""
        return self.targets[self.starts[row] : self.starts[row + 1]]

    def only(self, inside: Sequence[int]) -> Edges:
        """Those edges whose targets are *inside* (by row, 0 or 1). A target of -1 is what the last one says."""
        # No loop of Python's runs for each edge.
        np = vectors(len(self.targets))
        if np is not None:
            targets = np.frombuffer(self.targets, "i8")
            keep = np.frombuffer(inside, "u1")[targets] != 0
            counts = np.concatenate([[0], np.cumsum(keep)]).astype("u8")
            starts = counts[np.frombuffer(self.starts, "u8")]
            return Edges(array("Q", starts.tobytes()), array("Q", targets[keep].tobytes()))
        flags = bytes(map(inside.__getitem__, self.targets))
        before = array("Q", accumulate(flags, initial=0))  # how many stay, before each of the edges
        return Edges(array("Q", map(before.__getitem__, self.starts)), array("Q", compress(self.targets, flags)))

    def pick(self, rows: Iterable[int]) -> Edges:
        """The edges of the chosen rows, in their order. The targets' numbers stay."""
        starts, targets = array("Q", [0]), array("Q")
        for row in rows:
            targets.extend(self.targets[self.starts[row] : self.starts[row + 1]])
            starts.append(len(targets))
        return Edges(starts, targets)

    def plus(self, more: Mapping[int, Sequence[int]]) -> Edges:
        """These edges, and *more* by their source."""
        targets = array("Q")
        added = [0] * len(self.starts)
        last = 0
        for row in sorted(more):
            end = self.starts[row + 1]
            targets.extend(self.targets[last:end])
            targets.extend(array("Q", more[row]))
            added[row + 1] = len(more[row])
            last = end
        targets.extend(self.targets[last:])
        return Edges(array("Q", map(add, self.starts, accumulate(added))), targets)

    def reach(self, roots: Sequence[int], taken: set[int] | frozenset[int] = frozenset()) -> set[int]:
        """The rows that *roots* reach, themselves included, without passing through *taken*."""
        starts, targets = self.starts, self.targets
        todo = [row for row in dict.fromkeys(roots) if row not in taken]
        seen = set(todo)
        add, take, leave = seen.add, todo.pop, todo.append
        while todo:
            row = take()
            for target in targets[starts[row] : starts[row + 1]]:
                if target not in seen and target not in taken:
                    add(target)
                    leave(target)
        return seen
