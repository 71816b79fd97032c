"""Running C functions of a stopped process in a CPU emulator, over a copy of its memory. Knows no Python object.

Nothing runs in the process: its pages are copied, mapped read-only into unicorn, and the function's own
machine code is executed there.
"""

from __future__ import annotations

import ctypes
import mmap
import struct
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from refdbg.dependencies import unicorn
from refdbg.errors import RefdbgError
from refdbg.target import Target
from refdbg.target.memory import PAGE, Region

_GIB = 1 << 30
_STACK = 1 << 20
_ROOM = 16 * _GIB  # address space for our own code and buffers
_BUFFER_BYTES = 64 << 20
_SECONDS = 2.0  # a call that takes longer is stuck
_CR4_OSFXSR = 1 << 9

# The loop that calls a function for each object of an array, and the function that each call is given as its
# callback (System V ABI). Registers that C code preserves hold the loop's state:
#   rbx: the current entry of the array of objects     r12: its end
#   r13: the control block below                        r14: where the current object's first visit is noted
#   r15: the address of `visit`
# Control block: +0 next free word of the visits, +8 their limit, +16 set when they are full, +24 the current
# entry (a function that is stopped halfway has not restored rbx).
_VISIT_OFFSET, _LOOP_OFFSET, _END_OFFSET = 0x00, 0x30, 0x6A
_CODE = (
    bytes.fromhex(
        # visit(object = rdi, control = rsi)
        "488b06"  # mov rax, [rsi]
        "483b4608"  # cmp rax, [rsi+8]
        "730d"  # jae full
        "488938"  # mov [rax], rdi
        "4883c008"  # add rax, 8
        "488906"  # mov [rsi], rax
        "31c0"  # xor eax, eax
        "c3"  # ret
        "48c7461001000000"  # full: mov qword [rsi+16], 1
        "b801000000"  # mov eax, 1
        "c3"  # ret
    ).ljust(_LOOP_OFFSET, b"\x90")
    + bytes.fromhex(
        "4c39e3"  # loop: cmp rbx, r12
        "7335"  # jae end
        "49895d18"  # mov [r13+24], rbx
        "498b4500"  # mov rax, [r13]
        "498906"  # mov [r14], rax
        "488b3b"  # mov rdi, [rbx]
        "488b8700000000"  # mov rax, [rdi + type_offset]
        "488b8000000000"  # mov rax, [rax + slot_offset]
        "4c89fe"  # mov rsi, r15
        "4c89ea"  # mov rdx, r13
        "ffd0"  # call rax
        "49837d1000"  # cmp qword [r13+16], 0
        "750a"  # jne end
        "4883c308"  # add rbx, 8
        "4983c608"  # add r14, 8
        "ebc6"  # jmp loop
        "90"  # end: nop
        "f4"  # hlt
    )
)
_TYPE_PATCH = _CODE.index(bytes.fromhex("488b8700000000")) + 3
_SLOT_PATCH = _CODE.index(bytes.fromhex("488b8000000000")) + 3
_VECTOR_PREFIXES = (0xC4, 0xC5, 0x62)  # VEX, EVEX: what unicorn runs wrongly or not at all


class EmulationError(RefdbgError):
    """The emulator cannot be set up for this process."""

    hint = "Visited edges are unknown here; everything that does not need them still works."


@dataclass(frozen=True)
class Visits:
    """What the calls visited: those of object n stand at [starts[n], starts[n + 1]) of *targets*.

    *failures*: why a call did not end, by row of the object; such an object has no visits.
    """

    starts: array[int]
    targets: array[int]
    failures: dict[int, str]


