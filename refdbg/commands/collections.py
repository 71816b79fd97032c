"""`refdbg gc log`, `gc stop`, `gc unreachable`: the collector's runs as they happen."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

from refdbg.commands import traverse
from refdbg.commands.context import Context
from refdbg.commands.inspect import number
from refdbg.cpython.census import by_type
from refdbg.cpython.collection import CollectionWatch, Listener, Running, object_rows
from refdbg.cpython.stop import Stop
from refdbg.errors import CommandError
from refdbg.graph.objects import Objects
from refdbg.records import Collection, GcLog, GcStop, Message, TypeRow
from refdbg.render import as_text

_KEPT = 10_000  # collections; the oldest are dropped, and said to be
_STEPS = ("begin", "finalize", "clear", "end")


def add_commands(subcommands: Any) -> None:
    """Add this module's subcommands."""
    gc = subcommands.add_parser("gc", help="the collector's runs: log them, stop in them, list their garbage")
    actions = gc.add_subparsers(dest="action", metavar="ACTION", required=True)

    log = actions.add_parser("log", help="record every collection from now on; again: show what was recorded")
    log.add_argument("--objects", type=number, default=10, metavar="N", help="list the first N objects of each")
    log.add_argument("--off", action="store_true", help="show the record and stop recording")
    log.set_defaults(run=log_collections)

    stop = actions.add_parser("stop", help="stop the program inside collections")
    stop.add_argument("--generation", type=number, metavar="N", help="only when generation N is collected")
    stop.add_argument("--type", metavar="T", help="only when an object of type T is concerned")
    stop.add_argument("--at", choices=_STEPS, default="finalize",
                      help="before anything is known (begin), before finalizers (finalize, the default), "
                      "before tp_clear (clear), when all is done (end)")
    stop.add_argument("--objects", type=number, default=20, metavar="N", help="list the first N objects")
    stop.add_argument("--off", action="store_true", help="stop no more")
    stop.set_defaults(run=stop_in_collections)

    traverse.add_gc_actions(actions)

    unreachable = actions.add_parser("unreachable", help="the garbage of the collection that the program is stopped in")
    unreachable.add_argument("--objects", type=number, default=20, metavar="N", help="list the first N objects")
    unreachable.set_defaults(run=show_unreachable)


@dataclass(frozen=True)
class _Rule:
    # When to stop the program.
    at: str
    generation: int | None
    type: str | None
    limit: int

    def fits(self, at: str, generation: int, types: list[TypeRow]) -> bool:
        if at != self.at or self.generation not in (None, generation):
            return False
        return self.type is None or any(
            row.type == self.type or row.type.endswith(f".{self.type}") for row in types
        )


class _Collector:
    # What the three commands share: one watch of the collector.
    def __init__(self, context: Context) -> None:
        self._context = context
        self._watch: CollectionWatch | None = None
        self.records: list[Collection] = []
        self.dropped = 0
        self.logging = False
        self.rule: _Rule | None = None
        self.halted: tuple[Running, str] | None = None

    @classmethod
    def of(cls, context: Context) -> _Collector:
        found = context.state.get("gc")
        if not isinstance(found, _Collector):
            found = context.state["gc"] = cls(context)
        return found

    def watch(self, limit: int) -> None:
        """Watch from now on. Raises SymbolNotFound."""
        if self._watch is not None:
            self._watch.limit = max(limit, self._watch.limit)
            return
        listener = Listener(
            begin=lambda running: self._step(running, "begin", running.tracked),
            finalize=lambda running: self._step(running, "finalize", running.unreachable),
            clear=lambda running: self._step(running, "clear", running.cleared or Objects()),
            end=self._ended,
        )
        self._watch = CollectionWatch(self._context.session, self._context.build, listener, limit)

    def unwatch(self) -> None:
        """Watch no more when nobody needs it."""
        if self._watch is not None and not self.logging and self.rule is None:
            self._watch.delete()
            self._watch = None

    def _step(self, running: Running, at: str, objects: Objects) -> bool:
        self.halted = None
        if self.rule is None or self.rule.at != at:
            return False
        types = by_type(running.stop, objects) if self.rule.type is not None or at != "begin" else []
        if (at in ("finalize", "clear") and not len(objects)) or not self.rule.fits(at, running.generation, types):
            return False
        self.halted = (running, at)
        self._show(stop_record(running, at, running.stop, self.rule.limit))
        return True

    def _ended(self, running: Running, record: Collection) -> bool:
        self.halted = None
        if self.logging:
            self.records.append(record)
            if len(self.records) > _KEPT:
                self.dropped += 1
                del self.records[0]
        if self.rule is None or not self.rule.fits("end", running.generation, record.by_type):
            return False
        self.halted = (running, "end")
        self._show(GcLog([record], 0, True))
        return True

    def _show(self, record: object) -> None:
        console = self._context.session.console
        console.write(as_text(record, console.width, console.colour))


