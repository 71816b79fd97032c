"""A copy of a process's writable pages: the process as it was, while it runs on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO

from refdbg.target import NativeCall, NativeThread, PointedStruct, Symbol, Target, TargetInfo, Variable
from refdbg.target.images import Images
from refdbg.target.layout import StructLayout
from refdbg.target.memory import Memory, Region
from refdbg.target.pages import Pages


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
        spans: list[tuple[int, int]] = []
        pieces: list[bytes] = []
        for region in self._regions:
            if not (region.readable and region.writable) or region.path.startswith(("/dev/", "[v")):
                continue
            for start, end in target.resident(region.start, region.end):
                pieces.append(target.memory.read_some(start, end - start))
                spans.append((start, len(pieces[-1])))
        self.bytes = sum(size for _, size in spans)
        writable = [region for region in self._regions if region.writable]
        self._pages = Pages(spans, pieces.__getitem__, writable, target.memory.read_some)
        self.memory = Memory(self._pages.read_some)

    def regions(self) -> Sequence[Region]:
        return self._regions

    def resident(self, start: int, end: int) -> Sequence[tuple[int, int]]:
        return self._pages.resident(start, end)

    def open(self, path: str) -> BinaryIO:
        return self._target.open(path)

    def handed(self) -> None:
        return None  # this process has what there is of it

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

    def native_stack(self, thread: int | None = None, limit: int = 64) -> list[NativeCall]:
        return []  # the threads have gone on

    def cpu_seconds(self, thread: int) -> float | None:
        return None
