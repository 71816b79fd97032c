"""Return addresses of a stopped thread, from the files' unwind tables: many times faster than by a debugger.

x86-64 only. Each address is looked up once (LSB, "Exception Frames"; DWARF 5, 6.4 "Call Frame Information"): where the
caller's frame begins, as an offset from the stack or the frame pointer, and where the caller's frame pointer is kept.
That is all that compilers make of ordinary functions; what is more complicated ends the stack, and says so.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple

from refdbg.dependencies import elftools
from refdbg.errors import MemoryFault
from refdbg.target import NativeCall, NativeFrame, NativeThread
from refdbg.target.images import Images
from refdbg.target.memory import Memory

_FP, _SP, _RA = 6, 7, 16  # rbp, rsp and the return address (System V psABI, "DWARF Register Number Mapping")
_DATA_RELATIVE_4, _PC_RELATIVE_4 = 0x3B, 0x1B  # DW_EH_PE_datarel, DW_EH_PE_pcrel | DW_EH_PE_sdata4
_U32, _I32 = struct.Struct("<I"), struct.Struct("<i")
_WORD = struct.Struct("<Q").unpack_from
_CHUNK = 1 << 14  # of the stack, read at once


class _Row(NamedTuple):
    # The caller's frame begins *offset* behind the frame (*by_frame*) or the stack pointer, and its frame pointer is
    # kept at *saved* before that (0: it is still in the register). *lowest*: the farthest of what is read, before that.
    # *outermost*: there is no caller.
    by_frame: bool
    offset: int
    saved: int
    lowest: int
    outermost: bool


class Unwinder:
    """The return addresses of one process's threads."""

    def __init__(self, images: Callable[[], Images], memory: Memory) -> None:
        self._images = images
        self._memory = memory
        self._tables: dict[str, _Table | None] = {}
        self._rows: dict[int, _Row | None] = {}
        self._functions: dict[int, list[NativeFrame]] = {}

    def calls(self, pc: int, stack: int, frame: int, limit: int) -> tuple[list[int], bool]:
        """The instruction at *pc* and the return addresses, innermost first; whether these are all or *limit*."""
        return self._walk(pc, stack, frame, limit, [])

    def stack(self, thread: NativeThread, limit: int) -> list[NativeCall]:
        """The C functions on a thread's stack, innermost first, with those that were inlined; as far as it goes."""
        begins = [thread.stack_pointer]
        places, _ = self._walk(thread.place, thread.stack_pointer, thread.frame_pointer, limit, begins)
        found: list[NativeCall] = []
        for row, (place, begin) in enumerate(zip(places, begins)):
            at = place - 1 if row else place  # the call, not what follows it
            if at not in self._functions:
                self._functions[at] = self._images().functions_at(at)
            found += [NativeCall(frame, place, begin) for frame in self._functions[at]]
        return found[:limit]

    def _walk(self, pc: int, stack: int, frame: int, limit: int, begins: list[int]) -> tuple[list[int], bool]:
        # *begins*: takes the stack pointer of each caller.
        read_some, rows = self._memory.read_some, self._rows
        found = [pc]
        place = pc
        base, chunk = stack, read_some(stack, _CHUNK)
        while len(found) < limit:
            try:
                row = rows[place]
            except KeyError:
                row = rows[place] = self._row(place)
            if row is None:
                return found, False
            if row.outermost:
                return found, True
            start = (frame if row.by_frame else stack) + row.offset
            if start <= stack:
                return found, False  # damage: a stack grows downwards
            lowest = start - row.lowest
            if start - base > len(chunk) or lowest < base:
                base = lowest
                chunk = read_some(base, _CHUNK)
                if len(chunk) < start - base:
                    return found, False
            (pc,) = _WORD(chunk, start - 8 - base)
            if row.saved:
                (frame,) = _WORD(chunk, start - row.saved - base)
            if not pc:
                return found, True
            stack = start
            place = pc - 1  # the call, not what follows it: that may be another function's
            found.append(pc)
            begins.append(stack)
        return found, True

    def _row(self, place: int) -> _Row | None:
        library = self._images().library_at(place)
        if library is None:
            return None
        if library.path not in self._tables:
            self._tables[library.path] = None
            with suppress(OSError, elftools.ELFError, struct.error, IndexError), library.opened() as file:
                self._tables[library.path] = _Table(elftools.ELFFile(file))
        table = self._tables[library.path]
        try:
            return table.row(place - library.bias) if table is not None else None
        except (_Unusual, IndexError, struct.error, MemoryFault):
            return None


class _Unusual(Exception):
    # Nothing that compilers make of ordinary functions.
    pass


class _Table:
    # .eh_frame of one file, with the search table that the linker has made of it.
    def __init__(self, elf: object) -> None:
        sections = [elf.get_section_by_name(name) for name in (".eh_frame_hdr", ".eh_frame")]  # type: ignore[attr-defined]
        if None in sections:
            raise elftools.ELFError("no unwind tables")
        header, frames = sections
        self._frames = frames.data()
        self._frames_at = frames["sh_addr"]
        data, at = header.data(), header["sh_addr"]
        if data[3] != _DATA_RELATIVE_4:
            raise elftools.ELFError("a search table of another form")
        (count,) = _U32.unpack_from(data, 8)
        words = array("i", data[12 : 12 + 8 * count])
        self._starts = [at + word for word in words[::2]]
        self._entries = [at + word for word in words[1::2]]

    def row(self, place: int) -> _Row | None:
        index = bisect_right(self._starts, place) - 1
        if index < 0:
            return None
        data = self._frames
        entry = self._entries[index] - self._frames_at
        (length,) = _U32.unpack_from(data, entry)
        (back,) = _U32.unpack_from(data, entry + 4)
        common = _Common(data, entry + 4 - back)
        start = self._frames_at + entry + 8 + _I32.unpack_from(data, entry + 8)[0]
        (size,) = _U32.unpack_from(data, entry + 12)
        if not start <= place < start + size:
            return None
        at = entry + 16
        if common.augmented:
            skip, at = _uleb(data, at)
            at += skip
        rules = _Rules(common)
        rules.run(data, common.program, common.end, None)
        rules.initial = rules.state()
        rules.run(data, at, entry + 4 + length, place - start)
        return rules.row()


