"""The ELF files that a process has loaded: their segments as the file has them, their symbols, their debug info."""

from __future__ import annotations

import os
import re
import struct
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, BinaryIO, NamedTuple

from refdbg.dependencies import elftools
from refdbg.errors import NoProcess
from refdbg.target import Symbol
from refdbg.target.dwarf import DebugInfo, DwarfType
from refdbg.target.layout_cache import Answers
from refdbg.target.memory import DELETED, PAGE, Region

# Elf64_Sym: st_name, st_info, st_other, st_shndx, st_value, st_size
_SYMBOL = struct.Struct("<IBBHQQ")
_STT_OBJECT, _STT_FUNC = 1, 2
STT_GNU_IFUNC = 10
_STB_LOCAL = 0
_MACHINES = ("EM_X86_64", "EM_AARCH64")
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")  # Elf64_Phdr
_PT_NOTE, _NT_GNU_BUILD_ID = 4, 3
_PRIVATE = re.compile(r"\.lto_priv(\.\d+)?$")  # of a static that the linker's optimiser has taken out of its file
_CPP_STATIC = re.compile(r"_ZL(\d+)([A-Za-z_]\w*)$")  # Itanium C++ ABI: a static of a file, after its name's length
_DEBUG_ROOT = "/usr/lib/debug"

Open = Callable[[str], BinaryIO]  # opens a file by its path in the process; raises OSError


@dataclass(frozen=True)
class DataSegment:
    """A writable PT_LOAD segment as loaded: [start, end), of which the file describes *initial*."""

    start: int
    end: int
    initial: bytes

    def initial_word(self, address: int) -> int:
        """The 64-bit word that the file image has at *address*; what lies behind the file part is zero."""
        offset = address - self.start
        return int.from_bytes(self.initial[offset : offset + 8].ljust(8, b"\0"), "little")


class ElfSymbol(NamedTuple):
    """A symbol that a file defines. *value*: before relocation; *kind*: ``STT_…``."""

    value: int
    size: int
    name: str
    kind: int
    local: bool


