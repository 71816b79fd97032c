"""Frames as records, with the texts of their local variables."""

from __future__ import annotations

from collections.abc import Sequence

from refdbg.answers import StackFrame
from refdbg.cpython.c_stack import CFrame
from refdbg.cpython.frames import Frame
from refdbg.cpython.stop import Stop
from refdbg.cpython.text import Texts


def frame_rows(stop: Stop, frames: Sequence[Frame | CFrame], with_locals: bool) -> list[StackFrame]:
    """The frames in their order. Raises nothing."""
    return [
        StackFrame(frame.function, frame.file, frame.line, native=True) if isinstance(frame, CFrame) else
        StackFrame(frame.function, frame.file, frame.line, _locals(stop, frame) if with_locals else None,
                   arguments=stop.frames.arguments(frame) if with_locals else [],
                   deferred=stop.frames.deferred(frame) if with_locals else [])
        for frame in frames
    ]


def _locals(stop: Stop, frame: Frame) -> dict[str, str]:
    pairs = stop.frames.locals(frame)
    if frame.function == "<module>":  # these are the module's globals: __builtins__ and the like say nothing
        pairs = [(name, value) for name, value in pairs if not (name.startswith("__") and name.endswith("__"))]
    texts = Texts(stop.runtime, stop.types)  # stop.texts is for builds whose objects can be found
    return {name: texts.repr(value) for name, value in pairs}
