"""One object, one type, the whole process: what there is to say about each, as records."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from refdbg.answers import GenerationRow, InterpreterRow, ObjectInfo, SplitCount, Status, TypeInfo, TypeSlot
from refdbg.cpython import heap
from refdbg.cpython.counts import SplitCounts
from refdbg.cpython.owned import Owned, check_object
from refdbg.cpython.places import runtime_name
from refdbg.cpython.runtime import Interpreter
from refdbg.cpython.stop import Stop, is_supported
from refdbg.cpython.threads import kernel_ids, pthread
from refdbg.cpython.types import Type
from refdbg.errors import DecodeError, LayoutNotFound, MemoryFault, NotPython, RefdbgError
from refdbg.graph.objects import Objects
from refdbg.records import ObjectRow

# Include/object.h; a bit that an older release did not use is 0 there.
_FLAGS = {
    1: "STATIC_BUILTIN",
    2: "INLINE_VALUES",
    3: "MANAGED_WEAKREF",
    4: "MANAGED_DICT",
    5: "SEQUENCE",
    6: "MAPPING",
    7: "DISALLOW_INSTANTIATION",
    8: "IMMUTABLETYPE",
    9: "HEAPTYPE",
    10: "BASETYPE",
    11: "HAVE_VECTORCALL",
    12: "READY",
    13: "READYING",
    14: "HAVE_GC",
    17: "METHOD_DESCRIPTOR",
    18: "HAVE_VERSION_TAG",
    19: "VALID_VERSION_TAG",
    20: "IS_ABSTRACT",
    22: "MATCH_SELF",
    23: "ITEMS_AT_END",
    24: "LONG_SUBCLASS",
    25: "LIST_SUBCLASS",
    26: "TUPLE_SUBCLASS",
    27: "BYTES_SUBCLASS",
    28: "UNICODE_SUBCLASS",
    29: "DICT_SUBCLASS",
    30: "BASE_EXC_SUBCLASS",
    31: "TYPE_SUBCLASS",
}
# What decides over the life of instances.
_SLOTS = ("tp_dealloc", "tp_traverse", "tp_clear", "tp_finalize", "tp_del", "tp_is_gc", "tp_alloc", "tp_free")
_ATTRIBUTES_LIMIT = 200
ALL_OBJECTS = "all objects in allocator blocks"


def refcount(stop: Stop, address: int) -> int:
    """The object's reference count (``PyObject *``). Raises MemoryFault."""
    return stop.runtime.count(address)


def kinds_of_counts(stop: Stop, objects: Objects) -> dict[str, int]:
    """How many of the objects have which kind of count, of a free-threaded build. Raises MemoryFault."""
    counts = stop.runtime.build.counts
    return dict(counts.kinds(stop.runtime.memory, objects.addresses)) if isinstance(counts, SplitCounts) else {}


def is_immortal(stop: Stop, address: int) -> bool:
    """Whether the count never changes (3.12+). Raises MemoryFault."""
    return stop.runtime.is_immortal(refcount(stop, address))


def row(stop: Stop, address: int, limit: int = 80) -> ObjectRow:
    """The object in one row. Raises nothing: what cannot be read is shown as unreadable."""
    texts = stop.texts
    try:
        type_ = texts.type_name(texts.type_of(address).address)
        count = refcount(stop, address)
    except (DecodeError, MemoryFault):
        type_, count = "?", 0
    return ObjectRow(address, type_, texts.repr(address, limit=limit), count)


def is_gc(stop: Stop, address: int) -> bool:
    """Whether a GC head stands before the object (Include/internal/pycore_object.h, _PyObject_IS_GC)."""
    type_ = stop.texts.type_of(address)
    if not type_.is_gc:
        return False
    if stop.texts.kinds.name(type_.address) == "type":
        return stop.types[address].is_heap  # tp_is_gc of type: static ones have none
    return True


def size(stop: Stop, address: int) -> int:
    """The bytes of the C struct and its items, as ``object.__sizeof__`` counts. Raises DecodeError, MemoryFault."""
    type_ = stop.texts.type_of(address)
    if not type_.itemsize:
        return type_.basicsize
    if stop.texts.kinds.name(type_.address) in ("int", "bool"):
        items = max(stop.texts.scalars.digits(address)[0], 1)
    else:
        items = abs(stop.texts.scalars.size(address))
    return type_.basicsize + type_.itemsize * items


