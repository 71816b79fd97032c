"""Every object of a free-threaded build: the pages of mimalloc, thread by thread, and those of threads that have ended.

Python/gc_free_threading.c (gc_visit_heaps), Objects/mimalloc/heap.c (mi_heap_visit_blocks) and segment.c.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress, repeat

from refdbg.cpython.allocator import has_debug_headers
from refdbg.cpython.counts import FINALIZED, FROZEN, IMMORTAL_COUNT, TRACKED, UNREACHABLE, SplitCounts
from refdbg.cpython.deferred import count_deferred
from refdbg.cpython.heap import (
    OBJECT_LIMIT,
    SANE_COUNT,
    Blocks,
    Generation,
    HeapObjects,
    Lists,
    debug_blocks,
    resident_stretches,
    shape_of,
    writable_data,
)
from refdbg.cpython.runtime import LIST_LIMIT, Interpreter, Runtime
from refdbg.cpython.types import Types
from refdbg.errors import MemoryFault, RefdbgError
from refdbg.graph.objects import Coverage, Objects
from refdbg.target.layout import StructLayout, StructView

# Include/internal/mimalloc/mimalloc/types.h, for 64 bits.
_SLICE = 1 << 16  # MI_SEGMENT_SLICE_SIZE
_HUGE_BLOCK = 2 << 30  # MI_HUGE_BLOCK_SIZE: such a block is as large as its page
_PADDING = 8  # MI_PADDING_SIZE, where blocks are padded
_WORD = 0xFFFF_FFFF_FFFF_FFFF
# Include/internal/pycore_pymem.h, enum _Py_mimalloc_heap: the tag of a heap, and of its pages.
_MEM, _OBJECT, _GC, _GC_PRE = range(4)
_PREHEADER = 16
_DEBUG_HEADER = 16  # Objects/obmalloc.c, _PyMem_DebugRawAlloc: [size][api id]
_APIS = {int.from_bytes(bytes([api]) + b"\xfd" * 7, "little"): api for api in b"om"}
_LARGE_BLOCK = 1 << 16  # of larger ones only the beginning is read: debug header, pre-header and object
_BEGINNING = 64
_SHARED_SHIFT, _FLAGS = 2, 3  # of ob_ref_shared
# Instead of generations.
EVERYTHING, PERMANENT = "all", "permanent"


@dataclass(frozen=True)
class Page:
    """A ``mi_page_t``: *capacity* blocks of *size* bytes from *start* on. *free*: heads of its lists of free blocks;
    *keys*: what the links of these are encoded with, () for plain ones; *used*: how many blocks it counts itself."""

    address: int
    start: int
    size: int
    capacity: int
    used: int
    tag: int
    free: tuple[int, int, int]
    keys: tuple[int, ...]


class Mimalloc:
    """The pages of one stop. What cannot be read is counted in *coverage*."""

    def __init__(self, runtime: Runtime) -> None:
        """Raises LayoutNotFound."""
        self._runtime = runtime
        self._memory = runtime.memory
        build = runtime.build
        self._page = build.layout("mi_page_t")
        self._segment = build.layout("mi_segment_t")
        self._heap = build.layout("mi_heap_t")
        self._thread = build.layout("_PyThreadStateImpl")
        self._slices = self._segment.offset("slices")
        self._segment_size = (self._segment["slices"].count - 1) * _SLICE
        self._encoded = "keys" in self._page  # MI_ENCODE_FREELIST, MI_PADDING: both or none
        self.coverage = Coverage()
        self._delayed: set[int] = set()  # free blocks that wait in a heap's own list
        self._mapped: list[list[int]] = []  # start and end of what is writable, adjacent regions in one
        for region in writable_data(list(runtime.target.regions())):
            if self._mapped and self._mapped[-1][1] == region.start:
                self._mapped[-1][1] = region.end
            else:
                self._mapped.append([region.start, region.end])

    def of_interpreter(self, interpreter: Interpreter) -> Iterator[Page]:
        """The pages of its threads' heaps, then those that its ended threads have left behind."""
        for thread in self._runtime.threads(interpreter):
            try:
                state = StructView(self._memory, thread.address, self._thread)
                if not state["mimalloc.initialized"]:
                    continue  # Python/pystate.c, tstate_mimalloc_bind: when the thread is bound
                heaps = self._thread["mimalloc.heaps"]
                for number in range(heaps.count):
                    yield from self._of_heap(thread.address + heaps.offset + number * heaps.size)
            except MemoryFault as error:
                self._lost(f"the heaps of the thread state at {thread.address:#x}: {error}")
        own = self._runtime.build.interpreter
        pool = interpreter.address + own.offset("mimalloc.abandoned_pool")
        lists = own["mimalloc.abandoned_pool"].struct
        for field in ("abandoned", "abandoned_visited"):
            yield from self._of_pool(pool + lists.offset(field))

    def everywhere(self) -> Iterator[Page]:
        """The pages of every segment that lies in the memory, in ascending order.

        Also those of an interpreter that is gone: what it leaves over stays in its segments.
        """
        for interpreter in self._runtime.interpreters():
            for thread in self._runtime.threads(interpreter):
                heaps = self._thread["mimalloc.heaps"]
                for number in range(heaps.count):
                    self._wait(thread.address + heaps.offset + number * heaps.size)
        for segment in self.segments:
            yield from self._of_segment(segment)

    def stretches(self) -> list[tuple[int, int]]:
        """The [start, end) of every segment, in ascending order."""
        slices = self._segment.offset("segment_slices")
        return [(each, each + self._memory.u64(each + slices) * _SLICE) for each in self.segments]

    @cached_property
    def segments(self) -> list[int]:
        """Every ``mi_segment_t *``, found by the cookie that its header has (_mi_ptr_cookie), ascending."""
        cookie = self._memory.u64(self._runtime.target.address_of("_mi_heap_main") + self._heap.offset("cookie"))
        found = []
        for _region, start, end in resident_stretches(self._runtime.target):
            first = -(-start // self._segment_size) * self._segment_size
            for address in range(first, end, self._segment_size):
                try:
                    if self._memory.u64(address + self._segment.offset("cookie")) == address ^ cookie:
                        found.append(address)
                except MemoryFault:
                    continue
        return sorted(set(found))

    def segment_of(self, address: int) -> int:
        """Where the segment begins that *address* is in, if it is in one."""
        return address & -self._segment_size

    def _lost(self, what: str) -> None:
        self.coverage.unreadable += 1
        self.coverage.notes.append(what)

    def _of_heap(self, heap: int) -> Iterator[Page]:
        # heap.c, mi_heap_visit_pages. *heap*: ``mi_heap_t *``.
        self._wait(heap)
        queues = self._heap["pages"]
        first = queues.struct.offset("first")
        seen: set[int] = set()
        for number in range(queues.count):
            page = self._memory.u64(heap + queues.offset + number * queues.size + first)
            while page:
                if page in seen or len(seen) > OBJECT_LIMIT:
                    self.coverage.truncated = True
                    self.coverage.notes.append(f"a list of mimalloc's pages runs in a circle at {page:#x}")
                    break
                seen.add(page)
                try:
                    found = self._read(page)
                    page = self._memory.u64(page + self._page.offset("next"))
                except MemoryFault:
                    self._lost(f"a list of mimalloc's pages breaks off at {page:#x}: unreadable")
                    break
                if found is not None:
                    yield found

    def _wait(self, heap: int) -> None:
        # heap.c, _mi_heap_delayed_free_partial: blocks that other threads have freed, linked with the heap's keys.
        try:
            view = StructView(self._memory, heap, self._heap)
            keys = self._keys(heap, self._heap)
            block = view["thread_delayed_free"]
            seen: set[int] = set()
            while block and block not in seen and len(seen) < OBJECT_LIMIT:
                seen.add(block)
                block = _decoded(self._memory.u64(block), keys, heap)
            self._delayed |= seen
        except MemoryFault as error:
            self._lost(f"what other threads have freed of the mimalloc heap at {heap:#x}: {error}")

    def _of_pool(self, head: int) -> Iterator[Page]:
        # segment.c, _mi_abandoned_pool_visit_blocks. The head's low bits are a counter (mi_tagged_segment_ptr).
        try:
            segment = self._memory.u64(head) & -self._segment_size
            seen: set[int] = set()
            while segment:
                if segment in seen or len(seen) > LIST_LIMIT:
                    self.coverage.truncated = True
                    self.coverage.notes.append(f"mimalloc's abandoned segments run in a circle at {segment:#x}")
                    return
                seen.add(segment)
                yield from self._of_segment(segment)
                segment = self._memory.u64(segment + self._segment.offset("abandoned_next"))
        except MemoryFault as error:
            self._lost(f"mimalloc's abandoned segments: {error}")

    def _of_segment(self, segment: int) -> Iterator[Page]:
        # segment.c, mi_segment_visit_pages: a page, or a span without one, says how many slices it has.
        try:
            view = StructView(self._memory, segment, self._segment)
            entries = min(view["slice_entries"], self._segment["slices"].count)
            number = view["segment_info_slices"]
            size, count = self._page.size, self._page["slice_count"]
            while number < entries:
                page = segment + self._slices + number * size
                found = self._read(page)
                if found is not None:
                    yield found
                step = self._memory.integer(page + count.offset, count.size)
                if not step:
                    self._lost(f"the mimalloc segment at {segment:#x} breaks off at its slice {number}")
                    return
                number += step
        except MemoryFault as error:
            self._lost(f"the mimalloc segment at {segment:#x}: {error}")

    def _read(self, page: int) -> Page | None:
        # The page, None for one that has no blocks. Raises MemoryFault.
        view = StructView(self._memory, page, self._page)
        size = view["xblock_size"]  # mi_slice_is_used
        capacity, used = view["capacity"], view["used"]
        if not size or not used or not capacity:
            return None
        segment = self.segment_of(page)
        number, rest = divmod(page - segment - self._slices, self._page.size)
        start = segment + number * _SLICE
        slices = view["slice_count"]
        if size >= _HUGE_BLOCK:
            size = slices * _SLICE
        elif size <= 64:  # segment.c, _mi_segment_page_start_from_slice
            start += 3 * size
        elif size <= 512:
            start += size
        end = start + capacity * size
        if rest or number < 0 or size & 7 or end > segment + (number + slices) * _SLICE or not self._maps(start, end):
            self._lost(f"the mimalloc page at {page:#x} is damaged: {capacity} blocks of {size} bytes")
            return None
        lists = (view["free"], view["local_free"], view["xthread_free"] & ~_FLAGS)
        return Page(page, start, size, capacity, used, view["tag"], lists, self._keys(page, self._page))

    def _maps(self, start: int, end: int) -> bool:
        if not self._mapped:
            return True  # nothing is known of the mappings
        row = bisect_right(self._mapped, [start, _WORD]) - 1
        return row >= 0 and end <= self._mapped[row][1]

    def _keys(self, address: int, layout: StructLayout) -> tuple[int, ...]:
        if not self._encoded:
            return ()
        offset = layout.offset("keys")
        return self._memory.u64(address + offset), self._memory.u64(address + offset + 8)

    def blocks(self, page: Page) -> tuple[memoryview, int, bytearray]:
        """The words that its blocks begin with, how many of them are of each, and by block whether it is in use.

        Of large blocks no more than the beginning. All are empty when the page cannot be read.
        """
        step = page.size
        if page.size <= _LARGE_BLOCK:
            data = self._memory.read_some(page.start, page.capacity * page.size)
        else:
            step = _BEGINNING
            data = b"".join(
                self._memory.read_some(page.start + number * page.size, step) for number in range(page.capacity)
            )
        if len(data) < page.capacity * step:
            self._lost(f"{page.capacity * step - len(data)} bytes of the mimalloc page at {page.address:#x}")
            return memoryview(b"").cast("Q"), 1, bytearray()
        words = memoryview(data).cast("Q")
        step //= 8
        used = bytearray(b"\1") * page.capacity
        free = 0
        for list_, block in enumerate(page.free):
            while block:
                number, rest = divmod(block - page.start, page.size)
                if rest or not 0 <= number < page.capacity or not used[number]:
                    self._lost(f"a list of free blocks of the mimalloc page at {page.address:#x} is damaged")
                    break
                used[number] = 0
                free += list_ < 2  # what other threads have freed counts as in use
                block = _decoded(words[number * step], page.keys, page.address)
        if free + page.used != page.capacity:
            self._lost(
                f"the mimalloc page at {page.address:#x} counts {page.used} blocks in use, its lists of free ones "
                f"leave {page.capacity - free}"
            )
        if len(self._delayed) < page.capacity:
            waiting = [block for block in self._delayed if page.start <= block < page.start + page.capacity * page.size]
        else:
            blocks = range(page.start, page.start + page.capacity * page.size, page.size)
            waiting = [block for block in blocks if block in self._delayed]
        for block in waiting:
            used[(block - page.start) // page.size] = 0
        return words, step, used

    @property
    def debug_header(self) -> int:
        """The bytes that the debug hooks put before the data of a block; 0 without them (_PyMem_DebugEnabled)."""
        return _DEBUG_HEADER if has_debug_headers(self._runtime) else 0

    @property
    def padding(self) -> int:
        """The bytes behind the data of a block that are mimalloc's."""
        return _PADDING if self._encoded else 0


def _decoded(word: int, keys: tuple[int, ...], null: int) -> int:
    # The link that *word* is (internal.h, mi_ptr_decode); 0 at the end of the list.
    if not keys:
        return word
    word = word - keys[0] & _WORD
    turn = keys[0] & 63
    link = (word >> turn | word << 64 - turn & _WORD) ^ keys[1]
    return 0 if link == null else link


class MimallocPages(Lists):
    """Where the collector of a free-threaded build finds its objects: it walks all of their memory.

    What the `GenerationLists` of a build with the GIL are. There are no generations: a collection looks at everything
    but what gc.freeze() has put aside.
    """

    head_size = 0

    def __init__(self, runtime: Runtime) -> None:
        """Raises LayoutNotFound."""
        self._runtime = runtime
        self._memory = runtime.memory
        counts = runtime.build.counts
        assert isinstance(counts, SplitCounts)
        self._counts = counts
        self._all: dict[int, Objects] = {}
        self._frozen: dict[int, Objects] = {}

    def generations(self, interpreter: Interpreter) -> list[Generation]:
        """What a collection looks at, and what it does not. The heads stand for these: they are no ``PyGC_Head *``."""
        gc = self._runtime.build.interpreter.offset("gc")
        return [Generation(EVERYTHING, interpreter.address), Generation(PERMANENT, interpreter.address + gc)]

    def examined(self, interpreter: Interpreter, _generation: int) -> tuple[list[Generation], list[Generation]]:
        """What a collection looks at, whatever generation it is of; what it spares."""
        everything, permanent = self.generations(interpreter)
        return [everything], [permanent]

    def walk(self, head: int) -> Objects:
        """The objects of one of the `generations`, or of a list of the collector's (``struct worklist *``)."""
        for interpreter in self._runtime.interpreters():
            everything, permanent = self.generations(interpreter)
            if head in (everything.head, permanent.head):
                if interpreter.address not in self._all:
                    self._read(interpreter)
                return (self._all if head == everything.head else self._frozen)[interpreter.address]
        return self._worklist(head)

    def _read(self, interpreter: Interpreter) -> None:
        mimalloc = Mimalloc(self._runtime)
        columns = _Columns(self._runtime)
        found, frozen = Objects(), Objects()
        header = mimalloc.debug_header
        # What a collection has found unreachable is on a list of its own, as in a build with the GIL.
        hidden = UNREACHABLE if self.collecting(interpreter) else 0
        for page in mimalloc.of_interpreter(interpreter):
            if page.tag not in (_GC, _GC_PRE):
                continue
            words, step, used = mimalloc.blocks(page)
            before = header + (_PREHEADER if page.tag == _GC_PRE else 0)
            for address, type_, count, bits in columns.of(page, words, step, used, before):
                if bits & TRACKED and not bits & hidden:
                    into = frozen if bits & FROZEN else found
                    into.addresses.append(address)
                    into.types.append(type_)
                    into.refcounts.append(max(count, 0))
        found.coverage.add(mimalloc.coverage)
        count_deferred(self._runtime, [found, frozen])
        self._all[interpreter.address], self._frozen[interpreter.address] = found, frozen

    def _worklist(self, head: int) -> Objects:
        # Linked by ob_tid (gc_free_threading.c, struct worklist); the list itself has a reference to each.
        objects = Objects()
        type_, memory = self._runtime.build.ob_type, self._memory
        seen: set[int] = set()
        try:
            address = memory.u64(head)
            while address:
                if address in seen or len(seen) >= OBJECT_LIMIT:
                    objects.coverage.truncated = True
                    objects.coverage.notes.append(f"a list of the collector's runs in a circle at {address:#x}")
                    break
                seen.add(address)
                count, of_type = self._runtime.count(address), memory.u64(address + type_)
                objects.addresses.append(address)
                objects.types.append(of_type)
                objects.refcounts.append(count if count == IMMORTAL_COUNT else count - 1)
                address = memory.u64(address)
        except MemoryFault:
            objects.coverage.unreadable += 1
            objects.coverage.notes.append(f"a list of the collector's breaks off at {address:#x}: unreadable")
        return objects

    def last(self, _head: int) -> int:
        """There is no order: 0."""
        return 0

    def backward(self, _head: int) -> Iterator[int]:
        """There is no order: nothing."""
        return iter(())

    def collecting(self, interpreter: Interpreter) -> bool:
        """Whether the interpreter's collector is at work."""
        return bool(StructView(self._memory, interpreter.address, self._runtime.build.interpreter)["gc.collecting"])

    def is_tracked(self, address: int) -> bool:
        """Whether the collector tracks the object. *address*: ``PyObject *``, of a GC type."""
        return bool(self._counts.bits(self._memory, address) & TRACKED)

    def was_garbage(self, address: int, type_: int) -> bool:
        """Whether the object that a collection has cleared is still there, and not a new one at its address.

        The collector has merged its counts, which takes it from its thread; a new one belongs to a thread.
        """
        try:
            split = self._counts.split(self._memory, address)
            own = self._memory.u64(address + self._runtime.build.ob_type)
            return own == type_ and split.state == "merged" and "tracked" in split.bits
        except MemoryFault:
            return False

    def gc_refs(self, address: int) -> int:
        """The count that the collector has left of the object, where its thread's id stands else."""
        return self._memory.u64(address)

    def is_finalized(self, address: int) -> bool:
        """Whether the collector has called the object's tp_finalize. *address*: ``PyObject *``, of a GC type."""
        return bool(self._counts.bits(self._memory, address) & FINALIZED)


def _collecting(runtime: Runtime) -> tuple[bool, bool]:
    # Whether a collection is running, whether one has stopped all threads: it uses words of the objects then.
    views = [StructView(runtime.memory, each.address, runtime.build.interpreter) for each in runtime.interpreters()]
    running = [view for view in views if view["gc.collecting"]]
    return bool(running), any(view["stoptheworld.world_stopped"] for view in running)


def check_counts(runtime: Runtime) -> None:
    """Raises RefdbgError where a collection has its own numbers in the counts of a free-threaded build."""
    if runtime.traits.free_threaded and _collecting(runtime)[1]:
        raise RefdbgError(
            "a collection has stopped all threads, and counts with the objects' own words: they are no counts now",
            "Let it go on: `refdbg gc stop --at end` and `continue`, or the debugger's `finish`.",
        )


class _Columns:
    # Reads what stands at the beginning of the objects of a page: each lies as far behind its block's start.
    def __init__(self, runtime: Runtime) -> None:
        running, stopped = _collecting(runtime)
        # A running collection has a reference to each object that it has found unreachable.
        self._listed = UNREACHABLE if running and not stopped else 0
        counts = runtime.build.counts
        assert isinstance(counts, SplitCounts)
        self._local, self._shared, self._bits = counts.columns()
        self._surplus, self._by_threads, self._never = counts.surplus, runtime.by_threads, counts.never
        self._type = runtime.build.ob_type // 8
        self._least = runtime.build.object.size

    def of(
        self, page: Page, words: memoryview, step: int, used: bytearray, before: int
    ) -> Iterator[tuple[int, int, int, int]]:
        """(address, type, count, the collector's bits) of each block in use, as if it were an object.

        The count is -1 of one that is freed already: on a free list, or until no thread can be reading it; and of what
        is no object. It can be 0 of one that is alive: a reference that nobody has keeps it, until a collection comes,
        or its thread's turn.

        *words*, *step*, *used*: what `Mimalloc.blocks` has read; *before*: bytes in front of the object.
        """
        if before + self._least > page.size:
            return
        first, shift, surplus, by_threads = before // 8, self._bits, self._surplus, self._by_threads
        never = self._never
        start = page.start + before
        for address, local, shared, type_ in compress(
            zip(
                range(start, start + page.capacity * page.size, page.size),
                words[first + self._local :: step].tolist(),
                words[first + self._shared :: step].tolist(),
                words[first + self._type :: step].tolist(),
            ),
            used,
        ):
            bits = local >> shift & 0xFF
            if local & never:
                yield address, type_, -1, bits
                continue
            local >>= 32
            if local == IMMORTAL_COUNT:
                yield address, type_, IMMORTAL_COUNT, bits
                continue
            if bits & self._listed:
                local -= 1
            if shared:
                local += (shared if shared < 1 << 63 else shared - (1 << 64)) >> _SHARED_SHIFT
                # Of an object's references some are nobody's when it is deferred, one is its thread's queue's.
                if local > 0:
                    yield address, type_, local + by_threads.get(address, 0) - surplus(bits, shared), bits
                    continue
            yield address, type_, local or -1, bits


def free_threaded_heap(runtime: Runtime, types: Types) -> HeapObjects:
    """Every object in mimalloc's blocks, tracked or not, and the blocks themselves, in ascending order.

    With the debug hooks also the blocks of malloc that they know. A block of the heaps for objects is one when its type
    word is a type, an object of which it has room for, and its count is sane.
    """
    mimalloc, columns = Mimalloc(runtime), _Columns(runtime)
    header = mimalloc.debug_header
    blocks, objects, rows = Blocks(), Objects(), array("Q")
    objects.coverage = blocks.coverage
    raw = _raw_blocks(runtime, mimalloc, blocks.coverage) if header else Blocks()
    blocks.divided = mimalloc.stretches()
    fitting: dict[tuple[int, int], dict[int, bool]] = {}  # by the size of blocks, bytes before an object and its type
    done = 0
    for page in mimalloc.everywhere():
        words, step, used = mimalloc.blocks(page)
        if not used:
            continue
        done = _add_raw(blocks, raw, done, page.start)
        first = len(blocks.starts)
        starts = range(page.start + header, page.start + header + page.capacity * page.size, page.size)
        sizes: Sequence[int] = array("Q", [page.size - mimalloc.padding]) * page.capacity
        apis = bytes([ord("m" if page.tag == _MEM else "o")]) * page.capacity
        if header:
            apis = bytes(map(_APIS.get, words[1::step].tolist(), repeat(0)))
            # A block that the hooks have not finished, or have begun to free.
            used = bytearray(one if api else 0 for one, api in zip(used, apis))
            sizes = array("Q", words[0::step].tolist())
            sizes.byteswap()
        row_of = array("q", [-1]) * page.capacity
        number = first
        for index in compress(range(page.capacity), used):
            size = sizes[index]
            if size > page.size - header:
                blocks.coverage.unreadable += 1
                blocks.coverage.notes.append(f"the block at {starts[index]:#x} claims {size} bytes")
                size = page.size - header
            blocks.starts.append(starts[index])
            blocks.sizes.append(size)
            blocks.apis.append(apis[index])
            row_of[index] = number
            number += 1
        if page.tag == _MEM:
            continue
        before = _PREHEADER if page.tag == _GC_PRE else 0
        fits = fitting.setdefault((page.size, before), {})
        rows_left = compress(row_of, used)
        for row, (address, type_, count, _bits) in zip(rows_left, columns.of(page, words, step, used, header + before)):
            if not 0 <= count < SANE_COUNT:
                continue
            fit = fits.get(type_)
            if fit is None:
                prefix, least = shape_of(types, runtime.build, type_)
                fit = fits[type_] = prefix == before and least <= page.size - header
            if fit:
                objects.addresses.append(address)
                objects.types.append(type_)
                objects.refcounts.append(count)
                rows.append(row)
    _add_raw(blocks, raw, done, _WORD)
    blocks.coverage.add(mimalloc.coverage)
    return HeapObjects(objects, blocks, rows, count_deferred(runtime, [objects]))


def _raw_blocks(runtime: Runtime, mimalloc: Mimalloc, coverage: Coverage) -> Blocks:
    # Those of malloc that the debug hooks have made.
    segments = set(mimalloc.segments)
    found = Blocks()
    for start, size, api in debug_blocks(runtime, coverage):
        if mimalloc.segment_of(start) not in segments:
            found.starts.append(start)
            found.sizes.append(size)
            found.apis.append(api)
    return found


def _add_raw(blocks: Blocks, raw: Blocks, done: int, end: int) -> int:
    # Appends those that lie before *end*, from row *done* on; returns the first that does not.
    until = bisect_left(raw.starts, end, done)
    blocks.starts.extend(raw.starts[done:until])
    blocks.sizes.extend(raw.sizes[done:until])
    blocks.apis.extend(raw.apis[done:until])
    return until
