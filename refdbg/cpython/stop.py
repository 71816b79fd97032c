"""The process at one stop, each part decoded when first asked for."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from refdbg.cpython.allocator import has_debug_headers
from refdbg.cpython.frames import Frames
from refdbg.cpython.heap import BLOCK, GenerationLists, HeapObjects, data_size, heap_objects, tracked_of
from refdbg.cpython.mimalloc import MimallocPages, free_threaded_heap
from refdbg.cpython.pools import pool_objects
from refdbg.cpython.runtime import Build, Runtime
from refdbg.cpython.text import Texts
from refdbg.cpython.types import Types
from refdbg.dependencies import inside_debugger, vectors
from refdbg.errors import DecodeError, LayoutNotFound, MemoryFault, NotPython
from refdbg.graph.objects import Objects
from refdbg.target.copied import CopiedMemory

if TYPE_CHECKING:
    from refdbg.cpython.allocations import Allocations
    from refdbg.cpython.greenlets import Suspended
    from refdbg.cpython.known import Known
    from refdbg.cpython.statics import Statics
    from refdbg.cpython.tracemalloc import Traces
    from refdbg.cpython.traverse import Traverse, Visited
    from refdbg.graph.edges import Edges


def check_supported(build: Build) -> None:
    """Raises NotPython for a build whose objects refdbg cannot account for."""
    if not is_supported(build):
        raise NotPython(
            "this free-threaded build (--disable-gil) is an alpha that counts the references to types in each thread "
            "as no release does",
            "Run the program with a release; `refdbg status` and `refdbg frames` work here.",
        )


def is_supported(build: Build) -> bool:
    """Whether refdbg can account for the build's objects.

    Not those of the alphas of 3.14 whose threads counted the references to types alone, free-threaded
    (Include/internal/pycore_tstate.h, struct _PyThreadStateImpl).
    """
    if not build.traits.free_threaded:
        return True
    try:
        return "types" not in build.layout("_PyThreadStateImpl")
    except LayoutNotFound:
        return False


@dataclass(frozen=True)
class AbandonedFrame:
    """A frame of a thread that its interpreter has forgotten. *thread*: a name that is the same in every run; *where*:
    function, file and line, and which thread."""

    thread: str
    where: str


@dataclass(frozen=True)
class Abandoned:
    """Frames that nothing releases any more. *words*: by place, what each of their words is, and of which frame;
    *objects*: the frames by address; *stacks*: an address on the C stack of each thread, and which thread that is."""

    words: dict[int, tuple[str, AbandonedFrame]] = field(default_factory=dict)
    objects: dict[int, AbandonedFrame] = field(default_factory=dict)
    stacks: dict[int, str] = field(default_factory=dict)


class Stop:
    """Valid until the process runs on; make a new one at the next stop."""

    def __init__(self, build: Build) -> None:
        self.runtime = Runtime(build)
        self.abandoned = Abandoned()  # what was seen of them earlier
        self.traced: Stop | None = None  # an earlier one, when tracemalloc was on
        self._visiting: tuple[Traverse, Callable[[], Visited]] | None = None

    @cached_property
    def types(self) -> Types:
        """The types."""
        return Types(self.runtime)

    @cached_property
    def copy(self) -> CopiedMemory | None:
        """The memory, where it is large and numpy reads it: outside of debuggers."""
        target = self.runtime.target
        if inside_debugger() or vectors(data_size(target) // BLOCK) is None:
            return None
        return CopiedMemory(target)

    @cached_property
    def lists(self) -> GenerationLists | MimallocPages:
        """Where the collector has its objects. Raises NotPython for a build that is not supported."""
        check_supported(self.runtime.build)
        return MimallocPages(self.runtime) if self.runtime.traits.free_threaded else GenerationLists(self.runtime)

    def tracked(self) -> Objects:
        """What the collectors of all interpreters track. Raises NotPython for a build that is not supported."""
        interpreters = list(self.runtime.interpreters())
        if self.copy is not None and isinstance(self.lists, GenerationLists) and "heap" in vars(self):
            return tracked_of(self.lists, interpreters, self.heap, self.copy)
        found = Objects()
        for interpreter in interpreters:
            found.extend(self.lists.tracked(interpreter))
        return found

    @cached_property
    def texts(self) -> Texts:
        """Bounded reprs and type names. Raises NotPython for a build that is not supported."""
        check_supported(self.runtime.build)
        return Texts(self.runtime, self.types)

    @cached_property
    def frames(self) -> Frames:
        """Python frame stacks."""
        return Frames(self.runtime, self.types)

    @cached_property
    def heap(self) -> HeapObjects:
        """Every object in the allocator's blocks. Raises RefdbgError."""
        check_supported(self.runtime.build)
        if self.runtime.traits.free_threaded:
            return free_threaded_heap(self.runtime, self.types)
        if has_debug_headers(self.runtime):
            return heap_objects(self.runtime, self.types, self.runtime.build.pages, self.copy)
        return pool_objects(self.texts, self.tracked())

    def held(self, address: int) -> int:
        """How many references there are to the object (``PyObject *``), with those that frames have without counting.

        Raises MemoryFault, RefdbgError.
        """
        if self.runtime.traits.free_threaded and address in self.heap.index:
            return self.heap.objects.refcounts[self.heap.index[address]]
        return self.runtime.count(address)

    @cached_property
    def traces(self) -> Traces:
        """What tracemalloc keeps."""
        from refdbg.cpython.tracemalloc import Traces

        return Traces(self.runtime)

    @cached_property
    def allocations(self) -> Allocations:
        """Where the objects were made."""
        from refdbg.cpython.allocations import Allocations

        return Allocations(self, self.traced)

    @cached_property
    def statics(self) -> Statics:
        """What lies in the libraries' writable data."""
        from refdbg.cpython.statics import Statics  # reads ELF files: only when it is asked for

        return Statics(self.runtime, self.types)

    @cached_property
    def known(self) -> Known:
        """The references that the objects of the heap are known to own. Raises RefdbgError."""
        from refdbg.cpython.known import known_references

        return known_references(self)

    @cached_property
    def visits(self) -> Visited:
        """What the tp_traverse of each object of the heap visits. Raises EmulationError, MissingDependency."""
        (traverse, finish), self._visiting = self._visiting or self._begin(), None
        with closing(traverse):
            return finish()

    def begin_visits(self) -> None:
        """Have `visits` found out beside what is done next. Raises EmulationError, MissingDependency."""
        if self.copy is None:
            self.runtime.memory.forget()  # the walks have read most of its pages, one by one
            _ = self.known  # it needs a copy of the memory for itself, and so do they
            self.runtime.memory.forget()
        self._visiting = self._visiting or self._begin()

    def _begin(self) -> tuple[Traverse, Callable[[], Visited]]:
        from refdbg.cpython.traverse import Traverse  # an emulator: only when it is asked for

        traverse = Traverse(self)
        return traverse, traverse.begin(self.heap.objects.addresses, self.heap.objects.types)

    @cached_property
    def visited_edges(self) -> Edges:
        """Those of the visits that lead to objects of the heap, by their rows."""
        return self.visits.edges(self.heap.index)

    @cached_property
    def suspended(self) -> Suspended:
        """The stacks of frames that no thread runs, and that objects own."""
        from refdbg.cpython.greenlets import Suspended
        from refdbg.cpython.owned import Owned

        return Suspended(self, self.heap.objects, lambda: Owned(self.texts, lambda: self.heap))

    def is_runtime_state(self, address: int) -> bool:
        """Whether *address* lies in ``_PyRuntime``."""
        start = self.runtime.build.runtime_address
        return start <= address < start + self.runtime.state.layout.size


def module_definition(stop: Stop, address: int, type_: int) -> int:
    """The ``PyModuleDef *`` that the module was made from, 0 where the object is no module or has none."""
    try:
        if stop.texts.kinds.of(type_).name == "module":
            return stop.runtime.view(address, "PyModuleObject")["md_def"]
    except (DecodeError, MemoryFault):
        pass
    return 0


def module_traverse(stop: Stop, address: int) -> tuple[str, int]:
    """The name of a module that was made from a definition, and its ``m_traverse``, 0 without one.

    *address*: ``PyModuleObject *``. Raises MemoryFault.
    """
    runtime = stop.runtime
    definition = runtime.view(runtime.view(address, "PyModuleObject")["md_def"], "PyModuleDef")
    return f"module {runtime.memory.c_string(definition['m_name'])}", definition["m_traverse"]
