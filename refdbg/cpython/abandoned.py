"""Threads that still run when an interpreter ends: it deletes their states, and nothing releases their frames."""

from __future__ import annotations

import contextlib

from refdbg.cpython.frames import Frame
from refdbg.cpython.owned import Owned
from refdbg.cpython.stop import Abandoned, AbandonedFrame, Stop
from refdbg.cpython.threads import kernel_ids, pthread
from refdbg.errors import DecodeError, LayoutNotFound, MemoryFault

_FRAMES = 1000
_NAME = ("__dict__['_name']", "['_name']")  # Lib/threading.py, Thread: in the instance itself, or in its dict


def abandoned(stop: Stop, ending: int) -> Abandoned:
    """The frames of all threads of the interpreter but *ending* (``PyThreadState *``), which ends it."""
    runtime, owned = stop.runtime, Owned(stop.texts)
    threads = [each for each in runtime.threads(runtime.interpreter_of(ending)) if each.address != ending]
    ids = kernel_ids(stop, threads)
    words: dict[int, tuple[str, AbandonedFrame]] = {}
    objects: dict[int, AbandonedFrame] = {}
    stacks: dict[int, str] = {}
    for thread in threads:
        frames = list(stop.frames.stack(thread, _FRAMES))
        name = _name(stop, owned, frames)
        who = f"thread {name!r}" if name else "a thread"
        kernel = f" (kernel id {ids[thread.address]})" if thread.address in ids else ""
        with contextlib.suppress(MemoryFault):
            stacks[pthread(runtime, thread)] = f"{who}{kernel}"  # glibc keeps its structure at the end of the stack
        for frame in frames:
            where = f"{frame.function}() ({frame.file}:{frame.line}) in {who}{kernel}"
            found = AbandonedFrame(f"{who} in {frames[0].function}()", where)
            objects[frame.address] = found
            words.update((place, (label, found)) for place, label in _words(owned, frame))
    return Abandoned(words, objects, stacks)


def _words(owned: Owned, frame: Frame) -> list[tuple[int, str]]:
    try:
        return [(word.place, word.label) for word in owned.frame_words(frame.address)]
    except (LayoutNotFound, DecodeError, MemoryFault):
        return []  # until 3.10 a frame is an object


def _name(stop: Stop, owned: Owned, frames: list[Frame]) -> str:
    # The name of the threading.Thread whose method the outermost frame runs.
    try:
        first = frames[-1].address
        thread = dict(_locals(owned, first))["local self"]
        found = owned.references(thread)
        found += [inner for each in found if each.label == "__dict__" for inner in owned.references(each.target)]
        return next((stop.texts.string(each.target) or "" for each in found if each.label in _NAME), "")
    except (LookupError, LayoutNotFound, DecodeError, MemoryFault):
        pass
    return ""


def _locals(owned: Owned, frame: int) -> list[tuple[str, int]]:
    try:
        return [(word.label, word.target) for word in owned.frame_words(frame)]
    except (LayoutNotFound, DecodeError, MemoryFault):
        return [(each.label, each.target) for each in owned.references(frame)]
