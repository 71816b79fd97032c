"""A copy of a process's memory."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence

from refdbg.target.elf import first_mappings
from refdbg.target.memory import Region


def to_copy(regions: Iterable[Region]) -> list[Region]:
    """The regions that can differ from the files they map: not code, and not data files that are only read.

    Of a program and its libraries what is only read can: constants that were relocated.
    """
    regions = list(regions)
    programs = set(first_mappings(regions))
    return [
        region for region in regions
        if region.readable and not region.executable and not region.path.startswith(("/dev/", "[v"))
        and (region.writable or not region.path.startswith("/") or region.path in programs)
    ]


class Pages:
    """Copied pieces of memory, and what stands for the rest: zeros where a region that was copied had no memory."""

    def __init__(self, spans: Iterable[tuple[int, int]], piece: Callable[[int], bytes], copied: Iterable[Region],
                 otherwise: Callable[[int, int], bytes]) -> None:
        """*spans*: (address, size) of the pieces, ascending; *piece(row)*: the bytes of one.

        *copied*: the regions that the pieces are of; *otherwise(address, size)* reads elsewhere.
        """
        self._spans = list(spans)
        self._starts = [start for start, _ in self._spans]
        self._piece = piece
        self._copied = [(region.start, region.end) for region in copied]
        self._copied_starts = [start for start, _ in self._copied]
        self._otherwise = otherwise

    def read_some(self, address: int, size: int) -> bytes:
        """At most *size* bytes, fewer where the mapping ends, none when nothing can be read."""
        parts = []
        end = address + size
        while address < end:
            part = self._read_once(address, end - address)
            if not part:
                break
            parts.append(part)
            address += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _read_once(self, address: int, size: int) -> bytes:
        row = bisect_right(self._starts, address) - 1
        if row >= 0:
            start, length = self._spans[row]
            if address < start + length:
                return self._piece(row)[address - start : address - start + size]
        within = bisect_right(self._copied_starts, address) - 1
        if within >= 0 and address < self._copied[within][1]:
            end = min(self._copied[within][1], address + size)
            if row + 1 < len(self._starts):
                end = min(end, self._starts[row + 1])
            return bytes(end - address)
        return self._otherwise(address, size)

    def resident(self, start: int, end: int) -> Sequence[tuple[int, int]]:
        """The parts of [start, end) that the copy has; all of what it knows nothing of."""
        rows = []
        for low, size in self._spans[max(bisect_right(self._starts, start) - 1, 0) :]:
            if low >= end:
                break
            if low + size > start:
                rows.append((max(low, start), min(low + size, end)))
        if not rows and not any(low < end and high > start for low, high in self._copied):
            return [(start, end)]
        return rows