def block_size(stop: Stop, start: int) -> int | None:
    """The size of the allocator's block that starts at *start*, by its header; None when there is none.

    Objects/obmalloc.c, _PyMem_DebugRawAlloc.
    """
    try:
        header = stop.runtime.memory.read(start - 16, 16)
    except MemoryFault:
        return None
    if header[8:9] not in (b"o", b"m", b"r") or header[9:] != b"\xfd" * 7:
        return None
    return int.from_bytes(header[:8], "big")


def object_info(stop: Stop, address: int, depth: int = 3, limit: int = 400) -> ObjectInfo:
    """The object at *address* (``PyObject *``). Raises DecodeError, LayoutNotFound, MemoryFault."""
    check_object(stop.runtime, stop.types, address)
    texts = stop.texts
    type_ = texts.type_of(address)
    block = block_size(stop, address - type_.prefix)
    tracked: bool | None = None
    finalized: bool | None = None
    where: tuple[int, str] | None = None
    if is_gc(stop, address):
        tracked = stop.lists.is_tracked(address)
        finalized = stop.lists.is_finalized(address)
        if tracked:
            where = heap.generation_of(stop.lists, list(stop.runtime.interpreters()), address)
    return ObjectInfo(
        address,
        texts.type_name(type_.address),
        type_.address,
        texts.repr(address, depth, limit),
        refcount(stop, address),
        size(stop, address),
        block,
        is_immortal(stop, address),
        tracked,
        where[0] if where else None,
        where[1] if where else None,
        where is not None and where[1] == "permanent",
        finalized,
        runtime_name(stop.runtime, address) if block is None else None,
        _attributes(stop, address, type_, limit),
        stop.allocations.of(address),
        _split(stop, address),
    )


def _split(stop: Stop, address: int) -> SplitCount | None:
    runtime = stop.runtime
    split = runtime.build.counts.split(runtime.memory, address, runtime.by_threads.get(address, 0))
    if split is None or not split.owner:
        return split
    # What _Py_ThreadId() gives is the thread's pthread_self().
    for interpreter in runtime.interpreters():
        for thread in runtime.threads(interpreter):
            if pthread(runtime, thread) == split.owner:
                return replace(split, thread=thread.native_id or None)
    return split


def _attributes(stop: Stop, address: int, type_: Type, limit: int) -> dict[str, str]:
    texts, instances = stop.texts, stop.texts.instances
    if texts.kinds.name(type_.address) in ("type", "module"):
        return {}  # their namespace is no state of an instance, and long
    found: dict[str, str] = {}
    try:
        for entry in instances.attributes(address, type_):
            found[texts.string(entry.key) or texts.repr(entry.key)] = texts.repr(entry.value, limit=limit)
            if len(found) >= _ATTRIBUTES_LIMIT:
                break
        for member in instances.members(type_.address):
            value = stop.runtime.memory.u64(address + member.offset) if member.slot else 0
            if value:
                found[member.name] = texts.repr(value, limit=limit)
    except (DecodeError, MemoryFault):
        pass  # what was read until there
    return found


def type_info(stop: Stop, address: int) -> TypeInfo:
    """The type at *address* (``PyTypeObject *``). Raises DecodeError, MemoryFault."""
    type_ = stop.types[address]
    texts, memory, layout = stop.texts, stop.runtime.memory, stop.runtime.build.type
    name = texts.type_name(address)
    owned = Owned(texts)
    module = owned.type_module(type_)
    slots = []
    for slot in _SLOTS:
        function = memory.u64(address + layout.offset(slot))
        slots.append(TypeSlot(slot, function, runtime_name(stop.runtime, function) if function else None))
    objects, scope = objects_in_scope(stop)
    descendants = set(subclasses(stop, address))
    return TypeInfo(
        address,
        name,
        module,
        type_.name,
        texts.type_name(texts.type_of(address).address),
        type_.is_heap,
        type_.is_gc,
        refcount(stop, address),
        type_.flags,
        [label for bit, label in _FLAGS.items() if type_.flags >> bit & 1],
        type_.basicsize,
        type_.itemsize,
        type_.dictoffset,
        type_.weaklistoffset,
        texts.type_name(type_.base) if type_.base else None,
        _names(stop, memory.u64(address + layout.offset("tp_bases"))),
        _names(stop, memory.u64(address + layout.offset("tp_mro"))),
        slots,
        objects.types.count(address),
        sum(1 for each in objects.types if each in descendants),
        scope,
        None if type_.is_heap else runtime_name(stop.runtime, address),
    )


