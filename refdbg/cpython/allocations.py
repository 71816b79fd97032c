"""Where objects were made, with the names of the functions: tracemalloc's traces and the functions that are alive."""

from __future__ import annotations

from functools import cached_property

from refdbg.cpython.functions import Functions
from refdbg.cpython.stop import Stop
from refdbg.cpython.tracemalloc import Trace, Traces
from refdbg.errors import DecodeError, LayoutNotFound, MemoryFault
from refdbg.records import Allocation, FrameRow

_NOT_TRACED = Trace((), 0)


class Allocations:
    """The allocations of one stop. *then*: an earlier one, to ask when tracemalloc is off by now."""

    def __init__(self, stop: Stop, then: Stop | None = None) -> None:
        self._now = stop
        self._stop = stop if then is None or stop.traces.tracing else then
        self._traces: Traces = self._stop.traces
        self._known: dict[Trace, Allocation] = {}

    @property
    def known(self) -> bool:
        """Whether tracemalloc is, or was, on."""
        return self._traces.tracing

    def of(self, address: int) -> Allocation | None:
        """Where the object was made, None where tracemalloc is off. *address*: ``PyObject *``.

        Raises LayoutNotFound for a tracemalloc that refdbg does not know.
        """
        if not self._traces.tracing:
            return None
        trace = _NOT_TRACED
        try:
            type_ = self._now.texts.type_of(address)
            ob_type = self._stop.runtime.build.ob_type
            if self._stop.runtime.memory.u64(address + ob_type) == type_.address:  # else another object was there then
                # A static object is in no block; one of a metatype may be static as well.
                trace = self._traces.at(address - type_.prefix) or _NOT_TRACED
        except (DecodeError, MemoryFault):
            pass
        known = self._known.get(trace)
        if known is None:
            known = self._known[trace] = Allocation(
                [FrameRow(self._function(*each), *each) for each in trace.frames], trace.total
            )
        return known

    def _function(self, file: str, line: int) -> str:
        try:
            function = self._functions.at(file, line)
        except LayoutNotFound:
            return ""
        return ".".join(filter(None, (function.module, function.qualname))) if function else ""

    @cached_property
    def _functions(self) -> Functions:
        return Functions(self._stop, self._stop.tracked())
