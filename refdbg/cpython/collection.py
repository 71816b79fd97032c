"""Watching the collector: what each run examines, finds, finalizes and clears (Python/gc.c, gc_collect_main)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice

from refdbg.cpython import events
from refdbg.cpython.census import by_type
from refdbg.cpython.frames import Frame
from refdbg.cpython.heap import Generation, stats, thresholds
from refdbg.cpython.mimalloc import MimallocPages
from refdbg.cpython.runtime import Build, Interpreter, Runtime, Thread
from refdbg.cpython.stop import Stop, check_supported, is_supported
from refdbg.errors import DecisionInlined, DecodeError, MemoryFault, RefdbgError, SymbolNotFound, TargetError
from refdbg.graph.objects import Objects
from refdbg.records import Collection, Finalizer, FrameRow, ObjectRow, TypeRow
from refdbg.target import Breakpoint, Hit, OnHit, Session, Target

_STACK = 20  # Python frames kept per collection
_SAVE_ALL = 1 << 5  # DEBUG_SAVEALL, Include/internal/pycore_gc.h
_OLDEST = 2
_AUTO = -1  # since 3.13 the collector may choose the generation itself (GENERATION_AUTO)


@dataclass
class Running:
    """A collection that has begun and not ended. *unreachable*: its garbage once that is known."""

    stop: Stop
    interpreter: Interpreter
    generation: int
    phase: str
    thread: int
    reason: str
    stack: list[FrameRow]
    before: list[tuple[int, int, int]]
    tracked: Objects
    survivors_after: int  # the last object of the generation that survivors join, before they do
    started: float | None
    unreachable: Objects = field(default_factory=Objects)
    finalizers: list[Finalizer] = field(default_factory=list)
    by_type: list[TypeRow] = field(default_factory=list)
    objects: list[ObjectRow] = field(default_factory=list)
    cleared: Objects | None = None
    older_head: int = 0  # the list that what outlives tp_clear is appended to (``PyGC_Head *``)
    list_head: int = 0  # the collector's list of what is garbage at this step (``PyGC_Head *``)
    resurrected: int = 0
    brought_back: list[int] = field(default_factory=list)  # the resurrected (``PyObject *``), newest first
    garbage_before: int = 0  # how long the list of what is not freed, gc.garbage, was
    # Only where the decision is watched. The objects that the collector looks at, when it begins to; those on its list
    # when it has subtracted all visits from their counts (for the second time: what the finalizers were called for);
    # what it has found unreachable, before anything is done to that.
    examined: Objects | None = None
    subtracted: Objects = field(default_factory=Objects)
    deduced: Objects | None = None


@dataclass(frozen=True)
class Listener:
    """What to do at the steps of a collection; at each True stops the program."""

    begin: Callable[[Running], bool] = lambda running: False
    finalize: Callable[[Running], bool] = lambda running: False
    clear: Callable[[Running], bool] = lambda running: False
    end: Callable[[Running, Collection], bool] = lambda running, record: False
    # Only called after CollectionWatch.watch_decision():
    examine: Callable[[Running], None] = lambda running: None
    subtracted: Callable[[Running], None] = lambda running: None
    deduced: Callable[[Running], None] = lambda running: None


class CollectionWatch:
    """Records every collection of every interpreter. *limit*: how many objects each record lists."""

    def __init__(
        self, session: Session, build: Callable[[Target], Build], listener: Listener, limit: int,
        only_at_ends: bool = False,
    ) -> None:
        """*only_at_ends*: pass over collections of interpreters that are not being finalized.

        Raises NotPython when the process is known to be a free-threaded build.
        """
        self._only_at_ends = only_at_ends
        self._session = session
        self._build = build
        self._listener = listener
        _refuse_unsupported(session, build)
        self.limit = limit
        self._running: dict[int, list[Running]] = {}
        self.count = 0
        self.breakpoints: list[Breakpoint] = [
            session.break_on(events.COLLECTION, where_supported(build, self._begin)),
            session.break_on(events.COLLECTION, where_supported(build, self._end), "return"),
        ]
        self._steps: dict[str, Breakpoint | None] = {}
        for role, on_hit in ((events.FINALIZERS, self._finalize), (events.CLEARING, self._clear)):
            self._steps[role[0]] = None
            with suppress(SymbolNotFound):
                self._steps[role[0]] = session.break_on(role, where_supported(build, on_hit))
        self.breakpoints += filter(None, self._steps.values())
        self._decision: list[Breakpoint] = []
        self._decides_later = False
        self.undecidable: DecisionInlined | None = None

    @property
    def missing(self) -> list[str]:
        """The functions that the compiler has left no trace of, once there is a Python."""
        return [name for name, placed in self._steps.items() if placed is None or not placed.placed]

    def delete(self) -> None:
        """Stop watching."""
        for breakpoint_ in self.breakpoints:
            breakpoint_.delete()
        self.ignore_decision()

    def under_way(self, thread: int) -> Running | None:
        """The collection that the thread is in the middle of."""
        runs = self._running.get(thread)
        return runs[-1] if runs else None

    def watch_decision(self) -> None:
        """Watch how the collector decides, too. Raises DecisionInlined.

        Where no CPython is loaded so far, its first collection shows: *undecidable* is then what would be raised.
        """
        self._decides_later = not self.breakpoints[0].placed
        if self._decision or self._decides_later:
            return
        try:
            for role, on_hit in (
                (events.EXAMINING, self._examine), (events.DEDUCED, self._deduce), (events.SUBTRACTED, self._subtract),
            ):
                try:
                    self._decision.append(self._break_on_own_code(role, where_supported(self._build, on_hit)))
                except SymbolNotFound:
                    if role != events.SUBTRACTED or self._decision[0].function != events.EXAMINING[0]:
                        raise  # else it is a free-threaded build
        except SymbolNotFound as error:
            self.ignore_decision()
            raise DecisionInlined(error.name) from error

    def _break_on_own_code(self, role: Sequence[str], on_hit: OnHit) -> Breakpoint:
        # The first of the functions that was not inlined: what they are called with counts.
        for function in role:
            with suppress(SymbolNotFound):
                found = self._session.break_on((function,), on_hit)
                if not found.inlined:
                    return found
                found.delete()
        raise SymbolNotFound(" / ".join(role))

    def ignore_decision(self) -> None:
        """Watch that no more."""
        for breakpoint_ in self._decision:
            breakpoint_.delete()
        self._decision = []
        self._decides_later = False

    def _begin(self, hit: Hit) -> bool:
        stop = Stop(self._build(hit.target))
        tstate = _thread_state(stop, hit)
        interpreter = stop.runtime.interpreter_of(tstate)
        finalizing = stop.runtime.finalizing(interpreter)
        if self._only_at_ends and not finalizing:
            return False
        # A clone for _PyGC_CollectNoFail has no such parameter: it collects all (3.8).
        generation = _signed(hit.argument("generation")) if "generation" in hit.parameters else _OLDEST
        if generation == _AUTO:
            generation = select_generation(thresholds(stop.runtime, interpreter))
        lists = stop.lists.generations(interpreter)
        tracked = Objects()
        for examined in stop.lists.examined(interpreter, generation)[0]:
            tracked.extend(stop.lists.walk(examined.head))
        last = 0
        if generation + 2 < len(lists):  # survivors join the next older generation, the oldest stays
            last = stop.lists.last(lists[generation + 1].head)
        running = Running(
            stop=stop,
            interpreter=interpreter,
            generation=generation,
            phase="finalization" if finalizing else "running",
            thread=hit.thread,
            reason=events.reason(hit.callers(12 if finalizing else 3)),
            stack=frame_rows(stop.frames.stack(Thread(tstate, hit.thread), _STACK)),
            before=stats(stop.runtime, interpreter),
            garbage_before=len(garbage(stop, interpreter)),
            tracked=tracked,
            survivors_after=last,
            started=hit.target.cpu_seconds(hit.thread),
        )
        self._running.setdefault(hit.thread, []).append(running)
        if self._decides_later:
            try:
                self.watch_decision()
            except DecisionInlined as error:
                self.undecidable = error
        return self._listener.begin(running)

    def _current(self, hit: Hit) -> Running | None:
        runs = self._running.get(hit.thread)
        if not runs:
            return None  # watched from its middle on
        runs[-1].stop = Stop(self._build(hit.target))
        return runs[-1]

    def _examine(self, hit: Hit) -> bool:
        running = self._current(hit)
        if running is not None and running.examined is None and hit.parameters:
            running.examined = running.stop.lists.walk(hit.argument(hit.parameters[0]))  # a list, or the interpreter
            self._listener.examine(running)
        return False

    def _subtract(self, hit: Hit) -> bool:
        running = self._current(hit)
        if running is not None and running.examined is not None and hit.parameters:
            running.subtracted = running.stop.lists.walk(hit.argument(hit.parameters[0]))
            self._listener.subtracted(running)
        return False

    def _deduce(self, hit: Hit) -> bool:
        running = self._current(hit)
        if running is not None and running.examined is not None and running.deduced is None and hit.parameters:
            running.deduced = Objects()
            for head in _lists_of(running.stop, hit, "unreachable", "legacy_finalizers"):
                running.deduced.extend(running.stop.lists.walk(head))
            self._listener.deduced(running)
        return False

    def _finalize(self, hit: Hit) -> bool:
        running = self._current(hit)
        if running is None:
            return False
        if running.list_head:
            return False  # inlined, and its first instruction is a loop's
        stop = running.stop
        running.list_head = _list_head(stop, hit, "unreachable")
        running.unreachable = stop.lists.walk(running.list_head)
        running.finalizers = finalizers(stop, running.unreachable)
        running.by_type = by_type(stop, running.unreachable)
        running.objects = object_rows(stop, running.unreachable, self.limit)
        return self._listener.finalize(running)

    def _clear(self, hit: Hit) -> bool:
        running = self._current(hit)
        if running is None:
            return False
        if running.cleared is not None:
            return False
        lists = running.stop.lists
        running.list_head = _list_head(running.stop, hit, "final_unreachable")
        running.cleared = lists.walk(running.list_head)
        running.older_head = (
            hit.argument("old") if "old" in hit.parameters
            else _older_head(lists.generations(running.interpreter), running.generation)
        )
        _count_resurrected(running)
        return self._listener.clear(running)

    def _end(self, hit: Hit) -> bool:
        running = self._current(hit)
        if running is None:
            return False
        self._running[hit.thread].pop()
        stop = running.stop
        if running.list_head and running.cleared is None:  # inlined, and passed over where nothing is cleared
            running.cleared = Objects()
            running.older_head = _older_head(stop.lists.generations(running.interpreter), running.generation)
            _count_resurrected(running)
            self._listener.clear(running)
        after = stats(stop.runtime, running.interpreter)
        counted = [
            (new[1] - old[1], new[2] - old[2]) for old, new in zip(running.before, after) if new[0] != old[0]
        ]
        if not counted:
            return False  # it returned at once: no generation needed it, or another collection runs
        self.count += 1
        record = self._record(running, *counted[0], hit.target.cpu_seconds(hit.thread))
        return self._listener.end(running, record)

    def _record(self, running: Running, collected: int, uncollectable: int, ended: float | None) -> Collection:
        unreachable = len(running.unreachable)
        cleared = len(running.cleared) if running.cleared is not None else 0
        if self.missing:  # the collector's own counts are all there is
            unreachable = cleared = collected
        return Collection(
            number=self.count,
            interpreter=running.interpreter.number,
            generation=running.generation,
            phase=running.phase,
            thread=running.thread,
            frame=running.stack[0] if running.stack else None,
            stack=running.stack,
            reason=running.reason,
            tracked=len(running.tracked),
            tracked_after=_survivors(running),
            unreachable=unreachable + uncollectable,
            finalized=sum(finalizer.objects for finalizer in running.finalizers),
            finalizers=running.finalizers,
            resurrected=running.resurrected,
            freed_early=max(unreachable - cleared - running.resurrected, 0),
            cleared=cleared,
            uncollectable=uncollectable,
            by_type=running.by_type,
            objects=running.objects,
            seconds=None if ended is None or running.started is None else round(ended - running.started, 6),
        )


def _thread_state(stop: Stop, hit: Hit) -> int:
    # The thread that collects (``PyThreadState *``): until 3.8 the one that holds the GIL.
    if "tstate" in hit.parameters:
        return hit.argument("tstate")
    return stop.runtime.state["gilstate.tstate_current"]


def _list_head(stop: Stop, hit: Hit, variable: str) -> int:
    # What finalize_garbage and delete_garbage are called with (``PyGC_Head *``). *variable*: gc_collect_main's name of
    # it, where they were inlined into that. Raises LayoutNotFound.
    if stop.runtime.traits.free_threaded:
        return _lists_of(stop, hit, "collectable")[0]
    return hit.argument("collectable") if "collectable" in hit.parameters else hit.variable(variable)


def _count_resurrected(running: Running) -> None:
    # handle_resurrected_objects has just appended them to the older generation, or let them go from the one list that
    # has a reference to each (free-threaded).
    lists, found = running.stop.lists, set(running.unreachable.addresses)
    if isinstance(lists, MimallocPages):
        gone = found.difference(running.cleared.addresses if running.cleared is not None else ())
        running.brought_back = [address for address in gone if lists.is_tracked(address)]
        running.resurrected = len(running.brought_back)
    elif len(found) > len(running.cleared or ()):
        for address in lists.backward(running.older_head):
            if address not in found:
                break
            running.resurrected += 1
            running.brought_back.append(address)


def _older_head(generations: list[Generation], number: int) -> int:
    # The list that what survives a collection of generation *number* joins (``PyGC_Head *``).
    return generations[min(number + 1, len(generations) - 2)].head


def where_supported(build: Callable[[Target], Build], on_hit: OnHit) -> OnHit:
    """*on_hit*, called only in builds that refdbg supports: a program may turn into another one."""
    return lambda hit: is_supported(build(hit.target)) and on_hit(hit)


def watch_calls(
    session: Session, build: Callable[[Target], Build], function: str, on_hit: OnHit
) -> list[Breakpoint]:
    """Call *on_hit* at each call of *function*, in builds that refdbg supports. Raises SymbolNotFound.

    Also when nothing else stops the program in between: without the stop at its return, the next call from the same
    place looks like the same stop once more.
    """
    return [
        session.break_on((function,), where_supported(build, on_hit)),
        session.break_on((function,), lambda hit: False, "return"),
    ]


def _refuse_unsupported(session: Session, build: Callable[[Target], Build]) -> None:
    try:
        known = build(session.target())
        running = any(Runtime(known).interpreters())
    except RefdbgError:
        return  # no process, or no Python in it so far
    if running:
        check_supported(known)


def _lists_of(stop: Stop, hit: Hit, *names: str) -> list[int]:
    # The collector's own lists that a function of it gets: the first as an argument of its own, or all in the
    # state of the collection, where "collectable" is "unreachable" (gc_free_threading.c, struct collection_state).
    if not stop.runtime.traits.free_threaded:
        return [hit.argument(names[0])]
    layout = stop.runtime.build.layout("collection_state")
    # Inlined, the function has what is a variable of gc_collect_main.
    state = hit.argument("state") if "state" in hit.parameters else hit.variable("state")
    return [state + layout.offset(name if name in layout else "unreachable") for name in names]


def _signed(value: int) -> int:
    return (value & 0xFFFF_FFFF) - (1 << 32) if value >> 31 & 1 else value & 0xFFFF_FFFF


def select_generation(generations: list[tuple[int, int]]) -> int:
    """The oldest generation over its threshold (Python/gc.c, gc_select_generation), 0 when none is.

    *generations*: (threshold, count) of each.
    """
    chosen = [number for number, (threshold, count) in enumerate(generations) if threshold and count > threshold]
    return chosen[-1] if chosen else 0


def _survivors(running: Running) -> int | None:
    stop = running.stop
    generations = stop.lists.generations(running.interpreter)
    if isinstance(stop.lists, MimallocPages):
        return stop.lists.length(generations[0].head)
    if running.generation + 2 >= len(generations):
        return stop.lists.length(generations[running.generation].head)
    limit = len(running.tracked) + 1
    count = 0
    for address in stop.lists.backward(generations[running.generation + 1].head):
        if address == running.survivors_after:
            return count
        count += 1
        if count > limit:
            return None  # the marker died in a finalizer
    return count


def frame_rows(stack: Iterable[Frame]) -> list[FrameRow]:
    """The frames as rows of a report."""
    return [FrameRow(frame.function, frame.file, frame.line) for frame in stack]


def object_rows(stop: Stop, objects: Objects, limit: int) -> list[ObjectRow]:
    """The first *limit* objects with their reprs."""
    return [
        ObjectRow(address, stop.texts.type_name(type_), stop.texts.repr(address), count)
        for address, type_, count in islice(objects.rows(), limit)
    ]


def finalizers(stop: Stop, unreachable: Objects) -> list[Finalizer]:
    """The finalizers that finalize_garbage is about to call (Python/gc.c): tp_finalize, once per object."""
    has_one: dict[int, bool] = {}
    calls: Counter[int] = Counter()
    for address, type_, _count in unreachable.rows():
        if type_ not in has_one:
            has_one[type_] = has_finalizer(stop, type_)
        if has_one[type_] and not stop.lists.is_finalized(address):
            calls[type_] += 1
    found: Counter[tuple[str, str | None, int | None]] = Counter()  # subclasses share one
    for type_, objects in calls.items():
        found[finalizer_of(stop, type_)] += objects
    return [Finalizer(*function, objects) for function, objects in found.most_common()]


def has_finalizer(stop: Stop, type_: int) -> bool:
    """Whether the type (``PyTypeObject *``) has a tp_finalize."""
    try:
        return bool(stop.types[type_].finalize)
    except (DecodeError, TargetError):
        return False


def finalizer_of(stop: Stop, type_: int) -> tuple[str, str | None, int | None]:
    """What the tp_finalize of the type calls: qualified name, file and line, these None for a C function."""
    try:
        return _del_method(stop, type_)  # slot_tp_finalize calls the Python method
    except (RefdbgError, LookupError):
        name = function_name(stop, stop.types[type_].finalize)
        return f"{stop.texts.type_name(type_)} ({name})", None, None


def legacy_finalizer(stop: Stop, type_: int) -> str:
    """The C function that is the type's tp_del, for which the collector frees none of its objects; "" without one."""
    slot = stop.runtime.memory.u64(type_ + stop.runtime.build.type.offset("tp_del"))
    return function_name(stop, slot) if slot else ""