class Library:
    """One loaded ELF file (the executable too)."""

    def __init__(
        self, path: str, base: int, open_: Open, elsewhere: Callable[[str], DwarfType | None] = lambda tag: None,
        cached: bool = False, known: Any = None,
    ) -> None:
        """*base*: the address of the file's first mapped byte; *elsewhere*: see DebugInfo; *cached*: see Images.

        *known*: see Answers. Raises OSError, ELFError for no ELF file.
        """
        self._elsewhere = elsewhere
        self._cached = cached
        self._known = known
        self.path = path
        self._open = open_
        with open_(path) as file:
            elf = elftools.ELFFile(file)
            loads = [segment for segment in elf.iter_segments() if segment["p_type"] == "PT_LOAD"]
            self.bias = base - (loads[0]["p_vaddr"] & -PAGE) if loads else 0
            self.segments = [
                DataSegment(self.bias + s["p_vaddr"], self.bias + s["p_vaddr"] + s["p_memsz"], s.data())
                for s in loads
                if s["p_flags"] & 2
            ]

    @property
    def name(self) -> str:
        """The file's base name."""
        return os.path.basename(self.path).removesuffix(DELETED)

    def opened(self) -> BinaryIO:
        """The file. Raises OSError."""
        return self._open(self.path)

    @cached_property
    def build_id(self) -> str:
        """The build id, "" without one. Raises OSError, ELFError."""
        with self._open(self.path) as file:
            return build_id(elftools.ELFFile(file))

    def _debug_files(self) -> Iterator[str]:
        # Where a debugger looks for what was stripped off (gdb's manual, "Separate Debug Files").
        if self.build_id:
            yield f"{_DEBUG_ROOT}/.build-id/{self.build_id[:2]}/{self.build_id[2:]}.debug"
        with self._open(self.path) as file:
            link = _debug_link(elftools.ELFFile(file))
        folder = os.path.dirname(self.path)
        for place in (folder, f"{folder}/.debug", f"{_DEBUG_ROOT}{folder}") if link else ():
            yield f"{place}/{link}"

    def debug_path(self) -> str | None:
        """Where the separate debug file is, None without one. Raises OSError, ELFError."""
        for path in self._debug_files():
            with suppress(OSError, elftools.ELFError), self._open(path) as file:
                if build_id(elftools.ELFFile(file)) == self.build_id:  # a link has the name only
                    return path
        return None

    @cached_property
    def debug(self) -> DebugInfo:
        """The debug info: the file's own, or that of its separate debug file. Raises OSError, ELFError."""
        file = self._open(self.path)
        if not elftools.ELFFile(file).has_dwarf_info(strict=True):
            separate = self.debug_path()
            if separate is not None:
                file.close()
                file = self._open(separate)
        return DebugInfo(file, self._elsewhere)

    @cached_property
    def answers(self) -> Answers:
        """What the debug info says, from the cache where it was asked before. Raises OSError, ELFError."""
        return Answers(lambda: self.debug, self.build_id if self._cached else "", self._known)

    @cached_property
    def symbols(self) -> Sequence[ElfSymbol]:
        """The functions and variables that the file defines, of the fullest symbol table that is to be had."""
        try:
            with self._open(self.path) as file:
                found = symbols_of(file, (".symtab",))
                separate = None if found else self.debug_path()
                if separate is not None:
                    with self._open(separate) as debug:
                        found = symbols_of(debug, (".symtab",))
                return found or symbols_of(file, (".dynsym",))
        except (OSError, elftools.ELFError):
            return []

    def exports(self) -> Sequence[ElfSymbol]:
        """What the file defines for others. Raises OSError, ELFError."""
        with self._open(self.path) as file:
            return symbols_of(file, (".dynsym",))

    @cached_property
    def _variables(self) -> tuple[list[int], list[ElfSymbol]]:
        return self._sorted(_STT_OBJECT)

    @cached_property
    def _functions(self) -> tuple[list[int], list[ElfSymbol]]:
        return self._sorted(_STT_FUNC)

    def _sorted(self, kind: int) -> tuple[list[int], list[ElfSymbol]]:
        rows = sorted((symbol for symbol in self.symbols if symbol.kind == kind), key=lambda symbol: symbol.value)
        return [row.value + self.bias for row in rows], rows

    @cached_property
    def addresses(self) -> dict[str, int]:
        """The functions and variables by name; what other files see before what they do not."""
        found: dict[str, int] = {}
        for symbol in sorted(self.symbols, key=lambda symbol: symbol.local):
            found.setdefault(symbol.name, symbol.value + self.bias)
        return found

    def symbol_at(self, address: int) -> Symbol | None:
        """The variable that contains *address*, or None."""
        return self._containing(*self._variables, address)

    def function_at(self, address: int) -> Symbol | None:
        """The function that contains *address*, or None."""
        return self._containing(*self._functions, address)

    def _containing(self, starts: list[int], rows: list[ElfSymbol], address: int) -> Symbol | None:
        index = bisect_right(starts, address) - 1
        if index < 0:
            return None
        offset = address - starts[index]
        if offset >= max(rows[index].size, 1):
            return None
        return Symbol(rows[index].name, offset, self.name, starts[index])

    def room_at(self, address: int) -> int | None:
        """The bytes from *address* to the end of the variable that contains it, None where none is known."""
        starts, rows = self._variables
        index = bisect_right(starts, address) - 1
        if index < 0:
            return None
        room = starts[index] + rows[index].size - address
        return room if room > 0 else None


def check_machine(elf: Any, what: str, kind: str) -> None:
    """Raises NoProcess for *what*, a *kind*, of an architecture that refdbg does not read. *elf*: an ELFFile."""
    if elf.elfclass != 64 or not elf.little_endian or elf["e_machine"] not in _MACHINES:
        raise NoProcess(
            f"{what} is a {elf.elfclass}-bit {kind} for {elf['e_machine'].removeprefix('EM_')}",
            "refdbg reads 64-bit processes of x86-64 and AArch64.",
        )


