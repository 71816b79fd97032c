"""Generators, coroutines and asynchronous generators: where each is suspended, and what it waits for."""

from __future__ import annotations

from dataclasses import dataclass

from refdbg.cpython.frames import Frames
from refdbg.cpython.kinds import address_of
from refdbg.cpython.runtime import Runtime
from refdbg.cpython.types import Types
from refdbg.errors import DecodeError, LayoutNotFound, MemoryFault

NOT_STARTED, SUSPENDED, RUNNING = "not started", "suspended", "running"
_TYPES = {"PyGen_Type": "generator", "PyCoro_Type": "coroutine", "PyAsyncGen_Type": "async generator"}
# What stands between a coroutine and what it awaits: the type, and the only field that leads on.
_BETWEEN = {
    "_PyCoroWrapper_Type": ("PyCoroWrapper", "cw_coroutine"),
    "_PyAsyncGenASend_Type": ("PyAsyncGenASend", "ags_gen"),
    "_PyAsyncGenAThrow_Type": ("PyAsyncGenAThrow", "agt_gen"),
    "_PyAnextAwaitable_Type": ("anextawaitableobject", "wrapped"),
}
_FUTURE_ITERATOR = ("_asyncio.FutureIter", "futureiterobject", "future")
_CHAIN_LIMIT = 1 << 16
# PyFrameState: what comes before FRAME_EXECUTING has not gone so far, what comes after is finished.
_CREATED, _EXECUTING = -2, 0
_CREATED_OF_TWO = -3  # 3.13+ has two states of being suspended
_CREATED_OF_THREE, _EXECUTING_OF_THREE = 0, 4  # 3.15 has three, and counts from 0


@dataclass(frozen=True)
class Generator:
    """One that has not finished. *address*: ``PyGenObject *``, ``PyCoroObject *`` or ``PyAsyncGenObject *``.

    *frame*: as Frames.walk_from takes it; *awaits*: the ``PyObject *`` that it is suspended on (gi_yieldfrom, cr_await,
    ag_await), 0 for none.
    """

    address: int
    kind: str
    state: str
    frame: int
    awaits: int


class Generators:
    """Those of one stop, by address."""

    def __init__(self, runtime: Runtime, types: Types, frames: Frames) -> None:
        """Raises LayoutNotFound when the debug info describes no generators that refdbg knows."""
        self._runtime = runtime
        self._memory = runtime.memory
        self._types = types
        self._frames = frames
        self._layout = runtime.build.layout("PyGenObject")
        self._ob_type = runtime.build.ob_type
        self.kinds = {address_of(runtime, symbol): kind for symbol, kind in _TYPES.items()}
        self._between: dict[int, int] = {}  # by type: where the next one stands
        for symbol, path in _BETWEEN.items():
            offset = self._offset(*path)
            if offset is not None:
                self._between[address_of(runtime, symbol)] = offset
        self._between.pop(0, None)
        self._created, self._executing = _CREATED, _EXECUTING
        if "gi_frame_state" in self._layout and "instr_ptr" in runtime.build.layout("_PyInterpreterFrame"):
            self._created = _CREATED_OF_TWO
        if "base_frame" in runtime.build.layout("PyThreadState"):  # as new as the numbers
            self._created, self._executing = _CREATED_OF_THREE, _EXECUTING_OF_THREE

    def _offset(self, struct: str, field: str) -> int | None:
        try:
            return self._runtime.build.layout(struct).offset(field)
        except LayoutNotFound:
            return None

    def at(self, address: int) -> Generator | None:
        """The generator at an address, None where there is none or it has finished. Raises nothing."""
        try:
            kind = self.kinds.get(self._memory.u64(address + self._ob_type))
            return self._decode(address, kind) if kind is not None else None
        except (MemoryFault, DecodeError):
            return None

    def _decode(self, address: int, kind: str) -> Generator | None:
        # Mirrors inspect.getgeneratorstate() and _PyGen_yf (Objects/genobject.c).
        layout = self._layout
        if "gi_frame_state" in layout:  # 3.11+
            frame = address + layout.offset("gi_iframe")
            number = self._memory.integer(address + layout.offset("gi_frame_state"), 1, signed=True)
        else:
            frame = self._memory.u64(address + layout.offset("gi_frame"))
            number = self._frames.state(frame) if frame else 1
        if number > self._executing:
            return None
        if number == self._executing:
            return Generator(address, kind, RUNNING, frame, 0)
        if number == self._created:
            return Generator(address, kind, NOT_STARTED, frame, 0)
        return Generator(address, kind, SUSPENDED, frame, self._frames.delegate(frame))

    def behind(self, address: int) -> int:
        """What an awaited object stands for: a wrapper for its coroutine, a future's iterator for the future.

        Any other object stands for itself. *address*: ``PyObject *``. Raises nothing.
        """
        for _ in range(_CHAIN_LIMIT):
            try:
                type_ = self._memory.u64(address + self._ob_type)
                if type_ not in self._between and self._types.name(type_) == _FUTURE_ITERATOR[0]:
                    # Without debug info: its only field comes first.
                    found = self._offset(*_FUTURE_ITERATOR[1:])
                    self._between[type_] = self._runtime.build.object.size if found is None else found
                offset = self._between.get(type_)
                inner = self._memory.u64(address + offset) if offset is not None else 0
            except MemoryFault:
                return address
            if not inner:
                return address
            address = inner
        return address

    def chain(self, address: int) -> tuple[list[Generator], int]:
        """The generator at *address*, the one that it delegates to, and so on; and what the last one waits for.

        That is a ``PyObject *`` that is no suspended generator, 0 for none. Raises nothing.
        """
        found: list[Generator] = []
        seen: set[int] = set()
        while address not in seen and len(found) < _CHAIN_LIMIT:
            seen.add(address)
            generator = self.at(address)
            if generator is None:
                return found, address if found else 0
            found.append(generator)
            if not generator.awaits:
                return found, 0
            address = self.behind(generator.awaits)
        return found, address  # they await each other
