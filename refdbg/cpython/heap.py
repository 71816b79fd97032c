"""Every object: the collector's generation lists, and the memory blocks of a debug build's allocator."""

from __future__ import annotations

import re
import struct
import sys
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import repeat
from typing import Any

from refdbg.cpython.runtime import Build, Interpreter, Runtime
from refdbg.cpython.types import HIGHEST_ADDRESS, LOWEST_ADDRESS, UNICODE_SUBCLASS, Types
from refdbg.dependencies import vectors
from refdbg.errors import DecodeError, LayoutNotFound, MemoryFault
from refdbg.graph.objects import Coverage, Objects
from refdbg.graph.rows import NO_ROW, Rows, among
from refdbg.target import Target
from refdbg.target.copied import CopiedMemory
from refdbg.target.layout import StructView
from refdbg.target.memory import PAGE_BITS, Memory, Region

# _gc_next and _gc_prev carry flags in their low bits (Include/internal/pycore_gc.h).
_NEXT_MASK = ~0x3 & 0xFFFF_FFFF_FFFF_FFFF
_PREV_MASK = ~0x3 & 0xFFFF_FFFF_FFFF_FFFF
_FINALIZED = 1
_REFS_SHIFT = 2  # _PyGC_PREV_SHIFT
OBJECT_LIMIT = 1 << 26  # a longer list is a damaged one
SANE_COUNT = 1 << 33  # a larger count is junk, not a count: immortal ones are 32-bit
_REGION_LIMIT = 1 << 36
BLOCK = 100  # bytes of a common one


@dataclass(frozen=True)
class Generation:
    """One of the collector's lists. *head*: ``PyGC_Head *``."""

    name: str
    head: int


class Lists:
    """Where a collector keeps what it tracks."""

    def generations(self, interpreter: Interpreter) -> list[Generation]:
        """What there is, what is collected most often first."""
        raise NotImplementedError

    def walk(self, head: int) -> Objects:
        """The objects of one of them. Ends at damage, and counts it."""
        raise NotImplementedError

    def tracked(self, interpreter: Interpreter) -> Objects:
        """Every object that the interpreter's collector tracks, youngest generation first."""
        everything = Objects()
        for generation in self.generations(interpreter):
            everything.extend(self.walk(generation.head))
        return everything

    def length(self, head: int) -> int:
        """How many objects `walk` finds."""
        return len(self.walk(head))


