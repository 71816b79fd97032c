"""Every object of a release build: pymalloc's blocks have no headers there, but its pools say which are in use.

Objects/obmalloc.c: arenas of pools of blocks of one size. What is larger than 512 bytes comes from malloc.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from refdbg.cpython.heap import Blocks, HeapObjects, resident_stretches, sane_count, shape_of
from refdbg.cpython.runtime import Runtime
from refdbg.cpython.text import Texts
from refdbg.cpython.types import (
    DICT_SUBCLASS,
    HEAPTYPE,
    HIGHEST_ADDRESS,
    LIST_SUBCLASS,
    LOWEST_ADDRESS,
    TYPE_SUBCLASS,
)
from refdbg.errors import DecodeError, LayoutNotFound, MemoryFault, SymbolNotFound
from refdbg.graph.objects import Objects
from refdbg.graph.rows import NO_ROW
from refdbg.target.layout import StructView
from refdbg.target.malloc import MappedBlocks, NativeBlock, NativeBlocks

_ALIGNMENT = 16
_SIZE_CLASSES = 512 // _ALIGNMENT  # SMALL_REQUEST_THRESHOLD
_POOL_SIZES = (1 << 14, 1 << 12)  # since 3.10, and before (or without the radix tree of arenas)
_ARENAS_LIMIT = 1 << 20
_OBJECT, _RAW = ord("o"), ord("r")
_FEW = 16
_TAGS = 3  # in the low bits of the collector's links


@dataclass
class _Part:
    # Blocks of neighbouring addresses, and the objects in them with their block's row in this part.
    start: int
    starts: array[int] = field(default_factory=lambda: array("Q"))
    sizes: array[int] = field(default_factory=lambda: array("Q"))
    apis: bytearray = field(default_factory=bytearray)
    objects: Objects = field(default_factory=Objects)
    rows: array[int] = field(default_factory=lambda: array("Q"))


@dataclass(frozen=True)
class Arena:
    """Memory that pymalloc has divided into pools. [start, end): the pools that were ever used."""

    index: int
    start: int
    end: int
    pool_size: int


class Arenas:
    """pymalloc's arenas of all interpreters, in ascending order; none where another allocator is in use."""

    def __init__(self, runtime: Runtime) -> None:
        """Raises LayoutNotFound."""
        self._runtime = runtime
        self._memory = runtime.memory
        self._header = runtime.build.layout("pool_header")
        self._object = runtime.build.layout("arena_object")
        self.first_block = -(-self._header.size // _ALIGNMENT) * _ALIGNMENT  # POOL_OVERHEAD
        self.damaged: list[str] = []
        found: dict[int, Arena] = {}
        for vector, count in set(self._vectors()):
            for index in range(min(count, _ARENAS_LIMIT) if vector else 0):
                arena = self._arena(vector, index)
                if arena is not None:
                    found[arena.start] = arena
        self.all = [found[start] for start in sorted(found)]

    def _vectors(self) -> Iterator[tuple[int, int]]:
        # (struct arena_object *, how many) of each allocator state.
        interpreter = self._runtime.build.interpreter
        if "obmalloc" not in interpreter:  # until 3.11
            with suppress(SymbolNotFound):
                static = self._runtime.build.static
                yield self._memory.u64(static("arenas")), self._memory.integer(static("maxarenas"), 4)
            return
        places = []
        states = [each.address for each in self._runtime.interpreters()]
        if "_main_interpreter" in self._runtime.state.layout:  # it is there when it is no more in the list
            states.append(self._runtime.state.at("_main_interpreter"))
        if "mgmt" in interpreter["obmalloc"].struct if interpreter["obmalloc"].inner else False:  # 3.12
            places = [state + interpreter.offset("obmalloc") for state in states]
            layout = interpreter["obmalloc"].struct
        else:
            places = [self._memory.u64(state + interpreter.offset("obmalloc")) for state in states]
            with suppress(SymbolNotFound):
                places.append(self._runtime.build.static("obmalloc_state_main"))
            layout = self._runtime.build.layout("struct _obmalloc_state")
        for place in filter(None, places):
            view = StructView(self._memory, place, layout)
            yield view["mgmt.arenas"], view["mgmt.maxarenas"]

    def _arena(self, vector: int, index: int) -> Arena | None:
        view = StructView(self._memory, vector + index * self._object.size, self._object)
        address, end = view["address"], view["pool_address"]
        if not address:
            return None
        for size in _POOL_SIZES:
            start = -(-address // size) * size
            if start >= end:
                continue
            pool = StructView(self._memory, start, self._header)
            block = (pool["szidx"] + 1) * _ALIGNMENT
            if pool["maxnextoffset"] == size - block and pool["arenaindex"] == index:
                return Arena(index, start, end, size)
        if end - address >= min(_POOL_SIZES):
            self.damaged.append(f"the arena at {address:#x} does not look like one")
        return None

    def pools(self, arena: Arena) -> Iterator[tuple[int, int, memoryview, list[int]]]:
        """(address, bytes of a block, the pool's words, where in it the blocks in use are) of each pool in use."""
        header = self._header
        offsets = [header.offset(name) // 8 for name in ("freeblock", "szidx", "nextoffset")]
        free_at, class_at, next_at = offsets
        halves = [8 * (header.offset(name) & 4) for name in ("szidx", "nextoffset")]
        data = self._memory.read_some(arena.start, arena.end - arena.start)
        for base in range(arena.start, arena.start + len(data) - arena.pool_size + 1, arena.pool_size):
            words = memoryview(data)[base - arena.start : base - arena.start + arena.pool_size].cast("Q")
            used = words[0] & 0xFFFF_FFFF
            if not used:
                continue  # on the arena's list of free pools
            size = ((words[class_at] >> halves[0] & 0xFFFF_FFFF) + 1) * _ALIGNMENT
            end = words[next_at] >> halves[1] & 0xFFFF_FFFF
            if size > _SIZE_CLASSES * _ALIGNMENT or end > arena.pool_size:
                self.damaged.append(f"the pool at {base:#x} does not look like one")
                continue
            blocks = set(range(self.first_block, end, size))
            following = words[free_at]
            while following:
                offset = following - base
                if offset not in blocks:
                    self.damaged.append(f"the free list of the pool at {base:#x} is damaged at {following:#x}")
                    break
                blocks.discard(offset)
                following = words[offset // 8]
            yield base, size, words, sorted(blocks)


def pool_objects(texts: Texts, tracked: Objects) -> HeapObjects:
    """Every object in pymalloc's pools and in malloc's blocks, and the pools' blocks in use, in ascending order.

    Of malloc's blocks only those that are objects, or the storage of one. *tracked*: what the collectors track.
    Raises LayoutNotFound.
    """
    found = _Reader(texts, tracked).read()
    missing = sum(row == NO_ROW for row in found.index.of(tracked.addresses))
    if missing > _FEW + len(tracked) // 100:  # large ones in the malloc heaps of other threads
        raise LayoutNotFound(
            f"{missing} of {len(tracked)} tracked objects lie in no block of an allocator that refdbg knows",
            "Use a debug build (--with-pydebug), or a command that reads tracked objects only.",
        )
    return found


class _Reader:
    def __init__(self, texts: Texts, tracked: Objects) -> None:
        self._runtime, self._memory, self._types = texts.runtime, texts.memory, texts.types
        self._kinds, self._containers = texts.kinds, texts.containers
        runtime = texts.runtime
        self._tracked = frozenset(tracked.addresses)
        build = runtime.build
        self._count_mask = build.count_mask
        self._sane_count = sane_count(build)
        self._head = build.gc_head.size
        self._next = build.gc_head.offset("_gc_next") - self._head
        self._prev = build.gc_head.offset("_gc_prev") - self._head
        self._places = [
            (prefix, (prefix + build.ob_refcnt) // 8, (prefix + build.ob_type) // 8)
            for prefix in (0, self._head, 16 + self._head, 16)
        ]
        self._known: dict[int, tuple[int, int]] = {}  # by type: bytes before an object (-1: no type), and with it
        self._arenas = Arenas(runtime)
        self._first_arena = [arena.start for arena in self._arenas.all]
        regions = list(runtime.target.regions())
        self._low = [(r.start, r.end) for r in regions if r.start < self._sane_count]  # of a program that is not PIE
        heap = next((region for region in regions if region.path == "[heap]"), None)
        self._native = NativeBlocks(self._memory, heap) if heap is not None else None
        self._mapped = MappedBlocks(
            self._memory, ((start, end) for region, start, end in resident_stretches(runtime.target) if not region.path)
        )

    def read(self) -> HeapObjects:
        parts = [self._pools(arena) for arena in self._arenas.all]
        parts += self._large(parts)
        parts.sort(key=lambda part: part.start)
        blocks, objects, rows = Blocks(), Objects(), array("Q")
        for part in parts:
            rows.extend([len(blocks.starts) + row for row in part.rows])
            blocks.starts.extend(part.starts)
            blocks.sizes.extend(part.sizes)
            blocks.apis.extend(part.apis)
            objects.extend(part.objects)
        blocks.divided = [(arena.start, arena.end) for arena in self._arenas.all]
        blocks.coverage = objects.coverage
        objects.coverage.unreadable += len(self._arenas.damaged)
        objects.coverage.notes += self._arenas.damaged
        return HeapObjects(objects, blocks, rows)

    def _pools(self, arena: Arena) -> _Part:
        part = _Part(arena.start)
        objects = part.objects
        for base, size, words, used in self._arenas.pools(arena):
            first = len(part.starts)
            part.starts.extend([base + at for at in used])
            for row, at in enumerate(used, first):
                found = self._object(base + at, words, at // 8, size)
                if found is not None:
                    objects.addresses.append(found[0])
                    objects.types.append(found[1])
                    objects.refcounts.append(found[2])
                    part.rows.append(row)
            part.sizes.extend([size] * len(used))
        part.apis = bytearray([_OBJECT]) * len(part.starts)
        return part

    def _object(self, block: int, words: memoryview, at: int, size: int) -> tuple[int, int, int] | None:
        # The object in a block of *size* bytes whose first word is words[at]: address, type, count.
        known = self._known.get
        for prefix, count_at, type_at in self._places:
            if prefix + 16 > size:
                continue
            type_ = words[at + type_at]
            shape = known(type_)
            if shape is None:
                if type_ & 7 or not LOWEST_ADDRESS <= type_ < HIGHEST_ADDRESS:
                    continue
                shape = self._known[type_] = self._shape(type_)
            if shape[0] != prefix or shape[1] > size:
                continue
            count = words[at + count_at] & self._count_mask
            # A count of 0: on a free list. A pointer: what stands before a type's is no count.
            if not 0 < count < self._sane_count:
                return None
            address = block + prefix
            if address in self._tracked:
                return address, type_, count
            if self._low and any(start <= count < end for start, end in self._low):
                return None  # two pointers side by side: a module's state, a table
            if prefix >= self._head and self._types[type_].is_gc:
                head = at + prefix // 8
                link = words[head + self._next // 8]
                if link & 7 & ~_TAGS or (link and not LOWEST_ADDRESS <= link < HIGHEST_ADDRESS):
                    return None  # no collector's link: junk that looks like an object
            return address, type_, count
        return None

    def _shape(self, address: int) -> tuple[int, int]:
        # The bytes before an object of the type, and with it at least; (-1, 0) when no live type is at the address.
        try:
            shape = shape_of(self._types, self._runtime.build, address)
            freed = shape[0] >= 0 and self._types[address].is_heap and not self._runtime.count(address)
            return (-1, 0) if freed else shape
        except (DecodeError, MemoryFault):
            return -1, 0

    # What is too large for a pool

    def _is_divided(self, address: int) -> bool:
        row = bisect_right(self._first_arena, address) - 1
        return row >= 0 and address < self._arenas.all[row].end

    def _large(self, parts: Iterable[_Part]) -> list[_Part]:
        found: dict[int, _Part] = {}
        least = 0 if not self._arenas.all else _SIZE_CLASSES * _ALIGNMENT  # 0: pymalloc is switched off
        for block in self._native_blocks():
            if block.size > least:
                self._take(block, found)
        for address in self._tracked:
            if not self._is_divided(address):
                type_ = self._memory.u64(address + self._runtime.build.ob_type)
                start = address - max(self._shape(type_)[0], 0)
                if start not in found:  # of another thread's heap
                    with suppress(MemoryFault):
                        size = (self._memory.u64(start - 8) & ~7) - 8
                        if 0 < size < 1 << 40:
                            self._take(NativeBlock(start, size), found)
        for pointer in self._storages([*parts, *found.values()]):
            if not self._is_divided(pointer):
                block_ = self._block_at(pointer)
                if block_ is not None and block_.address not in found:
                    part = found[block_.address] = _Part(block_.address)
                    part.starts.append(block_.address)
                    part.sizes.append(block_.size)
                    part.apis.append(_OBJECT)
        return list(found.values())

    def _native_blocks(self) -> Iterator[NativeBlock]:
        if self._native is not None:
            yield from self._native.in_use()
        yield from (block for block in self._mapped.all if not self._is_divided(block.address))

    def _block_at(self, address: int) -> NativeBlock | None:
        found = self._native.at(address) if self._native is not None else None
        return found or self._mapped.at(address)

    def _take(self, block: NativeBlock, found: dict[int, _Part]) -> None:
        # The block, where it is an object.
        words = memoryview(self._memory.read_some(block.address, 64) + bytes(64))[:64].cast("Q")
        inside = self._object(block.address, words, 0, block.size)
        if inside is not None:
            part = found[block.address] = _Part(block.address)
            part.starts.append(block.address)
            part.sizes.append(block.size)
            part.apis.append(_OBJECT)
            part.objects.addresses.append(inside[0])
            part.objects.types.append(inside[1])
            part.objects.refcounts.append(inside[2])
            part.rows.append(0)

    def _storages(self, parts: Iterable[_Part]) -> Iterator[int]:
        # Addresses inside the storage of containers.
        layout, memory = self._runtime.build.layout, self._memory
        dict_, set_ = layout("PyDictObject"), layout("PySetObject")
        kinds = [
            (LIST_SUBCLASS, [layout("PyListObject").offset("ob_item")]),
            (DICT_SUBCLASS, [dict_.offset("ma_keys"), dict_.offset("ma_values")]),
            (TYPE_SUBCLASS, [layout("PyHeapTypeObject").offset("ht_cached_keys")]),
        ]
        sets = {self._runtime.target.address_of(name) for name in ("PySet_Type", "PyFrozenSet_Type")}
        offsets: dict[int, list[int]] = {}
        deques: set[int] = set()
        tp_flags = self._runtime.build.type.offset("tp_flags")
        for part in parts:
            for address, type_ in zip(part.objects.addresses, part.objects.types):
                known = offsets.get(type_)
                if known is None:
                    flags = self._types[type_].flags
                    known = next((found for flag, found in kinds if flags & flag), [])
                    if not sets.isdisjoint(self._types.mro(type_)):
                        known = [set_.offset("table")]
                    offsets[type_] = known
                    if self._kinds.name(type_) == "deque":
                        deques.add(type_)
                    elif self._kinds.name(type_) == "module":
                        offsets[type_] = known = [layout("PyModuleObject").offset("md_state")]
                if type_ in deques:
                    with suppress(MemoryFault, DecodeError, LayoutNotFound):
                        yield from (item.place for item in self._containers.deque_items(address))
                for offset in known:
                    with suppress(MemoryFault):
                        if offset == kinds[2][1][0] and not memory.u64(address + tp_flags) & HEAPTYPE:
                            continue
                        pointer = memory.u64(address + offset)
                        if pointer:
                            yield pointer
