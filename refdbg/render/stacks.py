"""Frame stacks as text, in the manner of a traceback, with the source lines when their files can be read."""

from __future__ import annotations

import linecache
import os
from itertools import groupby

from refdbg.answers import Stacks, ThreadStack
from refdbg.dependencies import pygments
from refdbg.errors import MissingDependency
from refdbg.records import FrameRow
from refdbg.render import coloured, text

_SHOWN_REPEATS = 3  # as many equal frames as a traceback shows


@text.register
def stacks_text(record: Stacks, width: int) -> str:
    """The stacks, one thread after another."""
    return _stacks(record, width, False)


@coloured.register
def stacks_coloured(record: Stacks, width: int) -> str:
    """The same, the source lines highlighted."""
    return _stacks(record, width, True)


def _stacks(record: Stacks, width: int, colour: bool) -> str:
    parts = [f"note: {note}" for note in record.notes]
    parts += ["\n".join(_thread(thread, width, colour)) for thread in record.threads]
    return "\n\n".join(parts) or "no Python thread"


def _thread(thread: ThreadStack, width: int, colour: bool) -> list[str]:
    traits = [f"LWP {thread.native_id}" if thread.native_id else "kernel id not known"]
    traits += ["selected"] if thread.selected else []
    traits += ["holds the GIL"] if thread.holds_gil else []
    whose = f"Thread {thread.number} ({', '.join(traits)}), interpreter {thread.interpreter}"
    lines = [f"{whose} (most recent call first):"]
    for frame, group in groupby(thread.frames):
        repeats = len(list(group))
        shown = frame_lines(frame, width, colour)
        for _ in range(min(repeats, _SHOWN_REPEATS)):
            lines += shown
        if repeats > _SHOWN_REPEATS:
            lines.append(f"  [the same frame {repeats - _SHOWN_REPEATS} more times]")
    if not thread.frames and not thread.note:
        lines.append("  no Python frames")
    if thread.note:
        lines.append(f"  [{thread.note}]")
    return lines


def frame_lines(frame: FrameRow, width: int, colour: bool) -> list[str]:
    """One frame as the lines that a traceback has for it, its local variables below."""
    place = printable(f'  File "{frame.file}", line {frame.line or "?"}, in {frame.function}')
    lines = [place + (" (C)" if frame.native else "")]
    source = printable(source_line(frame.file, frame.line))
    if source:
        lines.append("    " + (_highlighted(source) if colour else source))
    for name, value in (frame.locals or {}).items():
        entry = printable(f"      {name} = {value}")
        lines.append(entry if len(entry) <= width else entry[: max(width - 1, 20)] + "…")
    return lines


def printable(string: str) -> str:
    """The string on one line, safe for a terminal: a program may give its files and functions any name."""
    return string if string.isprintable() else "".join([c if c.isprintable() else ascii(c)[1:-1] for c in string])


def source_line(file: str, line: int) -> str:
    """The line of the source file without its indentation, "" when it cannot be read."""
    if line < 1 or not os.path.isfile(file):
        return ""
    linecache.checkcache(file)
    return linecache.getline(file, line).strip().expandtabs()


def _highlighted(source: str) -> str:
    try:
        return str(pygments.highlight(source, pygments.PythonLexer(), pygments.TerminalFormatter())).rstrip("\n")
    except MissingDependency:
        return source  # colour is no reason to fail
