"""Objects with their storage: the blocks that only they point to (a list's items, a dict's table, split values).

Found conservatively, by words that equal the address of an object or of a block. The words that look like references
and are none are known; everything that is built on the rest is at most "likely".
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from itertools import compress

from refdbg.cpython.heap import HeapObjects
from refdbg.cpython.runtime import Build
from refdbg.cpython.stop import Stop
from refdbg.cpython.types import (
    BYTES_SUBCLASS,
    DICT_SUBCLASS,
    LONG_SUBCLASS,
    MANAGED_DICT,
    TYPE_SUBCLASS,
    UNICODE_SUBCLASS,
    Type,
)
from refdbg.errors import DecodeError, LayoutNotFound, MemoryFault
from refdbg.graph.edges import Edges

_NO_REFERENCES = UNICODE_SUBCLASS | BYTES_SUBCLASS | LONG_SUBCLASS
_RAW = ord("r")
_BIG_RAW_BLOCK = 4096  # raw blocks of this size are interpreter or thread states, never an object's storage


def owned_edges(stop: Stop) -> Edges:
    """The references between the objects of the heap, by rows of ``heap.objects``.

    Known ones, and what is found as in `edges_and_sizes` in objects that may own more than is known.
    """
    heap, known = stop.heap, stop.known
    inside = bytearray(b"\1") * len(heap.objects)
    inside.append(0)  # for NO_ROW
    edges = Edges(known.starts, heap.index.of(known.targets)).only(inside)
    rows = sorted(known.others | known.unsure)
    guessed, _sizes = _search(stop, heap, rows)
    more = {}
    for number, row in enumerate(rows):
        found, told = guessed.of(number), edges.of(row)
        if len(set(found).intersection(told)) < len(found):  # most are known
            targets = list((Counter(found) - Counter(told)).elements())
            if targets:
                more[row] = targets
    return edges.plus(more)


def edges_and_sizes(stop: Stop, heap: HeapObjects) -> tuple[Edges, list[int]]:
    """The references that each object of *heap* holds to another one, and its bytes, by rows of ``heap.objects``.

    A block that several objects point to counts for the first of them.
    """
    return _search(stop, heap, range(len(heap.objects)))


def _search(stop: Stop, heap: HeapObjects, rows: Sequence[int]) -> tuple[Edges, list[int]]:
    # The same of these rows only.
    blocks, objects = heap.blocks, heap.objects
    memory = stop.runtime.memory
    row_of = dict(zip(objects.addresses, range(len(objects))))  # asked of many words, one by one
    # A pointer to the values of a split table leads into their block: nobody else may take that before.
    values = _split_values(stop, heap)
    taken = set(values.values())
    # Their words are known, and most of a C stack's are stale.
    suspended = stop.suspended
    parts = {address: list(map(blocks.row_of, suspended.blocks(address))) for address in suspended.all}
    taken.update(row for own in parts.values() for row in own if row is not None)
    storages = frozenset(start for start, address in zip(blocks.starts, heap.object_in) if not address)
    header = _list_header(stop.runtime.build)
    if header:
        storages |= frozenset(start + header for start in storages)
    wanted = storages.union(row_of)
    edges, sizes = Edges.empty(), []
    keys = _KeysLayout(stop.runtime.build)
    borrowed = _Borrowed(stop)
    given: set[int] = set()  # blocks of values that have their owner
    for row in rows:
        type_address, own = objects.types[row], heap.rows[row]
        try:
            type_ = stop.types[type_address]
            skipped = borrowed.offsets(type_)
        except (DecodeError, MemoryFault):
            edges.close_row()
            sizes.append(blocks.sizes[own])
            continue
        plain = bool(type_.flags & _NO_REFERENCES) and not type_.is_heap
        todo = [own]
        split = values.get(row, own)
        if split != own and split not in given:
            given.add(split)
            todo.append(split)
        size = 0
        while todo:
            block = todo.pop()
            start = blocks.starts[block]
            size += blocks.sizes[block]
            try:
                words: Sequence[int] = array("Q", memory.read(start, blocks.sizes[block] & ~7))
            except MemoryFault:
                objects.coverage.unreadable += 1
                continue
            at = list(compress(range(len(words)), map(wanted.__contains__, words)))
            if not at:
                continue
            ignore: frozenset[int] | range = range(0)
            if block == own:
                ignore = frozenset((objects.addresses[row] + offset - start) // 8 for offset in skipped)
            elif type_.flags & DICT_SUBCLASS and block != split:
                ignore = keys.hash_words(words)
            for index in at:
                word = words[index]
                target = row_of.get(word)
                if target is not None:
                    if index not in ignore and not plain:
                        edges.add(target)
                    continue
                storage = blocks.row_of(word)
                if storage is None or storage in taken:
                    continue
                if blocks.apis[storage] == _RAW and blocks.sizes[storage] >= _BIG_RAW_BLOCK:
                    continue
                taken.add(storage)
                todo.append(storage)
        if objects.addresses[row] in parts:
            size += sum(blocks.sizes[block] for block in parts[objects.addresses[row]] if block is not None)
            for target in suspended.known(objects.addresses[row]):
                if target in row_of:
                    edges.add(row_of[target])
        edges.close_row()
        sizes.append(size)
    return edges, sizes


def _list_header(build: Build) -> int:
    # The bytes before a list's items in their block (free-threaded: Objects/listobject.c, _PyListArray).
    try:
        return build.layout("_PyListArray").offset("ob_item")
    except LayoutNotFound:
        return 0


def _split_values(stop: Stop, heap: HeapObjects) -> dict[int, int]:
    # By row of an object, the block of its values where they lie in one of their own.
    # Objects/dictobject.c, new_values: 3.11+ bytes stand before them.
    dicts = stop.runtime.build.layout("PyDictObject").offset("ma_values")
    memory, instances = stop.runtime.memory, stop.texts.instances
    some = {}
    for type_address in set(heap.objects.types):
        with suppress(DecodeError, MemoryFault):
            if stop.types[type_address].flags & (DICT_SUBCLASS | MANAGED_DICT):
                some[type_address] = stop.types[type_address]
    found = {}
    for row, (address, type_address) in enumerate(zip(heap.objects.addresses, heap.objects.types)):
        type_ = some.get(type_address)
        if type_ is None:
            continue
        try:
            values = (
                memory.u64(address + dicts) if type_.flags & DICT_SUBCLASS else instances.values_of(address, type_)
            )
        except (DecodeError, MemoryFault, LayoutNotFound):
            continue
        block = heap.blocks.row_of(values) if values else None
        if block is not None and not heap.object_in[block]:
            found[row] = block
    return found


class _Borrowed:
    # The words of an object that hold no reference of its own.
    def __init__(self, stop: Stop) -> None:
        self._stop = stop
        build = stop.runtime.build
        self._head = build.gc_head_size
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
