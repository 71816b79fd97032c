"""What a Target, a Session and their breakpoints have in common under every debugger. Imports none of them."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import BinaryIO

from refdbg.dependencies import elftools
from refdbg.errors import LayoutNotFound, MemoryFault, NoProcess, RefdbgError, SymbolNotFound
from refdbg.target import (
    Change,
    Hit,
    NativeFrame,
    NativeThread,
    OnChange,
    OnHit,
    PointedStruct,
    Symbol,
    TargetInfo,
    Variable,
    Where,
)
from refdbg.target.core import CoreMemory
from refdbg.target.ctype import CType, layout_of
from refdbg.target.dwarf import CodeCopy, DebugInfo
from refdbg.target.elf import build_id as build_id_of
from refdbg.target.elf import symbols_of
from refdbg.target.handed import Handed, hand_over
from refdbg.target.images import Images
from refdbg.target.layout import StructLayout
from refdbg.target.memory import Memory, Region
from refdbg.target.process import ProcessMemory, process_status
from refdbg.target.unwind import Unwinder

RUNTIME = "_PyRuntime"
DEADLY = ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGFPE", "SIGILL", "SIGSYS")


@dataclass(frozen=True)
class Convention:
    """How an architecture calls functions: registers of integer arguments and of the result; how returning is spelt."""

    arguments: tuple[str, ...]
    result: str
    returning: str


# System V psABI; Procedure Call Standard for the Arm 64-bit Architecture.
_CONVENTIONS = {
    "x86-64": Convention(("rdi", "rsi", "rdx", "rcx", "r8", "r9"), "rax", "ret"),
    "aarch64": Convention(("x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7"), "x0", "ret"),
}


# System V psABI, "DWARF Register Number Mapping".
_DWARF_REGISTERS = ("rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp", *(f"r{n}" for n in range(8, 16)))


def convention(architecture: str) -> Convention:
    """The calling convention of an architecture: ``x86-64``, ``aarch64``. Raises RefdbgError."""
    if architecture not in _CONVENTIONS:
        raise RefdbgError(
            f"refdbg does not know the calling convention of {architecture}", "x86-64 and AArch64 are supported."
        )
    return _CONVENTIONS[architecture]


def tracer(pid: int) -> int:
    """The process that traces *pid*; 0 when none does, or it cannot be known."""
    return int(process_status(pid).get("TracerPid", "0"))


def parent(pid: int) -> int:
    """The parent of *pid*; 0 when it cannot be known."""
    return int(process_status(pid).get("PPid", "0"))


def cannot_attach(debugger: str, pid: int, reason: str) -> NoProcess:
    """Why a debugger could not attach to a process, and what to do."""
    other = tracer(pid)
    if other:
        name = process_status(other).get("Name", "?")
        return NoProcess(
            f"{debugger} cannot attach to process {pid}: {name} (process {other}) is debugging it already",
            "A process has one debugger at a time: detach that one first.",
        )
    return NoProcess(
        f"{debugger} cannot attach to process {pid}: {reason}",
        "In a container run it with --cap-add=SYS_PTRACE; see /proc/sys/kernel/yama/ptrace_scope.",
    )


def check_program(debugger: str, core: CoreMemory, program: str, build_id: str) -> None:
    """Raises NoProcess when the debugger has no program for a core file, or not the one that it is of."""
    if not program:
        raise NoProcess(f"{debugger} has no program for this core file", f"Name it: `file {core.executable}`.")
    wanted = core.build_id(core.executable)
    if wanted and build_id and wanted != build_id:
        raise NoProcess(
            f"{program} is another build than the core file is of (build id {build_id}, not {wanted})",
            f"The core file is of {core.executable}: name that build of it with `file PROGRAM`.",
        )


def check_running(pid: int, program: str, build_id: str) -> None:
    """Raises NoProcess when the debugger's program is not the one that the process runs: another build's debug info."""
    try:
        with open(f"/proc/{pid}/exe", "rb") as file:
            wanted = build_id_of(elftools.ELFFile(file))
    except (OSError, elftools.ELFError):
        return
    if wanted and build_id and wanted != build_id:
        raise NoProcess(
            f"{program} is another build than process {pid} runs (build id {build_id}, not {wanted})",
            f"Name the right one: `file /proc/{pid}/exe`.",
        )


def printable(text: str) -> str:
    """Text that every debugger prints: names in freed memory can hold NUL and lone surrogates."""
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()


class Debugged:
    """A Target but for what only the debugger can say. What it said of types and symbols is remembered.

    The memory of a local process and of a core file is read from the file; the debugger's own reads are for the rest.
    """

    def __init__(self, info: TargetInfo, direct: ProcessMemory | CoreMemory | None) -> None:
        self.info = info
        self._direct = direct
        self.memory = Memory(direct.read_some if direct else self._read_through)
        self._layouts: dict[str, StructLayout | None] = {}  # None: asked for and not there
        self._addresses: dict[str, int | None] = {}
        self._files = Images(self.regions, self.open, RUNTIME)

    @property
    def is_local(self) -> bool:
        """Whether it is a process of this machine, whose memory is read through /proc."""
        return isinstance(self._direct, ProcessMemory)

    @cached_property
    def unwinder(self) -> Unwinder:
        """The return addresses of its threads."""
        return Unwinder(lambda: self._files, self.memory)

    def _read_through(self, address: int, size: int) -> bytes:
        # By the debugger: at most *size* bytes, none when nothing can be read.
        raise NotImplementedError

    def _find_regions(self) -> list[Region]:
        raise NotImplementedError

    def _find_address(self, symbol: str) -> int | None:
        raise NotImplementedError

    def _find_type(self, struct: str) -> CType | None:
        # A struct or union whose members are known.
        raise NotImplementedError

    def look_again(self) -> None:
        """A file was loaded: what was not found before may be in it."""
        self._layouts = {name: layout for name, layout in self._layouts.items() if layout is not None}
        self._addresses = {name: address for name, address in self._addresses.items() if address is not None}

    def close(self) -> None:
        """The process is gone."""
        if self._direct is not None:
            self._direct.close()

    def regions(self) -> Sequence[Region]:
        return self._direct.regions() if self._direct else self._find_regions()

    def resident(self, start: int, end: int) -> Sequence[tuple[int, int]]:
        return self._direct.resident(start, end) if self._direct else [(start, end)]

    def cpu_seconds(self, thread: int) -> float | None:
        return self._direct.cpu_seconds(thread) if isinstance(self._direct, ProcessMemory) else None

    def address_of(self, symbol: str) -> int:
        if symbol not in self._addresses:
            self._addresses[symbol] = self._find_address(symbol)
        address = self._addresses[symbol]
        if address is None:
            raise SymbolNotFound(symbol)
        return address

    def layout(self, struct: str) -> StructLayout:
        if struct not in self._layouts:
            found = self._find_type(struct)
            self._layouts[struct] = None if found is None else layout_of(struct, found)
        layout = self._layouts[struct]
        if layout is None:
            raise LayoutNotFound(f"no debug info describes the struct {struct}")
        return layout

    def open(self, path: str) -> BinaryIO:
        return self._direct.open(path) if self._direct else open(path, "rb")

    def handed(self) -> Handed | None:
        return None if self._direct is None else hand_over(self.info, tuple(self.threads()), self._direct)

    def images(self) -> Images:
        self._files.refresh()
        return self._files

    # Not by the debugger's symbols: an unattended run does not load each library's, and the answer is the same
    # everywhere.

    def symbol_at(self, address: int) -> Symbol | None:
        return self._files.symbol_at(address)

    def variable(self, symbol: Symbol) -> Variable | None:
        return self._files.variable(symbol)

    def structs_of(self, function: int) -> Sequence[PointedStruct]:
        return self._files.structs_of(function)

    def threads(self) -> Sequence[NativeThread]:
        found = self._direct.threads if isinstance(self._direct, CoreMemory) else self._find_threads()
        selected = self._selected_thread()
        return sorted(found, key=lambda thread: thread.id != selected)

    def _find_threads(self) -> Sequence[NativeThread]:
        raise NotImplementedError

    def _selected_thread(self) -> int:
        # Its kernel id.
        raise NotImplementedError


class DebuggerHit:
    """One stop at a watched function, by the registers of the innermost frame."""

    def __init__(self, target: Debugged, watch: FunctionWatch, thread: int, architecture: str) -> None:
        self._debugged = target
        self.function = watch.function
        self.thread = thread
        self._architecture = architecture
        self._copy = watch.copy_at(self._register("pc"), target) if watch.copies else None
        self.parameters = watch.parameters if self._copy is None else list(self._copy.registers)

    def _register(self, name: str) -> int:
        raise NotImplementedError

    def variable(self, name: str) -> int:
        if self._copy is not None and name in self._copy.variables and self._architecture == "x86-64":
            begin = self._debugged.unwinder.frame_begin(*map(self._register, ("pc", "sp", "rbp")))
            if begin is not None:
                return begin + self._copy.variables[name]
        raise LayoutNotFound(f"where {name} of {self.function} is cannot be known")

    def argument(self, name: str) -> int:
        if self._copy is not None:
            if name not in self._copy.registers or self._architecture != "x86-64":
                raise LayoutNotFound(f"{self.function} has no parameter {name!r}: it was optimised away")
            return self._register(_DWARF_REGISTERS[self._copy.registers[name]])
        registers = convention(self._architecture).arguments
        if name not in self.parameters or self.parameters.index(name) >= len(registers):
            raise LayoutNotFound(f"{self.function} has no parameter {name!r}")
        return self._register(registers[self.parameters.index(name)])

    def result(self) -> int:
        value = self._register(convention(self._architecture).result)
        return value - (1 << 64) if value >> 63 else value


class Reports:
    """A session's way to say what went wrong while the program was stopped for a moment."""

    busy: bool
    on_error: Callable[[str], None]

    def __init__(self) -> None:
        self.busy = False
        self.code: dict[str, _Code] = {}  # by the path of a file with debug info
        self._last_stop: object = None

    def seen_before(self, here: object) -> bool:
        """Whether this stop (thread, program counter, stack pointer) is the last one, without progress of the program.

        A signal that arrives while the program is stopped is delivered before the instruction under the breakpoint:
        when its handler has returned, the breakpoint is hit again. With an interval timer that would never end.
        """
        again = here == self._last_stop
        self._last_stop = here
        return again