def _names(stop: Stop, tuple_: int) -> list[str]:
    if not tuple_:
        return []
    try:
        return [stop.texts.type_name(item.target) for item in stop.texts.containers.tuple_items(tuple_)]
    except (DecodeError, MemoryFault):
        return ["<unreadable>"]


def objects_in_scope(stop: Stop, tracked: bool = False) -> tuple[Objects, str]:
    """The objects that can be found, and in words which those are."""
    unknown: list[str] = []
    try:
        if not tracked and len(stop.heap.objects):  # none where no memory regions are known
            return stop.heap.objects, ALL_OBJECTS
    except RefdbgError as error:  # stripped
        unknown = [f"objects that the collector does not track are not known ({error})"]
    found = stop.tracked()
    found.coverage.notes += [*unknown, *collecting_notes(stop)]
    return found, "objects tracked by the collector"


def collecting_notes(stop: Stop) -> list[str]:
    """What the collector's lists do not show at this stop: the garbage of the collections that are running."""
    return [
        f"interpreter {interpreter.number} is inside a collection: the objects that this one has found unreachable are "
        "on none of its lists, and missing here. `refdbg gc unreachable` shows them when `refdbg gc stop` stopped it."
        for interpreter in stop.runtime.interpreters() if stop.lists.collecting(interpreter)
    ]


def all_types(stop: Stop) -> Iterator[int]:
    """Every type that is alive, as far as subclass lists and instances tell (``PyTypeObject *``)."""
    objects, _scope = objects_in_scope(stop)
    owned = Owned(stop.texts)
    roots = [stop.runtime.target.address_of("PyBaseObject_Type"), *sorted(set(objects.types))]
    seen: set[int] = set()
    for root in roots:
        if root not in seen:
            for found in (root, *_below(owned, stop, root, seen)):
                if found not in seen:
                    seen.add(found)
                    yield found


def subclasses(stop: Stop, type_: int) -> list[int]:
    """The type's direct and indirect subclasses (``PyTypeObject *``)."""
    return list(_below(Owned(stop.texts), stop, type_))


def _below(owned: Owned, stop: Stop, type_: int, seen: set[int] | None = None) -> Iterator[int]:
    # The type's direct and indirect subclasses.
    known = set(seen or ())
    known.add(type_)
    todo = [type_]
    while todo:
        try:
            found = owned.subclasses(stop.types[todo.pop()])
        except (DecodeError, MemoryFault):
            continue
        for subclass in found:
            if subclass not in known:
                known.add(subclass)
                todo.append(subclass)
                yield subclass


def status(stop: Stop) -> Status:
    """The process and its interpreters. Raises TargetError."""
    runtime, build = stop.runtime, stop.runtime.build
    info = runtime.target.info
    notes = [runtime.unknown] if runtime.unknown else []
    rows = []
    for interpreter in runtime.interpreters():
        threads = list(runtime.threads(interpreter))
        ids = kernel_ids(stop, threads)
        rows.append(
            InterpreterRow(
                interpreter.number,
                interpreter.main,
                interpreter.address,
                runtime.finalizing(interpreter),
                _enabled(stop, interpreter),
                [ids.get(thread.address, 0) for thread in threads],
                _generations(stop, interpreter, notes),
            )
        )
    traits = build.traits
    if is_supported(build):
        notes += collecting_notes(stop)
    return Status(
        runtime.version,
        info.executable,
        info.pid,
        info.live,
        info.debugger,
        {
            "debug": traits.debug,
            "trace_refs": traits.trace_refs,
            "free_threaded": traits.free_threaded,
            "immortal": traits.immortal,
        },
        build.object.source,
        rows,
        notes,
    )


def _enabled(stop: Stop, interpreter: Interpreter) -> bool | None:
    try:
        return bool(stop.runtime.collector(interpreter)["enabled"])
    except (LayoutNotFound, MemoryFault):
        return None


def _generations(stop: Stop, interpreter: Interpreter, notes: list[str]) -> list[GenerationRow]:
    try:
        lists = stop.lists
    except NotPython as error:
        notes.append(f"{error}. {error.hint}")
        return []
    limits = heap.thresholds(stop.runtime, interpreter)
    rows = []
    for number, generation in enumerate(lists.generations(interpreter)):
        objects = lists.walk(generation.head)
        notes += objects.coverage.notes
        collected = number < len(limits) and generation.name != "permanent"
        threshold, count = limits[number] if collected else (None, None)
        rows.append(GenerationRow(generation.name, len(objects), threshold, count))
    return rows
