"""`refdbg gc log`, `gc stop`, `gc unreachable`: the collector's runs as they happen."""

from __future__ import annotations

import argparse
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from refdbg.answers import GcFilm, GcLog, GcStop, Message
from refdbg.commands import traverse
from refdbg.commands.context import Context
from refdbg.commands.decision import Agreement
from refdbg.commands.film import Film, still, where
from refdbg.commands.inspect import number, object_address
from refdbg.cpython.census import by_type
from refdbg.cpython.collection import CollectionWatch, Listener, Running, object_rows
from refdbg.cpython.stop import Stop
from refdbg.cpython.stripped import HINT
from refdbg.errors import CommandError, DecisionInlined, TargetError
from refdbg.graph.objects import Objects
from refdbg.records import Collection, TypeRow
from refdbg.render import as_json, as_text

_LISTED = 10  # objects of a collection in the log, until another number is asked for
_KEPT = 10_000  # collections; the oldest are dropped, and said to be
_FILM = """Follows one object through the next collection that examines it.

The film says how many references the object has, how many of them other collected objects visit, and what holds the
rest (gc_refs); so why it stays, or that it is unreachable. Then what really happens to it: its finalizer is called, it
is resurrected, handed to tp_clear, freed, or survives, and in which generation. It is printed when the collection ends,
and the program stops there.

  refdbg gc film self         set it up; then `continue`
  refdbg gc film self --now   only what a full collection would decide at this stop; nothing runs in the process
  refdbg gc film              show the last film again

Before a collection begins the object is watched only by its memory: an object of a type with a free list (list, dict,
tuple) may be freed and replaced by another one there without notice."""
_STEPS = ("begin", "finalize", "clear", "end")


