"""`refdbg watch`: who changes an object's reference count, from now on."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from refdbg.analysis.blame import balance
from refdbg.commands.context import Context
from refdbg.commands.inspect import object_address
from refdbg.cpython.changes import Recorder
from refdbg.cpython.runtime import Build
from refdbg.cpython.stop import Stop
from refdbg.cpython.text import Texts
from refdbg.errors import CommandError, NotLive
from refdbg.records import Blame, ObjectRow

_STATE = "watch"


def add_commands(subcommands: Any) -> None:
    """Add this module's subcommands."""
    command = subcommands.add_parser(
        "watch", help="record who changes an object's reference count, with C and Python stacks",
        description="With EXPR: sets a hardware watchpoint on the object's reference count, and records every change "
        "with its C and Python stack from now on, while the program runs (`continue`). Without: the increments and "
        "decrements that do not balance, merged by call path. A change costs about 0.3 ms in gdb. The recording ends "
        "when the object is freed. To record an object from its creation on: `refdbg-run --blame`.",
    )
    command.add_argument("expression", nargs="*", metavar="EXPR", help="a PyObject *, or an address; "
                         "none: what was recorded so far")
    command.add_argument("--stop", action="store_true", help="what was recorded, and watch no more")
    command.set_defaults(run=show)


def show(context: Context, arguments: argparse.Namespace) -> Blame | None:
    """Begin to watch, or what was seen. Raises CommandError, NotLive, RefdbgError."""
    recorder = context.state.get(_STATE)
    if arguments.expression:
        if not context.session.target().info.live:
            raise NotLive("nothing runs here, so no reference count changes", "Use gdb or lldb on a running program.")
        if arguments.stop:
            raise CommandError("--stop goes without an expression")
        address = object_address(context, arguments.expression)
        if isinstance(recorder, Recorder):
            recorder.delete()
        context.state[_STATE] = recorder = Recorder(context.session, context.build(), address, alive=True)
        return _blame(context, recorder)
    if not isinstance(recorder, Recorder):
        raise CommandError("no object is watched", "`refdbg watch EXPR` begins to record.")
    found = _blame(context, recorder)
    if arguments.stop:
        recorder.delete()
        del context.state[_STATE]
    return found


def _blame(context: Context, recorder: Recorder) -> Blame:
    notes = [recorder.finished or "the object was freed"] if recorder.finished or not recorder.alive else []
    if not recorder.writes:
        notes.append("watching: let the program run (`continue`), then `refdbg watch` shows what was recorded")
    state = "alive" if recorder.alive else "freed"
    return Blame(
        shown(context.build(), recorder), state, recorder.incarnation, True, recorder.writes,
        balance(recorder.changes(), recorder.start), notes,
    )


def shown(build: Build, recorder: Recorder, names: Mapping[int, str] | None = None) -> ObjectRow:
    """The object as it is now, on every build. *names*: of types, by address, where they are gone by now."""
    stop = Stop(build)
    texts = Texts(stop.runtime, stop.types)  # stop.texts is for objects that can be found: not in every build
    texts.earlier = dict(names or {})
    name = texts.type_name(recorder.type)
    text = texts.repr(recorder.address) if recorder.alive else f"<{name} object, freed>"
    return ObjectRow(recorder.address, name, text, recorder.count)
