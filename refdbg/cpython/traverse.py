"""What the collector sees: the real ``tp_traverse`` functions, run in an emulator (Python/gc.c, subtract_refs)."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass

from refdbg.cpython.stop import Stop
from refdbg.errors import DecodeError, MemoryFault
from refdbg.graph.edges import Edges
from refdbg.target.emulator import EmulationError, Emulator


@dataclass(frozen=True)
class Visited:
    """The visits of each object: those of row n stand at [starts[n], starts[n + 1]) of *targets* (``PyObject *``).

    In the order of the visits, repeated as often as visited. *undecided*: by row, why an object's visits are
    not known; it has none here. Objects that the collector does not traverse have none either.
    """

    starts: array[int]
    targets: array[int]
    undecided: dict[int, str]

    def of(self, row: int) -> Sequence[int]:
        """The objects that row's object visits."""
        return self.targets[self.starts[row] : self.starts[row + 1]]

    def edges(self, addresses: Sequence[int]) -> Edges:
        """The visits between the objects of the rows, whose *addresses* these are; other visits are left out."""
        row_of = {address: row for row, address in enumerate(addresses)}
        edges = Edges.empty()
        get = row_of.get
        for row in range(len(addresses)):
            for target in self.of(row):
                found = get(target)
                if found is not None:
                    edges.add(found)
            edges.close_row()
        return edges


class Traverse:
    """An emulator for the traverse functions of one stop."""

    def __init__(self, stop: Stop) -> None:
        """Raises EmulationError, MissingDependency."""
        self._stop = stop
        self._emulator = Emulator(stop.runtime.target)
        build = stop.runtime.build
        self._type_offset = build.ob_type
        self._slot = build.type.offset("tp_traverse")
        self._is_gc_slot = build.type.offset("tp_is_gc")
        self._is_gc: dict[int, int] = {}

    def visits(self, addresses: Sequence[int], types: Sequence[int]) -> Visited:
        """What the tp_traverse of each object visits. *addresses*, *types*: ``PyObject *``, row by row."""
        rows = [row for row, type_ in enumerate(types) if self._traversed(addresses[row], type_)]
        found = self._emulator.visits([addresses[row] for row in rows], self._type_offset, self._slot)
        starts = array("Q", bytes(8 * (len(addresses) + 1)))
        counts = array("Q", bytes(8 * len(addresses)))
        for index, row in enumerate(rows):
            counts[row] = found.starts[index + 1] - found.starts[index]
        total = 0
        for row, count in enumerate(counts):
            starts[row] = total
            total += count
        starts[len(addresses)] = total
        return Visited(starts, found.targets, {rows[index]: reason for index, reason in found.failures.items()})

    def _traversed(self, address: int, type_address: int) -> bool:
        # Include/internal/pycore_object.h, _PyObject_IS_GC: the flag, and tp_is_gc where a type has one.
        try:
            type_ = self._stop.types[type_address]
            if not type_.is_gc or not type_.traverse:
                return False
            is_gc = self._is_gc.get(type_address)
            if is_gc is None:
                is_gc = self._is_gc[type_address] = self._stop.runtime.memory.u64(type_address + self._is_gc_slot)
        except (DecodeError, MemoryFault):
            return False
        if not is_gc:
            return True
        try:
            return bool(self._emulator.call(is_gc, address) & 0xFFFF_FFFF)
        except EmulationError:
            return False

    def undecided_types(self, visited: Visited, types: Sequence[int], rows: Container[int] | None = None) -> list[str]:
        """The types whose objects' visits are not known, most numerous first. *rows*: only these objects count."""
        counts = Counter(
            self._stop.texts.type_name(types[row]) for row in visited.undecided if rows is None or row in rows
        )
        return [name for name, _ in counts.most_common()]
