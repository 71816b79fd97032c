"""A process that nobody runs: a core file, a copy of a process's memory, a snapshot. No debugger takes part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO, Protocol

from refdbg.target import NativeCall, NativeThread, PointedStruct, Symbol, TargetInfo, Variable
from refdbg.target.images import Images
from refdbg.target.layout import StructLayout
from refdbg.target.memory import Memory, Region
from refdbg.target.unwind import Unwinder

NOBODY = "no debugger"


class Source(Protocol):
    """Where the bytes come from."""

    def read_some(self, address: int, size: int) -> bytes:
        """At most *size* bytes, fewer where the mapping ends, none when nothing can be read."""
        ...

    def regions(self) -> Sequence[Region]:
        """The mapped regions, ascending."""
        ...

    def resident(self, start: int, end: int) -> Sequence[tuple[int, int]]:
        """The parts of [start, end) that are backed by memory."""
        ...

    def open(self, path: str) -> BinaryIO:
        """A mapped file. Raises OSError."""
        ...


class RecordedTarget:
    """A Target over a Source. *threads*: the one that was selected, or has crashed, first."""

    def __init__(
        self, info: TargetInfo, source: Source, threads: Sequence[NativeThread], first: str, cached: bool = False,
        known: Mapping[str, Any] | None = None,
    ) -> None:
        """*first*, *cached*, *known*: see Images."""
        self.info = info
        self.source = source
        self._threads = threads
        self.memory = Memory(source.read_some)
        self._files = Images(source.regions, source.open, first, cached, known)
        self._unwinder = Unwinder(lambda: self._files, self.memory)

    def regions(self) -> Sequence[Region]:
        return self.source.regions()

    def resident(self, start: int, end: int) -> Sequence[tuple[int, int]]:
        return self.source.resident(start, end)

    def open(self, path: str) -> BinaryIO:
        return self.source.open(path)

    def handed(self) -> None:
        return None  # this process has what there is of it

    def images(self) -> Images:
        return self._files

    def address_of(self, symbol: str) -> int:
        return self._files.address_of(symbol)

    def layout(self, struct: str) -> StructLayout:
        return self._files.layout(struct)

    def symbol_at(self, address: int) -> Symbol | None:
        return self._files.symbol_at(address)

    def variable(self, symbol: Symbol) -> Variable | None:
        return self._files.variable(symbol)

    def structs_of(self, function: int) -> Sequence[PointedStruct]:
        return self._files.structs_of(function)

    def threads(self) -> Sequence[NativeThread]:
        return self._threads

    def native_stack(self, thread: int | None = None, limit: int = 64) -> list[NativeCall]:
        of = next((each for each in self._threads if thread in (None, each.id)), None)
        return self._unwinder.stack(of, limit) if of is not None and of.place else []

    def cpu_seconds(self, thread: int) -> float | None:
        return None
