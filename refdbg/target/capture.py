"""A copy of a process's writable pages: the process as it was, while it runs on."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import BinaryIO

from refdbg.target import NativeFrame, NativeThread, PointedStruct, Symbol, Target, TargetInfo, Variable
from refdbg.target.images import Images
from refdbg.target.layout import StructLayout
from refdbg.target.memory import Memory, Region


class Capture:
    """A Target whose memory does not change any more. Symbols and layouts are the live process's.

    What is not writable is read from the process when it is asked for: code and constants stay as they are.
    """

    def __init__(self, target: Target) -> None:
        """Copies the writable pages that are backed."""
        self.info: TargetInfo = target.info
        self._target = target
        self._regions = list(target.regions())
        self._threads = target.threads()
        self._starts: list[int] = []
        self._copies: list[bytes] = []
        self.bytes = 0
        for region in self._regions:
            if not (region.readable and region.writable) or region.path.startswith(("/dev/", "[v")):
                continue
            for start, end in target.resident(region.start, region.end):
                data = target.memory.read_some(start, end - start)
                self._starts.append(start)
                self._copies.append(data)
                self.bytes += len(data)
        self._writable = [(r.start, r.end) for r in self._regions if r.writable]
        self._writable_starts = [start for start, _ in self._writable]
        self.memory = Memory(self._read_some)

    def _read_some(self, address: int, size: int) -> bytes:
        found = self._read_once(address, size)
        while found and len(found) < size:
            part = self._read_once(address + len(found), size - len(found))
            if not part:
                break
            found += part
        return found

    def _read_once(self, address: int, size: int) -> bytes:
        row = bisect_right(self._starts, address) - 1
        if row >= 0:
            offset = address - self._starts[row]
            part = self._copies[row][offset : offset + size]
            if part:
                return part
        row = bisect_right(self._writable_starts, address) - 1
        if row >= 0 and address < self._writable[row][1]:
            # Writable, and not backed when the copy was made: zeros, up to the next page that was.
            following = bisect_right(self._starts, address)
            end = self._writable[row][1]
            if following < len(self._starts):
                end = min(end, self._starts[following])
            return bytes(max(min(size, end - address), 0))
        return self._target.memory.read_some(address, size)

    def regions(self) -> Sequence[Region]:
        return self._regions

    def resident(self, start: int, end: int) -> Sequence[tuple[int, int]]:
        rows = [
            (low, low + len(data))
            for low, data in zip(self._starts, self._copies)
            if low < end and low + len(data) > start
        ]
        if not rows and not any(low < end and high > start for low, high in self._writable):
            return [(start, end)]
        return [(max(low, start), min(high, end)) for low, high in rows]

    def open(self, path: str) -> BinaryIO:
        return self._target.open(path)

    def images(self) -> Images:
        return self._target.images()

    def threads(self) -> Sequence[NativeThread]:
        return self._threads

    def address_of(self, symbol: str) -> int:
        return self._target.address_of(symbol)

    def layout(self, struct: str) -> StructLayout:
        return self._target.layout(struct)

    def symbol_at(self, address: int) -> Symbol | None:
        return self._target.symbol_at(address)

    def variable(self, symbol: Symbol) -> Variable | None:
        return self._target.variable(symbol)

    def structs_of(self, function: int) -> Sequence[PointedStruct]:
        return self._target.structs_of(function)

    def native_frames(self, thread: int | None = None, limit: int = 64) -> list[NativeFrame]:
        return []  # the threads have gone on

    def cpu_seconds(self, thread: int) -> float | None:
        return None
