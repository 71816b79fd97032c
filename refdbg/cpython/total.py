"""The total of references that a debug build prints, itemised (Objects/object.c, _PyDebug_PrintTotalRefs)."""

from __future__ import annotations

from contextlib import suppress

from refdbg.cpython.counts import DEFERRED, FROZEN, SplitCounts
from refdbg.cpython.heap import HeapObjects
from refdbg.cpython.runtime import Interpreter
from refdbg.cpython.stop import Stop
from refdbg.cpython.types import DICT_SUBCLASS, HEAPTYPE, TYPE_SUBCLASS, UNICODE_SUBCLASS
from refdbg.errors import MemoryFault, SymbolNotFound
from refdbg.records import TotalLine, Totals
from refdbg.target.layout import StructView

_INTERNED_MORTAL = 1  # SSTATE_INTERNED_MORTAL in every version


def totals(stop: Stop, function: str, twice: int = 0, immortal: int | None = None) -> Totals:
    """Every contribution to the interpreter's own total of references, as lines that sum up to it.

    *twice*: how many references the interpreters that are gone have added in error (see `interned_twice`); *immortal*:
    how many the objects had that became immortal (see `made_immortal`).

    Raises SymbolNotFound in a build that does not count references.
    """
    reported = reported_total(stop)
    if not reported and not any(stop.heap.objects.refcounts):
        # The most frequent end, and there is nothing to itemise: do not read every library for it.
        return Totals(function, 0, 0, 0, [TotalLine("heap objects", 0)])
    lines = contributions(stop, twice)
    if immortal is not None:
        lines.append(TotalLine("objects that became immortal", immortal + _born_immortal(stop)))
    attributed = sum(line.references for line in lines)
    return Totals(function, reported, attributed, reported - attributed, lines)


def contributions(stop: Stop, twice: int = 0) -> list[TotalLine]:
    """What the total is the sum of, in a build that counts references; in others, what it would be. *twice*: see
    `totals`. Raises RefdbgError.
    """
    heap = stop.heap
    dummy = _set_dummy(stop)
    lines = [
        TotalLine("heap objects", sum(c for c in heap.objects.refcounts if not stop.runtime.is_immortal(c))
                  - len(heap.deferred)),
        TotalLine("statics", sum(found.added for found in stop.statics.objects)),
        TotalLine("interned strings", 2 * _interned(stop, heap) if _counts_interned(stop) else 0),
        TotalLine("dict keys", _dict_keys(stop, heap)),
    ]
    if twice:
        lines.append(TotalLine("interned strings, counted twice by CPython", twice))
    if dummy:
        lines.append(TotalLine("the set's dummy, not counted", -dummy))
    return lines


def reported_total(stop: Stop) -> int:
    """What sys.gettotalrefcount() returns. Raises SymbolNotFound in a build that does not count references."""
    return reference_total(stop) - _set_dummy(stop)


def reference_total(stop: Stop) -> int:
    """The interpreter's own count of references, all interpreters together. Raises SymbolNotFound."""
    runtime = stop.runtime
    memory = runtime.memory
    total = memory.integer(runtime.target.address_of("_Py_RefTotal"), 8, signed=True)
    state = runtime.state
    if "object_state.interpreter_leaks" in state.layout:  # 3.12+: each interpreter counts its own
        total += state["object_state.interpreter_leaks"]
        with suppress(SymbolNotFound):
            total += memory.integer(runtime.build.static("last_final_reftotal"), 8, signed=True)
        for interpreter in runtime.interpreters():
            view = StructView(memory, interpreter.address, runtime.build.interpreter)
            total += view["object_state.reftotal"]
            if runtime.traits.free_threaded:  # each thread, too
                total += sum(
                    runtime.view(thread.address, "_PyThreadStateImpl")["reftotal"]
                    for thread in runtime.threads(interpreter)
                )
    return total


def _set_dummy(stop: Stop) -> int:
    # Until 3.10 the dummy that marks deleted set entries is left out of the total.
    if stop.runtime.version_info >= (3, 11):
        return 0
    try:
        dummy = stop.runtime.memory.u64(stop.runtime.target.address_of("_PySet_Dummy"))
        return stop.runtime.memory.u64(dummy + stop.runtime.build.ob_refcnt) if dummy else 0
    except (SymbolNotFound, MemoryFault):
        return 0


def is_interned(stop: Stop, address: int, type_: int) -> bool:
    """Whether the object (``PyObject *``, of *type_*) is an interned string that can be freed. Raises MemoryFault."""
    if not stop.types[type_].flags & UNICODE_SUBCLASS:
        return False
    layout = stop.runtime.build.layout("PyASCIIObject")
    return StructView(stop.runtime.memory, address, layout)["state.interned"] == _INTERNED_MORTAL


def _counts_interned(stop: Stop) -> bool:
    # Whether the references of the dict of interned strings are in the total: 3.14 takes them off (intern_common).
    return "ob_overflow" not in stop.runtime.build.object


def counts_twice(stop: Stop) -> bool:
    """Whether _PyUnicode_ClearInterned adds references to the total that nobody holds (see `interned_twice`)."""
    return not _counts_interned(stop) and not stop.runtime.build.traits.free_threaded