class GenerationLists(Lists):
    """Where the collector of a build with the GIL keeps its objects: doubly linked lists per generation.

    While a collection runs, what it has found unreachable is in none of them, but on a list on the C stack.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._memory = runtime.memory
        build = runtime.build
        self.head_size = build.gc_head.size
        self.next = build.gc_head.offset("_gc_next")
        self._prev = build.gc_head.offset("_gc_prev")
        refcnt = self.head_size + build.ob_refcnt
        type_ = self.head_size + build.ob_type
        # One unpack per object: its head's next link, its count and its type.
        size = max(refcnt, type_) + 8
        words = ["8x"] * (size // 8)
        words[self.next // 8] = words[type_ // 8] = "Q"
        words[refcnt // 8] = "q"
        self._record = struct.Struct("<" + "".join(words))
        self._count_mask = 0xFFFF_FFFF if build.object["ob_refcnt"].size == 4 or build.traits.immortal else None

    def generations(self, interpreter: Interpreter) -> list[Generation]:
        """The generations, youngest first, and the permanent one."""
        collector = self._runtime.collector(interpreter)
        gc, base = collector.layout, collector.address
        found = []
        if "generations" in gc:
            row = gc["generations"]
            for number in range(row.count):
                found.append(Generation(str(number), base + row.offset + number * row.size))
        else:  # 3.14: a young list and two old spaces
            found.append(Generation("young", base + gc.offset("young")))
            for number in range(gc["old"].count):
                found.append(Generation(f"old {number}", base + gc.offset("old") + number * gc["old"].size))
        found.append(Generation("permanent", base + gc.offset("permanent_generation")))
        return found

    def examined(self, interpreter: Interpreter, generation: int) -> tuple[list[Generation], list[Generation]]:
        """The lists that a collection of *generation* looks at; those that it spares."""
        lists = self.generations(interpreter)
        return lists[: generation + 1], lists[generation + 1 :]

    def walk(self, head: int) -> Objects:
        """The objects of the list at *head* (``PyGC_Head *``). Ends at damage, and counts it."""
        objects = Objects()
        memory, pages = self._memory, self._memory.pages
        record, size = self._record, self._record.size
        unpack = record.unpack_from
        add_address, add_type, add_count = objects.addresses.append, objects.types.append, objects.refcounts.append
        head_size = self.head_size
        try:
            position = memory.u64(head + self.next) & _NEXT_MASK
        except MemoryFault:
            objects.coverage.unreadable += 1
            return objects
        if not position:
            if memory.u64(head + self._prev):  # else the collector is not initialised yet
                objects.coverage.unreadable += 1
                objects.coverage.notes.append(f"the GC list at {head:#x} has lost its first link")
            return objects
        # In rounds of doubling length, so that a circle that does not lead back to the head is found at the end
        # of a round and costs nothing per object (Brent).
        room = 64
        addresses = objects.addresses
        while position != head:
            for _ in repeat(None, room):
                try:
                    following, count, type_ = unpack(pages[position >> PAGE_BITS], position & 0xFFF)
                except (KeyError, struct.error):
                    try:
                        following, count, type_ = unpack(memory.read(position, size))
                    except MemoryFault:
                        objects.coverage.unreadable += 1
                        objects.coverage.notes.append(f"a GC list breaks off at {position:#x}: unreadable")
                        position = head
                        break
                add_address(position + head_size)
                add_type(type_)
                add_count(count)
                position = following & _NEXT_MASK
                if position == head:
                    break
            else:
                if position + head_size in addresses[-room:]:
                    objects.coverage.truncated = True
                    objects.coverage.notes.append(f"a GC list runs in a circle at {position:#x}")
                    once = len(set(addresses))  # the rest is repetition
                    for column in (addresses, objects.types, objects.refcounts):
                        del column[once:]
                    break
                if len(addresses) >= OBJECT_LIMIT:
                    objects.coverage.truncated = True
                    objects.coverage.notes.append("a GC list was cut: it is too long to be one")
                    break
                room *= 2
        if self._count_mask is not None:
            mask = self._count_mask
            objects.refcounts = array("q", [count & mask for count in objects.refcounts])
        return objects

    def following(self, link: int) -> int:
        """The link (``PyGC_Head *``) behind this one, 0 where it cannot be read."""
        try:
            return self._memory.u64(link + self.next) & _NEXT_MASK
        except MemoryFault:
            return 0

    def last(self, head: int) -> int:
        """The list's last object (``PyObject *``), 0 when the list is empty."""
        link = self._memory.u64(head + self._prev) & _PREV_MASK
        return 0 if link == head or not link else link + self.head_size

    def backward(self, head: int) -> Iterator[int]:
        """The list's objects from its tail. Ends at damage."""
        link = head
        for _ in range(OBJECT_LIMIT):
            try:
                link = self._memory.u64(link + self._prev) & _PREV_MASK
            except MemoryFault:
                return
            if link == head or not link:
                return
            yield link + self.head_size

    def collecting(self, interpreter: Interpreter) -> bool:
        """Whether the interpreter's collector is at work: its lists are not complete then."""
        return bool(self._runtime.collector(interpreter)["collecting"])

    def is_tracked(self, address: int) -> bool:
        """Whether the collector tracks the object (its GC head is linked). *address*: ``PyObject *``, of a GC type."""
        return bool(self._memory.u64(address - self.head_size + self.next))

    def gc_refs(self, address: int) -> int:
        """The count that the collector has left of the object, where it stands in its GC head (Python/gc.c)."""
        return self._memory.u64(address - self.head_size + self._prev) >> _REFS_SHIFT

    def is_finalized(self, address: int) -> bool:
        """Whether the collector has called the object's tp_finalize. *address*: ``PyObject *``, of a GC type."""
        return bool(self._memory.u64(address - self.head_size + self._prev) & _FINALIZED)


