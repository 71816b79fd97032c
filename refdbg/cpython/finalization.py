"""Watching interpreters end: what is tracked before, at and after the last collection, and what is left over.

Python/pylifecycle.c: Py_FinalizeEx and Py_EndInterpreter, through finalize_interp_clear,
_PyGC_Fini and PyInterpreterState_Delete, to the total that a debug build prints.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from refdbg.cpython import events
from refdbg.cpython.census import moment
from refdbg.cpython.collection import Running, object_rows
from refdbg.cpython.runtime import Build, Interpreter
from refdbg.cpython.stop import Stop
from refdbg.cpython.total import totals
from refdbg.cpython.types import TYPE_SUBCLASS
from refdbg.errors import SymbolNotFound
from refdbg.graph.objects import Coverage, Objects
from refdbg.records import InterpreterEnd, LeftOver, Moment, Totals
from refdbg.target import Breakpoint, Hit, Session, Target
from refdbg.target.capture import Capture


@dataclass
class Ending:
    """One interpreter's end as far as it has come."""

    number: int
    moments: dict[str, Moment] = field(default_factory=dict)
    tracked_at_fini: frozenset[int] = frozenset()
    last_collection: tuple[Capture, Objects] | None = None  # the pages at its entry, and what it examined
    left_over: LeftOver | None = None


