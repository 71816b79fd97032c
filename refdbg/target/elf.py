"""The ELF files that a process has loaded: their writable data as the file has it, and their symbols."""

from __future__ import annotations

import os
import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from refdbg.dependencies import elftools
from refdbg.target import Symbol
from refdbg.target.memory import PAGE, Region

# Elf64_Sym: st_name, st_info, st_other, st_shndx, st_value, st_size
_SYMBOL = struct.Struct("<IBBHQQ")
_STT_OBJECT = 1
STT_GNU_IFUNC = 10
_DEBUG_ROOT = "/usr/lib/debug/.build-id"


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


class Library:
    """One loaded ELF file (the executable too)."""

    def __init__(self, path: str, base: int) -> None:
        """*base*: the address of the file's first mapped byte. Raises OSError, ELFError for no ELF file."""
        self.path = path
        with open(path, "rb") as file:
            elf = elftools.ELFFile(file)
            loads = [segment for segment in elf.iter_segments() if segment["p_type"] == "PT_LOAD"]
            self.bias = base - (loads[0]["p_vaddr"] & -PAGE) if loads else 0
            self.segments = [
                DataSegment(self.bias + s["p_vaddr"], self.bias + s["p_vaddr"] + s["p_memsz"], s.data())
                for s in loads
                if s["p_flags"] & 2
            ]
            self._build_id = "".join(
                note["n_desc"]
                for section in elf.iter_sections()
                if section.name == ".note.gnu.build-id"
                for note in section.iter_notes()
            )

    @property
    def name(self) -> str:
        """The file's base name."""
        return os.path.basename(self.path)

    @cached_property
    def _symbols(self) -> tuple[list[int], list[tuple[int, str]]]:
        rows = _data_symbols(self.path)
        if not rows and self._build_id:
            rows = _data_symbols(f"{_DEBUG_ROOT}/{self._build_id[:2]}/{self._build_id[2:]}.debug")
        rows.sort(key=lambda row: row[0])
        return [row[0] + self.bias for row in rows], [(row[1], row[2]) for row in rows]

    def symbol_at(self, address: int) -> Symbol | None:
        """The variable that contains *address*, or None."""
        starts, rows = self._symbols
        index = bisect_right(starts, address) - 1
        if index < 0:
            return None
        size, name = rows[index]
        offset = address - starts[index]
        return Symbol(name, offset, self.name) if offset < max(size, 1) else None

    def room_at(self, address: int) -> int | None:
        """The bytes from *address* to the end of the variable that contains it, None where none is known."""
        starts, rows = self._symbols
        index = bisect_right(starts, address) - 1
        if index < 0:
            return None
        room = starts[index] + rows[index][0] - address
        return room if room > 0 else None


@dataclass(frozen=True)
class Export:
    """A symbol that a file defines for others. *value*: before relocation; *kind*: ``STT_…``."""

    name: str
    value: int
    kind: int


def exports(path: str) -> Iterator[Export]:
    """The defined symbols of a file's dynamic symbol table. Raises OSError, ELFError for no ELF file."""
    for kind, value, _, name in _symbols(path, (".dynsym",)):
        yield Export(name, value, kind)


def _data_symbols(path: str) -> list[tuple[int, int, str]]:
    # (value, size, name) of each variable.
    try:
        rows = _symbols(path, (".symtab", ".dynsym"), _STT_OBJECT)
        return [(value, size, name) for _, value, size, name in rows]
    except (OSError, elftools.ELFError):
        return []


def _symbols(path: str, sections: Iterable[str], only: int | None = None) -> Iterator[tuple[int, int, int, str]]:
    # (kind, value, size, name) of what the first of the symbol tables defines. Decoded in bulk: iter_symbols() takes
    # 0.3 s for an interpreter.
    with open(path, "rb") as file:
        elf = elftools.ELFFile(file)
        section = next(filter(None, map(elf.get_section_by_name, sections)), None)
        if section is None:
            return
        data = section.data()
        names = elf.get_section(section["sh_link"]).data()
    for name, info, _other, index, value, size in _SYMBOL.iter_unpack(data[: len(data) // _SYMBOL.size * _SYMBOL.size]):
        if index and (only is None or info & 15 == only):
            text = names[name : names.find(b"\0", name)].decode("utf-8", "backslashreplace")
            yield info & 15, value, size, text


def libraries(regions: Iterable[Region]) -> tuple[list[Library], list[str]]:
    """The ELF files mapped in *regions* that have writable data, and a warning for each that cannot be read."""
    bases: dict[str, int] = {}
    for region in regions:
        if region.path.startswith("/") and region.path not in bases and region.file_offset == 0:
            bases[region.path] = region.start
    executable = {region.path for region in regions if region.executable}
    found, warnings = [], []
    for path, base in bases.items():
        if path not in executable:
            continue  # locale archives and other data files
        try:
            library = Library(path, base)
        except (OSError, elftools.ELFError) as error:
            warnings.append(f"cannot read the symbols of {path}: {error}")
            continue
        if library.segments:
            found.append(library)
    return found, warnings