def build_id(elf: Any) -> str:
    """The build id of an ELFFile, "" without one."""
    return "".join(
        note["n_desc"]
        for section in elf.iter_sections()
        if section.name == ".note.gnu.build-id"
        for note in section.iter_notes()
        if note["n_type"] == "NT_GNU_BUILD_ID"
    )


def build_id_in_memory(read: Callable[[int, int], bytes]) -> str:
    """The build id of an ELF file, from its first page as it is mapped: *read(offset, size)*. "" when not there."""
    for segment in segments_in_memory(read):
        if segment.kind == _PT_NOTE:
            notes = read(segment.offset, min(segment.size, PAGE))
            place = 0
            while place + 12 <= len(notes):
                names, descriptor, type_ = struct.unpack_from("<III", notes, place)
                start = place + 12 + (names + 3 & ~3)
                if type_ == _NT_GNU_BUILD_ID and notes[place + 12 : place + 16] == b"GNU\0":
                    return notes[start : start + descriptor].hex()
                place = start + (descriptor + 3 & ~3)
    return ""


class Segment(NamedTuple):
    """A program header: ``PT_…``, ``PF_…``, and which bytes of the file it is."""

    kind: int
    flags: int
    offset: int
    size: int


def segments_in_memory(read: Callable[[int, int], bytes]) -> Iterator[Segment]:
    """The program headers of an ELF file from its first page as it is mapped: *read(offset, size)*."""
    header = read(0, 64)
    if len(header) < 64 or header[:4] != b"\x7fELF":
        return
    table, size, count = (int.from_bytes(header[a:b], "little") for a, b in ((32, 40), (54, 56), (56, 58)))
    for row in range(count):
        entry = read(table + row * size, size)
        if len(entry) == size == _PROGRAM_HEADER.size:
            kind, flags, offset, _, _, length, _, _ = _PROGRAM_HEADER.unpack(entry)
            yield Segment(kind, flags, offset, length)


def _debug_link(elf: Any) -> str:
    section = elf.get_section_by_name(".gnu_debuglink")
    data = section.data() if section is not None else b""
    return os.path.basename(data[: data.find(b"\0")].decode("utf-8", "surrogateescape"))


def symbols_of(file: BinaryIO, sections: Iterable[str]) -> list[ElfSymbol]:
    """What the first of the *file*'s symbol tables of these names defines, by the names that the source has."""
    # Decoded in bulk: iter_symbols() takes 0.3 s for an interpreter.
    elf = elftools.ELFFile(file)
    section = next(filter(None, map(elf.get_section_by_name, sections)), None)
    if section is None or section["sh_type"] == "SHT_NOBITS":
        return []
    data = section.data()
    names = elf.get_section(section["sh_link"]).data()
    rows = _SYMBOL.iter_unpack(data[: len(data) // _SYMBOL.size * _SYMBOL.size])
    return [
        ElfSymbol(value, size, _source_name(names[name : names.find(b"\0", name)]), info & 15, info >> 4 == _STB_LOCAL)
        for name, info, _other, index, value, size in rows
        if index and info & 15 in (_STT_OBJECT, _STT_FUNC, STT_GNU_IFUNC)
    ]


def _source_name(name: bytes) -> str:
    text = name.decode("utf-8", "backslashreplace")
    if ".lto_priv" in text:
        text = _PRIVATE.sub("", text)
    if text.startswith("_ZL"):
        static = _CPP_STATIC.match(text)
        if static is not None and len(static[2]) == int(static[1]):
            return static[2]
    return text


def first_mappings(regions: Iterable[Region]) -> dict[str, int]:
    """The address of the first byte of each file of which a part is mapped as code, by its path."""
    bases: dict[str, int] = {}
    code = set()
    for region in regions:
        if region.path.startswith("/"):
            if region.file_offset == 0:
                bases.setdefault(region.path, region.start)
            if region.executable:
                code.add(region.path)
    return {path: base for path, base in bases.items() if path in code}  # not locale archives and other data
