"""An emulated CPU over a copy of a stopped process's memory. x86-64 only.

Nothing runs in the process: its pages are copied and mapped read-only into unicorn, which executes the
process's own machine code there.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

from refdbg.dependencies import unicorn
from refdbg.errors import RefdbgError
from refdbg.target import Target
from refdbg.target.copied import CopiedMemory, Run
from refdbg.target.memory import PAGE, Region

GIB = 1 << 30
_ROOM = 16 * GIB  # address space for our own code and buffers
_SECONDS = 1.0  # one slice of emulation
_CR4_OSFXSR = 1 << 9
_LONGEST_INSTRUCTION = 15
_VEX3, _VEX2, _EVEX = 0xC4, 0xC5, 0x62

Kind = Literal["vector", "instruction", "unknown", "write", "access", "trap", "endless", "late", "full"]


class EmulationError(RefdbgError):
    """The emulator cannot be set up for this process, or a function cannot be run in it."""

    hint = "Visited edges are unknown here; everything that does not need them still works."


@dataclass(frozen=True)
class Problem:
    """Why a function did not return. *text*: what it did; *place*: the address of the code that did it.

    *kind* "vector" is an instruction that unicorn lacks, "instruction" one that works within `vectors`, "unknown" code
    that must be run within `inspected` first. *wanted*: the address of a refused write.
    """

    kind: Kind
    text: str
    place: int = 0
    wanted: int = 0


class Cpu:
    """Executes code of the process on a copy of its memory, and says what stopped it.

    From *base* on there is room for the caller's buffers (`map_buffer`); the first page is for its code.
    """

    def __init__(self, target: Target, copy: CopiedMemory | None = None) -> None:
        """*copy*: the memory, which stays as it is; made where there is none.

        Raises EmulationError, MissingDependency.
        """
        self._target = target
        self._uc = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64)
        self._kept: list[Any] = []  # the buffers that unicorn has pointers into
        self._noted: tuple[Kind, str, int] | None = None
        self._plain: dict[int, int] = {}  # where instructions stand that unicorn runs rightly → their bytes
        self._inspecting = False
        self._names: dict[int, str] = {}
        copy = copy or CopiedMemory(target)
        self.regions = copy.regions
        if not self.regions:
            raise EmulationError("the process's memory regions are not known")
        self._region_starts = [region.start for region in self.regions]
        self.base = _free_space(self.regions)
        self.open = target.open
        self.copied = copy.copied
        self._own: set[int] = set()  # pages that were changed, and are no longer those of the copy
        for run in copy.runs:
            self._map(copy.buffer, run)
        self._hook()
        pointer = next((thread.thread_pointer for thread in target.threads()), 0)
        if pointer:  # debug builds' assertions read the thread state from thread-local storage
            self._uc.reg_write(unicorn.UC_X86_REG_FS_BASE, pointer)
        self._allow_vectors(False)

    def close(self) -> None:
        """Give the copy of the memory back: unicorn's hooks would keep it until a garbage collection."""
        del self._uc
        self._kept.clear()

    def map_buffer(self, address: int, size: int, protection: int | None = None) -> memoryview:
        """*size* bytes of zeros at *address*, for both sides; *protection*: unicorn's, else for data.

        Not for code, too: with each word that is written to such memory unicorn looks for code translated from there.
        """
        buffer = mmap.mmap(-1, size)
        raw = (ctypes.c_char * size).from_buffer(buffer)
        self._uc.mem_map_ptr(
            address, size, unicorn.UC_PROT_READ | unicorn.UC_PROT_WRITE if protection is None else protection,
            ctypes.addressof(raw),
        )
        self._kept.append((buffer, raw))
        return memoryview(buffer)

    def _map(self, buffer: mmap.mmap, run: Run) -> None:
        # Read-only: a traverse function writes nothing but its stack; junk must not spoil the copy.
        protection = unicorn.UC_PROT_READ | (unicorn.UC_PROT_EXEC if run.executable else 0)
        raw = (ctypes.c_char * (run.end - run.start)).from_buffer(buffer, run.first)
        self._uc.mem_map_ptr(run.start, run.end - run.start, protection, ctypes.addressof(raw))
        self._kept.append(raw)
        for low, high in run.missing:
            low = (low + PAGE - 1) & -PAGE
            if low < high:
                self._uc.mem_unmap(low, high - low)

    def _change(self, address: int, data: bytes) -> None:
        # The pages that it is in become ours first.
        for page in range(address & -PAGE, address + len(data), PAGE):
            if page not in self._own:
                content, region = self.peek(page, PAGE), self.region_at(page)
                executable = region is not None and region.executable
                self._uc.mem_unmap(page, PAGE)
                protection = unicorn.UC_PROT_READ | (unicorn.UC_PROT_EXEC if executable else 0)
                self.map_buffer(page, PAGE, protection)[:] = content
                self._own.add(page)
        self._uc.mem_write(address, data)

    # The copy.

    def peek(self, address: int, size: int) -> bytes:
        """The copy's bytes. Raises EmulationError."""
        try:
            return bytes(self._uc.mem_read(address, size))
        except unicorn.UcError as error:
            raise EmulationError(f"cannot read {size} bytes at {address:#x}: {error}") from None

    def word(self, address: int) -> int:
        """The unsigned 64-bit word. Raises EmulationError."""
        return int.from_bytes(self.peek(address, 8), "little")

    def poke(self, address: int, data: bytes) -> None:
        """Change the copy, code too. Raises EmulationError."""
        try:
            self._change(address, data)
        except unicorn.UcError as error:
            raise EmulationError(f"cannot change {len(data)} bytes at {address:#x}: {error}") from None
        self.code_changed()

    def code_changed(self) -> None:
        """Translate anew what runs next."""
        self._uc.ctl_flush_tb()
        self._plain.clear()

    @contextmanager
    def writable(self, address: int) -> Iterator[None]:
        """Let the code write to one page; afterwards it is as before."""
        page = address & -PAGE
        saved = self.peek(page, PAGE)
        self._change(page, saved)
        self._uc.mem_protect(page, PAGE, unicorn.UC_PROT_READ | unicorn.UC_PROT_WRITE)
        try:
            yield
        finally:
            self._uc.mem_write(page, saved)
            self._uc.mem_protect(page, PAGE, unicorn.UC_PROT_READ)

    def region_at(self, address: int) -> Region | None:
        """The region that contains *address*, or None."""
        row = bisect_right(self._region_starts, address) - 1
        return self.regions[row] if row >= 0 and address < self.regions[row].end else None

    # Running.

    def set_registers(self, values: Sequence[tuple[int, int]]) -> None:
        """(unicorn's number, value) of each."""
        for register, value in values:
            self._uc.reg_write(register, value)

    def run(self, start: int, end: int) -> tuple[int, Problem | None]:
        """Runs code from *start* until *end*, or a problem, or the time is up. Returns where it stopped and why."""
        self._noted = None
        try:
            self._uc.emu_start(start, end, timeout=int(_SECONDS * 1e6))
        except unicorn.UcError as error:
            self._noted = self._noted or ("trap", f"a fault ({error})", 0)
        place = int(self._uc.reg_read(unicorn.UC_X86_REG_RIP))
        if self._noted is None:
            return place, None
        kind, text, wanted = self._noted
        if text.startswith("jump"):  # it is the caller that can be named
            with suppress(EmulationError):
                place = self.word(int(self._uc.reg_read(unicorn.UC_X86_REG_RSP)))
        return place, Problem(kind, text, place, wanted)

    def call(self, function: int, *arguments: int, stack: int, end: int) -> int:
        """The result of a C function with integer arguments. *stack*: its highest word; *end*: an address to return to.

        Raises EmulationError when it does not return.
        """
        problem = self.attempt(function, *arguments, stack=stack, end=end)
        if problem is not None:
            raise EmulationError(f"{self.name(function) or hex(function)} cannot be emulated: {self.explain(problem)}")
        return int(self._uc.reg_read(unicorn.UC_X86_REG_RAX))

    def attempt(self, function: int, *arguments: int, stack: int, end: int) -> Problem | None:
        """What keeps a C function from returning, None when it has. The arguments are those of `call`."""
        u = unicorn
        registers = (u.UC_X86_REG_RDI, u.UC_X86_REG_RSI, u.UC_X86_REG_RDX)
        self.set_registers([*zip(registers, arguments), (u.UC_X86_REG_RSP, stack)])
        self._uc.mem_write(stack, struct.pack("<Q", end))
        place, problem = self.run(function, end)
        if place != end and problem is None:
            problem = Problem("endless", "no end", place)
        return problem

    @contextmanager
    def vectors(self) -> Iterator[None]:
        """Let the code use SSE, where it has been `inspected`."""
        self._allow_vectors(True)
        try:
            with self._hooked(unicorn.UC_HOOK_EDGE_GENERATED, self._on_block):
                yield
        finally:
            self._allow_vectors(False)

    @contextmanager
    def inspected(self) -> Iterator[None]:
        """Within `vectors`: look at each instruction before it runs. Slow: a microsecond for each."""
        with self._hooked(unicorn.UC_HOOK_CODE, self._on_each):
            self._inspecting = True
            try:
                yield
            finally:
                self._inspecting = False

    @contextmanager
    def _hooked(self, kind: int, function: Callable[..., None]) -> Iterator[None]:
        # What was translated before does not know the hook.
        hook = self._uc.hook_add(kind, function)
        self._uc.ctl_flush_tb()
        try:
            yield
        finally:
            self._uc.hook_del(hook)
            self._uc.ctl_flush_tb()

    def _allow_vectors(self, on: bool) -> None:
        # unicorn runs VEX-coded instructions as their SSE forms, silently wrong: without this bit of CR4
        # every vector instruction raises.
        value = int(self._uc.reg_read(unicorn.UC_X86_REG_CR4))
        self._uc.reg_write(unicorn.UC_X86_REG_CR4, value | _CR4_OSFXSR if on else value & ~_CR4_OSFXSR)
        self._uc.ctl_flush_tb()

    # What stops a call.

    def _hook(self) -> None:
        uc, u = self._uc, unicorn
        uc.hook_add(u.UC_HOOK_MEM_INVALID, self._on_memory)
        uc.hook_add(u.UC_HOOK_INTR, self._on_interrupt)
        uc.hook_add(u.UC_HOOK_INSN_INVALID, self._on_instruction)
        uc.hook_add(u.UC_HOOK_INSN, self._on_system_call, None, 1, 0, u.UC_X86_INS_SYSCALL)

    def _on_memory(self, _uc: Any, access: int, address: int, _size: int, _value: int, _data: Any) -> bool:
        u = unicorn
        if access == u.UC_MEM_WRITE_PROT:
            self._noted = "write", f"write to {address:#x}", address
        elif access == u.UC_MEM_WRITE_UNMAPPED:
            self._noted = "access", f"write to {address:#x}", 0
        elif access in (u.UC_MEM_FETCH_PROT, u.UC_MEM_FETCH_UNMAPPED):
            self._noted = "access", f"jump to {address:#x}", 0
        else:
            self._noted = "access", f"read of {address:#x}", 0
        return False

    def _on_interrupt(self, uc: Any, number: int, _data: Any) -> None:
        self._noted = "trap", f"trap {number}", 0
        uc.emu_stop()

    def _on_system_call(self, uc: Any, _data: Any) -> None:
        self._noted = "trap", "system call", 0
        uc.emu_stop()

    def _on_instruction(self, uc: Any, _data: Any = None) -> bool:
        code = self._code_at(int(uc.reg_read(unicorn.UC_X86_REG_RIP)))
        self._noted = "vector" if _unsupported(code) else "instruction", "unsupported instruction", 0
        return False

    def _on_each(self, uc: Any, address: int, size: int, _data: Any) -> None:
        if address in self._plain:
            return
        if _unsupported(self._code_at(address)):
            self._noted = "vector", "unsupported instruction", 0
            uc.emu_stop()
        else:
            self._plain[address] = size

    def _on_block(self, uc: Any, block: Any, _previous: Any, _data: Any) -> None:
        # A block of code was translated and is about to run.
        if self._inspecting or self.base <= block.pc < self.base + PAGE:
            return
        address, end = block.pc, block.pc + block.size
        while address < end and address in self._plain:
            address += self._plain[address]
        if address < end:
            self._noted = "unknown", "unknown code", 0
            uc.emu_stop()

    def _code_at(self, address: int) -> bytes:
        size = min(_LONGEST_INSTRUCTION, PAGE - (address & (PAGE - 1)))  # enough for its prefixes, or it has none
        with suppress(EmulationError):
            return self.peek(address, size)
        return b""

    # Where.

    def explain(self, problem: Problem) -> str:
        """The problem in words, and the C function where it happened."""
        name = self.name(problem.place)
        return f"{problem.text} in {name}" if name else problem.text

    def name(self, address: int) -> str:
        """``function (library)`` of code, or the place in its file; "" when it belongs to none."""
        if address not in self._names:
            self._names[address] = self._name(address)
        return self._names[address]

    def _name(self, address: int) -> str:
        region = self.region_at(address)
        if region is None or not region.executable:
            return ""
        symbol = self._target.symbol_at(address)
        if symbol is not None:
            return f"{symbol.name} ({os.path.basename(symbol.library)})"
        if not region.path:
            return f"{address:#x}"
        file = os.path.basename(region.path.removesuffix(" (deleted)"))
        return f"{file}+{address - region.start + region.file_offset:#x}"


def _unsupported(code: bytes) -> bool:
    # VEX and EVEX, but for the integer instructions of BMI, which unicorn has (opcode maps 0F38 and 0F3A).
    code = code.lstrip(b"\x2e\x36\x3e\x26\x64\x65\x67")
    if not code or code[0] not in (_VEX3, _VEX2, _EVEX):
        return False
    if code[0] == _VEX3 and len(code) > 3:
        return (code[1] & 0x1F, code[3]) not in {(2, 0xF2), (2, 0xF3), (2, 0xF5), (2, 0xF6), (2, 0xF7), (3, 0xF0)}
    return True


def _free_space(regions: Sequence[Region]) -> int:
    # An address with room for our own mappings between the process's.
    low = 64 * GIB
    for region in regions:
        if region.start - low >= _ROOM:
            return low
        low = max(low, (region.end + 2 * GIB) & -GIB)
    return low
