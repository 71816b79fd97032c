"""Records each change of one object's reference count with the C and Python stack that has made it."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Mapping, Sequence

from refdbg.cpython import c_stack
from refdbg.cpython.frames import Frames, Position
from refdbg.cpython.runtime import Build, Runtime
from refdbg.cpython.threads import Running
from refdbg.cpython.types import Types
from refdbg.errors import MemoryFault, RefdbgError
from refdbg.records import Call, Way
from refdbg.target import Breakpoint, Change, NativeFrame, Session

WRITES = 1_000_000  # of the watched words; about six minutes
_FRAMES = 512  # of a C stack, of a Python stack
_TOP = 6  # C frames that tell what a change is about

_NEW = re.compile(r"_Py_NewReference(NoTotal)?$|new_reference$")
_AGAIN = "PyObject_CallFinalizerFromDealloc"  # a finalizer brought it back: the same object
_MOVED = re.compile(r".*(ealloc|mem(cpy|move))")
# They only count: it is their caller who took or gave the reference.
_COUNTS = re.compile(
    r"_?Py_X?(INCREF|DECREF|SETREF|CLEAR)|_?Py_(X?NewRef|X?(Inc|Dec)Ref|SET_REFCNT|SetRefcnt)|_Py_(INCREF|DECREF)_\w+$"
    r"|_Py_RefcntAdd|_Py_NewReference|new_reference|_PyObject_Init(Var)?$|PyObject_Init(Var)?$|_Py_atomic_\w+$"
    r"|_Py_TryIncref\w*|_Py_MergeZeroLocalRefcount|_Py_ExplicitMergeRefcount"
)
# Gives up what is left over, and adds a reference to each such object, which nobody gives back (3.11, bpo-46070).
_GIVES_UP = re.compile(r"gc_fini_untrack$|_PyGC_Fini$")
_IMMORTAL_LOCAL = 0xFFFF_FFFF  # _Py_IMMORTAL_REFCNT_LOCAL
_FREED_BYTES = (0xDDDD_DDDD, 0xCDCD_CDCD, 0xFDFD_FDFD)  # a debug build's PYMEM_DEADBYTE, …CLEANBYTE, …FORBIDDENBYTE


class Recorder:
    """Watches one object's reference count from now on, or, where none is there yet, of each that is made there."""

    def __init__(self, session: Session, build: Build, address: int, alive: bool) -> None:
        """*address*: ``PyObject *``; *alive*: there is an object. Raises RefdbgError without a watchpoint."""
        self.address = address
        self.alive = alive
        self.incarnation = 0
        self.type = 0  # ``PyTypeObject *``
        self.writes = 0
        self.finished = ""  # why nothing more is recorded
        self.notes: list[str] = []
        self._build = build
        self._runtime = Runtime(build)
        self._memory = build.target.memory
        self._frames = Frames(self._runtime, Types(self._runtime))
        self._threads = Running(self._runtime)
        self._places: dict[int, Sequence[NativeFrame]] = {}
        self._pythons: dict[Position, Call | None] = {}
        self._libraries: dict[int, str] = {}
        self._tops: dict[tuple[int, ...], tuple[bool, bool]] = {}
        self._stacks: dict[tuple[tuple[int, ...], tuple[Position, ...]], int] = {}
        self._ways: list[Way] = []
        self._changes = array("L")  # the way, as many as the deltas
        self._deltas = array("q")
        self._once = alive  # the object that is watched was there: what comes after it is another one
        layout = build.object
        self._local = address + build.ob_refcnt
        self._shared = address + layout.offset("ob_ref_shared") if "ob_ref_shared" in layout else 0
        self.start = self._count() if alive else 0
        self._last = self.start
        if alive:
            self.type = self._memory.u64(address + build.ob_type)
        self._watches: list[Breakpoint] = []
        for word in sorted({self._local & ~7, self._shared or self._local & ~7}):
            placed = session.watch_word(word, self._changed)
            if placed is None:
                self.delete()
                raise RefdbgError(
                    "no hardware watchpoint is to be had for the reference count",
                    "The processor has four: delete some (`info watchpoints`). Nothing runs in a core file.",
                )
            self._watches.append(placed)

    def delete(self) -> None:
        """Watch no more."""
        for watch in self._watches:
            watch.delete()
        self._watches = []

    @property
    def count(self) -> int:
        """The reference count after the last change."""
        return self._last

    def changes(self) -> list[tuple[Way, int]]:
        """Each change that the object has seen, by how much."""
        return [
            (self._ways[way], delta) for way, delta in zip(self._changes, self._deltas)
            if not self._gives_up(self._ways[way])
        ]

    @property
    def added_at_end(self) -> int:
        """References that the interpreter itself has added when it gave the object up."""
        return sum(delta for way, delta in zip(self._changes, self._deltas) if self._gives_up(self._ways[way]))

    def _gives_up(self, way: Way) -> bool:
        return bool(_GIVES_UP.match(way.calls[-1].function))

    def _count(self) -> int:
        # 0 where none can be read.
        try:
            if self._shared:
                local = self._memory.integer(self._local, 4)
                if local == _IMMORTAL_LOCAL:
                    return local
                shared = self._memory.integer(self._shared, 8, signed=True)
                return local + (shared >> 2)
            size = 4 if self._runtime.traits.immortal else 8
            return self._memory.integer(self._local, size, signed=size == 8)
        except MemoryFault:
            return 0

    def _type(self) -> int:
        try:
            return self._memory.u64(self.address + self._build.ob_type)
        except MemoryFault:
            return 0

    def _changed(self, change: Change) -> bool:
        # Whether to watch on. Called a hundred thousand times: only what was never seen before is looked up.
        if self.finished:
            return False
        before, count = self._last, self._count()
        self._last = count
        self.writes += 1
        if self.writes >= WRITES:
            self.finished = f"the words of the reference count were written {WRITES} times: the rest was not recorded"
        if count == before:
            return not self.finished  # other bits of the words
        if self.alive and not 0 <= count < 1 << 31:
            self._not_counted(count)
        elif self.alive:
            calls = change.calls(_FRAMES)
            if self._once or not self._top(change, calls)[0]:
                self._record(change, calls, count - before)
                self.alive = count != 0
            else:  # its end was not seen: it was freed with references left, as part of something else
                self._begin(change, calls, count)
        else:
            self._dead(change, before, count)
        return not self.finished

    def _not_counted(self, count: int) -> None:
        # The word is no reference count any more.
        immortal = self._runtime.is_immortal(count) or (self._shared and count == _IMMORTAL_LOCAL)
        if immortal and count & 0xFFFF_FFFF not in _FREED_BYTES:
            self.finished = "the object was made immortal: its count does not change any more"
        else:
            self.alive = False  # freed or moved with references left, as a tuple is that is resized
            if self._once:
                self.finished = "the object was freed, or moved to another address"

    def _dead(self, change: Change, before: int, count: int) -> None:
        # The word was written while no object is known to be there.
        if not self._once and not 0 < count < 1 << 31:
            return
        calls = change.calls(_FRAMES)
        new, moves = self._top(change, calls)
        again = count == 1 or bool(self._shared)  # a finalizer runs; a split count is merged
        if not new and before == 0 and again and self.type and self._type() == self.type:
            self._record(change, calls, count)
            self.alive = True
        elif self._once:
            self.finished = "the object was freed"
        elif new or moves:
            self._begin(change, calls, count)

    def _begin(self, change: Change, calls: tuple[int, ...], count: int) -> None:
        # Another object is made here.
        self.incarnation += 1
        self.alive = True
        self.type = self._type()
        del self._changes[:], self._deltas[:]
        self._record(change, calls, count)

    def _record(self, change: Change, calls: tuple[int, ...], delta: int) -> None:
        thread = self._threads.of(change)
        positions, frames = self._frames.positions(thread, _FRAMES) if thread else ([], [])
        key = calls, tuple(positions)
        stack = self._stacks.get(key)
        if stack is None:
            stack = self._stacks[key] = len(self._ways)
            self._ways.append(self._way(change, calls, positions, frames))
        if self._shared and self._is_merged(stack, delta):
            self._changes.pop()
            self._deltas.pop()
            return
        self._changes.append(stack)
        self._deltas.append(delta)

    def _is_merged(self, way: int, delta: int) -> bool:
        # What is moved from the thread's own part of a split count to the shared one is subtracted, then added.
        if not self._deltas or delta <= 0 or self._deltas[-1] != -delta:
            return False
        (*before, last), (*now, this) = self._ways[self._changes[-1]].calls, self._ways[way].calls
        return before == now and (last.function, last.file) == (this.function, this.file)

    def _top(self, change: Change, calls: tuple[int, ...]) -> tuple[bool, bool]:
        # Whether an object is being made, or moved to here.
        key = calls[:_TOP]
        known = self._tops.get(key)
        if known is None:
            names = [frame.function for call in key for frame in self._functions(change, calls, call)]
            new = any(map(_NEW.match, names[:4])) and _AGAIN not in names
            known = self._tops[key] = new, any(map(_MOVED.match, names))
        return known

    def _functions(self, change: Change, calls: tuple[int, ...], call: int) -> Sequence[NativeFrame]:
        if call not in self._places:
            found: Mapping[int, Sequence[NativeFrame]] = change.places(_FRAMES)
            self._places.update(found)
            for each in calls:
                self._places.setdefault(each, ())  # below main
        return self._places[call]

    def _library(self, call: int) -> str:
        # "" for the interpreter's own.
        if call not in self._libraries:
            images = self._build.target.images()
            found = images.library_at(call)
            own = images.library_at(self._build.runtime_address)
            self._libraries[call] = "" if found is None or found is own else found.name
        return self._libraries[call]

    def _way(
        self, change: Change, calls: tuple[int, ...], positions: Sequence[Position], frames: Sequence[int]
    ) -> Way:
        # The C and the Python stack as one.
        native = [
            Call(frame.function, frame.file, frame.line, False, self._library(call))
            for call in calls for frame in self._functions(change, calls, call)
        ]
        python = self._segments(positions, frames)
        skip = 0
        while skip < len(native) - 1 and _COUNTS.match(native[skip].function):
            skip += 1
        created = any(_NEW.match(call.function) for call in native[:skip])
        # What moves references for the evaluator (arguments, until 3.10 by functions of their own) is the evaluator.
        evaluator = skip
        while evaluator < len(native) and c_stack.BETWEEN.match(native[evaluator].function):
            evaluator += 1
            if c_stack.EVALUATE.match(native[evaluator - 1].function):
                skip = evaluator - 1
                break
        path = native[skip : skip + 1]
        for row, call in enumerate(native[skip:]):
            if c_stack.EVALUATE.match(call.function):
                path += next(python, [])
            elif row and not c_stack.BETWEEN.match(call.function):
                path.append(call)
        for rest in python:
            path += rest
        while len(path) > 1 and not path[-1].python and c_stack.SYSTEM.match(path[-1].library):
            path.pop()
        return Way(tuple(reversed(path)), created)

    def _segments(self, positions: Sequence[Position], frames: Sequence[int]) -> Iterator[list[Call]]:
        # The Python frames of each call of the evaluator, innermost first.
        segments: list[list[Call]] = [[]]
        for position, frame in zip(positions, frames):
            if position not in self._pythons:
                found = self._frames.decoded(frame)
                self._pythons[position] = (
                    None if found is None else Call(found.function, found.file, found.line or None, True)
                )
            call = self._pythons[position]
            if call is not None:
                segments[-1].append(call)
            if position.entry:
                segments.append([])
        return iter(segments)