def add_commands(subcommands: Any) -> None:
    """Add this module's subcommands."""
    gc = subcommands.add_parser("gc", help="the collector's runs: log them, stop in them, list their garbage")
    actions = gc.add_subparsers(dest="action", metavar="ACTION", required=True)

    log = actions.add_parser("log", help="record every collection from now on; again: show what was recorded")
    log.add_argument("--objects", type=number, metavar="N",
                     help=f"list the first N objects of each, from now on ({_LISTED}); of what is recorded already no "
                     "more than were asked for then")
    log.add_argument("--check", action="store_true",
                     help="replay what each collection decides, and say where it decided otherwise (slow)")
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

    film = actions.add_parser(
        "film", help="follow one object through the next collection that examines it",
        description=_FILM, formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    film.add_argument("expression", nargs="*", metavar="OBJ", help="a debugger expression that is a PyObject *, or an "
                      "address; without it the last film is shown again")
    film.add_argument("--now", action="store_true", help="only what a full collection would decide now; nothing runs")
    film.add_argument("--off", action="store_true", help="follow the object no more")
    film.set_defaults(run=film_object)

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
        self.listed = _LISTED
        self.rule: _Rule | None = None
        self.halted: tuple[Running, str] | None = None
        self.agreement: Agreement | None = None
        self.film: Film | None = None
        self.film_as_json = False
        self.seen: GcFilm | None = None  # the last film

    @classmethod
    def of(cls, context: Context) -> _Collector:
        found = context.state.get("gc")
        if not isinstance(found, _Collector):
            found = context.state["gc"] = cls(context)
        return found

    def watch(self, limit: int) -> None:
        """Watch from now on. Raises SymbolNotFound, CommandError."""
        with suppress(TargetError):  # nothing is loaded so far
            if self._context.build().stripped:
                raise CommandError("this Python is stripped: where the steps of its collector are is not known", HINT)
        if self._watch is not None:
            self._watch.limit = max(limit, self._watch.limit)
            return
        listener = Listener(
            begin=lambda running: self._step(running, "begin", running.tracked),
            finalize=lambda running: self._step(running, "finalize", running.unreachable),
            clear=lambda running: self._step(running, "clear", running.cleared or Objects()),
            end=self._ended,
            examine=self._examine,
            subtracted=self._subtracted,
            deduced=self._deduced,
        )
        self._watch = CollectionWatch(self._context.session, self._context.build, listener, limit)

    def watch_decision(self) -> None:
        """Watch how the collector decides, too. Raises DecisionInlined."""
        if self._watch is None:
            return
        try:
            self._watch.watch_decision()
        except DecisionInlined:
            self.unwatch()
            raise

    def checks(self) -> list[str]:
        """How the collections compare with their replay; [] when that is not asked."""
        if self.agreement is None:
            return []
        if self._watch is not None and self._watch.undecidable is not None:
            return [f"{self._watch.undecidable}. {self._watch.undecidable.hint}"]
        return [*self.agreement.warnings, self.agreement.summary()]

    def end_film(self) -> None:
        """Follow no object any more."""
        if self.film is not None:
            self.film.delete()
            self.film = None
        self.unwatch()

    def unwatch(self) -> None:
        """Watch no more when nobody needs it."""
        if self._watch is not None and self.agreement is None and self.film is None:
            self._watch.ignore_decision()
        if self._watch is not None and not self.logging and self.rule is None and self.film is None:
            self._watch.delete()
            self._watch = None

    def _step(self, running: Running, at: str, objects: Objects) -> bool:
        self.halted = None
        if self.film is not None and at == "finalize":
            self.film.finalize(running)
        elif self.film is not None and at == "clear":
            self.film.clear(running)
        if self.rule is None or self.rule.at != at:
            return False
        types = by_type(running.stop, objects) if self.rule.type is not None or at != "begin" else []
        if (at in ("finalize", "clear") and not len(objects)) or not self.rule.fits(at, running.generation, types):
            return False
        self.halted = (running, at)
        self._show(stop_record(running, at, running.stop, self.rule.limit))
        return True

    def _examine(self, running: Running) -> None:
        if self.agreement is not None:
            self.agreement.examine(running)
        if self.film is not None:
            self.film.examine(running)

    def _subtracted(self, running: Running) -> None:
        if self.agreement is not None:
            self.agreement.subtracted(running)
        if self.film is not None:
            self.film.subtracted(running)

    def _deduced(self, running: Running) -> None:
        if self.agreement is not None:
            self.agreement.deduced(running)
        if self.film is not None:
            self.film.deduced(running)

    def _ended(self, running: Running, record: Collection) -> bool:
        self.halted = None
        if self.agreement is not None:
            self.agreement.ended(running, record)
        filmed = self._filmed(running, record)
        if self.logging:
            self.records.append(record)
            if len(self.records) > _KEPT:
                self.dropped += 1
                del self.records[0]
        if self.rule is None or not self.rule.fits("end", running.generation, record.by_type):
            return filmed
        self.halted = (running, "end")
        self._show(GcLog([replace(record, objects=record.objects[: self.rule.limit])], 0, True))
        return True

    def _filmed(self, running: Running, record: Collection) -> bool:
        # Shows the film when it ends with this collection, and stops the program.
        if self.film is None:
            return False
        found = self.film.ended(running, record) or self.film.lost
        if found is None:
            return False
        self.film.delete()
        self.film, self.seen = None, found
        if self.film_as_json:
            self._context.session.console.write(as_json(found))
        else:
            self._show(found)
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
    if arguments.objects is not None:
        collector.listed = arguments.objects
    starts_checking = arguments.check and collector.agreement is None
    if (not collector.logging or starts_checking) and not arguments.off:
        collector.watch(collector.listed)
        if arguments.check:
            collector.watch_decision()
            collector.agreement = Agreement()
        collector.logging = True
        waiting = context.session.waiting()
        when = "as soon as a Python is loaded" if waiting else "from now on"
        return Message(f"Collections are recorded {when}. Let the program run; `refdbg gc log` shows them.")
    if collector.logging:
        collector.watch(collector.listed)
    record = GcLog(
        # Others may have been listed for `gc stop`, or asked for before.
        [replace(each, objects=each.objects[: collector.listed]) for each in collector.records], collector.dropped,
        collector.logging and not arguments.off,
        collector.checks(),
    )
    if arguments.off:
        collector.logging = False
        collector.agreement = None
        collector.unwatch()
    return record


def film_object(context: Context, arguments: argparse.Namespace) -> object:
    """Follow an object, or show the last film."""
    collector = _Collector.of(context)
    if arguments.off:
        collector.end_film()
        return Message("No object is followed any more.")
    if not arguments.expression:
        if collector.film is not None:
            return Message("The object has been in no collection yet. Let the program run.")
        if collector.seen is None:
            raise CommandError(
                "there is no film yet",
                "`refdbg gc film OBJ` makes one while the program runs on, `refdbg gc film OBJ --now` at this stop.",
            )
        return collector.seen
    address = object_address(context, arguments.expression)
    state, generation = where(context.stop, address)
    if arguments.now or state != "examined":
        return still(context, address)
    collector.end_film()
    collector.watch(0)
    collector.watch_decision()
    collector.film, collector.film_as_json = Film(context, address), arguments.json
    return Message(
        f"The object is in generation {generation}. Let the program run: it stops at the end of the next collection "
        "that examines the object, and the film is shown."
    )


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
    raise CommandError(
        "the program is not stopped in a collection by refdbg",
        "`refdbg gc stop` and `continue` stop it in the next one." if stop.runtime.target.info.live else
        "Nothing runs here, so none will come: `refdbg gc again` says what a full collection would find.",
    )
