"""Names for the words of a process that lie outside of its objects: C variables, states, frames, stacks."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from refdbg.cpython.deferred import c_stack_words
from refdbg.cpython.owned import Owned
from refdbg.cpython.runtime import Runtime, Thread
from refdbg.cpython.stop import Stop
from refdbg.cpython.threads import pthread
from refdbg.errors import DecodeError, LayoutNotFound, MemoryFault
from refdbg.target.ended import ended_stack
from refdbg.target.layout import StructLayout
from refdbg.target.malloc import NativeBlocks
from refdbg.target.memory import Region

# Words that hold an object and own no reference to it, by the start of their path in the struct.
_BORROWED_STATE = (
    "func_state.func_version_cache",  # 3.13, Objects/funcobject.c
    "types.type_version_cache",  # 3.13, Objects/typeobject.c
    "callable_cache",  # 3.11+, Python/pylifecycle.c
    "gc.young",  # list heads
    "gc.old",
    "gc.visited",
    "gc.generations",
    "gc.generation0",
    "gc.permanent_generation",
    "frame",  # until 3.10: PyThreadState.frame
    "object_state.refchain",  # 3.12, --with-trace-refs
)
# Free lists keep objects without references, and what was taken from an array of them still stands there. But the empty
# tuple is owned where it stands (until 3.10, Objects/tupleobject.c, free_list[0]): tuples of other sizes are linked,
# and what was taken does not stand there any more.
_FREE_LIST = re.compile(r"(^|[._])free_?lists?(\[|\.|$)")
# Until 3.9 they are C variables of the interpreter's library; refchain: --with-trace-refs, the list of all objects.
_BORROWED_VARIABLES = ("free_list", "keys_free_list", "ag_value_freelist", "ag_asend_freelist", "refchain")
# What static types own, in each interpreter's state since 3.12 (managed_static_type_state).
_STATIC_TYPES = ("types.builtins", "types.for_extensions")
_FRAMES = 1000
_HEAP = "[heap]"
_MAIN = "_main_interpreter."
_VTABLE = "_ZTV"
_RED_ZONE = 128  # below the stack pointer, and in use (System V AMD64 ABI)
_OF_STATIC_TYPES = (".tp_dict", ".tp_subclasses")
# struct type_cache_entry (until 3.9 struct method_cache_entry, a C variable): its value is borrowed, its name is not.
_TYPE_CACHES = ("type_cache.", "types.type_cache.")


@dataclass(frozen=True)
class Place:
    """What a word belongs to.

    *kind*: "static", "runtime", "interpreter", "thread", "frame", "abandoned frame", "stack", "block", "memory".
    *owns*: True where it is known to own the reference that it holds, False where it is known not to, else None.
    *offset*: in the state's struct, or in the C variable.
    """

    kind: str
    label: str
    owns: bool | None = None
    offset: int = 0


class Places:
    """The words outside of the allocator's blocks at one stop."""

    def __init__(self, stop: Stop, owned: Owned) -> None:
        self._stop = stop
        self._runtime = stop.runtime
        self._regions = list(self._runtime.target.regions())
        self._starts = [region.start for region in self._regions]
        self._structs: list[tuple[int, StructLayout, str, str]] = []  # address, layout, name, kind
        self._stacks: dict[int, str] = {}  # start of a region → its name
        self._stack_pointers: dict[int, int] = {}  # start of a region → the stack pointer in it
        for pointer in (thread.stack_pointer for thread in stop.runtime.target.threads()):
            region = self._region(pointer)
            if region is not None:
                self._stack_pointers[region.start] = pointer
        self._ended: list[tuple[int, int]] = []  # stacks of threads that have ended
        self._frames: dict[int, Place] = {}  # and what C code keeps for the collector to see
        self._data_stacks: list[tuple[int, int, int, str]] = []  # start, end of what is in use, end, name
        runtime = self._runtime
        for interpreter in runtime.interpreters():
            layout = runtime.build.interpreter
            self._structs.append((interpreter.address, layout, f"interpreter {interpreter.number}", "interpreter"))
            for number, thread in enumerate(runtime.threads(interpreter)):
                name = f"thread {number} of interpreter {interpreter.number}"
                self._structs.append((thread.address, runtime.build.layout("PyThreadState"), name, "thread"))
                try:
                    region = self._region(pthread(runtime, thread))
                    if region is not None:
                        self._stacks[region.start] = f"C stack of {name}"
                except (MemoryFault, LayoutNotFound):
                    pass
                for word in c_stack_words(runtime, thread):
                    self._frames[word] = Place("frame", f"C function in {name}", True)
                for frame in stop.frames.stack(thread, _FRAMES):
                    self._add_frame(owned, frame.address, f"{frame.function}() in {name}")
                for start, top, end in self._chunks(thread):
                    self._data_stacks.append((start, top, end, f"data stack of {name}"))

        for address, name in stop.abandoned.stacks.items():
            region = self._region(address)
            if region is not None:
                self._stacks.setdefault(region.start, f"C stack of {name}")

    def _chunks(self, thread: Thread) -> Iterator[tuple[int, int, int]]:
        # (start, end of what is in use, end) of the memory in which the thread's frames lie (3.11+, _PyStackChunk).
        try:
            view = self._runtime.view(thread.address, "PyThreadState")
            address = view["datastack_chunk"] if "datastack_chunk" in view.layout else 0
            top = view["datastack_top"] if address else 0
            for _ in range(_FRAMES):
                if not address:
                    return
                chunk = self._runtime.view(address, "_PyStackChunk")
                end = address + chunk["size"]
                yield address, top if address <= top < end else end, end
                address = chunk["previous"]
        except (MemoryFault, LayoutNotFound):
            return

    def _add_frame(self, owned: Owned, address: int, name: str) -> None:
        try:
            for reference in owned.frame_words(address, deferred=True):
                label = f"{reference.label} of {name}"
                self._frames[reference.place] = Place("frame", label, True if reference.exact else None)
        except (LayoutNotFound, DecodeError, MemoryFault):
            pass  # until 3.10 a frame is an object

    def _region(self, address: int) -> Region | None:
        index = bisect_right(self._starts, address) - 1
        if index >= 0 and address < self._regions[index].end:
            return self._regions[index]
        return None

    @cached_property
    def _native(self) -> NativeBlocks | None:
        heap = next((region for region in self._regions if region.path == _HEAP), None)
        return NativeBlocks(self._runtime.memory, heap) if heap else None

    @cached_property
    def _own_library(self) -> str:
        own = self._stop.statics.word_at(self._runtime.build.runtime_address)
        return own.library if own is not None else ""

    def _is_ended(self, region: Region, address: int) -> bool:
        # Whether the word is on the stack of a thread that is no more.
        if not any(start <= address < end for start, end in self._ended):
            found = ended_stack(self._runtime.memory, region, address)
            if found is None:
                return False
            self._ended.append(found)
        return True

    def _vtable(self, address: int) -> str:
        # What a C++ object is, by its first word.
        try:
            vtable = self._stop.statics.word_at(self._runtime.memory.u64(address))
        except MemoryFault:
            return ""
        if vtable is None or not vtable.symbol.startswith(_VTABLE):
            return ""
        return f" (a C++ {_class_name(vtable.symbol)} of {vtable.library})"

    def state(self, address: int) -> Place | None:
        """The field of an interpreter or thread state that the word at *address* is."""
        for start, layout, name, kind in self._structs:
            if start <= address < start + layout.size:
                path = field_path(layout, address - start)
                owns = True if _FREE_LIST.search(path) and self._is_empty_tuple(address) else _owns(path)
                return Place(kind, f"{layout.name}.{path} of {name}", owns, address - start)
        return None

    def _is_empty_tuple(self, address: int) -> bool:
        # Whether the word at *address* points to the empty tuple.
        texts = self._stop.texts
        try:
            word = self._runtime.memory.u64(address)
            return texts.kinds.static.get(texts.type_of(word).address) == "tuple" and not texts.scalars.size(word)
        except (DecodeError, MemoryFault):
            return False

    def place(self, address: int) -> Place:
        """What the word at *address* belongs to."""
        frame = self._frames.get(address)
        if frame is not None:
            return frame
        if address in self._stop.abandoned.words:
            label, whose = self._stop.abandoned.words[address]
            return Place("abandoned frame", f"{label} of {whose.where}")
        for start, top, end, name in self._data_stacks:
            if start <= address < end:  # no frame's word: what earlier frames have left, or one that is being made
                return Place("stack", name, False if address >= top else None)
        state = self.state(address)
        if state is not None:
            return state
        if self._stop.is_runtime_state(address):
            layout = self._runtime.state.layout
            path = field_path(layout, address - self._runtime.build.runtime_address)
            if path.startswith(_MAIN):  # 3.12+, when the interpreter is gone from the list
                path = path.removeprefix(_MAIN)
                name = self._runtime.build.interpreter.name
                return Place("interpreter", f"{name}.{path} of interpreter 0", _owns(path))
            return Place("runtime", f"_PyRuntime.{path}", _owns(path))
        variable = self._stop.statics.word_at(address)
        if variable is not None and variable.symbol:
            label = f"{variable.symbol}+{variable.offset:#x}" if variable.offset else variable.symbol
            own = variable.library == self._own_library
            if own and _FREE_LIST.search(variable.symbol) and self._is_empty_tuple(address):
                owns: bool | None = True
            elif variable.borrowed or (own and variable.symbol in _BORROWED_VARIABLES):
                owns = False
            else:
                owns = True if variable.cache else None
            return Place("static", label, owns, variable.offset)
        region = self._region(address)
        if region is None:
            return Place("memory", "memory that is not mapped", False)
        pointer = self._stack_pointers.get(region.start, 0)
        if address < pointer - _RED_ZONE:
            return Place("stack", "C stack, below what is in use", False)
        if region.start in self._stacks:
            return Place("stack", self._stacks[region.start])
        if pointer or region.path == "[stack]":
            return Place("stack", "C stack")
        if self._stop.heap.blocks.is_free(address):
            allocator = "mimalloc" if self._runtime.traits.free_threaded else "pymalloc"
            return Place("memory", f"free memory of {allocator}", False)
        block = self._native.at(address) if self._native else None
        if block is not None:
            return Place("block", f"malloc block of {block.size} bytes{self._vtable(block.address)}")
        if self._native and region.path == _HEAP:
            return Place("memory", "free memory of malloc", False)
        if variable is not None:
            return Place("static", f"data of {variable.library} at {address:#x}, no symbol")
        if not region.path and self._is_ended(region, address):
            return Place("stack", "C stack of a thread that has ended", False)
        return Place("memory", f"memory of no known block ({region.path or 'anonymous'})")


