"""Where objects were made: the tables of tracemalloc, read from memory.

Modules/_tracemalloc.c (C variables until 3.11), Python/tracemalloc.c (since 3.12 part of ``_PyRuntime``), and the hash
table of Python/hashtable.c. A trace is found by the address of its memory block, as the allocator's caller knows it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property

from refdbg.cpython.heap import OBJECT_LIMIT
from refdbg.cpython.runtime import Runtime
from refdbg.cpython.scalars import Scalars
from refdbg.errors import DecodeError, LayoutNotFound, MemoryFault, SymbolNotFound
from refdbg.target.layout import StructView

_FRAMES = 1 << 16  # uint16_t
_NAME = 1 << 12
_FRAME = struct.Struct("<QI")  # frame_t is packed: file name, line
_WORD = (1 << 64) - 1
_HASH_SHIFT = 4  # Python/pyhash.c, _Py_HashPointerRaw: rotated to the right
_CHAIN = 1 << 16  # a longer chain of one bucket is a damaged one


@dataclass(frozen=True)
class Trace:
    """The Python stack where a memory block was allocated: (file, line), innermost first, of *total* frames.

    Of an object from a free list: where it was made the last time (_PyTraceMalloc_NewReference).
    """

    frames: tuple[tuple[str, int], ...]
    total: int


def pointer_hash(address: int) -> int:
    """What a hash table of pointers keeps beside the pointer."""
    return (address >> _HASH_SHIFT | address << (64 - _HASH_SHIFT)) & _WORD


class Traces:
    """The traces of one stop. Raises LayoutNotFound for a tracemalloc that refdbg does not know."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._memory = runtime.memory
        traces, filenames = self._roots()
        self._traces = traces if self._tracing() else 0
        self._filenames = filenames if self._traces else 0
        self._stacks: dict[int, Trace] = {}  # by traceback_t *
        self._names: dict[int, str] = {}

    @property
    def tracing(self) -> bool:
        """Whether tracemalloc is on."""
        return bool(self._traces)

    def _tracing(self) -> bool:
        state = self._runtime.state
        if "tracemalloc.config.tracing" in state.layout:
            return bool(state["tracemalloc.config.tracing"])
        try:
            address = self._runtime.target.address_of("_Py_tracemalloc_config")
        except SymbolNotFound:
            return False
        return bool(self._runtime.view(address, "_PyTraceMalloc_Config")["tracing"])

    def _roots(self) -> tuple[int, int]:
        # The tables of the traces and of the file names (_Py_hashtable_t *), 0 where there are none.
        state = self._runtime.state
        if "tracemalloc.traces" in state.layout:
            return state["tracemalloc.traces"], state["tracemalloc.filenames"]
        try:
            found = [
                self._memory.u64(self._runtime.build.static(f"tracemalloc_{name}"))
                for name in ("traces", "filenames")
            ]
        except SymbolNotFound:
            return 0, 0
        return found[0], found[1]

    @cached_property
    def _entry(self) -> tuple[int, int, int]:
        entry = self._runtime.build.layout("_Py_hashtable_entry_t")
        return entry.offset("key_hash"), entry.offset("key"), entry.offset("value")

    @cached_property
    def _buckets(self) -> tuple[int, int]:
        # Their address and number.
        table = StructView(self._memory, self._traces, self._runtime.build.layout("_Py_hashtable_t"))
        buckets, number = table["buckets"], table["nbuckets"]
        if number & (number - 1) or not number:
            raise LayoutNotFound(f"tracemalloc's table has {number} buckets")
        self._check(buckets, number)
        return buckets, number

    def _check(self, buckets: int, number: int) -> None:
        # Another hash function, and no block would ever be found.
        hash_, key, _ = self._entry
        for index in range(number):
            entry = self._memory.u64(buckets + 8 * index)
            if entry:
                own = self._memory.u64(entry + hash_)
                if own != pointer_hash(self._memory.u64(entry + key)) or own & (number - 1) != index:
                    raise LayoutNotFound("tracemalloc's table hashes pointers in a way that refdbg does not know")
                return

    def at(self, block: int) -> Trace | None:
        """The trace of the memory block, None without one. Raises DecodeError, LayoutNotFound, MemoryFault."""
        if not self._traces:
            return None
        buckets, number = self._buckets
        _, key, value = self._entry
        entry = self._memory.u64(buckets + 8 * (pointer_hash(block) & (number - 1)))
        for _ in range(_CHAIN):
            if not entry:
                return None
            if self._memory.u64(entry + key) == block:
                trace = self._memory.u64(entry + value)
                return self._stack(self._memory.u64(trace + self._traceback))
            entry = self._memory.u64(entry)  # _Py_slist_item.next comes first
        raise DecodeError(f"a bucket of tracemalloc's table does not end within {_CHAIN} entries")

    @cached_property
    def _traceback(self) -> int:
        return self._runtime.build.layout("trace_t").offset("traceback")

    @cached_property
    def _shape(self) -> tuple[int, int | None, int, int]:
        # traceback_t: its nframe, total_nframe (3.9+) and frames, and the size of a frame.
        layout = self._runtime.build.layout("traceback_t")
        total = layout.offset("total_nframe") if "total_nframe" in layout else None
        if layout["frames"].size != _FRAME.size:
            raise LayoutNotFound(f"a frame of tracemalloc has {layout['frames'].size} bytes")
        return layout.offset("nframe"), total, layout.offset("frames"), layout["nframe"].size

    def _stack(self, address: int) -> Trace:
        known = self._stacks.get(address)
        if known is None:
            nframe, total_at, frames_at, size = self._shape
            number = self._memory.integer(address + nframe, size)
            if number > _FRAMES:
                raise DecodeError(f"the stack at {address:#x} claims {number} frames")
            total = number if total_at is None else self._memory.integer(address + total_at, size)
            data = self._memory.read(address + frames_at, number * _FRAME.size)
            frames = tuple((self._name(name), line) for name, line in _FRAME.iter_unpack(data))
            known = self._stacks[address] = Trace(frames, total)
        return known

    @cached_property
    def _scalars(self) -> Scalars:
        return Scalars(self._runtime)

    def _name(self, address: int) -> str:
        known = self._names.get(address)
        if known is None:
            known = self._names[address] = self._scalars.text(address, _NAME)
        return known

    def is_key(self, place: int, address: int) -> bool:
        """Whether the word at *place*, which is *address*, is the key of a trace, or of one that was freed.

        Such a word is no reference, but for an object at the start of its block it looks like one.
        """
        if not self._traces:
            return False
        hash_, key, _ = self._entry
        try:
            return self._memory.u64(place - key + hash_) == pointer_hash(address)
        except MemoryFault:
            return False

    @cached_property
    def filenames(self) -> frozenset[int]:
        """The words that own tracemalloc's own references: the table of file names."""
        if not self._filenames:
            return frozenset()
        found: list[int] = []
        try:
            table = StructView(self._memory, self._filenames, self._runtime.build.layout("_Py_hashtable_t"))
            key = self._entry[1]
            for index in range(min(table["nbuckets"], OBJECT_LIMIT)):
                entry = self._memory.u64(table["buckets"] + 8 * index)
                while entry and len(found) < OBJECT_LIMIT:
                    found.append(entry + key)
                    entry = self._memory.u64(entry)
        except MemoryFault:
            pass  # what was read until there
        return frozenset(found)
