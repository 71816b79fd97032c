"""What is not tracked: by a collection, before it looks for garbage, and when an interpreter's collector has ended."""

from __future__ import annotations

from functools import cached_property
from itertools import compress

from refdbg.cpython.stop import Stop
from refdbg.errors import DecodeError, MemoryFault
from refdbg.graph.objects import Objects


def collected(stop: Stop, objects: Objects) -> Objects:
    """Those of the tracked *objects* that the collection, about to begin, really looks at.

    In a free-threaded build it first lets go of tuples (until 3.13 also of dicts) that cannot be part of a cycle, and
    of immortal objects (Python/gc_free_threading.c, update_refs). *objects* are in the order in which it finds them.
    """
    if not stop.runtime.traits.free_threaded:
        return objects
    untracked: set[int] = set()
    target = stop.runtime.target
    tuples, dicts = target.address_of("PyTuple_Type"), 0
    if stop.runtime.build.has_symbol("_PyDict_MaybeUntrack"):
        dicts = target.address_of("PyDict_Type")
    kept = bytearray(b"\1") * len(objects)
    rules = _Rules(stop, tuples, untracked)
    for row, (address, type_, count) in enumerate(objects.rows()):
        if stop.runtime.is_immortal(count):
            kept[row] = 0
        elif count > 0 and type_ in (tuples, dicts) and not rules.is_deferred(address):
            parts = rules.of_tuple if type_ == tuples else rules.of_dict
            if parts(address):
                kept[row] = 0
                untracked.add(address)
    return objects.pick(compress(range(len(objects)), kept))


class _Rules:
    # Objects/tupleobject.c (_PyTuple_MaybeUntrack) and dictobject.c (_PyDict_MaybeUntrack): whether it is let go of.
    def __init__(self, stop: Stop, tuples: int, untracked: set[int]) -> None:
        self._stop = stop
        self._memory = stop.runtime.memory
        self._containers = stop.texts.containers
        self.tuples = tuples
        self._untracked = untracked
        self._ob_type = stop.runtime.build.ob_type
        self._is_gc = stop.runtime.build.type.offset("tp_is_gc")

    def is_deferred(self, address: int) -> bool:
        split = self._stop.runtime.build.counts.split(self._memory, address)
        return split is not None and split.deferred

    def of_tuple(self, address: int) -> bool:
        try:
            items = [item.target for item in self._containers.tuple_items(address)]
            return all(items) and not any(map(self._may_be_tracked, items))
        except (DecodeError, MemoryFault):
            return False

    def of_dict(self, address: int) -> bool:
        try:
            return not any(
                self._may_be_tracked(entry.value) or self._may_be_tracked(entry.key)
                for entry in self._containers.dict_items(address)
            )
        except (DecodeError, MemoryFault):
            return False

    def _may_be_tracked(self, address: int) -> bool:
        # Include/internal/pycore_gc.h, _PyObject_GC_MAY_BE_TRACKED.
        type_ = self._memory.u64(address + self._ob_type)
        if not self._stop.types[type_].is_gc:
            return False
        if self._memory.u64(type_ + self._is_gc):  # type's own: static types are not tracked
            return self._stop.types[address].is_heap if self._stop.types.is_type(address) else True
        return type_ != self.tuples or self._is_tracked(address)

    def _is_tracked(self, address: int) -> bool:
        return address not in self._untracked and self._stop.lists.is_tracked(address)


class GivenUp:
    """What the collectors of subinterpreters that have ended were still tracking (Python/gc.c, gc_fini_untrack).

    Since 3.11 (bpo-46070) such an object is not tracked any more, and has one reference that nobody holds, on purpose:
    it is never freed.
    """

    def __init__(self, stop: Stop) -> None:
        self._stop = stop

    def has(self, address: int, type_address: int) -> bool:
        """Whether the object is one of them: a dict or tuple that no collector would track is not taken for one."""
        if not self._have_ended:
            return False
        try:
            if not self._stop.types[type_address].is_gc or self._stop.lists.is_tracked(address):
                return False
            if type_address == self._rules.tuples:
                return not self._rules.of_tuple(address)
            return type_address != self._dicts or not self._rules.of_dict(address)
        except (DecodeError, MemoryFault):
            return False

    @cached_property
    def _have_ended(self) -> bool:
        runtime = self._stop.runtime
        if runtime.traits.free_threaded:
            return False
        alive = sum(1 for each in runtime.interpreters() if not each.main)
        return bool(runtime.state["interpreters.next_id"] - 1 > alive)

    @cached_property
    def _dicts(self) -> int:
        return self._stop.runtime.target.address_of("PyDict_Type")

    @cached_property
    def _rules(self) -> _EndedRules:
        return _EndedRules(self._stop, self._stop.runtime.target.address_of("PyTuple_Type"), set())


class _EndedRules(_Rules):
    # Nothing is tracked any more: a tuple in a tuple is asked for what it has itself.
    def _is_tracked(self, address: int) -> bool:
        if address in self._untracked:
            return False
        self._untracked.add(address)  # once: a damaged one may contain itself
        return not self.of_tuple(address)