class _Code:
    # The debug info of an interpreter's file, and where _PyRuntime is in it.
    def __init__(self, path: str) -> None:
        self._file = open(path, "rb")  # noqa: SIM115 - as long as the debugger runs
        self.debug = DebugInfo(self._file)

    @cached_property
    def runtime(self) -> int:
        for symbol in symbols_of(self._file, (".symtab",)):
            if symbol.name == RUNTIME:
                return symbol.value
        raise elftools.ELFError(f"no symbol {RUNTIME}")


class FunctionWatch:
    """A function watched at its entry, or at each of its return instructions."""

    def __init__(self, session: Reports, functions: Sequence[str], on_hit: OnHit, where: Where) -> None:
        self._session = session
        self._functions = functions
        self._on_hit = on_hit
        self._where = where
        self.parameters: list[str] = []
        self.function = functions[0]
        self.copies: dict[int, CodeCopy] = {}  # of an optimised function, by their distance from _PyRuntime

    def find_copies(self, path: str, name: str) -> bool:
        """Whether the optimiser has inlined or cloned the function: then `copies` are where it is watched.

        *path*: the file with the debug info of _PyRuntime.
        """
        try:
            known = self._session.code.get(path)
            if known is None:
                known = self._session.code[path] = _Code(path)
            # What was split off a function and inlined into the rest of it is no other call.
            found = [
                copy for copy in known.debug.copies(name)
                if copy.inside != name and (self._where == "entry" or not copy.inside)
            ]
            if found:  # a file that only refers to _PyRuntime must not make forget them
                self.copies = {copy.place - known.runtime: copy for copy in found}
        except (OSError, elftools.ELFError):
            return False
        return bool(found)

    @property
    def inlined(self) -> bool:
        """Whether it has no code of its own."""
        return any(copy.inside for copy in self.copies.values())

    def copy_at(self, place: int, target: Debugged) -> CodeCopy | None:
        """The copy that the program stands at the begin of."""
        return self.copies.get(place - target.address_of(RUNTIME))

    def reached(self, target: Debugged, hit: Callable[[], Hit]) -> bool:
        """The program stands there. Never raises; True keeps it stopped."""
        self._session.busy = True
        try:
            target.memory.forget()
            return self._on_hit(hit())
        except KeyboardInterrupt:
            self._session.on_error(f"interrupted at {self.function}")
        except RefdbgError as error:
            self._session.on_error(f"at {self.function}: {error.text()}")
        except Exception:  # a defect of ours: say so, never disturb the program
            self._session.on_error(f"refdbg failed at {self.function}:\n{traceback.format_exc()}")
        finally:
            self._session.busy = False
        return False


