"""Greenlets: stacks of Python frames that no thread is running, each with a copy of its part of the C stack.

The structs are the library's own (greenlet's TGreenlet.hpp); its debug info describes them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from refdbg.cpython.runtime import Runtime
from refdbg.errors import DecodeError, LayoutNotFound, MemoryFault
from refdbg.target.layout import StructLayout

if TYPE_CHECKING:
    from refdbg.cpython.frames import Frame
    from refdbg.cpython.owned import Owned, Reference
    from refdbg.cpython.stop import Stop
    from refdbg.graph.objects import Objects

KIND = "greenlet"
C_STACK, FRAMES = "C stack", "frames"  # the parts of a suspended stack
_OBJECT, _STATE = "_greenlet", "UserGreenlet"
_NEEDED = (
    "_self",
    "stack_state._stack_start",
    "stack_state.stack_stop",
    "stack_state.stack_copy",
    "stack_state._stack_saved",
    "python_state._top_frame.p",
)
# What the state owns, with the label that a person understands. _top_frame is the frame's, or the C stack's.
FIELDS = {
    "_parent.p": "parent",
    "_main_greenlet.p": "main",
    "_run_callable.p": "run",
    "switch_args._args.p": "switch arguments",
    "switch_args._kwargs.p": "switch keywords",
    "python_state._context.p": "context",
    "python_state.delete_later": "trash",
    "exception_state.exc_state.exc_type": "exception type",  # until 3.10
    "exception_state.exc_state.exc_value": "exception",
    "exception_state.exc_state.exc_traceback": "exception traceback",  # until 3.10
}
_NEWEST = "python_state.current_frame"  # 3.11+
_MAIN = (1 << 64) - 1  # stack_stop of the one that is a thread's own stack: it has no fields of its own
_OF_USER = ("_parent.p", "_main_greenlet.p", "_run_callable.p")
_OWNED_BY_THREAD = 0  # enum _frameowner (Include/internal/pycore_frame.h): a generator visits its own frame
_FRAMES = 1 << 16
_CHUNKS = 1 << 12
_STACK = 1 << 23  # bytes of C stack: more is damage, the system's own default is no more


def frame_visitor(runtime: Runtime) -> str:
    """How C code visits the references of a frame on this CPython."""
    if runtime.build.has_symbol("_PyGC_VisitFrameStack"):
        return "with _PyGC_VisitFrameStack(), its function and code with _PyGC_VisitStackRef()"
    return (
        "one by one (function, code, frame object, locals, value stack; from CPython 3.15 on, and in later 3.14 "
        "releases, with _PyGC_VisitFrameStack() and _PyGC_VisitStackRef())"
    )


@dataclass(frozen=True)
class Greenlet:
    """One greenlet. *state*: its struct; *size*: of that; *status*: "suspended", "running", "not started", "dead".

    The rest only of a suspended one: *frames*: innermost first (``_PyInterpreterFrame *``, until 3.10
    ``PyFrameObject *``), without those that C has on the copied part of its stack; *stack*: (start, end) of what is
    its C stack, copied or still in its place; *chunks*: (start, end) of the memory that its frames lie in. *note*: why
    frames are missing, "" if none are.
    """

    address: int
    state: int
    size: int
    status: str
    main: bool
    frames: tuple[int, ...] = ()
    stack: tuple[tuple[int, int], ...] = ()
    chunks: tuple[tuple[int, int], ...] = ()
    note: str = ""


class Greenlets:
    """Decodes the greenlets of one stop."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._memory = runtime.memory

    @cached_property
    def _layouts(self) -> tuple[int, StructLayout] | None:
        # Where the object points to its state, and that; None when no debug info describes them.
        images = self._runtime.target.images()
        try:
            pointer, state = images.layout(_OBJECT).offset("pimpl"), images.layout(_STATE)
        except LayoutNotFound:
            return None
        return (pointer, state) if all(path in state for path in _NEEDED) else None

    @property
    def described(self) -> bool:
        """Whether the debug info describes greenlets: else nothing is known of them."""
        return self._layouts is not None

    def of(self, address: int) -> Greenlet | None:
        """The greenlet at *address* (``PyGreenlet *``); None where its state is not known. Raises nothing."""
        try:
            return self._decoded(address)
        except (MemoryFault, LayoutNotFound):
            return None  # half made, or damaged

    def fields(self, greenlet: Greenlet) -> Iterator[tuple[str, int]]:
        """(label, place) of the words of its state that own."""
        if self._layouts is not None:
            _, layout = self._layouts
            for path, label in FIELDS.items():
                if path in layout and not (greenlet.main and path in _OF_USER):
                    yield label, greenlet.state + layout.offset(path)
            if greenlet.frames and _NEWEST not in layout:  # until 3.10: C owns it, and it owns the next one
                yield "frame", greenlet.state + layout.offset("python_state._top_frame.p")

    def _decoded(self, address: int) -> Greenlet | None:
        if self._layouts is None:
            return None
        pointer, layout = self._layouts
        state = self._memory.u64(address + pointer)
        if not state or self._memory.u64(state + layout.offset("_self")) != address:
            return None
        word = {path: self._memory.u64(state + layout.offset(path)) for path in _NEEDED}
        start, stop = word["stack_state._stack_start"], word["stack_state.stack_stop"]
        main, top = stop == _MAIN, word["python_state._top_frame.p"]
        size = layout.offset("_main_greenlet") if main else layout.size
        if stop:
            status = "dead" if not start else "suspended" if top else "running"
        else:
            status = "dead" if self._was_started(state, layout) else "not started"
        if status != "suspended":
            return Greenlet(address, state, size, status, main)
        copy, saved = word["stack_state.stack_copy"], word["stack_state._stack_saved"]
        if not copy or saved > _STACK:
            copy, saved = 0, 0
        stack = [(copy, copy + saved)] if saved else []
        if not main and start + saved < stop <= start + _STACK:
            stack.append((start + saved, stop))
        if _NEWEST not in layout:
            frames, note = self._chain(top, self._runtime.build.layout("PyFrameObject").offset("f_back"))
            return Greenlet(address, state, size, status, main, frames, tuple(stack), (), note)
        newest = self._memory.u64(state + layout.offset(_NEWEST))
        previous = self._runtime.build.layout("_PyInterpreterFrame").offset("previous")
        frames, note = self._chain(newest, previous, start, copy, saved)
        chunks = tuple(self._chunks(state, layout))
        return Greenlet(address, state, size, status, main, frames, tuple(stack), chunks, note)

    def _was_started(self, state: int, layout: StructLayout) -> bool:
        # Of one whose thread has ended greenlet throws the stack away when it is asked for its state
        # (Greenlet::deactivate_and_free): it then looks new, but has been given a main greenlet, and has taken its run.
        if "_main_greenlet.p" not in layout or "_run_callable.p" not in layout:
            return False
        given, run = (self._memory.u64(state + layout.offset(path)) for path in ("_main_greenlet.p", "_run_callable.p"))
        return bool(given) and not run

    def _chain(
        self, newest: int, previous: int, start: int = 0, copy: int = 0, saved: int = 0
    ) -> tuple[tuple[int, ...], str]:
        # The frames from the newest on. 3.12+ has frames of C's own between them: on the C stack, which was copied.
        frames: list[int] = []
        seen: set[int] = set()
        frame = newest
        try:
            while frame:
                if frame in seen or len(seen) >= _FRAMES:
                    return tuple(frames), "the chain of frames does not end"
                seen.add(frame)
                if start <= frame < start + saved:
                    frame = self._memory.u64(copy + frame - start + previous)
                    continue
                following = self._memory.u64(frame + previous)
                frames.append(frame)
                frame = following
        except MemoryFault as error:
            return tuple(frames), f"the chain of frames breaks off after {len(frames)}: {error}"
        return tuple(frames), ""

    def _chunks(self, state: int, layout: StructLayout) -> Iterator[tuple[int, int]]:
        with suppress(MemoryFault, LayoutNotFound):
            chunk = self._memory.u64(state + layout.offset("python_state.datastack_chunk"))
            for _ in range(_CHUNKS):
                if not chunk:
                    return
                view = self._runtime.view(chunk, "_PyStackChunk")
                yield chunk, chunk + view["size"]
                chunk = view["previous"]

    def owned_frames(self, greenlet: Greenlet) -> Iterator[int]:
        """Those of its frames whose references no generator owns, innermost first. Raises MemoryFault."""
        if not greenlet.chunks:
            yield from greenlet.frames  # until 3.10 they are objects, which are not tracked as long as they run
            return
        layout = self._runtime.build.layout("_PyInterpreterFrame")
        for frame in greenlet.frames:
            if self._memory.integer(frame + layout.offset("owner"), 1) == _OWNED_BY_THREAD:
                yield frame


