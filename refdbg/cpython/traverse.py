"""What the collector sees: the real ``tp_traverse`` functions, run in an emulator (Python/gc.c, subtract_refs)."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, compress, repeat
from operator import eq

from refdbg.cpython.deferred import borrowed_by
from refdbg.cpython.stop import Stop
from refdbg.cpython.types import TYPE_SUBCLASS
from refdbg.errors import DecodeError, MemoryFault
from refdbg.graph.edges import Edges
from refdbg.graph.rows import Rows
from refdbg.target.cpu import EmulationError
from refdbg.target.emulator import Emulator

_NOT_TRAVERSED, _TRAVERSED, _ASK = 0, 1, 2


@dataclass(frozen=True)
class Visited:
    """The visits of each object: those of row n stand at [starts[n], starts[n + 1]) of *targets* (``PyObject *``).

    In the order of the visits, repeated as often as visited. *undecided*: by row, why an object's visits are
    not known; it has none here. Objects that the collector does not traverse have none either. *ignored*: rows of
    objects whose tp_is_gc says no at present: the collector overlooks the visits to them (Python/gc.c, visit_decref),
    and so keeps those that it tracks.
    """

    starts: array[int]
    targets: array[int]
    undecided: dict[int, str]
    ignored: frozenset[int] = frozenset()

    def of(self, row: int) -> Sequence[int]:
        """The objects that row's object visits."""
        return self.targets[self.starts[row] : self.starts[row + 1]]

    def edges(self, index: Rows) -> Edges:
        """The visits between the objects of the rows, whose *index* this is, that the collector heeds; no others."""
        inside = bytearray(b"\1") * (len(self.starts) - 1)
        for row in self.ignored:
            inside[row] = 0
        inside.append(0)  # for NO_ROW
        return Edges(self.starts, index.of(self.targets)).only(inside)


class Traverse:
    """An emulator for the traverse functions of one stop."""

    def __init__(self, stop: Stop) -> None:
        """Raises EmulationError, MissingDependency."""
        self._stop = stop
        build = stop.runtime.build
        self._emulator = Emulator(stop.runtime.target, stop.copy)
        self._type_offset = build.ob_type
        self._slot = build.type.offset("tp_traverse")
        self._is_gc_slot = build.type.offset("tp_is_gc")

    def close(self) -> None:
        """Give the copy of the memory back; nothing can be asked any more."""
        self._emulator.close()

    def releases(self, owner: int, target: int) -> bool | None:
        """Whether the tp_clear or the tp_dealloc of *owner* releases *target* (``PyObject *``); None if not known."""
        build = self._stop.runtime.build
        counts = build.counts.words(target)
        found: bool | None = None
        for slot in ("tp_clear", "tp_dealloc"):
            try:
                type_ = self._stop.runtime.memory.u64(owner + build.ob_type)
                function = self._stop.runtime.memory.u64(type_ + build.type.offset(slot))
                found = self._emulator.lowers(function, owner, counts) if function else False
            except (EmulationError, MemoryFault):
                return None
            if found:
                return True
        return found

    def visits(self, addresses: Sequence[int], types: Sequence[int]) -> Visited:
        """What the tp_traverse of each object visits. *addresses*, *types*: ``PyObject *``, row by row."""
        return self.begin(addresses, types)()

    def begin(self, addresses: Sequence[int], types: Sequence[int]) -> Callable[[], Visited]:
        """The same beside what the caller does next, as `Emulator.begin` does it."""
        traversed, undecided, ignored = self._traversed(addresses, types)
        borrowed = borrowed_by(self._stop.runtime, addresses, types)
        every = all(traversed)
        chosen = addresses if every else array("Q", compress(addresses, traversed))
        finish = self._emulator.begin(chosen, self._type_offset, self._slot)

        def visits() -> Visited:
            found = finish()
            if every:
                return _without(Visited(found.starts, found.targets, found.failures, ignored), borrowed)
            # A row that is not traversed begins, and ends, where the next one begins that is.
            starts = array("Q", map(found.starts.__getitem__, accumulate(traversed, initial=0)))
            if found.failures:
                rows = list(compress(range(len(addresses)), traversed))
                undecided.update((rows[index], reason) for index, reason in found.failures.items())
            return _without(Visited(starts, found.targets, undecided, ignored), borrowed)

        return visits

    def _traversed(
        self, addresses: Sequence[int], types: Sequence[int]
    ) -> tuple[bytearray, dict[int, str], frozenset[int]]:
        # A flag for each row, by row why it is not known, and which rows take no part at present
        # (Include/internal/pycore_object.h, _PyObject_IS_GC: the type's flag, and its tp_is_gc where it has one).
        kinds = {type_: self._kind(type_) for type_ in set(types)}
        flags = bytearray(map(kinds.__getitem__, types))
        undecided: dict[int, str] = {}
        ignored: frozenset[int] = frozenset()
        if _ASK in kinds.values():
            rows = list(compress(range(len(flags)), map(eq, flags, repeat(_ASK))))
            asked = array("Q", map(addresses.__getitem__, rows))
            answers, failures = self._emulator.results(asked, self._type_offset, self._is_gc_slot)
            refused = []
            for index, row in enumerate(rows):
                yes = bool(answers[index] & 0xFFFF_FFFF)
                # A static type is in no list. What else has been tracked is traversed, whatever it says now.
                type_ = self._stop.types[types[row]]
                flags[row] = index not in failures and (yes or not type_.flags & TYPE_SUBCLASS)
                if index not in failures and not yes:
                    refused.append(row)
            ignored = frozenset(refused)
            undecided = {rows[index]: f"tp_is_gc: {reason}" for index, reason in failures.items()}
        return flags, undecided, ignored

    def _kind(self, type_address: int) -> int:
        try:
            type_ = self._stop.types[type_address]
            if not type_.is_gc or not type_.traverse:
                return _NOT_TRAVERSED
            return _ASK if self._stop.runtime.memory.u64(type_address + self._is_gc_slot) else _TRAVERSED
        except (DecodeError, MemoryFault):
            return _NOT_TRAVERSED


def _without(visited: Visited, borrowed: Mapping[int, Counter[int]]) -> Visited:
    # Less what frames borrow, by row. That cannot be kept from the traverse functions: only the collector's own visitor
    # is not told of it, and an optimised build has code of that in place of calls to it.
    if not borrowed:
        return visited
    starts, targets = array("Q", [0]), array("Q")
    last = 0
    for row in sorted(borrowed):
        targets.extend(visited.targets[visited.starts[last] : visited.starts[row]])
        starts.extend(map((len(targets) - visited.starts[row]).__add__, visited.starts[last + 1 : row + 1]))
        left = borrowed[row].copy()
        for target in visited.of(row):
            if left[target] > 0:
                left[target] -= 1
            else:
                targets.append(target)
        starts.append(len(targets))
        last = row + 1
    shift = len(targets) - visited.starts[last]
    targets.extend(visited.targets[visited.starts[last] :])
    starts.extend(map(shift.__add__, visited.starts[last + 1 :]))
    return Visited(starts, targets, visited.undecided, visited.ignored)


def undecided_types(
    stop: Stop, visited: Visited, types: Sequence[int], rows: Container[int] | None = None
) -> dict[str, str]:
    """The types whose objects' visits are not known, most numerous first, each with a reason of one of them.

    *rows*: only these objects count.
    """
    found = {row: why for row, why in visited.undecided.items() if rows is None or row in rows}
    names = {row: stop.texts.type_name(types[row]) for row in found}
    reasons = {names[row]: why for row, why in found.items()}
    return {name: reasons[name] for name, _ in Counter(names.values()).most_common()}
