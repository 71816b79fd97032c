"""One stopped process as bytes, symbols and struct layouts. Knows no Python object."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Literal, NamedTuple, Protocol

from refdbg.target.layout import StructLayout
from refdbg.target.memory import Memory, Region

if TYPE_CHECKING:
    from refdbg.target.handed import Handed
    from refdbg.target.images import Images


@dataclass(frozen=True)
class TargetInfo:
    """What the inspected process is."""

    executable: str
    pid: int | None
    live: bool
    debugger: str
    build_id: str  # "" when the executable has none


@dataclass(frozen=True)
class Symbol:
    """The C symbol that an address belongs to: *offset* bytes into it. *start*: its own address."""

    name: str
    offset: int
    library: str
    start: int


@dataclass(frozen=True)
class Variable:
    """Where a C variable is declared, and the path of one member of it (``Handlers[2].func``).

    *function*: the one that it is a static of, "" for none.
    """

    path: str
    file: str
    line: int
    function: str = ""


@dataclass(frozen=True)
class Pointer:
    """A pointer in a C struct: its path (``.slots[2].func``) and, as *heads*, the struct that it refers to.

    That struct's name comes first, then those of the structs that it begins with; none for ``void *`` and the like.
    """

    path: str
    heads: tuple[str, ...]


@dataclass(frozen=True)
class PointedStruct:
    """A C struct that a function has a pointer to. *heads*: its name, and those of the structs that it begins with.

    *pointers*: asks for the pointers in it, by their offsets.
    """

    size: int
    heads: tuple[str, ...]
    pointers: Callable[[], Mapping[int, Pointer]]


@dataclass(frozen=True)
class Halt:
    """Why the program does not run: it *ended*, or a *signal* (its name) was about to be delivered."""

    ended: bool
    signal: str | None = None
    thread: int = 0


@dataclass(frozen=True)
class NativeThread:
    """A stopped thread: its kernel id, and its stack pointer and thread-local storage base, 0 where not known.

    What lies below the stack pointer is dead. *place* (the next instruction) and *frame_pointer* are known where there
    is no debugger to unwind its stack.
    """

    id: int
    stack_pointer: int
    thread_pointer: int
    place: int = 0
    frame_pointer: int = 0


@dataclass(frozen=True)
class NativeFrame:
    """One C frame: function, and source position where the debug info has it."""

    function: str
    file: str | None = None
    line: int | None = None


class NativeCall(NamedTuple):
    """One C frame on a stack. *place*: its next instruction; *stack_pointer*: what it uses begins there.

    A function that was inlined has those of the one that it is in.
    """

    frame: NativeFrame
    place: int
    stack_pointer: int


class Target(Protocol):
    """A stopped process, a core file: whatever has memory, symbols and struct layouts."""

    info: TargetInfo
    memory: Memory

    def regions(self) -> Sequence[Region]:
        """The mapped regions in ascending order; empty when nothing is known of them."""
        ...

    def open(self, path: str) -> BinaryIO:
        """The file that is mapped as *path* in the process. Raises OSError."""
        ...

    def handed(self) -> Handed | None:
        """What another process needs to read this one as it is now; None where that cannot be."""
        ...

    def images(self) -> Images:
        """The ELF files that are loaded."""
        ...

    def resident(self, start: int, end: int) -> Sequence[tuple[int, int]]:
        """The parts of [start, end) that reading does not fault in."""
        ...

    def address_of(self, symbol: str) -> int:
        """The address of a C function or variable. Raises SymbolNotFound."""
        ...

    def layout(self, struct: str) -> StructLayout:
        """The layout of a C struct or typedef. Raises LayoutNotFound."""
        ...

    def symbol_at(self, address: int) -> Symbol | None:
        """The C symbol that contains *address*, or None."""
        ...

    def native_stack(self, thread: int | None = None, limit: int = 64) -> list[NativeCall]:
        """The C stack of a thread (its kernel id; None: the selected one), innermost first; as far as it is known."""
        ...

    def variable(self, symbol: Symbol) -> Variable | None:
        """The declaration of the variable that *symbol* is in, None without debug info."""
        ...

    def structs_of(self, function: int) -> Sequence[PointedStruct]:
        """The structs that the C function at *function* gets or declares pointers to, parameters first.

        None of them without debug info.
        """
        ...

    def threads(self) -> Sequence[NativeThread]:
        """The threads, the selected one (of a core file the one that has crashed) first; none when not known."""
        ...

    def cpu_seconds(self, thread: int) -> float | None:
        """The CPU time that a thread (kernel id) has used; None where it cannot be known."""
        ...


class Hit(Protocol):
    """One stop at a watched function."""

    function: str
    thread: int

    @property
    def parameters(self) -> Sequence[str]:
        """The names of its parameters."""
        ...

    @property
    def target(self) -> Target:
        """The process as it is at this stop."""
        ...

    def argument(self, name: str) -> int:
        """The value of the function's parameter *name* at its entry. Raises LayoutNotFound."""
        ...

    def variable(self, name: str) -> int:
        """The address of a variable on the stack, of the function that this one was inlined into.

        Raises LayoutNotFound.
        """
        ...

    def callers(self, limit: int) -> Iterator[str]:
        """The names of the C functions on the thread's stack, innermost (this one) first, unwound as asked for."""
        ...

    def result(self) -> int:
        """The function's return value, as a signed integer (only at its return)."""
        ...


