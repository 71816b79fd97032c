"""Frame stacks as text, in the manner of a traceback, with the source lines when their files can be read."""

from __future__ import annotations

import linecache
import os
from itertools import groupby

from refdbg.answers import StackFrame, Stacks, Suspended, SuspendedStack, ThreadStack
from refdbg.dependencies import pygments
from refdbg.errors import MissingDependency
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


@text.register
def suspended_text(record: Suspended, width: int) -> str:
    """What is suspended, equal stacks once."""
    return _suspended(record, width, False)


@coloured.register
def suspended_coloured(record: Suspended, width: int) -> str:
    """The same, the source lines highlighted."""
    return _suspended(record, width, True)


def _suspended(record: Suspended, width: int, colour: bool) -> str:
    groups: dict[object, list[SuspendedStack]] = {}
    for each in record.stacks:
        waits_for = each.waits_for.type if each.waits_for else ""
        groups.setdefault((each.kind, each.state, waits_for, repr(each.frames), each.note), []).append(each)
    parts = [f"note: {note}" for note in record.notes]
    for group in groups.values():
        lines = [_whose(group[0]) + ":"]
        for frame in group[0].frames:
            lines += frame_lines(frame, width, colour)
        lines += [f"  [{group[0].note}]"] if group[0].note else []
        if group[1:]:
            names = ", ".join([each.name or hex(each.address) for each in group[1:]])
            line = printable(f"  [{len(group) - 1} more like this: {names}]")
            lines.append(line if len(line) <= width else line[: max(width - 2, 20)] + "…]")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) or "nothing is suspended"


def _whose(stack: SuspendedStack) -> str:
    name = f" {stack.name!r}" if stack.name else ""
    line = f"{stack.kind.capitalize()}{name} at {stack.address:#x} ({stack.state})"
    if stack.state == "running":
        return line + ", its frames are a thread's (`refdbg frames --all`)"
    if stack.waits_for is not None:
        tasks = f" (task{'s' if stack.tasks[1:] else ''} {', '.join(map(repr, stack.tasks))})" if stack.tasks else ""
        line += f", waits for {printable(stack.waits_for.repr)}{tasks}"
    return line + (" (most recent call first)" if stack.frames[1:] else "")


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


def frame_lines(frame: StackFrame, width: int, colour: bool) -> list[str]:
    """One frame as the lines that a traceback has for it, its local variables below."""
    file = frame.file or "?"
    line = f", line {frame.line or '?'}" if frame.line or not frame.native else ""
    lines = [printable(f'  File "{file}"{line}, in {frame.function}') + (" (C)" if frame.native else "")]
    source = printable(source_line(frame.file, frame.line))
    if source:
        lines.append("    " + (_highlighted(source, frame.native) if colour else source))
    for name, value in (frame.locals or {}).items():
        mark = "" if not frame.arguments else "arg " if name in frame.arguments else "    "
        entry = printable(f"      {mark}{name}{' (deferred)' if name in frame.deferred else ''} = {value}")
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


def _highlighted(source: str, native: bool) -> str:
    try:
        lexer = pygments.CLexer() if native else pygments.PythonLexer()
        return str(pygments.highlight(source, lexer, pygments.TerminalFormatter())).rstrip("\n")
    except MissingDependency:
        return source  # colour is no reason to fail