def interned_twice(stop: Stop, interpreter: Interpreter) -> int:
    """How many references _PyUnicode_ClearInterned is about to add to the total that nobody holds, where it does.

    Since 3.14 both _Py_RefcntAdd and the function itself count the two that it gives back to each string that lives on.
    """
    field = "cached_objects.interned_strings"
    views = {
        each.main: StructView(stop.runtime.memory, each.address, stop.runtime.build.interpreter)
        for each in (*stop.runtime.interpreters(), interpreter)
    }
    strings = views[interpreter.main][field]
    if not strings or (not interpreter.main and strings == views[True][field]):
        return 0  # it belongs to the main interpreter
    keys = (entry.key for entry in stop.texts.containers.dict_items(strings))
    type_ = stop.runtime.build.ob_type
    return 2 * sum(is_interned(stop, key, stop.runtime.memory.u64(key + type_)) for key in keys)


def made_immortal(stop: Stop, interpreter: Interpreter) -> int:
    """How many references the objects have that _PyGC_ImmortalizeDeferredObjects is about to make immortal.

    Those are the tracked ones with a deferred count that gc.freeze() has not put aside (gc_free_threading.c,
    immortalize_visitor). Nobody gives a reference to an immortal object back, so these stay in the total
    (Include/object.h, Py_DECREF).
    """
    tracked, counts, memory = stop.lists.tracked(interpreter), stop.runtime.build.counts, stop.runtime.memory
    assert isinstance(counts, SplitCounts)
    return sum(
        count for address, _type, count in tracked.rows()
        if not stop.runtime.is_immortal(count) and counts.bits(memory, address) & (DEFERRED | FROZEN) == DEFERRED
    )


def _born_immortal(stop: Stop) -> int:
    # How many references are those of objects that were made later, and became immortal at once: each had that of its
    # maker (Objects/object.c, _PyObject_SetDeferredRefcount). Of the ones made immortal before, the bit was cleared.
    counts, memory = stop.runtime.build.counts, stop.runtime.memory
    assert isinstance(counts, SplitCounts)
    return sum(
        bool(counts.bits(memory, address) & DEFERRED) for address, type_, count in stop.heap.objects.rows()
        if stop.runtime.is_immortal(count) and stop.types[type_].is_gc
    )


def interned_dicts(stop: Stop) -> frozenset[int]:
    """The dicts of interned strings (``PyDictObject *``)."""
    runtime = stop.runtime
    found = set()
    try:
        found.add(runtime.memory.u64(runtime.build.static("interned")))  # until 3.11
    except (SymbolNotFound, MemoryFault):
        for interpreter in runtime.interpreters():
            view = StructView(runtime.memory, interpreter.address, runtime.build.interpreter)
            if "cached_objects.interned_strings" in view.layout:
                found.add(view["cached_objects.interned_strings"])
        if "cached_objects.interned_strings" in runtime.state.layout:
            found.add(runtime.state["cached_objects.interned_strings"])
    return frozenset(found - {0})


def _interned(stop: Stop, heap: HeapObjects) -> int:
    # The two references that the dict of interned strings holds are taken off a string's count, not off the total.
    strings = {type_ for type_ in set(heap.objects.types) if stop.types[type_].flags & UNICODE_SUBCLASS}
    state = stop.runtime.build.layout("PyASCIIObject")["state.interned"]  # once: there are as many strings as anything
    offset, shift, mask = state.offset, state.bit_offset, (1 << (state.bit_size or 8 * state.size)) - 1
    integer = stop.runtime.memory.integer
    found = 0
    for address, type_ in zip(heap.objects.addresses, heap.objects.types):
        if type_ in strings:
            try:
                found += integer(address + offset, state.size) >> shift & mask == _INTERNED_MORTAL
            except MemoryFault:
                heap.objects.coverage.unreadable += 1
    return found


def _dict_keys(stop: Stop, heap: HeapObjects) -> int:
    # A dict's keys object has a count of its own, which the total includes (Objects/dictobject.c, dictkeys_incref).
    build, memory = stop.runtime.build, stop.runtime.memory
    ma_keys = build.layout("PyDictObject").offset("ma_keys")
    cached_keys = build.layout("PyHeapTypeObject").offset("ht_cached_keys")
    count = build.layout("PyDictKeysObject")["dk_refcnt"]
    tp_flags = build.type.offset("tp_flags")
    tables: set[int] = set()
    rows = list(zip(heap.objects.addresses, heap.objects.types))
    rows += [(found.address, found.type) for found in stop.statics.objects]
    dicts_and_types = {
        type_: flags for type_ in {type_ for _, type_ in rows}
        if (flags := stop.types[type_].flags) & (DICT_SUBCLASS | TYPE_SUBCLASS)
    }
    for address, type_ in rows:
        flags = dicts_and_types.get(type_, 0)
        if not flags:
            continue
        try:
            if flags & DICT_SUBCLASS:
                tables.add(memory.u64(address + ma_keys))
            elif flags & TYPE_SUBCLASS and memory.u64(address + tp_flags) & HEAPTYPE:
                tables.add(memory.u64(address + cached_keys))
        except MemoryFault:
            heap.objects.coverage.unreadable += 1
    try:
        empty = stop.runtime.build.static("empty_keys_struct")
    except SymbolNotFound:
        empty = 0
    total = 0
    for table in tables | {empty}:
        if not heap.blocks.is_start(table) and (table != empty or not empty):
            continue  # what looked like a dict in a library's data was none
        try:
            value = memory.integer(table + count.offset, count.size, signed=True)
        except MemoryFault:
            heap.objects.coverage.unreadable += 1
            continue
        # Since 3.14 the static table's count is negative, and never changes.
        if value >= 0 and not stop.runtime.is_immortal(value):
            # The static table starts with a count of 1 that was never added to the total.
            total += value - (table == empty)
    return total
