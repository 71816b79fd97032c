"""Watching interpreters end: what is tracked before, at and after the last collection, and what is left over.

Python/pylifecycle.c: Py_FinalizeEx and Py_EndInterpreter, through finalize_interp_clear,
_PyGC_Fini and PyInterpreterState_Delete, to the total that a debug build prints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from refdbg.cpython import events
from refdbg.cpython.abandoned import abandoned
from refdbg.cpython.allocator import has_debug_headers
from refdbg.cpython.census import moment
from refdbg.cpython.collection import Running, object_rows, where_supported
from refdbg.cpython.heap import Pages
from refdbg.cpython.other_interpreters import held_by_others
from refdbg.cpython.owned import Owned
from refdbg.cpython.runtime import Build, Interpreter
from refdbg.cpython.stop import Abandoned, Stop
from refdbg.cpython.test_methods import main_stack, running
from refdbg.cpython.total import counts_twice, interned_twice, made_immortal, totals
from refdbg.cpython.types import TYPE_SUBCLASS
from refdbg.errors import RefdbgError, SymbolNotFound
from refdbg.graph.objects import Coverage, Objects
from refdbg.records import FrameRow, InterpreterEnd, LeftOver, Moment, TotalLine, Totals
from refdbg.target import Breakpoint, Hit, Session, Target
from refdbg.target.capture import Capture

_MAKER = 5  # frames of who made an interpreter


@dataclass(frozen=True)
class LastEntry:
    """The entry of an interpreter's last collection: a copy of the pages, what it *examined*, and what it *spared*.

    Objects are spared in the permanent generation (gc.freeze), and in older ones than it was about.
    """

    capture: Capture
    examined: Objects
    spared: Objects


@dataclass(frozen=True)
class Maker:
    """Who made an interpreter: the Python stack, innermost first, and the test method in it, "" for none."""

    frames: list[FrameRow]
    test: str
    at: FrameRow | None


@dataclass
class Ending:
    """One interpreter's end as far as it has come."""

    number: int
    moments: dict[str, Moment] = field(default_factory=dict)
    tracked_at_fini: frozenset[int] = frozenset()
    last_collection: LastEntry | None = None
    left_over: LeftOver | None = None