class _Common:
    # A common information entry.
    def __init__(self, data: bytes, entry: int) -> None:
        (length,) = _U32.unpack_from(data, entry)
        self.end = entry + 4 + length
        end = data.index(b"\0", entry + 9)
        augmentation = data[entry + 9 : end].decode("ascii", "replace")
        self.code, at = _uleb(data, end + 1)
        self.data, at = _sleb(data, at)
        register, at = _uleb(data, at)
        self.augmented = augmentation.startswith("z")
        if register != _RA or not self.augmented or "S" in augmentation:  # a signal's frame restores every register
            raise _Unusual
        size, at = _uleb(data, at)
        self.program = at + size
        for letter in augmentation[1:]:
            if letter == "R":
                if data[at] != _PC_RELATIVE_4:
                    raise _Unusual
                at += 1
            elif letter == "P":
                at += 1 + {3: 4, 4: 8, 0: 8}[data[at] & 7] if data[at] & 7 in (0, 3, 4) else 0
            elif letter == "L":
                at += 1
            else:
                raise _Unusual


class _Rules:
    # What the instructions of an entry have come to.
    def __init__(self, common: _Common) -> None:
        self._common = common
        self._register, self._offset = _SP, 8
        self._saved: dict[int, int | None] = {}  # by register: where, before the frame's begin; None: lost
        self._kept: list[tuple[int, int, dict[int, int | None]]] = []
        self.initial = self.state()

    def state(self) -> tuple[int, int, dict[int, int | None]]:
        return self._register, self._offset, dict(self._saved)

    def row(self) -> _Row:
        saved = self._saved.get(_FP, 0)
        if self._register not in (_FP, _SP) or saved is None or saved < 0:
            raise _Unusual
        outermost = _RA in self._saved and self._saved[_RA] is None
        if not outermost and self._saved.get(_RA, 8) != 8:
            raise _Unusual
        return _Row(self._register == _FP, self._offset, saved, max(saved, 8), outermost)

    def run(self, data: bytes, at: int, end: int, wanted: int | None) -> None:
        """Execute the instructions in data[at:end], up to those for what lies *wanted* bytes into the function."""
        here = 0
        for operation, first, second in _operations(data, at, end):
            if operation == "advance":
                here += first * self._common.code
                if wanted is not None and here > wanted:
                    return
            elif operation == "saved":
                self._saved[first] = -second * self._common.data
            elif operation == "restored":
                self._restore(first)
            elif operation == "lost":
                self._saved[first] = None
            elif operation == "same":
                self._saved.pop(first, None)
            elif operation == "remember":
                self._kept.append(self.state())
            elif operation == "recall":
                self._register, self._offset, saved = self._kept.pop()
                self._saved = dict(saved)
            elif operation == "begin":
                self._register, self._offset = first, second
            elif operation == "begin register":
                self._register = first
            elif operation == "begin offset":
                self._offset = first
            elif operation == "begin computed":
                self._register = -1
            elif operation == "saved computed" and first in (_FP, _RA):
                self._saved[first] = -1  # refused where it matters

    def _restore(self, register: int) -> None:
        before = self.initial[2]
        if register in before:
            self._saved[register] = before[register]
        else:
            self._saved.pop(register, None)


def _operations(data: bytes, at: int, end: int) -> Iterator[tuple[str, int, int]]:
    # DW_CFA_…: what it does, and its operands.
    while at < end:
        code = data[at]
        at += 1
        high, low = code >> 6, code & 0x3F
        if high == 1:
            yield "advance", low, 0
        elif high == 2:
            offset, at = _uleb(data, at)
            yield "saved", low, offset
        elif high == 3:
            yield "restored", low, 0
        elif code in (0x02, 0x03, 0x04):
            size = 1 << code - 2
            yield "advance", int.from_bytes(data[at : at + size], "little"), 0
            at += size
        elif code in (0x06, 0x07, 0x08, 0x0D):
            register, at = _uleb(data, at)
            yield {6: "restored", 7: "lost", 8: "same", 0xD: "begin register"}[code], register, 0
        elif code in (0x05, 0x0C):
            register, at = _uleb(data, at)
            offset, at = _uleb(data, at)
            yield {5: "saved", 0xC: "begin"}[code], register, offset
        elif code == 0x0A:
            yield "remember", 0, 0
        elif code == 0x0B:
            yield "recall", 0, 0
        elif code == 0x0E:
            offset, at = _uleb(data, at)
            yield "begin offset", offset, 0
        elif code == 0x0F:
            size, at = _uleb(data, at)
            at += size
            yield "begin computed", 0, 0
        elif code in (0x10, 0x16):
            register, at = _uleb(data, at)
            size, at = _uleb(data, at)
            at += size
            yield "saved computed", register, 0
        elif code == 0x2E:  # DW_CFA_GNU_args_size
            _, at = _uleb(data, at)
        elif code:
            raise _Unusual


def _uleb(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return value, at


def _sleb(data: bytes, at: int) -> tuple[int, int]:
    before = at
    value, at = _uleb(data, at)
    bits = 7 * (at - before)
    return (value - (1 << bits) if value >> bits - 1 else value), at
