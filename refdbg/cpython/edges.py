"""Owned references between objects, found conservatively: words of an object's blocks that equal a known object.

The simple predecessor of an exact account: it knows the words that look like references and are none,
and everything built on it is at most "likely".
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from refdbg.cpython.heap import HeapObjects
from refdbg.cpython.runtime import Build
from refdbg.cpython.stop import Stop
from refdbg.cpython.types import (
    BYTES_SUBCLASS,
    DICT_SUBCLASS,
    LONG_SUBCLASS,
    TYPE_SUBCLASS,
    UNICODE_SUBCLASS,
    Type,
)
from refdbg.errors import DecodeError, LayoutNotFound, MemoryFault
from refdbg.graph.edges import Edges

_NO_REFERENCES = UNICODE_SUBCLASS | BYTES_SUBCLASS | LONG_SUBCLASS
_BIG_RAW_BLOCK = 4096  # raw blocks of this size are interpreter or thread states, never an object's storage


def owned_edges(stop: Stop, heap: HeapObjects) -> Edges:
    """The references that each object of *heap* holds to another one, by rows of ``heap.objects``."""
    blocks = heap.blocks
    memory = stop.runtime.memory
    row_of = {address: row for row, address in enumerate(heap.objects.addresses)}
    block_index = blocks.index
    object_blocks = heap.block_rows
    storage_owner: dict[int, int] = {}
    edges = Edges.empty()
    keys = _KeysLayout(stop.runtime.build)
    borrowed = _Borrowed(stop)
    for row, (address, type_address) in enumerate(zip(heap.objects.addresses, heap.objects.types)):
        try:
            type_ = stop.types[type_address]
        except (DecodeError, MemoryFault):
            edges.close_row()
            continue
        if type_.flags & _NO_REFERENCES and not type_.is_heap:
            edges.close_row()
            continue
        skipped = borrowed.offsets(type_)
        own = heap.rows[row]
        todo = [own]
        while todo:
            block = todo.pop()
            start, size = blocks.starts[block], blocks.sizes[block]
            try:
                words: Sequence[int] = array("Q", memory.read(start, size & ~7))
            except MemoryFault:
                heap.objects.coverage.unreadable += 1
                continue
            ignore: frozenset[int] | range = range(0)
            if block == own:
                ignore = frozenset((address + offset - start) // 8 for offset in skipped)
            elif type_.flags & DICT_SUBCLASS:
                ignore = keys.hash_words(words)
            for index, word in enumerate(words):
                if word in row_of:
                    if index not in ignore:
                        edges.add(row_of[word])
                elif word in block_index:
                    storage = block_index[word]
                    if (
                        storage in object_blocks
                        or storage in storage_owner
                        or (blocks.apis[storage] == ord("r") and blocks.sizes[storage] >= _BIG_RAW_BLOCK)
                    ):
                        continue
                    storage_owner[storage] = row
                    todo.append(storage)
        edges.close_row()
    return edges


class _Borrowed:
    # The words of an object that hold no reference of its own.
    def __init__(self, stop: Stop) -> None:
        self._stop = stop
        build = stop.runtime.build
        self._head = build.gc_head.size
        self._ob_type = build.ob_type
        # --with-trace-refs: the list of all objects.
        self._links = [build.object.offset(name) for name in ("_ob_next", "_ob_prev") if name in build.object]
        self._type_fields = [build.type.offset("tp_weaklist")]
        self._weakref_type = stop.runtime.target.address_of("_PyWeakref_RefType")
        self._module_type = stop.runtime.target.address_of("PyModule_Type")
        weak = build.layout("PyWeakReference")
        self._weak_fields = [weak.offset(name) for name in ("wr_object", "wr_prev", "wr_next")]
        self._cache: dict[int, frozenset[int]] = {}

    def offsets(self, type_: Type) -> frozenset[int]:
        """Byte offsets from the object's address."""
        found = self._cache.get(type_.address)
        if found is None:
            words = [-self._head, -self._head + 8, *self._links]  # the collector's links
            if not type_.is_heap:
                words.append(self._ob_type)
            if type_.weaklistoffset > 0:
                words.append(type_.weaklistoffset)
            if type_.flags & TYPE_SUBCLASS:
                words += self._type_fields
            if self._weakref_type in self._stop.types.mro(type_.address):
                words += self._weak_fields
            found = self._cache[type_.address] = frozenset(words)
        return found


class _KeysLayout:
    # Hash slots of a dict's table: a key that is an int hashes to itself, and may equal an address (tp_subclasses).
    def __init__(self, build: Build) -> None:
        layout = build.layout("PyDictKeysObject")
        self._layout = layout
        self._indices = layout.size if "dk_indices" not in layout else layout.offset("dk_indices")
        try:
            self._entry = build.layout("PyDictKeyEntry").size // 8
        except LayoutNotFound:
            self._entry = 3

    def hash_words(self, words: Sequence[int]) -> range:
        layout = self._layout
        data = array("Q", words).tobytes()

        def field(name: str) -> int:
            member = layout[name]
            return int.from_bytes(data[member.offset : member.offset + member.size], "little")

        if len(data) < self._indices:
            return range(0)
        if "dk_log2_index_bytes" in layout:  # 3.11+: tables of unicode keys have no hash slots
            if field("dk_kind"):
                return range(0)
            first = self._indices + (1 << min(field("dk_log2_index_bytes"), 40))
        else:  # Objects/dictobject.c, DK_IXSIZE
            size = field("dk_size")
            width = 1 if size <= 0xFF else 2 if size <= 0xFFFF else 4 if size <= 0xFFFF_FFFF else 8
            first = self._indices + size * width
        return range(first // 8, len(words), self._entry)
