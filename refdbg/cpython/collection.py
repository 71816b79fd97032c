"""Watching the collector: what each run examines, finds, finalizes and clears (Python/gc.c, gc_collect_main)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from refdbg.cpython import events
from refdbg.cpython.census import by_type
from refdbg.cpython.frames import Frame
from refdbg.cpython.heap import stats, thresholds
from refdbg.cpython.runtime import Build, Interpreter, Thread
from refdbg.cpython.stop import Stop
from refdbg.errors import DecodeError, RefdbgError, SymbolNotFound, TargetError
from refdbg.graph.objects import Objects
from refdbg.records import Collection, Finalizer, FrameRow, ObjectRow, TypeRow
from refdbg.target import Breakpoint, Hit, Session, Target

_STACK = 20  # Python frames kept per collection
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
    list_head: int = 0  # the collector's list of what is garbage at this step (``PyGC_Head *``)
    resurrected: int = 0


@dataclass(frozen=True)
class Listener:
    """What to do at the steps of a collection; at each True stops the program."""

    begin: Callable[[Running], bool] = lambda running: False
    finalize: Callable[[Running], bool] = lambda running: False
    clear: Callable[[Running], bool] = lambda running: False
    end: Callable[[Running, Collection], bool] = lambda running, record: False


class CollectionWatch:
    """Records every collection of every interpreter. *limit*: how many objects each record lists."""

    def __init__(self, session: Session, build: Callable[[Target], Build], listener: Listener, limit: int) -> None:
        self._build = build
        self._listener = listener
        self.limit = limit
        self._running: dict[int, list[Running]] = {}
        self.count = 0
        self.breakpoints: list[Breakpoint] = [
            session.break_on(events.COLLECTION, self._begin),
            session.break_on(events.COLLECTION, self._end, "return"),
        ]
        self.missing: list[str] = []  # functions that the compiler has inlined
        for role, on_hit in ((events.FINALIZERS, self._finalize), (events.CLEARING, self._clear)):
            try:
                self.breakpoints.append(session.break_on(role, on_hit))
            except SymbolNotFound:
                self.missing += role

    def delete(self) -> None:
        """Stop watching."""
        for breakpoint_ in self.breakpoints:
            breakpoint_.delete()

    def _begin(self, hit: Hit) -> bool:
        stop = Stop(self._build(hit.target))
        tstate = hit.argument("tstate")
        interpreter = stop.runtime.interpreter_of(tstate)
        generation = _signed(hit.argument("generation"))
        if generation == _AUTO:
            generation = select_generation(thresholds(stop.runtime, interpreter))
        lists = stop.lists.generations(interpreter)
        tracked = Objects()
        for examined in lists[: generation + 1]:
            tracked.extend(stop.lists.walk(examined.head))
        last = 0
        if generation + 2 < len(lists):  # survivors join the next older generation, the oldest stays
            last = stop.lists.last(lists[generation + 1].head)
        finalizing = stop.runtime.finalizing(interpreter)
        running = Running(
            stop=stop,
            interpreter=interpreter,
            generation=generation,
            phase="finalization" if finalizing else "running",
            thread=hit.thread,
            reason=events.reason(hit.callers(12 if finalizing else 3)),
            stack=frame_rows(stop.frames.stack(Thread(tstate, hit.thread), _STACK)),
            before=stats(stop.runtime, interpreter),
            tracked=tracked,
            survivors_after=last,
            started=hit.target.cpu_seconds(hit.thread),
        )
        self._running.setdefault(hit.thread, []).append(running)
        return self._listener.begin(running)

    def _current(self, hit: Hit) -> Running | None:
        runs = self._running.get(hit.thread)
        if not runs:
            return None  # watched from its middle on
        runs[-1].stop = Stop(self._build(hit.target))
        return runs[-1]

    def _finalize(self, hit: Hit) -> bool:
        running = self._current(hit)
        if running is None:
            return False
        stop = running.stop
        running.list_head = hit.argument("collectable")
        running.unreachable = stop.lists.walk(running.list_head)
        running.finalizers = finalizers(stop, running.unreachable)
        running.by_type = by_type(stop, running.unreachable)
        running.objects = object_rows(stop, running.unreachable, self.limit)
        return self._listener.finalize(running)

    def _clear(self, hit: Hit) -> bool:
        running = self._current(hit)
        if running is None:
            return False
        lists = running.stop.lists
        running.list_head = hit.argument("collectable")
        running.cleared = lists.walk(running.list_head)
        found = set(running.unreachable.addresses)
        if len(found) > len(running.cleared):
            # handle_resurrected_objects has just appended the resurrected to the older generation.
            for address in lists.backward(hit.argument("old")):
                if address not in found:
                    break
                running.resurrected += 1
        return self._listener.clear(running)

    def _end(self, hit: Hit) -> bool:
        running = self._current(hit)
        if running is None:
            return False
        self._running[hit.thread].pop()
        stop = running.stop
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
        for address, type_, count in list(objects.rows())[:limit]
    ]


def finalizers(stop: Stop, unreachable: Objects) -> list[Finalizer]:
    """The finalizers that finalize_garbage is about to call (Python/gc.c): tp_finalize, once per object."""
    slots: dict[int, int] = {}
    calls: Counter[int] = Counter()
    for address, type_, _count in unreachable.rows():
        slot = slots.get(type_)
        if slot is None:
            try:
                slot = stop.types[type_].finalize
            except (DecodeError, TargetError):
                slot = 0
            slots[type_] = slot
        if slot and not stop.lists.is_finalized(address):
            calls[type_] += 1
    found: Counter[tuple[str, str | None, int | None]] = Counter()  # subclasses share one
    for type_, objects in calls.items():
        try:
            function = _del_method(stop, type_)  # slot_tp_finalize calls the Python method
        except (RefdbgError, LookupError):
            symbol = stop.runtime.target.symbol_at(slots[type_])
            name = symbol.name if symbol else f"{slots[type_]:#x}"
            function = f"{stop.texts.type_name(type_)} ({name})", None, None
        found[function] += objects
    return [Finalizer(*function, objects) for function, objects in found.most_common()]


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