@dataclass(frozen=True)
class HeldFrame:
    """A frame of a suspended stack, and the references that it owns."""

    frame: Frame | None
    references: list[Reference]


class Suspended:
    """The suspended stacks of one stop, and whose each word of them is."""

    def __init__(self, stop: Stop, objects: Objects, owned: Callable[[], Owned]) -> None:
        """*objects*: among them are the greenlets; *owned*: what tells the references of a frame."""
        self._stop = stop
        self._make_owned = owned
        greenlets = Greenlets(stop.runtime)
        kinds = stop.texts.kinds
        types = {type_ for type_ in set(objects.types) if kinds.name(type_) == KIND}
        addresses = [address for address, type_ in zip(objects.addresses, objects.types) if type_ in types]
        self.notes: list[str] = []  # why stacks are not known
        if addresses and not greenlets.described:
            self.notes.append(
                f"{len(addresses)} greenlets whose library has no debug info: their stacks, and what these hold, are "
                "not known (install PyPI's wheel, or: CFLAGS=-g pip install --no-binary greenlet greenlet)."
            )
        self.all = {each.address: each for each in map(greenlets.of, addresses) if each is not None}
        running = self._running() if self.all else frozenset()
        # One that is being switched is a thread's still, or already.
        self.stacks = {
            address: each
            for address, each in self.all.items()
            if each.status == "suspended" and running.isdisjoint(each.frames[:1])
        }
        self._held: dict[int, list[HeldFrame]] = {}
        self._ranges: list[tuple[int, int, int, str]] = []  # start, end, whose, what
        for address, each in self.all.items():
            self._ranges.append((each.state, each.state + each.size, address, "state"))
        for address, each in self.stacks.items():
            self._ranges += [(start, end, address, C_STACK) for start, end in each.stack]
            self._ranges += [(start, end, address, FRAMES) for start, end in each.chunks or self._objects_of(each)]
        self._ranges.sort()
        self._starts = [row[0] for row in self._ranges]

    def _running(self) -> frozenset[int]:
        runtime = self._stop.runtime
        return frozenset(
            frame.address
            for interpreter in runtime.interpreters()
            for thread in runtime.threads(interpreter)
            for frame in self._stop.frames.stack(thread, 1000)
        )

    def _objects_of(self, greenlet: Greenlet) -> list[tuple[int, int]]:
        # Until 3.10: the frames, as far as their blocks go.
        heap = self._stop.heap.blocks if self._stop.runtime.traits.debug else None
        rows = [(frame, heap.row_of(frame)) for frame in greenlet.frames] if heap is not None else []
        return [(frame, heap.starts[row] + heap.sizes[row]) for frame, row in rows if heap and row is not None]

    def __contains__(self, address: object) -> bool:
        return address in self.stacks

    def owner_at(self, place: int) -> tuple[int, str]:
        """The object (``PyObject *``) that the word at *place* belongs to, and what of it; (0, "") for none."""
        row = bisect_right(self._starts, place) - 1
        if row >= 0 and place < self._ranges[row][1]:
            return self._ranges[row][2:]
        return 0, ""

    def blocks(self, address: int) -> list[int]:
        """Where the parts of the object at *address* begin that are not in it: its state, its C stack."""
        each = self.all[address]
        return [each.state, *(start for start, _ in each.stack)]

    def known(self, address: int) -> list[int]:
        """What the object at *address* is known to own by these parts and by its frames (``PyObject *``)."""
        try:
            return [each.target for each in self._owned.references(address) if each.exact and each.offset is None]
        except (DecodeError, MemoryFault):
            return []

    @cached_property
    def _owned(self) -> Owned:
        return self._make_owned()

    def held(self, address: int) -> list[HeldFrame]:
        """The frames of a suspended stack, innermost first, and what each of them owns."""
        if address not in self._held:
            each = self.stacks[address]
            owned: dict[int, list[Reference]] = {}
            with suppress(MemoryFault, LayoutNotFound):
                for frame in Greenlets(self._stop.runtime).owned_frames(each):
                    owned[frame] = list(self._owned.suspended_words(frame))
            self._held[address] = [HeldFrame(self._frame(frame), owned.get(frame, [])) for frame in each.frames]
        return self._held[address]

    def _frame(self, address: int) -> Frame | None:
        # None for one that Python code does not see: the walk then goes on to the next.
        found = self._stop.frames.walk_from(address, 1).frames
        return found[0] if found and found[0].address == address else None
