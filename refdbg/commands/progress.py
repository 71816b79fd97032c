"""A line about what a command is doing, for the user who waits at a terminal."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_FIRST, _EVERY = 1.0, 0.5  # seconds
_STDERR = 2
# What a function of ours is at work on: the outermost that is known says it.
_STAGES = {
    "heap_objects": "walking the allocator's blocks", "walk": "walking the collector's lists",
    "known_references": "reading what objects own", "of_many": "searching the memory", "owned_edges": "reading what "
    "objects own", "edges_and_sizes": "reading what objects own", "visits": "running tp_traverse functions",
    "replay": "replaying the collector", "shares": "following what holders keep", "dominators": "computing dominators",
    "components": "looking for cycles", "write": "writing the snapshot", "_find": "looking for values",
}  # fmt: skip


@contextmanager
def progress() -> Iterator[None]:
    """While the block runs, from its second second on: one line on stderr that says what and since when.

    Only on a terminal. The thread that waits is asked from another one; nothing in a walk counts steps.
    """
    if not os.isatty(_STDERR):
        yield
        return
    ended = threading.Event()
    watcher = threading.Thread(target=_watch, args=(threading.get_ident(), ended), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def _watch(thread: int, ended: threading.Event) -> None:
    start = time.monotonic()
    shown = False
    while not ended.wait(_EVERY if shown else _FIRST):
        frame = sys._current_frames().get(thread)
        text = f"refdbg: {_stage(frame)}, {time.monotonic() - start:.0f} s (Ctrl-C ends it)"
        os.write(_STDERR, f"\r\033[K{text}".encode())
        shown = True
    if shown:
        os.write(_STDERR, b"\r\033[K")


def _stage(frame: FrameType | None) -> str:
    found = "at work"
    while frame is not None:
        code = frame.f_code
        if f"{os.sep}refdbg{os.sep}" in code.co_filename:
            found = _STAGES.get(code.co_name, found)
        frame = frame.f_back
    return found
