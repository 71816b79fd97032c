"""Where an object was made, as text."""

from __future__ import annotations

from refdbg.records import Allocation, FrameRow

_CALLERS = 4


def allocation_lines(allocation: Allocation | None) -> list[str]:
    """Nothing where tracemalloc is off."""
    if allocation is None:
        return []
    if not allocation.frames:
        return ["It was made before tracemalloc was started, or by C code alone."]
    lines = [
        f"  {'allocated at' if not number else '   called from'} {frame_text(frame)}"
        for number, frame in enumerate(allocation.frames)
    ]
    more = allocation.total - len(allocation.frames)
    return [*lines, *([f"    … {more} more frames (PYTHONTRACEMALLOC=N keeps N)"] if more > 0 else [])]


def stack_text(allocation: Allocation) -> str:
    """The stack in one line; there is one."""
    first, *callers = (frame_text(frame) for frame in allocation.frames[: 1 + _CALLERS])
    return f"allocated at {first}" + (f", called from {', '.join(callers)}" if callers else "")


def frame_text(frame: FrameRow) -> str:
    """`file:line in function`, as far as it is known."""
    return f"{frame.file}:{frame.line}" + (f" in {frame.function}" if frame.function else "")
