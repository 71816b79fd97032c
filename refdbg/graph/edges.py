"""References between objects, as columns grouped by their source."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass


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

    def reach(self, roots: Sequence[int], taken: set[int] | frozenset[int] = frozenset()) -> set[int]:
        """The rows that *roots* reach, themselves included, without passing through *taken*."""
        todo = [row for row in dict.fromkeys(roots) if row not in taken]
        seen = set(todo)
        while todo:
            for row in self.of(todo.pop()):
                if row not in seen and row not in taken:
                    seen.add(row)
                    todo.append(row)
        return seen