class FinalizationWatch:
    """Records the end of every interpreter. *limit*: how many left-over objects are listed one by one."""

    def __init__(
        self, session: Session, build: Callable[[Target], Build], limit: int,
        explain: Callable[[Stop], None],
        explain_kept: Callable[[int, Capture, Objects, Stop, Objects], None],
    ) -> None:
        """Both are called where objects are left over and can still be read.

        *explain(stop)*: the main interpreter's; *explain_kept(number, capture, tracked, stop, left_over)*: a
        subinterpreter's, with the process as it was when its last collection began.
        """
        self._build = build
        self._limit = limit
        self._explain = explain
        self._explain_kept = explain_kept
        self._endings: dict[int, Ending] = {}
        self._before: dict[int, dict[int, int]] = {}  # by interpreter number: objects before it was made
        self._deleted = False
        self._names: dict[int, str] = {}  # of heap types, before their names are released
        self.totals: Totals | None = None
        self.coverage = Coverage()
        self.warnings: list[str] = []
        self.breakpoints: list[Breakpoint] = []
        for role, on_hit in (
            (events.NEW_INTERPRETER, self._new),
            (events.INTERPRETER_CLEAR, self._clear),
            (events.GC_FINI, self._gc_fini),
            (events.INTERPRETER_DELETE, self._delete),
            (events.PRINT_TOTAL, self._print_total),
            (events.THE_END, self._end),
        ):
            try:
                self.breakpoints.append(session.break_on(role, on_hit))
            except SymbolNotFound as error:
                self.warnings.append(f"{error}: what would be seen there is missing from the report")

    def forget(self) -> None:
        """Another program runs now: what was recorded is not about it."""
        self._endings.clear()
        self._before.clear()
        self._deleted = False
        self._names.clear()
        self.totals = None
        self.coverage = Coverage()

    def endings(self) -> list[InterpreterEnd]:
        """The interpreters that ended, or began to, in the order of their numbers."""
        return [
            InterpreterEnd(ending.number, ending.moments, ending.left_over)
            for _, ending in sorted(self._endings.items())
        ]

    def collection_begins(self, running: Running) -> None:
        """Called at each collection: the newest one below the finalization is the last so far (capture A)."""
        if running.phase == "finalization":
            stop = running.stop
            tracked = Objects()
            for generation in stop.lists.generations(running.interpreter)[running.generation + 1 :]:
                tracked.extend(stop.lists.walk(generation.head))
            everything = Objects()
            everything.extend(running.tracked)
            everything.extend(tracked)
            ending = self._ending(running.interpreter)
            if not running.interpreter.main and stop.runtime.traits.debug:
                ending.last_collection = (Capture(stop.runtime.target), everything)
            ending.moments["last_collection"] = moment(
                stop, running.reason, "tracked when the last collection began", everything
            )

    def _stop(self, hit: Hit) -> Stop:
        stop = Stop(self._build(hit.target))
        stop.texts.earlier = self._names
        return stop

    def _ending(self, interpreter: Interpreter) -> Ending:
        return self._endings.setdefault(interpreter.number, Ending(interpreter.number))

    def _new(self, hit: Hit) -> bool:
        stop = self._stop(hit)
        if stop.runtime.traits.debug:
            number = stop.runtime.state["interpreters.next_id"]
            objects = stop.heap.objects
            self._before[number] = dict(zip(objects.addresses, objects.types))
        return False

    def _interpreter(self, hit: Hit, stop: Stop) -> Interpreter:
        if "interp" in hit.parameters:
            return stop.runtime.interpreter(hit.argument("interp"))
        return stop.runtime.interpreter_of(hit.argument("tstate"))

    def _clear(self, hit: Hit) -> bool:
        stop = self._stop(hit)
        interpreter = self._interpreter(hit, stop)
        tracked = stop.lists.tracked(interpreter)
        self.coverage.add(tracked.coverage)
        self._ending(interpreter).moments["before_clear"] = moment(
            stop, hit.function, "tracked when the interpreter is cleared", tracked
        )
        return False

    def _gc_fini(self, hit: Hit) -> bool:
        stop = self._stop(hit)
        interpreter = self._interpreter(hit, stop)
        tracked = stop.lists.tracked(interpreter)
        ending = self._ending(interpreter)
        ending.tracked_at_fini = frozenset(tracked.addresses)
        ending.moments["after_last_collection"] = moment(
            stop, hit.function, "still tracked after the last collection", tracked
        )
        for address, type_, _count in tracked.rows():
            if stop.types.is_type(type_) and stop.types[type_].flags & TYPE_SUBCLASS:
                self._names[address] = stop.texts.type_name(address)
        return False

    def _delete(self, hit: Hit) -> bool:
        stop = self._stop(hit)
        interpreter = stop.runtime.interpreter(hit.argument("interp"))
        if interpreter.main:
            self._deleted = True
            return False
        before = self._before.pop(interpreter.number, None)
        if before is None:
            return False  # a release build, or it was made before refdbg came
        heap = stop.heap
        rows = [row for row, (address, type_, _) in enumerate(heap.objects.rows()) if before.get(address) != type_]
        mine = heap.objects.pick(rows)
        ending = self._ending(interpreter)
        # Since 3.11 (bpo-46070) _PyGC_Fini may untrack what is left and add a reference to each: not the program's.
        for row, address in enumerate(mine.addresses):
            if address in ending.tracked_at_fini and not stop.lists.is_tracked(address):
                mine.refcounts[row] -= 1
        self._at_end(
            hit, stop, ending, "objects that did not exist before the interpreter was made", mine,
            [heap.size(row) for row in rows],
        )
        if ending.last_collection is not None:
            if len(mine):
                self._explain_kept(interpreter.number, *ending.last_collection, stop, mine)
            ending.last_collection = None
        return False

    def _print_total(self, hit: Hit) -> bool:
        self._sum(hit)
        return False

    def _end(self, hit: Hit) -> bool:
        if 0 in self._endings and self._endings[0].left_over is not None:
            return False
        if self.totals is None:
            self._sum(hit)
        else:
            self._main_left_over(hit, self._stop(hit))
        return False

    def _sum(self, hit: Hit) -> None:
        stop = self._stop(hit)
        if not stop.runtime.traits.debug:
            return
        self.totals = totals(stop, hit.function)
        if self._deleted:  # 3.11+: the interpreter is gone already
            self._main_left_over(hit, stop)

    def _main_left_over(self, hit: Hit, stop: Stop) -> None:
        heap = stop.heap
        ending = self._endings.setdefault(0, Ending(0))
        sizes = [heap.size(row) for row in range(len(heap.objects))]
        self._at_end(hit, stop, ending, "objects that still exist", heap.objects, sizes)
        if len(heap.objects):
            self.coverage.add(stop.statics.coverage)
            self._explain(stop)

    def _at_end(
        self, hit: Hit, stop: Stop, ending: Ending, what: str, objects: Objects, sizes: Sequence[int]
    ) -> None:
        end = ending.moments["at_end"] = moment(stop, hit.function, what, objects, sizes)
        ending.left_over = LeftOver(
            end.objects, end.references, sum(sizes), end.by_type, object_rows(stop, objects, self._limit)
        )
        self.coverage.add(objects.coverage)
