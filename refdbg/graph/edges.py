"""References between objects, as columns grouped by their source."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, compress
from operator import add, sub
from typing import Any, Union

from refdbg.dependencies import vectors

_WIDE = 6  # one row of 2 ** so many
_AT_ONCE = 1 << 17  # rows


class Marks:
    """A set of rows, where it can have a great part of them: *marks*, 1 or 0 by row."""

    def __init__(self, rows: int | bytes | bytearray) -> None:
        """Empty, of so many *rows*; or with these marks."""
        self.marks = bytearray(rows)

    def __contains__(self, row: int) -> bool:
        return bool(self.marks[row])

    def set(self, rows: Collection[int], mark: int) -> None:
        """Take rows in (1) or out (0)."""
        np = vectors(len(rows))
        if np is not None:
            np.frombuffer(self.marks, "u1")[np.fromiter(rows, "i8", len(rows))] = mark
            return
        for row in rows:
            self.marks[row] = mark


Taken = Union["set[int]", "frozenset[int]", Marks]


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

    def reach(self, roots: Sequence[int], taken: Taken = frozenset()) -> set[int]:
        """The rows that *roots* reach, themselves included, without passing through *taken*."""
        starts, targets = self.starts, self.targets
        is_taken = taken.marks.__getitem__ if isinstance(taken, Marks) else taken.__contains__
        todo = [row for row in dict.fromkeys(roots) if row not in taken]
        seen = set(todo)
        np = vectors(len(targets))
        wide = _wide(np, len(starts) - 1)
        add, take, leave = seen.add, todo.pop, todo.append
        while todo:
            if len(todo) > wide:
                return self._reach_wide(np, todo, seen, taken)
            row = take()
            for target in targets[starts[row] : starts[row + 1]]:
                if target not in seen and not is_taken(target):
                    add(target)
                    leave(target)
        return seen

    def _reach_wide(self, np: Any, todo: list[int], seen: set[int], taken: Taken) -> set[int]:
        marks = Marks(taken.marks if isinstance(taken, Marks) else len(self.starts) - 1)
        if not isinstance(taken, Marks):
            marks.set(taken, 1)
        before = bytes(marks.marks)
        marks.set(seen, 1)
        self._flood(todo, marks.marks)
        return set(np.flatnonzero(np.frombuffer(before, "u1") != np.frombuffer(marks.marks, "u1")).tolist())

    def flood(self, roots: Collection[int], taken: Marks) -> Marks:
        """As `reach`, where that is a great part of all rows: these, which are *taken* then."""
        before = bytes(taken.marks)
        np = vectors(len(roots))
        if np is not None:
            self._flood(_marked(np, np.asarray(roots, "i8"), np.frombuffer(taken.marks, "u1")), taken.marks)
        else:
            todo = [row for row in dict.fromkeys(roots) if row not in taken]
            taken.set(todo, 1)
            self._flood(todo, taken.marks)
        return Marks(bytearray(map(sub, taken.marks, before)))

    def _flood(self, todo: Any, marks: bytearray) -> None:
        # Marks what the rows *todo* reach over rows without a mark; they have theirs.
        starts, targets = self.starts, self.targets
        np = vectors(len(targets))
        wide = _wide(np, len(marks))
        while len(todo):
            if len(todo) > wide:
                todo = self._flood_wide(np, np.asarray(todo, "i8"), np.frombuffer(marks, "u1"))
                continue
            todo = list(map(int, todo))
            take, leave = todo.pop, todo.append
            while todo and len(todo) <= wide:
                row = take()
                for target in targets[starts[row] : starts[row + 1]]:
                    if not marks[target]:
                        marks[target] = 1
                        leave(target)

    def _flood_wide(self, np: Any, rows: Any, marks: Any) -> Any:
        # The rows next to many, all at once.
        starts, targets = np.frombuffer(self.starts, "i8"), np.frombuffer(self.targets, "i8")
        found = []
        for first in range(0, len(rows), _AT_ONCE):
            some = rows[first : first + _AT_ONCE]
            number = starts[some + 1] - starts[some]
            places = np.arange(number.sum()) + np.repeat(starts[some] - np.cumsum(number) + number, number)
            found.append(_marked(np, targets[places], marks))
        return np.concatenate(found)


def _marked(np: Any, rows: Any, marks: Any) -> Any:
    # Marks the rows; returns those that had no mark, each once.
    new = np.zeros(len(marks), "u1")
    new[rows] = 1
    new &= 1 - marks
    marks |= new
    return np.flatnonzero(new)


def _wide(np: Any, rows: int) -> int:
    # How many rows are followed one by one: more are faster at once.
    return rows >> _WIDE if np is not None else rows