def stop_record(running: Running, at: str, stop: Stop, limit: int) -> GcStop:
    """The collection as it stands at a step, its objects read anew."""
    objects = Objects() if at == "begin" else stop.lists.walk(running.list_head)
    return GcStop(
        at=at,
        interpreter=running.interpreter.number,
        generation=running.generation,
        phase=running.phase,
        reason=running.reason,
        stack=running.stack,
        tracked=len(running.tracked),
        unreachable=None if at == "begin" else len(objects),
        finalizers=running.finalizers if at == "finalize" else [],
        by_type=by_type(stop, objects),
        objects=object_rows(stop, objects, limit),
        coverage_notes=objects.coverage.notes,
    )


def log_collections(context: Context, arguments: argparse.Namespace) -> object:
    """Start recording, or show the record."""
    collector = _Collector.of(context)
    if not collector.logging and not arguments.off:
        collector.watch(arguments.objects)
        collector.logging = True
        waiting = context.session.waiting()
        when = "as soon as a Python is loaded" if waiting else "from now on"
        return Message(f"Collections are recorded {when}. Let the program run; `refdbg gc log` shows them.")
    record = GcLog(list(collector.records), collector.dropped, collector.logging and not arguments.off)
    if arguments.off:
        collector.logging = False
        collector.unwatch()
    return record


def stop_in_collections(context: Context, arguments: argparse.Namespace) -> object:
    """Set or remove the rule that stops the program."""
    collector = _Collector.of(context)
    if arguments.off:
        collector.rule = None
        collector.unwatch()
        return Message("The program is not stopped in collections any more.")
    if arguments.generation is not None and arguments.generation > 2:
        raise CommandError(f"there is no generation {arguments.generation}", "CPython's generations are 0, 1 and 2.")
    collector.watch(arguments.objects)
    collector.rule = _Rule(arguments.at, arguments.generation, arguments.type, arguments.objects)
    which = "collections" if arguments.generation is None else f"collections of generation {arguments.generation}"
    if arguments.type:
        which += f" that concern a {arguments.type}"
    elif arguments.at in ("finalize", "clear"):
        which += " that found garbage"
    return Message(f"The program will stop in {which}, at {arguments.at}. `refdbg gc stop --off` ends that.")


def show_unreachable(context: Context, arguments: argparse.Namespace) -> object:
    """The garbage of the collection that the program is stopped in."""
    halted = _Collector.of(context).halted
    stop = context.stop
    if halted is not None:
        running, at = halted
        if at == "end":
            raise CommandError("the collection is over: its garbage is gone",
                               "`refdbg gc stop --at finalize` stops while it still exists.")
        if at == "begin":
            raise CommandError("the collector has not looked for garbage yet",
                               "`refdbg gc stop --at finalize` stops when it has.")
        if stop.lists.collecting(running.interpreter):
            return stop_record(running, at, stop, arguments.objects)
    raise CommandError("the program is not stopped in a collection by refdbg",
                       "`refdbg gc stop` and `continue` stop it in the next one.")