def _class_name(vtable: str) -> str:
    # The class of a vtable's symbol (Itanium C++ ABI: _ZTV, N…E around nested names, each after its length).
    rest, names = vtable.removeprefix(_VTABLE).removeprefix("N"), []
    while match := re.match(r"\d+", rest):
        end = match.end() + int(match[0])
        names.append(rest[match.end() : end])
        rest = rest[end:]
    if rest not in ("", "E"):
        return vtable  # a template's
    return "::".join("(anonymous namespace)" if name.startswith("_GLOBAL__N") else name for name in names)


def _owns(path: str) -> bool | None:
    # Whether a state's field owns the object in it; None where nothing is known against it.
    if path.startswith(_STATIC_TYPES):
        return path.endswith(_OF_STATIC_TYPES)
    if _FREE_LIST.search(path):
        return False
    if any(path == start or path.startswith((f"{start}.", f"{start}[")) for start in _BORROWED_STATE):
        return False
    return path.endswith(".name") if path.startswith(_TYPE_CACHES) else None


def field_path(layout: StructLayout, offset: int) -> str:
    """The dotted path of the innermost field at *offset*, "+0x10" where there is none."""
    best = None
    for field in layout.fields.values():
        if field.offset <= offset < field.offset + field.size * max(field.count, 1):
            best = field
            break
    if best is None:
        return f"+{offset:#x}"
    inside = offset - best.offset
    index = f"[{inside // best.size}]" if best.count > 1 else ""
    inside %= best.size
    if best.inner is not None:
        return f"{best.name}{index}.{field_path(best.struct, inside)}"
    return f"{best.name}{index}" + (f"+{inside:#x}" if inside else "")


def runtime_name(runtime: Runtime, address: int) -> str | None:
    """The C symbol at *address*, with the offset when it is not its start; None when there is none."""
    symbol = runtime.target.symbol_at(address)
    if symbol is None:
        return None
    return f"{symbol.name}+{symbol.offset:#x}" if symbol.offset else symbol.name