def function_name(stop: Stop, address: int) -> str:
    """The C function at *address*."""
    target = stop.runtime.target
    symbol = target.symbol_at(address)
    if symbol is None:
        target.structs_of(address)  # reads the symbols of the library, which an unattended run has spared itself
        symbol = target.symbol_at(address)
    return symbol.name if symbol else "a C function without a name"


def garbage(stop: Stop, interpreter: Interpreter) -> list[int]:
    """The items of gc.garbage: what the collector found and did not free (``PyObject *``)."""
    try:
        view = stop.runtime.collector(interpreter)
        return [item.target for item in stop.texts.containers.list_items(view["garbage"])]
    except (DecodeError, MemoryFault):
        return []


def outlived(running: Running, uncollectable: int) -> dict[int, int]:
    """What was handed to tp_clear and still exists, when the collection ends (Python/gc.c, delete_garbage).

    Types by address (``PyObject *``). *uncollectable*: how many objects the collector has given up after that.
    """
    handed = running.cleared or Objects()
    found: dict[int, int] = dict(zip(handed.addresses, handed.types))
    alive: dict[int, int] = {}
    lists = running.stop.lists
    if not found or saves_all(running.stop, running.interpreter):
        return alive
    if isinstance(lists, MimallocPages):
        return {address: type_ for address, type_ in found.items() if lists.was_garbage(address, type_)}
    for address in lists.backward(running.older_head):
        type_ = found.pop(address, 0)
        if type_:
            alive[address] = type_
        elif uncollectable:
            uncollectable -= 1
        else:
            break
    return alive


def saves_all(stop: Stop, interpreter: Interpreter) -> bool:
    """Whether gc.set_debug(gc.DEBUG_SAVEALL) makes the collector keep what it finds."""
    return bool(stop.runtime.collector(interpreter)["debug"] & _SAVE_ALL)


def _del_method(stop: Stop, type_: int) -> tuple[str, str | None, int | None]:
    # (qualified name, file, line) of the __del__ that a class inherits. Raises LookupError when it is not Python's.
    runtime, texts = stop.runtime, stop.texts
    function_type = runtime.target.address_of("PyFunction_Type")
    mro = runtime.memory.u64(type_ + runtime.build.type.offset("tp_mro"))
    for item in texts.containers.tuple_items(mro):
        base = item.target
        method = texts.containers.lookup(stop.types[base].dict, "__del__") if stop.types[base].dict else 0
        if method:
            if runtime.memory.u64(method + runtime.build.ob_type) != function_type:
                break
            function = runtime.view(method, "PyFunctionObject")
            code = runtime.view(function["func_code"], "PyCodeObject")
            name = texts.string(function["func_qualname"])
            return name or "__del__", texts.string(code["co_filename"]), code["co_firstlineno"]
    raise LookupError("__del__")
