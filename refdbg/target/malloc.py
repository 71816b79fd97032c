"""The blocks of the C library's allocator in the process's first heap (glibc, malloc/malloc.c: struct malloc_chunk)."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from refdbg.errors import MemoryFault
from refdbg.target.memory import PAGE, Memory, Region

_FLAGS = 7
_IN_USE = 1  # PREV_INUSE, in the size of the chunk that follows
_HEADER = 16
_SMALLEST = 32
_BINS = 64  # TCACHE_MAX_BINS
_TCACHE = 10 * _BINS + _HEADER  # sizeof(tcache_perthread_struct) from glibc 2.30 on, as a chunk
_MAPPED = 2
_LEAST_MAPPED = 1 << 16  # M_MMAP_THRESHOLD is twice that, by default
_PIECE = 1 << 20


@dataclass(frozen=True)
class NativeBlock:
    """A block of malloc: address of its data, bytes."""

    address: int
    size: int


class NativeBlocks:
    """The blocks of one heap, found by walking it from its start. What cannot be walked is left out."""

    def __init__(self, memory: Memory, heap: Region) -> None:
        self._memory = memory
        self._chunks = array("Q")
        self._region_start, self._region_end = heap.start, heap.end
        self._end = position = heap.start
        try:
            while position + _SMALLEST <= heap.end:
                size = memory.u64(position + 8) & ~_FLAGS
                if size < _SMALLEST or size & 15 or position + size > heap.end:
                    break
                self._chunks.append(position)
                position += size
                self._end = position
        except MemoryFault:
            pass
        self._cached = frozenset(self._cache())

    def _cache(self) -> Iterator[int]:
        # The chunks that the first thread keeps for quick reuse. Its tcache_perthread_struct is what malloc makes
        # first: how many there are of each size, then a list of each, its links mangled since 2.32 (PROTECT_PTR).
        memory, start = self._memory, self._region_start + _HEADER
        try:
            if memory.u64(start - 8) & ~_FLAGS != _TCACHE:
                return
            for row in range(_BINS):
                entry = memory.u64(start + 2 * _BINS + 8 * row)
                for _ in range(memory.integer(start + 2 * row, 2)):
                    if not self._region_start < entry < self._end or entry & 15 or (
                        memory.u64(entry - 8) & ~_FLAGS != _SMALLEST + 16 * row
                    ):
                        break  # another allocator's, or of another release
                    yield entry - _HEADER
                    link = memory.u64(entry)
                    entry = link if self._region_start < link < self._end and not link & 15 else link ^ entry >> 12
        except MemoryFault:
            return

    @property
    def complete(self) -> bool:
        """Whether the blocks fill the region: then it is a heap."""
        return bool(self._chunks) and self._end == self._region_end

    def in_use(self) -> Iterator[NativeBlock]:
        """Each block that is not free."""
        for chunk in self._chunks:
            block = self.at(chunk + _HEADER)
            if block is not None:
                yield block

    def at(self, address: int) -> NativeBlock | None:
        """The block that contains *address*, None when it is free or not known.

        What the allocator keeps for quick reuse looks as if it were in use, but for what the first thread does.
        """
        row = bisect_right(self._chunks, address) - 1
        if row >= 0 and address < self._chunks[row] + 8:
            row -= 1  # a block's last word lies where the next chunk begins
        if row < 0 or address >= self._end:
            return None
        chunk = self._chunks[row]
        if chunk in self._cached:
            return None
        following = self._chunks[row + 1] if row + 1 < len(self._chunks) else self._end
        try:
            if row + 1 < len(self._chunks) and not self._memory.u64(following + 8) & _IN_USE:
                return None
        except MemoryFault:
            return None
        return NativeBlock(chunk + _HEADER, following - chunk - 8) if address >= chunk + _HEADER else None


class MappedBlocks:
    """The large blocks that malloc has mapped one by one (malloc/malloc.c, sysmalloc_mmap)."""

    def __init__(self, memory: Memory, stretches: Iterable[tuple[int, int]]) -> None:
        """*stretches*: anonymous memory, [start, end)."""
        self.all: list[NativeBlock] = []
        self._starts = array("Q")
        for start, end in stretches:
            position = start
            while position < end:
                words = array("Q", memory.read_some(position, min(end - position, _PIECE))[: _PIECE])
                row = 0
                while row + 1 < len(words):
                    size = words[row + 1] & ~_FLAGS
                    here = position + 8 * row
                    if words[row + 1] & _FLAGS == _MAPPED and not words[row] and not size % PAGE and (
                        _LEAST_MAPPED <= size <= end - here
                    ):
                        self.all.append(NativeBlock(here + _HEADER, size - _HEADER))
                        self._starts.append(here + _HEADER)
                        row += size // 8
                    else:
                        row += PAGE // 8
                position += max(8 * row, PAGE)

    def at(self, address: int) -> NativeBlock | None:
        """The block that contains *address*, None when it is not known."""
        row = bisect_right(self._starts, address) - 1
        if row >= 0 and address < self.all[row].address + self.all[row].size:
            return self.all[row]
        return None