class Emulator:
    """A CPU with a copy of the process's memory. x86-64 only."""

    def __init__(self, target: Target) -> None:
        """Copies every readable page that is backed. Raises EmulationError, MissingDependency."""
        self._target = target
        self._uc = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64)
        self._kept: list[Any] = []  # the buffers that unicorn has pointers into
        self._problem = ""
        self._wanted = 0  # the address of a write that the read-only copy refused
        regions = [r for r in target.regions() if r.readable and not r.path.startswith(("[vvar", "[vsys"))]
        if not regions:
            raise EmulationError("the process's memory regions are not known")
        self._base = _free_space(regions)
        self._map_own()
        self.copied = sum(self._map(start, end, prot, parts) for start, end, prot, parts in _runs(regions))
        self._hook()
        pointer = target.thread_pointer()
        if pointer:  # debug builds' assertions read the thread state from thread-local storage
            self._uc.reg_write(unicorn.UC_X86_REG_FS_BASE, pointer)
        self._strict(True)

    def visits(self, objects: Sequence[int], type_offset: int, slot_offset: int) -> Visits:
        """Calls ``object->type->slot(object, visit, arg)`` for each object and collects what is visited.

        *type_offset*: of the type word in an object; *slot_offset*: of the function's slot in a type. Every
        object must have one.
        """
        starts, targets = array("Q"), array("Q")
        failures: dict[int, str] = {}
        room = _BUFFER_BYTES // 8 - 1
        self._patch(type_offset, slot_offset)
        done = 0
        while done < len(objects):
            batch = array("Q", objects[done : done + room])
            self._objects[: len(batch) * 8] = batch.tobytes()
            rows = self._run(len(batch))
            found = array("Q")
            found.frombytes(self._visited[: rows.used * 8])
            starts.extend(start + len(targets) for start in rows.starts)
            failures.update({done + row: problem for row, problem in rows.failures.items()})
            targets.extend(found)
            done += len(rows.starts)
        starts.append(len(targets))
        return Visits(starts, targets, failures)

    def call(self, function: int, *arguments: int) -> int:
        """The result of a C function with integer arguments. Raises EmulationError when it does not return."""
        registers = (unicorn.UC_X86_REG_RDI, unicorn.UC_X86_REG_RSI, unicorn.UC_X86_REG_RDX)
        for register, argument in zip(registers, arguments):
            self._uc.reg_write(register, argument)
        self._uc.mem_write(self._stack_top - 8, struct.pack("<Q", self._end))
        self._uc.reg_write(unicorn.UC_X86_REG_RSP, self._stack_top - 8)
        self._problem = ""
        try:
            self._uc.emu_start(function, self._end, timeout=int(_SECONDS * 1e6))
        except unicorn.UcError as error:
            problem = self._problem or error
            raise EmulationError(f"the function at {function:#x} cannot be emulated: {problem}") from None
        if self._problem or self._uc.reg_read(unicorn.UC_X86_REG_RIP) != self._end:
            raise EmulationError(f"the function at {function:#x} does not return: {self._problem or 'too long'}")
        return int(self._uc.reg_read(unicorn.UC_X86_REG_RAX))

    # The layout of our own part of the address space.

    def _map_own(self) -> None:
        base = self._base
        self._end = base + _END_OFFSET
        self._control_at = base + 0x10000
        self._stack_top = base + 0x100000 + _STACK - 4096
        self._objects_at, self._firsts_at, self._visited_at = (base + n * _GIB for n in (1, 2, 3))
        self._code = self._map_buffer(base, PAGE)
        self._code[: len(_CODE)] = _CODE
        self._control = self._map_buffer(self._control_at, PAGE)
        self._map_buffer(base + 0x100000, _STACK)
        self._objects = self._map_buffer(self._objects_at, _BUFFER_BYTES)
        self._firsts = self._map_buffer(self._firsts_at, _BUFFER_BYTES)
        self._visited = self._map_buffer(self._visited_at, 4 * _BUFFER_BYTES)

    def _map_buffer(self, address: int, size: int, protection: int | None = None) -> memoryview:
        buffer = mmap.mmap(-1, size)
        raw = (ctypes.c_char * size).from_buffer(buffer)
        self._uc.mem_map_ptr(
            address, size, unicorn.UC_PROT_ALL if protection is None else protection, ctypes.addressof(raw)
        )
        self._kept.append((buffer, raw))
        return memoryview(buffer)

    def _patch(self, type_offset: int, slot_offset: int) -> None:
        struct.pack_into("<i", self._code, _TYPE_PATCH, type_offset)
        struct.pack_into("<i", self._code, _SLOT_PATCH, slot_offset)
        self._uc.ctl_flush_tb()

    # The process's memory.

    def _map(self, start: int, end: int, executable: bool, parts: list[tuple[int, int]]) -> int:
        # Read-only: a traverse function writes nothing but its stack; junk must not spoil the copy.
        protection = unicorn.UC_PROT_READ | (unicorn.UC_PROT_EXEC if executable else 0)
        view = self._map_buffer(start, end - start, protection)
        copied = 0
        for low, high in parts:
            copied += self._target.memory.read_into(low, view[low - start : high - start])
        return copied

    # Running.

    @dataclass
    class _Rows:
        starts: array[int]
        failures: dict[int, str]
        used: int

    def _run(self, count: int) -> _Rows:
        # All objects of the batch; when the visits' buffer is full the rest is left for the next one.
        failures: dict[int, str] = {}
        row = 0
        self._set_visits(0)
        while row < count:
            stopped, problem = self._loop(row, count)
            if not problem:
                row = stopped
                break
            used = self._first(stopped)
            if problem == "full":
                if stopped:
                    self._set_visits(used)
                    row = stopped
                    break
                problem = "it visits too many objects"
            problem = self._again(stopped, problem, used)
            if problem:
                failures[stopped] = problem
                self._set_visits(used)
            row = stopped + 1
        starts = array("Q", (self._first(n) for n in range(row)))
        return self._Rows(starts, failures, (self._next_visit() - self._visited_at) // 8)

    def _again(self, row: int, problem: str, used: int) -> str:
        # An object whose call stopped: once more with vector instructions allowed, once more with its write allowed.
        if problem.startswith("instruction"):
            self._strict(False)
            self._set_visits(used)
            _, problem = self._loop(row, row + 1)
            self._strict(True)
        if problem.startswith("write") and self._wanted:
            page = self._wanted & -PAGE
            saved = bytes(self._uc.mem_read(page, PAGE))
            self._uc.mem_protect(page, PAGE, unicorn.UC_PROT_READ | unicorn.UC_PROT_WRITE)
            self._set_visits(used)
            _, problem = self._loop(row, row + 1)
            self._uc.mem_write(page, saved)
            self._uc.mem_protect(page, PAGE, unicorn.UC_PROT_READ)
        return problem

    def _loop(self, row: int, end: int) -> tuple[int, str]:
        # Returns the row that was not finished and why; (end, "") when all were.
        uc = self._uc
        for register, value in (
            (unicorn.UC_X86_REG_RBX, self._objects_at + 8 * row),
            (unicorn.UC_X86_REG_R12, self._objects_at + 8 * end),
            (unicorn.UC_X86_REG_R13, self._control_at),
            (unicorn.UC_X86_REG_R14, self._firsts_at + 8 * row),
            (unicorn.UC_X86_REG_R15, self._base + _VISIT_OFFSET),
            (unicorn.UC_X86_REG_RSP, self._stack_top),
        ):
            uc.reg_write(register, value)
        self._problem, self._wanted = "", 0
        self._control[24:32] = struct.pack("<Q", self._objects_at + 8 * row)
        while True:
            before = self._current()
            start = self._base + _LOOP_OFFSET if self._resume_at is None else self._resume_at
            self._resume_at = None
            try:
                uc.emu_start(start, self._end, timeout=int(_SECONDS * 1e6))
            except unicorn.UcError as error:
                return self._current(), self._problem or f"fault: {error}"
            if self._problem:
                return self._current(), self._problem
            if int.from_bytes(self._control[16:24], "little"):
                return self._current(), "full"
            address = int(uc.reg_read(unicorn.UC_X86_REG_RIP))
            if address == self._end:
                return end, ""
            if self._current() == before:
                return before, "it does not end"
            self._resume_at = address  # the time was up while it made progress

    _resume_at: int | None = None

    def _current(self) -> int:
        return (int.from_bytes(self._control[24:32], "little") - self._objects_at) // 8

    def _first(self, row: int) -> int:
        word = int.from_bytes(self._firsts[8 * row : 8 * row + 8], "little")
        return (word - self._visited_at) // 8

    def _next_visit(self) -> int:
        return int.from_bytes(self._control[:8], "little")

    def _set_visits(self, used: int) -> None:
        limit = self._visited_at + 4 * _BUFFER_BYTES
        self._control[:24] = struct.pack("<QQQ", self._visited_at + 8 * used, limit, 0)

    # What stops a call.

    def _hook(self) -> None:
        uc, u = self._uc, unicorn
        uc.hook_add(u.UC_HOOK_MEM_INVALID, self._on_memory)
        uc.hook_add(u.UC_HOOK_INTR, self._on_interrupt)
        uc.hook_add(u.UC_HOOK_INSN_INVALID, self._on_instruction)
        uc.hook_add(u.UC_HOOK_INSN, self._on_system_call, None, 1, 0, u.UC_X86_INS_SYSCALL)

    def _on_memory(self, _uc: Any, access: int, address: int, _size: int, _value: int, _data: Any) -> bool:
        if access in (unicorn.UC_MEM_WRITE_PROT, unicorn.UC_MEM_WRITE_UNMAPPED):
            if access == unicorn.UC_MEM_WRITE_PROT:
                self._wanted = address
            self._problem = f"write to {address:#x}"
        else:
            self._problem = f"read of {address:#x}"
        return False

    def _on_interrupt(self, uc: Any, number: int, _data: Any) -> None:
        self._problem = f"interrupt {number}"
        uc.emu_stop()

    def _on_system_call(self, uc: Any, _data: Any) -> None:
        self._problem = "a system call"
        uc.emu_stop()

    def _on_instruction(self, uc: Any, _data: Any = None) -> bool:
        code = bytes(uc.mem_read(uc.reg_read(unicorn.UC_X86_REG_RIP), 8))
        kind = "vector instruction" if code[0] in _VECTOR_PREFIXES else "instruction"
        self._problem = f"{kind} {code.hex()}"
        return False

    def _strict(self, on: bool) -> None:
        # unicorn runs VEX-coded instructions as their SSE forms, silently wrong: without this bit of CR4
        # every vector instruction raises. Objects that need SSE are run again one by one.
        value = int(self._uc.reg_read(unicorn.UC_X86_REG_CR4))
        self._uc.reg_write(unicorn.UC_X86_REG_CR4, value & ~_CR4_OSFXSR if on else value | _CR4_OSFXSR)
        self._uc.ctl_flush_tb()


def _free_space(regions: Sequence[Region]) -> int:
    # An address with room for our own mappings between the process's.
    low = 64 * _GIB
    for region in regions:
        if region.start - low >= _ROOM:
            return low
        low = max(low, (region.end + 2 * _GIB) & -_GIB)
    return low


def _runs(regions: Sequence[Region]) -> Iterator[tuple[int, int, bool, list[tuple[int, int]]]]:
    # Neighbours of one protection as one mapping: unicorn's cost grows with their number.
    start = end = 0
    executable = False
    parts: list[tuple[int, int]] = []
    for region in regions:
        if parts and region.start == end and region.executable == executable:
            end = region.end
            parts.append((region.start, region.end))
            continue
        if parts:
            yield start, end, executable, parts
        start, end, executable = region.start, region.end, region.executable
        parts = [(start, end)]
    if parts:
        yield start, end, executable, parts
