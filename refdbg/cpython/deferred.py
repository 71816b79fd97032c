"""References in frames and on C stacks that no count includes: free-threaded builds from 3.14 on.

The collector finds them on the stacks of threads (Python/gc_free_threading.c, gc_visit_thread_stacks), and does not
take those off the count that generators and frame objects report (_PyGC_VisitStackRef): in the end they keep their
objects alive as any other does. Here they are counted like any other, so that counts and holders agree. In a frame that
no traverse function reports (a suspended greenlet's) they keep nothing alive.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

from refdbg.cpython.runtime import Runtime, Thread
from refdbg.cpython.stackrefs import are_tagged, is_deferred, pointed
from refdbg.errors import LayoutNotFound, MemoryFault, SymbolNotFound, TargetError
from refdbg.graph.objects import Objects

_GENERATORS = "PyGen_Type", "PyCoro_Type", "PyAsyncGen_Type"
_OWNED_BY_FRAME_OBJECT = 2  # enum _frameowner (Include/internal/pycore_frame.h); what comes after is C's own entry
_FRAMES_LIMIT, _SLOTS_LIMIT, _C_LIMIT = 1 << 20, 1 << 16, 1 << 20


def count_deferred(runtime: Runtime, groups: Sequence[Objects]) -> dict[int, int]:
    """Add to the counts of the objects the references that frames and C code have to them without counting.

    Returns where these stand, and to what (``PyObject *``). *groups*: together all objects that the collector looks at.
    Frames that cannot be read are left out.
    """
    reader = _reader(runtime)
    if reader is None:
        return {}
    words = reader.words(
        {*reader.of_threads(), *(frame for objects in groups for frame in reader.of_objects(objects))}
    )
    words.update(
        (place, pointed(word)) for interpreter in runtime.interpreters() for thread in runtime.threads(interpreter)
        for place, word in c_stack_words(runtime, thread).items() if is_deferred(word)
    )
    number = Counter(words.values())
    counted: set[int] = set()
    for objects in groups if words else ():
        counts = objects.refcounts
        for row, address in enumerate(objects.addresses):
            if address in number and not runtime.is_immortal(counts[row]):
                counts[row] += number[address]
                counted.add(address)
    return {place: target for place, target in words.items() if target in counted}


def deferred_words(runtime: Runtime, frames: Iterable[int]) -> dict[int, int]:
    """The words of frames that refer to something without counting: where they stand, and to what (``PyObject *``).

    None but in free-threaded builds from 3.14 on. *frames*: ``_PyInterpreterFrame *``; what cannot be read is left out.
    """
    reader = _reader(runtime)
    return reader.words(frames) if reader is not None else {}


def c_stack_words(runtime: Runtime, thread: Thread) -> dict[int, int]:
    """The words on a thread's C stack that the collector knows of: where they stand, and what they are (_PyStackRef).

    Include/internal/pycore_stackref.h, _PyThreadState_PushCStackRef. None but in free-threaded builds from 3.14 on;
    the list ends at what cannot be read.
    """
    found: dict[int, int] = {}
    try:
        build, memory = runtime.build, runtime.memory
        if not runtime.traits.free_threaded or not are_tagged(build):
            return found
        link = build.layout("_PyCStackRef")
        word, next_ = link.offset("ref"), link.offset("next")
        address = memory.u64(thread.address + build.layout("_PyThreadStateImpl").offset("c_stack_refs"))
        while address and address + word not in found and len(found) < _C_LIMIT:
            found[address + word] = memory.u64(address + word)
            address = memory.u64(address + next_)
    except (LayoutNotFound, MemoryFault):
        pass
    return found


def borrowed_by(runtime: Runtime, addresses: Sequence[int], types: Sequence[int]) -> dict[int, Counter[int]]:
    """By row of a generator or frame object: what its frame refers to without counting, in a build with the GIL.

    The collector takes none of that off (Python/gc.c, _PyGC_VisitStackRef); any other visitor is told of it. Raises
    LayoutNotFound where frames hold what refdbg does not know.
    """
    if runtime.traits.free_threaded or not are_tagged(runtime.build):
        return {}
    try:
        reader = _Frames(runtime)
    except (LayoutNotFound, SymbolNotFound):
        return {}
    found: dict[int, Counter[int]] = {}
    for row in [row for row, type_ in enumerate(types) if type_ in reader.owners]:
        with suppress(MemoryFault):
            frame = reader.of_object(addresses[row], types[row])
            targets = Counter(target for _, target in reader.deferred(frame, executing=False)) if frame else None
            if targets:
                found[row] = targets
    return found


def _reader(runtime: Runtime) -> _Frames | None:
    # None where no frame has such references.
    try:
        return _Frames(runtime) if runtime.traits.free_threaded and are_tagged(runtime.build) else None
    except LayoutNotFound:
        return None


class _Frames:
    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._memory = runtime.memory
        build = runtime.build
        frame = build.layout("_PyInterpreterFrame")
        self._previous, self._owner = frame.offset("previous"), frame.offset("owner")
        self._code, self._function = frame.offset("f_executable"), frame.offset("f_funcobj")
        self._slots, self._top = frame.offset("localsplus"), frame.offset("stackpointer")
        self._number = build.layout("PyCodeObject").offset("co_nlocalsplus")
        self._inside = build.layout("PyGenObject").offset("gi_iframe")
        self._of_object = build.layout("PyFrameObject").offset("f_frame")
        self._generators = {runtime.target.address_of(symbol) for symbol in _GENERATORS}
        self.owners = self._generators | {runtime.target.address_of("PyFrame_Type")}

    def of_threads(self) -> Iterator[int]:
        """The frames that threads execute (``_PyInterpreterFrame *``)."""
        newest = self._runtime.build.layout("PyThreadState").offset("current_frame")
        for interpreter in self._runtime.interpreters():
            for thread in self._runtime.threads(interpreter):
                seen: set[int] = set()
                with suppress(MemoryFault):
                    frame = self._memory.u64(thread.address + newest)
                    while frame and frame not in seen and len(seen) < _FRAMES_LIMIT:
                        seen.add(frame)
                        if self._memory.integer(frame + self._owner, 1) <= _OWNED_BY_FRAME_OBJECT:
                            yield frame
                        frame = self._memory.u64(frame + self._previous)

    def of_objects(self, objects: Objects) -> Iterator[int]:
        """Those that generators and frame objects own."""
        for address, type_ in zip(objects.addresses, objects.types):
            if type_ in self.owners:
                with suppress(MemoryFault):
                    frame = self.of_object(address, type_)
                    if frame:
                        yield frame

    def of_object(self, address: int, type_: int) -> int:
        """The frame that a generator or frame object owns, 0 where that has none of its own. Raises MemoryFault."""
        if type_ in self._generators:
            return address + self._inside
        frame = self._memory.u64(address + self._of_object)
        return frame if frame and self._memory.integer(frame + self._owner, 1) == _OWNED_BY_FRAME_OBJECT else 0

    def words(self, frames: Iterable[int]) -> dict[int, int]:
        """Those of all the frames; what cannot be read is left out."""
        found: dict[int, int] = {}
        for frame in frames:
            with suppress(MemoryFault):
                found.update(self.deferred(frame))
        return found

    def deferred(self, frame: int, executing: bool = True) -> Iterator[tuple[int, int]]:
        """Where its words refer to something without counting, and to what (``PyObject *``). Raises MemoryFault.

        *executing*: with the variables of one that executes.
        """
        code = self._memory.u64(frame + self._code)
        words = [(frame + self._code, code), (frame + self._function, self._memory.u64(frame + self._function))]
        top = self._memory.u64(frame + self._top)
        # While it executes nobody but C's stack knows where the stack ends.
        number = (top - frame - self._slots) // 8 if top else 0
        if not top and executing and pointed(code):
            number = self._memory.integer(pointed(code) + self._number, 4, signed=True)
        if 0 < number <= _SLOTS_LIMIT:
            with suppress(TargetError):
                start = frame + self._slots
                words += zip(range(start, start + 8 * number, 8), array("Q", self._memory.read(start, 8 * number)))
        return ((place, pointed(word)) for place, word in words if is_deferred(word))
