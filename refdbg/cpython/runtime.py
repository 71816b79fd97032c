"""The CPython runtime of a stopped process: version, build, interpreters, threads."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from refdbg.cpython.counts import Counts, PlainCounts, SplitCounts
from refdbg.cpython.stripped import described
from refdbg.errors import LayoutNotFound, MemoryFault, NotPython, SymbolNotFound, TargetError
from refdbg.target import Target
from refdbg.target.layout import StructLayout, StructView

if TYPE_CHECKING:
    from refdbg.cpython.heap import Pages

IMMORTAL = 1 << 31
NEWEST = (3, 15)  # that this refdbg was tested with
_IDS_LIMIT = 1 << 24
LIST_LIMIT = 1 << 16  # interpreters and threads: a longer list is a damaged one
RUNTIME = "_PyRuntime"  # the file that has it is CPython's own: its names go before those of other libraries


@dataclass(frozen=True)
class Traits:
    """How this CPython was built."""

    debug: bool
    trace_refs: bool
    free_threaded: bool
    immortal: bool

    @property
    def repeats(self) -> bool:
        """Whether a second run has its objects at the same addresses, where the system does not make them random."""
        return self.debug or not self.free_threaded  # MI_DEBUG: Objects/mimalloc/os.c, _mi_os_get_aligned_hint


class Build:
    """What does not change while the program runs: symbols, struct layouts, build traits.

    *pages*: of the last stop, None unless many stops are looked at. Raises NotPython when the process is no CPython
    with debug info.
    """

    def __init__(self, target: Target) -> None:
        self.origin = target  # as the session has it
        self.target = target = described(target, RUNTIME)
        self.pages: Pages | None = None
        try:
            self.runtime_address = target.address_of(RUNTIME)
        except SymbolNotFound as error:
            raise NotPython(f"no symbol {RUNTIME!r} in {target.info.executable or 'this process'}") from error
        try:
            self.object = self.layout("PyObject")
            self.type = self.layout("PyTypeObject")
            self.interpreter = self.layout("PyInterpreterState")
            self.gc_head = self.layout("PyGC_Head")
        except LayoutNotFound as error:
            raise NotPython(f"this CPython has no debug info ({error})") from error
        self.ob_type = self.object.offset("ob_type")
        self.ob_refcnt = self.object.first("ob_refcnt", "ob_ref_local").offset
        # 3.14 keeps flags in the highest bits of the word that counts (Include/refcount.h).
        flags = self.object.offset("ob_flags") - self.ob_refcnt if "ob_overflow" in self.object else 8
        self.count_mask = (1 << 8 * flags) - 1
        self.traits = Traits(
            debug=self.has_symbol("_Py_RefTotal"),
            trace_refs="_ob_next" in self.object,
            free_threaded="ob_tid" in self.object,
            # Since 3.12 (PEP 683) a count with bit 31 set never changes.
            immortal=any(field in self.object for field in ("ob_refcnt_split", "ob_overflow", "ob_ref_local")),
        )
        self.counts: Counts = (
            SplitCounts(self.object, self._counts_by_thread()) if self.traits.free_threaded
            else PlainCounts(self.object, self.traits.immortal)
        )
        # Bytes before an object that the collector can track; a free-threaded one keeps its notes in the object.
        self.gc_head_size = 0 if self.traits.free_threaded else self.gc_head.size
        self._check_layout()

    def _counts_by_thread(self) -> bool:
        try:
            return "refcounts" in self.layout("_PyThreadStateImpl")
        except LayoutNotFound:
            return False

    @property
    def stripped(self) -> bool:
        """Whether it has no debug info, and what is known of it is what it tells itself."""
        return self.target is not self.origin

    def layout(self, struct: str) -> StructLayout:
        """The layout of a C struct. Raises LayoutNotFound."""
        return self.target.layout(struct)

    def has_symbol(self, name: str) -> bool:
        """Whether a loaded file has the symbol."""
        try:
            self.target.address_of(name)
        except SymbolNotFound:
            return False
        return True

    def static(self, name: str) -> int:
        """The address of a C variable or function that only the interpreter's own file has: others may have one of the
        same name. Raises SymbolNotFound."""
        address = self.target.address_of(name)
        images = self.target.images()
        own = images.library_at(self.runtime_address)
        if own is not None and images.library_at(address) is not own:
            raise SymbolNotFound(name)
        return address

    def _check_layout(self) -> None:
        # PyType_Type's type is itself and its name is "type": else the offsets do not fit the memory.
        address = self.target.address_of("PyType_Type")
        memory = self.target.memory
        try:
            name = memory.c_string(memory.u64(address + self.type.offset("tp_name")), 16)
            own = memory.u64(address + self.ob_type)
        except MemoryFault as error:
            raise NotPython(f"PyType_Type cannot be read: {error}") from error
        if name != "type" or own not in (address, 0):  # 0: before PyType_Ready
            raise NotPython(
                f"PyType_Type does not look like a type (its name reads {name!r})",
                "The debug info does not belong to this process.",
            )


@dataclass(frozen=True)
class Thread:
    """A Python thread state. *address*: ``PyThreadState *``; *native_id*: the kernel's id, 0 if not known."""

    address: int
    native_id: int


@dataclass(frozen=True)
class Interpreter:
    """An interpreter. *address*: ``PyInterpreterState *``."""

    address: int
    number: int
    main: bool