Placed = tuple[int, Sequence[NativeFrame]]  # an address of a stack, and the functions that it is in


class DebuggerChange:
    """One change of a watched word. Asks the debugger only for what it is asked."""

    def __init__(self, target: Debugged, architecture: str) -> None:
        self._target = target
        self._architecture = architecture

    @property
    def thread(self) -> int:
        raise NotImplementedError

    @property
    def thread_pointer(self) -> int:
        raise NotImplementedError

    @cached_property
    def _registers(self) -> tuple[int, int, int]:
        # Program counter, stack pointer, frame pointer; 0 where not known.
        raise NotImplementedError

    def _walk(self, limit: int) -> Sequence[Placed]:
        # The stack as the debugger unwinds it.
        raise NotImplementedError

    def _line_at(self, address: int) -> tuple[str | None, int | None]:
        # File and line of the instruction at an address, or that it is in.
        raise NotImplementedError

    def stack(self, limit: int) -> list[NativeFrame]:
        return [frame for _address, frames in self._walk(limit) for frame in frames][:limit]

    def calls(self, limit: int) -> tuple[int, ...]:
        if self._architecture == "x86-64":
            found, complete = self._target.unwinder.calls(*self._registers, limit)
            if complete:
                return tuple(found)
        return tuple(address for address, _frames in self._walk(limit))

    def places(self, limit: int) -> Mapping[int, Sequence[NativeFrame]]:
        placed = dict(self._walk(limit))
        here = self._registers[0]
        if here in placed:
            placed[here] = self._written(here - 1, placed[here][-1].function)
        return placed

    def _written(self, address: int, function: str) -> list[NativeFrame]:
        # The debugger shows the instruction behind the one that has written, which may be another function's, inlined.
        frames = []
        line = self._line_at(address)
        for each in reversed(self._target.images().inlined(address)):
            frames.append(NativeFrame(each.function, *line))
            line = each.file, each.line
        return [*frames, NativeFrame(function, *line)]