def tracked_of(
    lists: GenerationLists, interpreters: Iterable[Interpreter], heap: HeapObjects, copy: CopiedMemory
) -> Objects:
    """As `Lists.tracked`, for all interpreters: the links of all objects are read at once, then rows are followed."""
    np = vectors(sys.maxsize)
    addresses = np.frombuffer(heap.objects.addresses, "u8")
    runs = [(run.start, run.first) for run in copy.runs]
    starts, firsts = (np.array(column, "u8") for column in zip(*runs))
    links = addresses - lists.head_size + lists.next
    at = np.searchsorted(starts, links, "right") - 1
    words = np.frombuffer(copy.buffer, "<u8", len(copy.buffer) // 8)[firsts[at] + links - starts[at] >> 3]
    following = memoryview(heap.index.of((words & np.uint64(_NEXT_MASK)) + lists.head_size))
    found = Objects()
    for interpreter in interpreters:
        for generation in lists.generations(interpreter):
            rows = array("q")
            add = rows.append
            row = heap.index.get(lists.following(generation.head) + lists.head_size)
            while row != NO_ROW and len(rows) < len(following):
                add(row)
                row = following[row]
            if row != NO_ROW or not rows or words[rows[-1]] & _NEXT_MASK != generation.head:
                found.extend(lists.walk(generation.head))  # empty, damaged, or of more than this heap
            else:
                chosen = heap.objects.pick(rows)
                found.extend(Objects(chosen.addresses, chosen.types, chosen.refcounts))
    return found


# Objects/obmalloc.c (_PyMem_DebugRawAlloc): [size, big-endian][api id]['\xfd' * 7] data ['\xfd' * 8].
_APIS = {int.from_bytes(bytes([api]) + b"\xfd" * 7, "little"): api for api in b"omr"}
_MARK = re.compile(rb"[omr]\xfd")
_TRAILER = b"\xfd" * 8
_OBJECT_API = ord("o")


@dataclass
class Blocks:
    """The allocator's blocks that are in use: address of the data, size in bytes, api ('o', 'm', 'r'; all 'o' without
    headers)."""

    starts: array[int] = field(default_factory=lambda: array("Q"))
    sizes: array[int] = field(default_factory=lambda: array("Q"))
    apis: bytearray = field(default_factory=bytearray)
    divided: list[tuple[int, int]] = field(default_factory=list)  # [start, end) in which all else is free
    coverage: Coverage = field(default_factory=Coverage)

    def extend(self, more: Blocks) -> None:
        """Add blocks that lie behind these."""
        self.starts.extend(more.starts)
        self.sizes.extend(more.sizes)
        self.apis += more.apis

    def is_start(self, address: int) -> bool:
        """Whether the data of a block begins at *address*."""
        row = bisect_right(self.starts, address) - 1
        return row >= 0 and self.starts[row] == address

    def row_of(self, address: int) -> int | None:
        """The row of the block that contains *address*, or None."""
        row = bisect_right(self.starts, address) - 1
        if row >= 0 and address < self.starts[row] + max(self.sizes[row], 1):
            return row
        return None

    def is_free(self, address: int) -> bool:
        """Whether *address* is known to be in no block: words there are left of what was freed."""
        row = bisect_right(self.divided, (address, HIGHEST_ADDRESS)) - 1
        return row >= 0 and address < self.divided[row][1] and self.row_of(address) is None


def sane_count(build: Build) -> int:
    """What the reference counts of the build's objects are less than, immortal ones too."""
    return 1 << 32 if build.traits.immortal else SANE_COUNT


def writable_data(regions: list[Region]) -> list[Region]:
    """The regions in which a program keeps data: writable private ones."""
    return [r for r in regions if r.readable and r.writable and r.end - r.start < _REGION_LIMIT
            and not r.path.startswith("/dev/")]


def resident_stretches(target: Target) -> Iterator[tuple[Region, int, int]]:
    """(region, start, end) of each stretch of writable memory that is backed, ascending."""
    for region in writable_data(list(target.regions())):
        for start, end in target.resident(region.start, region.end):
            yield region, start, end


def data_size(target: Target) -> int:
    """The bytes of all writable memory that is backed."""
    return sum(end - start for _, start, end in resident_stretches(target))


def resident_data(
    runtime: Runtime, coverage: Coverage, most: int = _REGION_LIMIT
) -> Iterator[tuple[int, bytes]]:
    """(address, bytes) of each stretch of writable memory that is backed, ascending, in pieces of *most* bytes."""
    for region, start, end in resident_stretches(runtime.target):
        for place in range(start, end, most):
            size = min(most, end - place)
            data = runtime.memory.read_some(place, size)
            yield place, data
            if len(data) < size:
                _cut_short(coverage, region, place + len(data), end)
                break


def copied_data(
    runtime: Runtime, coverage: Coverage, copy: CopiedMemory, most: int = _REGION_LIMIT
) -> Iterator[tuple[int, memoryview]]:
    """The same, of the *copy*."""
    with memoryview(copy.buffer) as view:
        for region, start, end in resident_stretches(runtime.target):
            first, size = copy.place(start, end)
            for done in range(0, size, most):
                yield start + done, view[first + done : first + min(done + most, size)]
            if start + size < end:
                _cut_short(coverage, region, start + size, end)


def _cut_short(coverage: Coverage, region: Region, place: int, end: int) -> None:
    if not region.path.startswith("["):
        coverage.unreadable += 1
        coverage.notes.append(f"{end - place} bytes at {place:#x} cannot be read")


@dataclass
class HeapObjects:
    """The objects that lie in allocator blocks, with the row of their block.

    *deferred*: where references stand that only these counts include, and to what (see refdbg.cpython.deferred).
    """

    objects: Objects
    blocks: Blocks
    rows: array[int]
    deferred: Mapping[int, int] = field(default_factory=dict)

    @cached_property
    def index(self) -> Rows:
        """Row by address (``PyObject *``)."""
        return Rows(self.objects.addresses)

    @cached_property
    def object_in(self) -> array[int]:
        """By block: its object (``PyObject *``), 0 where it has none."""
        found = array("Q", bytes(8 * len(self.blocks.starts)))
        np = vectors(len(self.rows))
        if np is not None:
            np.frombuffer(found, "u8")[np.frombuffer(self.rows, "u8")] = np.frombuffer(self.objects.addresses, "u8")
            return found
        for block, address in zip(self.rows, self.objects.addresses):
            found[block] = address
        return found

    def size(self, row: int) -> int:
        """The bytes of the block that holds object *row*."""
        return self.blocks.sizes[self.rows[row]]


@dataclass
class _Found:
    # What a stretch of memory has; rows of blocks counted from its own first. *far*: where the blocks end, of which the
    # end lies behind the bytes that are kept.
    blocks: Blocks = field(default_factory=Blocks)
    objects: Objects = field(default_factory=Objects)
    rows: array[int] = field(default_factory=lambda: array("Q"))
    far: list[int] = field(default_factory=list)

    def extend(self, more: _Found) -> None:
        self.rows.extend(map(len(self.blocks.starts).__add__, more.rows))
        self.blocks.extend(more.blocks)
        self.objects.extend(more.objects)


class Pages:
    """The pages of the last scan with what they had: most of them are the same in the next one."""

    def __init__(self) -> None:
        self._found: dict[int, tuple[bytes, _Found]] = {}
        self._next: dict[int, tuple[bytes, _Found]] = {}

    def end(self) -> None:
        """The scan is over."""
        self._found, self._next = self._next, {}

    def known(self, address: int, content: bytes) -> _Found | None:
        """What the page at *address* has, where it and what follows is still the same *content*."""
        known = self._found.get(address)
        if known is None or known[0] != content:
            return None
        self._next[address] = known
        return known[1]

    def keep(self, address: int, content: bytes, found: _Found) -> None:
        """What was found there, for the next scan."""
        self._next[address] = content, found


def heap_objects(
    runtime: Runtime, types: Types, last: Pages | None = None, copy: CopiedMemory | None = None
) -> HeapObjects:
    """Every object in the allocator's blocks, tracked or not, and the blocks themselves, in ascending order.

    A block is taken when its header stands where malloc and pymalloc align it and its trailer is intact. One of
    the object API is an object when, behind the GC head and pre-header that its type asks for, its type word is
    a type and its count is sane (Objects/obmalloc.c, Python/gc.c: gc_alloc). *last*: of the scan before, where there
    will be another one; *copy*: of the memory, which is read without a loop.
    """
    found = _Found()
    scan = _Scan(runtime, types)
    coverage = found.objects.coverage = found.blocks.coverage
    if copy is not None:
        np = vectors(sys.maxsize)
        for start, copied in copied_data(runtime, coverage, copy):
            for low in range(0, len(copied), _VECTOR):
                scan.vectors(np, start, copied, low, min(low + _VECTOR, len(copied)), found)
        return HeapObjects(found.objects, found.blocks, found.rows)
    for start, data in resident_data(runtime, coverage):
        if last is None:
            scan.stretch(start, data, 0, len(data), found)
            continue
        for page in scan.pages(start, data, last):
            found.extend(page)
    if last is not None:
        last.end()
    return HeapObjects(found.objects, found.blocks, found.rows)


_PAGE = 1 << PAGE_BITS
_VECTOR = 8 << 20  # bytes at once: what is told of them stays small

_AHEAD = 640  # bytes behind a page that blocks of pymalloc reach (Include/internal/pycore_obmalloc.h)


class _Scan:
    # One pass over the memory.

    def __init__(self, runtime: Runtime, types: Types) -> None:
        build = runtime.build
        self._memory = runtime.memory
        self._types = types
        # 3.12 and 3.13 count in the lower half and leave the upper one 0 (Include/object.h, Py_INCREF), which a
        # pointer's is not.
        self._count_mask = build.count_mask
        self._sane_count = sane_count(build)
        self._linked = build.traits.trace_refs
        gc_head = build.gc_head_size
        # (bytes before the object, with it at least, the words of the block in which its count and its type stand)
        self._places = [
            (prefix, prefix + build.object.size, (prefix + build.ob_refcnt) // 8, (prefix + build.ob_type) // 8)
            for prefix in (0, gc_head, 16 + gc_head, 16)
        ]
        self._known: dict[int, int] = {}  # bytes before an object, by its type; -1: no type

    def pages(self, start: int, data: bytes, last: Pages) -> Iterator[_Found]:
        """What each page of *data* has, ascending."""
        for low in range(0, len(data), _PAGE):
            content = data[low : low + _PAGE + _AHEAD]
            found = last.known(start + low, content)
            if found is None or not all(_intact(self._memory, start, data, end - start) for end in found.far):
                found = _Found()
                self.stretch(start, data, low, min(low + _PAGE, len(data)), found)
                last.keep(start + low, content, found)
            yield found

    def stretch(self, start: int, data: bytes, low: int, high: int, result: _Found) -> None:
        """Add the blocks whose headers lie in data[low:high]; the data is from *start*."""
        blocks, objects = result.blocks, result.objects
        # The loop runs for each block: what it calls are locals, and words are read from one view of all the data.
        known = self._known
        prefix_of = known.get
        count_mask, sane_count, places = self._count_mask, self._sane_count, self._places
        linked, memory = self._linked, self._memory
        add_start, add_size, add_api = blocks.starts.append, blocks.sizes.append, blocks.apis.append
        add_address, add_type, add_count = objects.addresses.append, objects.types.append, objects.refcounts.append
        add_row = result.rows.append
        words = memoryview(data)[: len(data) & ~7].cast("Q")
        end_of_data = len(data)
        kept = high + _AHEAD - 8
        for first, size, api in _headers(data, words, low, high):
            at = 8 * first
            end = at + size
            if end > kept:
                if not _intact(memory, start, data, end):
                    continue
                result.far.append(start + end)
            elif data[end : end + 8] != _TRAILER and not (
                end + 8 > end_of_data and _intact(memory, start, data, end)
            ):
                continue
            add_start(start + at)
            add_size(size)
            add_api(api)
            if api != _OBJECT_API:
                continue
            room = size if end <= end_of_data else end_of_data - at
            for prefix, least, count_at, type_at in places:
                if least > room:
                    continue
                type_ = words[first + type_at]
                before = prefix_of(type_)
                if before is None:
                    count = words[first + count_at] & count_mask
                    if not 0 < count < sane_count or type_ & 7 or not LOWEST_ADDRESS <= type_ < HIGHEST_ADDRESS:
                        continue
                    # Not met before: what looks like an object further behind may be a part of this one.
                    before = known[type_] = prefix_before(self._types, type_)
                if before != prefix:
                    continue
                count = words[first + count_at] & count_mask
                if 0 < count < sane_count:
                    add_address(start + at + prefix)
                    add_type(type_)
                    add_count(count)
                    add_row(len(blocks.starts) - 1)
                # Else it is on a free list, whose next may stand in its place: words further behind that look like an
                # object are stale fields then. Or these are the links of one that stands behind (--with-trace-refs).
                if count < sane_count or not linked:
                    break


    def vectors(self, np: Any, start: int, data: memoryview, low: int, high: int, result: _Found) -> None:
        """The same as `stretch`, without a loop for the blocks. *np*: numpy; *low*, *high*: multiples of 16."""
        words = np.frombuffer(data, "<u8", len(data) // 8)
        marks = words[low // 8 + 1 : high // 8 : 2]
        at = np.flatnonzero(np.isin(marks, np.array(list(_APIS), "u8")))
        first, apis = low // 8 + 2 + 2 * at, marks[at].astype("u1")
        sizes = words[first - 2].byteswap()
        ends = 8 * first.astype("u8") + np.minimum(sizes, _REGION_LIMIT)
        intact = _trailers(np, words, ends)
        for row in np.flatnonzero(ends + 8 > len(data)):
            intact[row] = _intact(self._memory, start, data, int(ends[row]))
        first, apis, sizes, ends = first[intact], apis[intact], sizes[intact], ends[intact]
        result.far += (start + ends[ends > high + _AHEAD - 8]).tolist()
        row_of_first = len(result.blocks.starts)
        result.blocks.starts.frombytes((start + 8 * first).astype("u8").tobytes())
        result.blocks.sizes.frombytes(sizes.tobytes())
        result.blocks.apis += apis.tobytes()

        rows = np.flatnonzero(apis == _OBJECT_API)
        first = first[rows]
        room = np.minimum(ends[rows], len(data)) - 8 * first.astype("u8")
        places, types, counts = (np.zeros(len(rows), "u8") for _ in range(3))
        pending = np.arange(len(rows))
        for prefix, least, count_at, type_at in self._places:
            asked = pending[room[pending] >= least]
            type_ = words[first[asked] + type_at]
            count = words[first[asked] + count_at] & np.uint64(self._count_mask)
            sane = (count > 0) & (count < self._sane_count)
            likely = sane & (type_ & 7 == 0) & (type_ >= LOWEST_ADDRESS) & (type_ < HIGHEST_ADDRESS)
            for new in set(np.unique(type_[likely]).tolist()) - self._known.keys():
                self._known[new] = prefix_before(self._types, new)
            mine = among(np, type_, np.array(sorted(t for t, before in self._known.items() if before == prefix), "u8"))
            found = asked[mine & sane]
            places[found] = start + 8 * first[found] + prefix
            types[found], counts[found] = type_[mine & sane], count[mine & sane]
            over = asked[mine & ((count < self._sane_count) | (not self._linked))]
            pending = np.setdiff1d(pending, over, assume_unique=True)
        found = np.flatnonzero(places)
        result.objects.addresses.frombytes(places[found].tobytes())
        result.objects.types.frombytes(types[found].tobytes())
        result.objects.refcounts.frombytes(counts[found].tobytes())
        result.rows.frombytes((row_of_first + rows[found]).astype("u8").tobytes())


def _trailers(np: Any, words: Any, ends: Any) -> Any:
    # Whether a trailer begins at each of the *ends*, bytes from the first of the *words*; not where they are too few.
    at, shift = ends >> 3, 8 * (ends & 7)
    last = len(words) - 1
    low = words[np.minimum(at, last)] >> shift
    high = np.where(shift > 0, words[np.minimum(at + 1, last)] << (64 - shift & 63), 0)
    return (low | high == int.from_bytes(_TRAILER, "little")) & (ends + 8 <= 8 * len(words))


def _intact(memory: Memory, start: int, data: bytes | memoryview, end: int) -> bool:
    # Whether a block's trailer is behind data[:end]. The middle of a large block may be untouched (calloc): its trailer
    # is in another stretch then.
    return (data[end : end + 8] if end + 8 <= len(data) else memory.read_some(start + end, 8)) == _TRAILER


def _headers(data: bytes, words: memoryview, low: int, high: int) -> Iterator[tuple[int, int, int]]:
    # (word at which the data of a block begins, its size, its api) of each block header in data[low:high] where malloc
    # and pymalloc align one. Two bytes of every 16 are searched, then their words compared: it is all C that runs for
    # all the data.
    marks = memoryview(data)[low + 8 : high & ~1].cast("H")[::8].tobytes() if high - low >= 16 else b""
    base = low // 8
    places = [base + at for at in map(re.Match[bytes].start, _MARK.finditer(marks)) if not at & 1]
    sizes = array("Q", [words[at] for at in places])
    sizes.byteswap()
    for at, size in zip(places, sizes):
        api = _APIS.get(words[at + 1])
        if api is not None:
            yield at + 2, size, api


def debug_blocks(runtime: Runtime, coverage: Coverage) -> Iterator[tuple[int, int, int]]:
    """(address of the data, its size, its api) of each block in use that the debug hooks have made, ascending."""
    for start, data in resident_data(runtime, coverage):
        words = memoryview(data)[: len(data) & ~7].cast("Q")
        for first, size, api in _headers(data, words, 0, len(data)):
            end = 8 * first + size
            if _intact(runtime.memory, start, data, end):
                yield start + 8 * first, size, api


def prefix_before(types: Types, address: int) -> int:
    """The bytes that stand before an object of the type (``PyTypeObject *``); -1 when there is no type."""
    try:
        return types[address].prefix if types.is_type(address) else -1
    except (DecodeError, MemoryFault):
        return -1


def shape_of(types: Types, build: Build, address: int) -> tuple[int, int]:
    """The bytes before an object of the type (``PyTypeObject *``), with it at least; (-1, 0) when there is no type."""
    prefix = prefix_before(types, address)
    if prefix < 0:
        return -1, 0
    type_ = types[address]
    compact = type_.flags & UNICODE_SUBCLASS  # its text is where other strings have fields
    least = build.layout("PyASCIIObject").size if compact else type_.basicsize
    return prefix, prefix + max(least, build.object.size)


def generation_of(lists: Lists, interpreters: list[Interpreter], address: int) -> tuple[int, str] | None:
    """(interpreter number, generation name) whose list has the object, or None."""
    for interpreter in interpreters:
        for generation in lists.generations(interpreter):
            if address in set(lists.walk(generation.head).addresses):
                return interpreter.number, generation.name
    return None


def stats(runtime: Runtime, interpreter: Interpreter) -> list[tuple[int, int, int]]:
    """(collections, collected, uncollectable) of each generation so far (struct gc_generation_stats)."""
    collector = runtime.collector(interpreter)
    rows = collector.layout["generation_stats"]
    place = collector.address + rows.offset
    if rows.inner is None:  # 3.15+
        inner = runtime.build.layout("gc_generation_stats")
        places = _newest_stats(runtime, runtime.memory.u64(place))
    else:
        inner = rows.struct
        places = [place + number * rows.size for number in range(rows.count)]
    views = [StructView(runtime.memory, address, inner) for address in places]
    return [(view["collections"], view["collected"], view["uncollectable"]) for view in views]


def _newest_stats(runtime: Runtime, buffers: int) -> list[int]:
    # Rings of the sums after each collection (Python/gc.c, gc_get_prev_stats). *buffers*: ``struct gc_stats *``
    layout = runtime.build.layout("gc_stats")
    found = []
    for ring in (layout["young"], layout["old"]):
        for number in range(ring.count):
            start = buffers + ring.offset + number * ring.size
            index = runtime.memory.integer(start + ring.struct.offset("index"), 1)
            items = ring.struct["items"]
            found.append(start + items.offset + min(index, items.count - 1) * items.size)
    return found


def thresholds(runtime: Runtime, interpreter: Interpreter) -> list[tuple[int, int]]:
    """(threshold, count) of each generation, empty where the build has no such lists."""
    try:
        collector = runtime.collector(interpreter)
        row = collector.layout["generations"]
    except LayoutNotFound:
        return []
    found = []
    for number in range(row.count):
        view = StructView(runtime.memory, collector.address + row.offset + number * row.size, row.struct)
        found.append((view["threshold"], view["count"]))
    return found
