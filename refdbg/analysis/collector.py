"""The collector replayed on a graph (Python/gc.c: update_refs, subtract_refs, move_unreachable)."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress
from typing import Any

from refdbg.dependencies import vectors
from refdbg.graph.edges import Edges, Marks

_AT_ONCE = 1 << 18  # rows: what is told of their visits stays small
_OTHERS = bytes.maketrans(b"\0\1", b"\1\0")


@dataclass(frozen=True)
class Replay:
    """What a collection of *collected* would do. *gc_refs*: by row, the count less the visits from collected objects.

    *reached*: by row, whether it is one of those with gc_refs > 0, or what they reach; *unreachable*: the others, in
    the order of *collected*; *negative*: rows that are visited more often than their count allows: the collector would
    go wrong.
    """

    gc_refs: array[int]
    reached: bytearray
    unreachable: list[int]
    negative: list[int]

    @cached_property
    def kept(self) -> frozenset[int]:
        """The rows that are reached."""
        return frozenset(compress(range(len(self.reached)), self.reached))


def replay(counts: Sequence[int], visited: Edges, collected: Sequence[int], immortal: int | None = None) -> Replay:
    """The collector's decision on the rows *collected*.

    *counts*: reference counts by row; *visited*: what each row's tp_traverse reports; counts of *immortal* and
    above never drop.
    """
    np = vectors(len(visited.targets))
    if np is not None:
        return _replay_at_once(np, np.asarray(counts, "i8"), visited, np.asarray(collected, "i8"), immortal)
    refs = list(counts)  # a list's items are read and written faster than an array's
    inside = bytearray(len(refs))
    for row in collected:
        inside[row] = 1
    starts, targets = visited.starts, visited.targets
    if 2 * len(collected) > len(refs):  # cheaper than to ask of each visit whether it counts: the others come back
        for target in targets:
            refs[target] -= 1
        for row, one in enumerate(inside):
            if not one:
                for target in targets[starts[row] : starts[row + 1]]:
                    refs[target] += 1
        for row, one in enumerate(inside):
            if not one:
                refs[row] = counts[row]
    else:
        for row in collected:
            for target in targets[starts[row] : starts[row + 1]]:
                if inside[target]:
                    refs[target] -= 1
    if immortal is not None:
        for row in collected:
            if counts[row] >= immortal:
                refs[row] = counts[row]
    negative = [row for row in collected if refs[row] < 0]
    others = Marks(inside.translate(_OTHERS))
    reached = visited.flood([row for row in collected if refs[row] > 0], others)
    unreachable = [row for row in collected if row not in others]
    return Replay(array("q", refs), reached.marks, unreachable, negative)


def _replay_at_once(np: Any, counts: Any, visited: Edges, collected: Any, immortal: int | None) -> Replay:
    inside = bytearray(len(counts))
    chosen = np.frombuffer(inside, "u1")
    chosen[collected] = 1
    targets, starts = np.frombuffer(visited.targets, "i8"), np.frombuffer(visited.starts, "i8")
    refs = counts.copy()
    for first in range(0, len(counts), _AT_ONCE):
        ends = starts[first : first + _AT_ONCE + 1]
        some = targets[ends[0] : ends[-1]][np.repeat(chosen[first : first + _AT_ONCE] != 0, np.diff(ends))]
        refs -= np.bincount(some, minlength=len(counts))
    refs = np.where(chosen != 0, refs, counts)
    if immortal is not None:
        refs = np.where((chosen != 0) & (counts >= immortal), counts, refs)
    others = Marks(inside.translate(_OTHERS))
    reached = visited.flood(collected[refs[collected] > 0], others)
    unreachable = collected[np.frombuffer(others.marks, "u1")[collected] == 0]
    negative = collected[refs[collected] < 0]
    return Replay(array("q", refs.tobytes()), reached.marks, unreachable.tolist(), negative.tolist())


class Release:
    """What goes when holders from outside let go, and the collector runs: for one graph, asked of many holders."""

    def __init__(
        self, counts: Sequence[int], owned: Edges, visited: Edges, collected: Sequence[int],
        immortal: int | None = None,
    ) -> None:
        """*owned*: the references between the rows, *visited*: those of them that a tp_traverse reports; *collected*:
        the rows that the collector looks at. Counts of *immortal* and above never drop.
        """
        self._owned, self._visited = owned, visited
        self._mortal = bytearray(
            b"\1" * len(counts) if immortal is None else (count < immortal for count in counts)
        )
        self._immortal = immortal
        self._refs = array("q", counts)
        self._collected = Marks(len(counts))
        self._collected.set(collected, 1)
        # Garbage goes in any case, and first: what goes then hangs on what is let go of.
        self.garbage: set[int] = set()
        self._fall(self._refs, [], collected, self.garbage)

    def of(self, dropped: Mapping[int, int]) -> set[int]:
        """The rows that go, garbage among them. *dropped*: how many references to each row holders give up."""
        refs = self._refs[:]
        for row, number in dropped.items():
            refs[row] -= number
        gone = set(self.garbage)
        behind: set[int] = set()
        more = {row for row in dropped if row not in gone}
        while len(more) > len(behind):  # as a rule what is visited is owned
            behind = more
            more = self._visited.reach(list(self._owned.reach(list(behind), gone)), gone)
        todo = [row for row in dropped if refs[row] <= 0 and row not in gone]
        self._fall(refs, todo, [row for row in behind if row in self._collected], gone)
        return gone

    def _fall(self, refs: array[int], todo: list[int], collected: Sequence[int], gone: set[int]) -> None:
        # Adds to *gone* what goes with *todo*, and what the collector finds then among the rows *collected*.
        starts, targets, mortal = self._owned.starts, self._owned.targets, self._mortal
        while True:
            gone.update(todo)
            take, leave = todo.pop, todo.append
            while todo:  # Py_DECREF, down to zero
                row = take()
                for target in targets[starts[row] : starts[row + 1]]:
                    if mortal[target]:
                        refs[target] = left = refs[target] - 1
                        if left == 0 and target not in gone:
                            gone.add(target)
                            leave(target)
            if gone:
                collected = [row for row in collected if row not in gone]
            todo = replay(refs, self._visited, collected, self._immortal).unreachable
            if not todo:
                return