class WordWatch:
    """A watched word of memory; silent from the change on whose report asks for no more."""

    def __init__(self, target: Debugged, address: int, on_change: OnChange) -> None:
        self._address = address
        self._on_change = on_change
        self.done = False  # no more is asked for
        self._old = self._word(target)
        self.function = f"*{address:#x}"

    def _word(self, target: Debugged) -> int | None:
        try:
            return target.memory.u64(self._address)
        except MemoryFault:
            return None  # not mapped

    def changed(self, session: Reports, target: Debugged, change: Callable[[], Change]) -> None:
        """The processor says that it was written."""
        if self.done:
            return
        session.busy = True
        try:
            target.memory.forget()
            word = self._word(target)
            if word != self._old:
                self._old = word
                self.done = not self._on_change(change())
        except KeyboardInterrupt:
            session.on_error("interrupted at a watchpoint")
        except RefdbgError as error:
            session.on_error(f"at a watchpoint: {error}")
        except Exception:  # a defect of ours: say so, never disturb the program
            session.on_error(f"refdbg failed at a watchpoint:\n{traceback.format_exc()}")
        finally:
            session.busy = False


def is_own(pid: int) -> bool:
    """Whether this debugger, or a server that it has started, traces *pid*: it is a process of this machine."""
    by = tracer(pid)
    return bool(by) and os.getpid() in (by, parent(by))