class FinalizationWatch:
    """Records the end of every interpreter. *limit*: how many left-over objects are listed one by one."""

    def __init__(
        self, session: Session, build: Callable[[Target], Build], limit: int,
        explain: Callable[[int, LastEntry | None, Stop, Objects], None], owners: Callable[[Stop], list[TotalLine]],
    ) -> None:
        """*explain(number, last, stop, left_over)* is called where an interpreter's objects can still be read.

        *last*: the process as it was when the interpreter's last collection began. *owners(stop)* itemises who holds
        the references to the heap objects where the total is printed.
        """
        self._build = build
        self._limit = limit
        self._explain = explain
        self._owners = owners
        self._endings: dict[int, Ending] = {}
        self._before: dict[int, dict[int, int]] = {}  # by interpreter number: objects before it was made
        self._left: dict[int, int] = {}  # what others have left over while subinterpreters live on: address → type
        self._deleted = False
        self._abandoned = Abandoned()
        self._names: dict[int, str] = {}  # of heap types, before their names are released
        self.makers: dict[int, Maker] = {}  # by interpreter number
        self._traced: Stop | None = None  # the process before tracemalloc's tables went
        self._twice = 0  # references that are in the total and nowhere else
        self._immortal: int | None = None  # how many those had that became immortal
        self._blind = False  # whether the allocator's blocks are not understood
        self.totals: Totals | None = None
        self.coverage = Coverage()
        self.warnings: list[str] = []
        self._roles: dict[Sequence[str], Breakpoint] = {}
        self._missing: list[Sequence[str]] = []
        for role, on_hit in (
            (events.NEW_INTERPRETER, self._new),
            (events.IMMORTALIZED, self._immortalized),
            (events.OTHER_THREADS, self._forget_threads),
            (events.INTERPRETER_CLEAR, self._clear),
            (events.GC_FINI, self._gc_fini),
            (events.TRACES_FREED, self._traces_freed),
            (events.INTERNED_CLEARED, self._interned_cleared),
            (events.INTERPRETER_DELETE, self._delete),
            (events.PRINT_TOTAL, self._print_total),
            (events.THE_END, self._end),
        ):
            try:
                self._roles[role] = session.break_on(role, where_supported(build, on_hit))
            except SymbolNotFound:
                self._missing.append(role)

    def delete(self) -> None:
        """Stop watching."""
        for breakpoint_ in self._roles.values():
            breakpoint_.delete()

    def missing(self) -> list[str]:
        """What is missing from the record, once there is a Python: functions that it has not."""
        # Of no use but in free-threaded builds, with tracemalloc, in newer versions, and in debug builds.
        needless = (events.IMMORTALIZED, events.TRACES_FREED, events.INTERNED_CLEARED, events.PRINT_TOTAL)
        roles = self._missing + [role for role, breakpoint_ in self._roles.items() if not breakpoint_.placed]
        return [
            f"no function {' / '.join(role)}: what would be seen there is missing from the report"
            for role in roles if role not in needless
        ]

    def forget(self) -> None:
        """Another program runs now: what was recorded is not about it."""
        self._endings.clear()
        self._before.clear()
        self._left.clear()
        self._deleted = False
        self._names.clear()
        self._abandoned = Abandoned()
        self._traced = None
        self._twice = 0
        self._immortal = None
        self._blind = False
        self.makers.clear()
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
            spared = Objects()
            for generation in stop.lists.examined(running.interpreter, running.generation)[1]:
                spared.extend(stop.lists.walk(generation.head))
            everything = Objects()
            everything.extend(running.tracked)
            everything.extend(spared)
            ending = self._ending(running.interpreter)
            ending.last_collection = LastEntry(Capture(stop.runtime.target), running.tracked, spared)
            ending.moments["last_collection"] = moment(
                stop, running.reason, "tracked when the last collection began", everything
            )

    def _stop(self, hit: Hit) -> Stop:
        stop = Stop(self._build(hit.target))
        stop.texts.earlier = self._names
        stop.abandoned = self._abandoned
        stop.traced = self._traced
        return stop

    def _ending(self, interpreter: Interpreter) -> Ending:
        return self._endings.setdefault(interpreter.number, Ending(interpreter.number))

    def _new(self, hit: Hit) -> bool:
        stop = self._stop(hit)
        stop.runtime.build.pages = stop.runtime.build.pages or Pages()  # many stops follow
        number = stop.runtime.state["interpreters.next_id"]
        objects = stop.heap.objects
        self._before[number] = dict(zip(objects.addresses, objects.types))
        frames = main_stack(stop, hit.thread)
        test = running(stop, frames)
        self.makers[number] = Maker(
            [FrameRow(frame.function, frame.file, frame.line) for frame in frames[:_MAKER]], *(test or ("", None))
        )
        return False

    def _interpreter(self, hit: Hit, stop: Stop) -> Interpreter:
        if "interp" in hit.parameters:
            return stop.runtime.interpreter(hit.argument("interp"))
        if "tstate" not in hit.parameters:  # _PyGC_Fini until 3.8, for all of them
            return next(each for each in stop.runtime.interpreters() if each.main)
        return stop.runtime.interpreter_of(hit.argument("tstate"))

    def _immortalized(self, hit: Hit) -> bool:
        stop = self._stop(hit)
        if stop.runtime.traits.debug:  # else nobody counts
            self._immortal = (self._immortal or 0) + made_immortal(stop, self._interpreter(hit, stop))
        return False

    def _forget_threads(self, hit: Hit) -> bool:
        stop = self._stop(hit)
        self._abandoned = abandoned(stop, hit.argument("tstate"))
        return False

    def _clear(self, hit: Hit) -> bool:
        stop = self._stop(hit)
        interpreter = self._interpreter(hit, stop)
        tracked = stop.lists.tracked(interpreter)
        if interpreter.main and not stop.runtime.traits.free_threaded and not has_debug_headers(stop.runtime):
            try:
                _ = stop.heap  # in the end nothing is tracked by which it could be checked
            except RefdbgError as error:
                self._blind = True
                self.warnings.append(f"what is left over is not known: {error}")
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
        # Immortal types are not tracked in a free-threaded build, and their names are released all the same.
        types = stop.heap.objects if stop.runtime.traits.free_threaded else tracked
        metatypes = {
            type_ for type_ in set(types.types)
            if stop.types.is_type(type_) and stop.types[type_].flags & TYPE_SUBCLASS
        }
        for address, type_ in zip(types.addresses, types.types):
            if type_ in metatypes:
                self._names[address] = stop.texts.type_name(address)
        return False

    def _traces_freed(self, hit: Hit) -> bool:
        stop = self._stop(hit)
        main = next(each for each in stop.runtime.interpreters() if each.main)
        if stop.traces.tracing and stop.runtime.finalizing(main):
            self._traced = Stop(Build(Capture(stop.runtime.target)))
        return False

    def _delete(self, hit: Hit) -> bool:
        stop = self._stop(hit)
        interpreter = stop.runtime.interpreter(hit.argument("interp"))
        if interpreter.main:
            self._deleted = True
            return False
        before = self._before.pop(interpreter.number, None)
        if before is None:
            return False  # it was made before refdbg came
        heap = stop.heap
        ending = self._ending(interpreter)
        rows = [
            row for row, (address, type_, _) in enumerate(heap.objects.rows())
            if before.get(address) != type_ and self._left.get(address) != type_
        ]
        if "after_last_collection" in ending.moments:
            others = held_by_others(stop, interpreter, ending.tracked_at_fini, rows)
            rows = [row for row in rows if row not in others]
            waiting = _nothing_but_waiting(stop, rows)
            rows = [row for row in rows if row not in waiting]
        else:
            self.warnings.append(
                f"interpreter {interpreter.number}: what other interpreters made meanwhile is in its left-over."
            )
        mine = heap.objects.pick(rows)
        if self._before:  # an interpreter that is made later finds it there
            self._left.update(zip(mine.addresses, mine.types))
        else:
            self._left.clear()
        # Since 3.11 (bpo-46070) _PyGC_Fini may untrack what is left and add a reference to each: not the program's.
        for row, address in enumerate(mine.addresses if not stop.runtime.traits.free_threaded else ()):
            if address in ending.tracked_at_fini and not stop.lists.is_tracked(address):
                mine.refcounts[row] -= 1
        self._at_end(
            hit, stop, ending, "objects made since the interpreter was, and not another interpreter's", mine,
            [heap.size(row) for row in rows],
        )
        if len(mine):
            self._explain(interpreter.number, ending.last_collection, stop, mine)
        ending.last_collection = None
        return False

    def _interned_cleared(self, hit: Hit) -> bool:
        stop = self._stop(hit)
        if counts_twice(stop):  # else the optimiser may have done without the argument
            self._twice += interned_twice(stop, stop.runtime.interpreter(hit.argument("interp")))
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
        if stop.runtime.traits.debug:  # else nobody counts
            self._account(hit, stop)
        if self._deleted:  # 3.11+: the interpreter is gone already
            self._main_left_over(hit, stop)

    def _account(self, hit: Hit, stop: Stop) -> None:
        self.totals = totals(stop, hit.function, self._twice, self._immortal)
        immortal = sum(map(stop.runtime.is_immortal, stop.heap.objects.refcounts))
        unknown = self.totals.references_unattributed and self._immortal is None
        if unknown and immortal and stop.runtime.traits.free_threaded:
            self.warnings.append(
                f"{immortal} objects became immortal (from the first thread on, 3.13) before refdbg watched: the "
                "references that they had then are in the interpreter's total, and nothing tells how many these are."
            )
        if any(stop.heap.objects.refcounts):
            self.totals = replace(self.totals, owners=self._owners(stop))

    def _main_left_over(self, hit: Hit, stop: Stop) -> None:
        if self._blind:
            return
        heap = stop.heap
        ending = self._endings.setdefault(0, Ending(0))
        rows = range(len(heap.objects))
        waiting = _nothing_but_waiting(stop, rows)
        left = heap.objects.pick(row for row in rows if row not in waiting) if waiting else heap.objects
        sizes = [heap.size(row) for row in rows if row not in waiting]
        self._at_end(hit, stop, ending, "objects that still exist", left, sizes)
        if len(left):
            self.coverage.add(stop.statics.coverage)
            self._explain(0, ending.last_collection, stop, left)
        ending.last_collection = None

    def _at_end(
        self, hit: Hit, stop: Stop, ending: Ending, what: str, objects: Objects, sizes: Sequence[int]
    ) -> None:
        end = ending.moments["at_end"] = moment(stop, hit.function, what, objects, sizes)
        ending.left_over = LeftOver(
            end.objects, end.references, sum(sizes), end.by_type, object_rows(stop, objects, self._limit)
        )
        self.coverage.add(objects.coverage)


def _nothing_but_waiting(stop: Stop, rows: Iterable[int]) -> set[int]:
    # Those of the heap's *rows* that nobody has a reference to, and that have none themselves which counts: objects
    # with a deferred count (free-threaded) wait for a collection to free them, and after the last one there is none.
    objects = stop.heap.objects
    rows = [row for row in rows if not objects.refcounts[row]]
    if not rows:
        return set()
    known, owned = stop.known, Owned(stop.texts)

    def counts(target: int) -> bool:
        row = stop.heap.index.get(target)
        return row >= 0 and objects.refcounts[row] > 0 and not stop.runtime.is_immortal(objects.refcounts[row])

    found = set()
    for row in rows:
        targets = known.targets[known.starts[row] : known.starts[row + 1]].tolist()
        if row in known.others:
            targets = [each.target for each in owned.references(objects.addresses[row]) if each.exact]
        if not any(map(counts, targets)):
            found.add(row)
    return found