class Runtime:
    """The runtime at one stop. Make a new one after the process has run."""

    def __init__(self, build: Build) -> None:
        self.build = build
        self.target = build.target
        self.memory = build.target.memory
        self.traits = build.traits

    @cached_property
    def version(self) -> str:
        """The version as the program would print it ("3.11.2"), "" while it cannot be known yet."""
        try:  # 3.11+
            number = self.memory.integer(self.target.address_of("Py_Version"), 4)
            level = {0xA: "a", 0xB: "b", 0xC: "rc"}.get(number >> 4 & 15, "")
            text = f"{number >> 24}.{number >> 16 & 255}.{number >> 8 & 255}"
            return text + (f"{level}{number & 15}" if level else "")
        except TargetError:
            pass
        try:  # Python/getversion.c fills a buffer when it is first asked
            text = self.memory.c_string(self.target.address_of("Py_GetVersion::version"), 64)
        except TargetError:
            return ""
        match = re.match(r"\d+\.\d+\.\d+\S*", text)
        return match.group().rstrip("+") if match else ""

    @property
    def version_info(self) -> tuple[int, int]:
        """(major, minor); (0, 0) while it cannot be known yet."""
        match = re.match(r"(\d+)\.(\d+)", self.version)
        return (int(match[1]), int(match[2])) if match else (0, 0)

    @property
    def unknown(self) -> str:
        """What to warn of where this CPython is newer than this refdbg, "" where it is not."""
        if self.version_info <= NEWEST:
            return ""
        newest = ".".join(map(str, NEWEST))
        return (
            f"CPython {self.version} is newer than this refdbg, which was tested up to {newest}: the layout of its "
            "structs fits, their meaning may have changed"
        )

    def is_immortal(self, count: int) -> bool:
        """Whether a reference count is an immortal object's (PEP 683): it never changes, and is in no total."""
        return self.traits.immortal and bool(count & IMMORTAL)

    @property
    def immortal_count(self) -> int | None:
        """From which count on an object is immortal, None where none is."""
        return IMMORTAL if self.traits.immortal else None

    def count(self, address: int) -> int:
        """The object's reference count (``PyObject *``): what its holders have. Raises MemoryFault."""
        return self.build.counts.of(self.memory, address, self.by_threads.get(address, 0))

    @cached_property
    def by_threads(self) -> Mapping[int, int]:
        """What the threads count of objects (``PyObject *``) in arrays of their own: 3.14+, free-threaded.

        Python/uniqueid.c: each interpreter numbers such objects. Raises MemoryFault.
        """
        found: Counter[int] = Counter()
        if not isinstance(self.build.counts, SplitCounts) or not self.build.counts.by_threads:
            return found
        for interpreter in self.interpreters():
            own = StructView(self.memory, interpreter.address, self.build.interpreter)
            table, size = own["unique_ids.table"], own["unique_ids.size"]
            for thread in self.threads(interpreter):
                state = self.view(thread.address, "_PyThreadStateImpl")
                values, number = state["refcounts.values"], min(state["refcounts.size"], size)
                if not values or not 0 < number <= _IDS_LIMIT:
                    continue
                counts = array("q", self.memory.read(values, 8 * number))
                for row in range(number):
                    if counts[row]:
                        found[self.memory.u64(table + 8 * row)] += counts[row]
        return found

    def view(self, address: int, struct: str) -> StructView:
        """A cursor on the struct at *address*. Raises LayoutNotFound."""
        return StructView(self.memory, address, self.build.layout(struct))

    @cached_property
    def state(self) -> StructView:
        """``_PyRuntime``."""
        return self.view(self.build.runtime_address, "_PyRuntimeState")

    def interpreters(self) -> Iterator[Interpreter]:
        """The interpreters that exist, oldest first."""
        found = []
        address = self.state["interpreters.head"]
        main = self.state["interpreters.main"]
        seen: set[int] = set()
        while address and address not in seen and len(seen) < LIST_LIMIT:
            seen.add(address)
            found.append(self.interpreter(address, main))
            address = StructView(self.memory, address, self.build.interpreter)["next"]
        yield from reversed(found)

    def interpreter(self, address: int, main: int | None = None) -> Interpreter:
        """The interpreter at *address* (``PyInterpreterState *``)."""
        number = StructView(self.memory, address, self.build.interpreter)["id"]
        return Interpreter(address, number, address == (self.state["interpreters.main"] if main is None else main))

    def interpreter_of(self, thread: int) -> Interpreter:
        """The interpreter of a thread state. *thread*: ``PyThreadState *``."""
        return self.interpreter(self.view(thread, "PyThreadState")["interp"])

    def collector(self, interpreter: Interpreter) -> StructView:
        """The state of the interpreter's collector (``struct _gc_runtime_state``); until 3.8 all share one."""
        own = self.build.interpreter
        where = StructView(self.memory, interpreter.address, own) if "gc" in own else self.state
        return StructView(self.memory, where.at("gc"), where.layout["gc"].struct)

    def finalizing(self, interpreter: Interpreter) -> bool:
        """Whether the interpreter is being finalized (Python/pylifecycle.c, Py_FinalizeEx, Py_EndInterpreter)."""
        own = StructView(self.memory, interpreter.address, self.build.interpreter)
        flags = [own[field] for field in ("_finalizing", "finalizing") if field in own.layout]
        if interpreter.main and "_finalizing" in self.state.layout:
            flags.append(self.state["_finalizing"])
        return any(flags)

    def threads(self, interpreter: Interpreter) -> Iterator[Thread]:
        """The thread states of an interpreter, oldest first."""
        head = self.build.interpreter.first("threads.head", "tstate_head")
        address = self.memory.u64(interpreter.address + head.offset)
        found: list[Thread] = []
        seen: set[int] = set()
        while address and address not in seen and len(seen) < LIST_LIMIT:
            seen.add(address)
            view = self.view(address, "PyThreadState")
            # Since 3.11 the kernel's id is there; before that only pthread_self().
            native = view["native_thread_id"] if "native_thread_id" in view.layout else 0
            found.append(Thread(address, native))
            address = view["next"]
        yield from reversed(found)