class Change(Protocol):
    """One change of a watched word, seen right behind the instruction that has written it."""

    @property
    def thread(self) -> int:
        """The kernel's id of the thread that has made it."""
        ...

    @property
    def thread_pointer(self) -> int:
        """The base of its thread-local storage, 0 where not known."""
        ...

    def stack(self, limit: int) -> list[NativeFrame]:
        """The C stack, innermost first."""
        ...

    def calls(self, limit: int) -> tuple[int, ...]:
        """Where that is, and the return addresses, innermost first: all that tells two stacks apart, and cheap."""
        ...

    def places(self, limit: int) -> Mapping[int, Sequence[NativeFrame]]:
        """The C functions at each address of `calls`, innermost first: one that was inlined, then that it is in."""
        ...


Where = Literal["entry", "return"]
OnHit = Callable[[Hit], bool]
OnChange = Callable[[Change], "bool | None"]


class Breakpoint(Protocol):
    """A watched function, or a watched word: what it is called."""

    function: str

    @property
    def placed(self) -> bool:
        """Whether a loaded file has it."""
        ...

    @property
    def inlined(self) -> bool:
        """Whether it has no code of its own: then its parameters are not known."""
        ...

    def delete(self) -> None:
        """Stop watching."""
        ...


class Console(Protocol):
    """Where a command's text goes."""

    width: int
    colour: bool

    def write(self, text: str) -> None:
        """Print *text* with a line end."""
        ...

    def refuse(self, text: str) -> None:
        """Print why there is no answer."""
        ...


class Session(Protocol):
    """One place where commands run: a debugger with a process in it."""

    console: Console
    on_error: Callable[[str], None]
    busy: bool  # an on_hit function is being called

    def target(self) -> Target:
        """The current process. Raises NoProcess."""
        ...

    def evaluate(self, expression: str) -> int:
        """The integer or address that a debugger expression means. Raises CommandError."""
        ...

    def break_on(self, functions: Sequence[str], on_hit: OnHit, where: Where = "entry") -> Breakpoint:
        """Call *on_hit* whenever the first of *functions* that exists is entered (or returns).

        *on_hit* may only read and record; it returns True to stop the program there.
        Waits when no Python is loaded yet; raises SymbolNotFound when it has none of them.
        """
        ...

    def watch_word(self, address: int, on_change: OnChange) -> Breakpoint | None:
        """Call *on_change* when the 64-bit word at *address* changes; again if it returns True.

        The address need not be mapped yet. None when the processor has no watchpoint left; a program is never stepped
        for it.
        """
        ...

    def waiting(self) -> list[str]:
        """The watched functions that no loaded file has yet."""
        ...

    def has_python(self) -> bool:
        """Whether a loaded file has CPython's runtime, with or without debug info."""
        ...

    def attach(self, pid: int) -> None:
        """Take a stopped process over for an unattended run: every signal is passed on. Raises NoProcess."""
        ...

    def with_libraries(self) -> None:
        """Read the symbols of every library, from now on as it is loaded: an unattended run spares itself that."""
        ...

    def resume(self) -> Halt:
        """Let the program run until it ends or is about to die of a signal; the next call delivers that."""
        ...
