"""Snapshot files: a stopped process in one file, with what is needed to understand it elsewhere.

A snapshot is a zip file; `unzip -l` lists it. Its members:

``snapshot.json``
    ``{"format": "refdbg-snapshot/1", "refdbg": version, "taken": seconds since 1970, "values": true,
    "target": {"executable", "pid", "debugger", "build_id"}, "threads": [[kernel id, stack pointer, thread pointer], …],
    "regions": [[start, end, "rwx", path, offset in the file], …],
    "memory": [[address, size, member], …], "files": {path: {"size": n, "parts": [[offset, size, member], …]}}}``
``memory/N``
    pieces of memory, ascending, of at most 4 MiB: what can differ from the mapped files, as far as it was backed.
``files/N``
    parts of the mapped files and of their debug files: segments, symbol tables, the debug info that refdbg reads.
    What lies in none of them cannot be read in memory either.

Where the debug info was left out, the optional key ``"answers": {path: …}`` has what it says of some structs and
variables (layout_cache.Answers.record).

Numbers are bytes and addresses. A reader refuses a format that it does not know, and ignores keys that it does not.
``"values": false``: the contents of strings were replaced by asterisks.
"""

from __future__ import annotations

import io
import json
import os
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache
from typing import Any, BinaryIO

from refdbg import __version__
from refdbg.dependencies import elftools
from refdbg.errors import BadSnapshot
from refdbg.target import NativeThread, Target, TargetInfo
from refdbg.target.elf import first_mappings
from refdbg.target.memory import Region
from refdbg.target.pages import Pages, to_copy
from refdbg.target.recorded import NOBODY, RecordedTarget

FORMAT = "refdbg-snapshot/"
_VERSION = 1
_INDEX = "snapshot.json"
_PIECE = 4 << 20
_MOST_INDEX = 64 << 20  # bytes of a sane index
_MOST_FILE = 2 << 30  # bytes of a sane ELF file
_SPARSE = 16  # times the parts that are kept of it
_BLANK = b"*"
_LEVEL = 1  # deflate's fastest: a level more is twice the time for a tenth of the size
_SECTIONS = (
    ".symtab", ".strtab", ".dynsym", ".dynstr", ".shstrtab", ".note.gnu.build-id", ".gnu_debuglink", ".debug_",
)  # fmt: skip

Blank = Callable[[int, int], Sequence[tuple[int, int]]]


def write(target: Target, path: str, blank: Blank | None = None) -> int:
    """Writes a snapshot of *target* to *path*; returns its size in bytes. Raises OSError.

    *blank(start, end)*: the parts of a piece of memory to leave out, as (address, size).
    """
    temporary = f"{path}.part"
    try:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as archive:
            index = {
                "format": f"{FORMAT}{_VERSION}", "refdbg": __version__, "taken": time.time(), "values": blank is None,
                "target": {
                    "executable": target.info.executable, "pid": target.info.pid, "debugger": target.info.debugger,
                    "build_id": target.info.build_id,
                },
                "threads": [[each.id, each.stack_pointer, each.thread_pointer] for each in target.threads()],
                "regions": [_row(region) for region in target.regions()],
                "memory": list(_write_memory(archive, target, blank)),
                "files": dict(_write_files(archive, target)),
            }
            archive.writestr(_INDEX, json.dumps(index))
        os.replace(temporary, path)
    finally:
        with suppress(OSError):
            os.unlink(temporary)
    return os.path.getsize(path)


def _row(region: Region) -> list[Any]:
    flags = "".join(letter for letter, on in zip("rwx", (region.readable, region.writable, region.executable)) if on)
    return [region.start, region.end, flags, region.path, region.file_offset]


def _write_memory(archive: zipfile.ZipFile, target: Target, blank: Blank | None) -> Iterator[tuple[int, int, str]]:
    number = 0
    program = set(first_mappings(target.regions()))
    for region in to_copy(target.regions()):
        for low, high in target.resident(region.start, region.end):
            for start in range(low, high, _PIECE):
                data = target.memory.read_some(start, min(_PIECE, high - start))
                if not data:
                    break
                if blank is not None and region.path not in program:
                    data = _blanked(data, start, blank(start, start + len(data)))
                name = f"memory/{number:06}"
                archive.writestr(name, data)
                yield start, len(data), name
                number += 1


def _blanked(data: bytes, start: int, spans: Sequence[tuple[int, int]]) -> bytes:
    changed = bytearray(data)
    for address, size in spans:
        first, last = max(address - start, 0), min(address + size - start, len(changed))
        if first < last:
            changed[first:last] = _BLANK * (last - first)
    return bytes(changed)


def _write_files(archive: zipfile.ZipFile, target: Target) -> Iterator[tuple[str, dict[str, Any]]]:
    number = 0
    for library in target.images().loaded():
        for path in (library.path, library.debug_path()):
            if path is None:
                continue
            with suppress(OSError, elftools.ELFError), target.open(path) as file:  # what cannot be read is left out
                parts = []
                for offset, size in _needed(file):
                    file.seek(offset)
                    name = f"files/{number:06}"
                    archive.writestr(name, file.read(size))
                    parts.append([offset, size, name])
                    number += 1
                yield path, {"size": file.seek(0, io.SEEK_END), "parts": parts}


def _needed(file: BinaryIO) -> list[tuple[int, int]]:
    # The parts of an ELF file that refdbg reads, merged.
    elf = elftools.ELFFile(file)
    spans = [(0, elf["e_ehsize"]), (elf["e_phoff"], elf["e_phnum"] * elf["e_phentsize"]),
             (elf["e_shoff"], elf["e_shnum"] * elf["e_shentsize"])]
    spans += [(s["p_offset"], s["p_filesz"]) for s in elf.iter_segments() if s["p_type"] in ("PT_LOAD", "PT_NOTE")]
    spans += [(s["sh_offset"], s["sh_size"]) for s in elf.iter_sections()
              if s.name.startswith(_SECTIONS) and s["sh_type"] != "SHT_NOBITS"]
    merged: list[tuple[int, int]] = []
    for offset, size in sorted(span for span in spans if span[1]):
        if merged and offset <= sum(merged[-1]):
            merged[-1] = (merged[-1][0], max(sum(merged[-1]), offset + size) - merged[-1][0])
        else:
            merged.append((offset, size))
    return merged


class Snapshot:
    """Reads a snapshot: the memory, the mapped files and the threads of the process."""

    def __init__(self, path: str) -> None:
        """Raises BadSnapshot, OSError."""
        self._path = path
        try:
            self._archive = zipfile.ZipFile(path)
            self._index = self._read_index()
            self.info = TargetInfo(
                str(self._index["target"]["executable"]), _number_or_none(self._index["target"]["pid"]), False,
                str(self._index["target"]["debugger"]), str(self._index["target"]["build_id"]),
            )
            self.has_values = bool(self._index["values"])
            self._threads = [NativeThread(*map(int, row)) for row in self._index["threads"]]
            self._regions = [
                Region(int(start), int(end), "r" in flags, "w" in flags, "x" in flags, str(name), int(offset))
                for start, end, flags, name, offset in self._index["regions"]
            ]
            self._pieces = [(int(start), int(size), str(member)) for start, size, member in self._index["memory"]]
            self.answers = {str(name): rows for name, rows in self._index.get("answers", {}).items()}
            self._parts = {
                str(name): (min(int(file["size"]), _MOST_FILE), [(int(at), int(size), str(member))
                                                                 for at, size, member in file["parts"]])
                for name, file in self._index["files"].items()
            }
        except (zipfile.BadZipFile, ArithmeticError, LookupError, TypeError, ValueError, AttributeError,
                RecursionError) as error:
            raise BadSnapshot(f"{path} is no snapshot, or is damaged: {error}") from error
        self._check()
        spans = [(start, size) for start, size, _ in self._pieces]
        self._pages = Pages(spans, cache(self._piece), to_copy(self._regions), self._read_file)
        self._files: dict[str, bytes] = {}

    def _check(self) -> None:
        # What is announced must be there once, in order, of a sane size: a small file must not ask for all memory.
        def check(sound: bool, what: str) -> None:
            if not sound:
                raise BadSnapshot(f"{self._path} is damaged: {what}")

        check(all(0 < size <= _PIECE for _, size, _ in self._pieces), "a piece of memory has no sane size")
        starts = [start for start, _, _ in self._pieces]
        check(starts == sorted(set(starts)), "its memory is not in order")
        starts = [region.start for region in self._regions]
        check(starts == sorted(starts), "its regions are not in order")
        members = [member for _, _, member in self._pieces]
        for size, parts in self._parts.values():
            check(all(at >= 0 and length >= 0 and at + length <= size for at, length, _ in parts),
                  "a part of a file lies outside of it")
            check(size <= _SPARSE * sum(length for _, length, _ in parts) + _PIECE, "a file has no sane size")
            members += [member for _, _, member in parts]
        check(len(members) == len(set(members)), "a member stands for several parts")

    def _piece(self, row: int) -> bytes:
        _, size, member = self._pieces[row]
        return self._member(member, size)

    def _read_index(self) -> Any:
        try:
            size = self._archive.getinfo(_INDEX).file_size
        except KeyError as error:
            raise BadSnapshot(f"{self._path} is a zip file, but no snapshot: it has no {_INDEX}") from error
        if size > _MOST_INDEX:
            raise BadSnapshot(f"{self._path} is damaged: its index claims {size} bytes")
        index = json.loads(self._member(_INDEX, size))
        format_ = str(index["format"])
        if not format_.startswith(FORMAT):
            raise BadSnapshot(f"{self._path} is no snapshot: its format is {format_!r}")
        if int(format_[len(FORMAT):]) > _VERSION:
            raise BadSnapshot(
                f"{self._path} has the format {format_}, written by refdbg {index.get('refdbg')}",
                f"This is refdbg {__version__}, which reads {FORMAT}{_VERSION}: update it.",
            )
        return index

    def _member(self, name: str, size: int) -> bytes:
        # Not a byte more than was announced is unpacked.
        try:
            with self._archive.open(name) as member:
                data = member.read(size)
                more = member.read(1)  # the end: the checksum is verified there
        except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, NotImplementedError, RuntimeError) as error:
            raise BadSnapshot(f"{self._path} is damaged: {name}: {error}") from error
        if len(data) != size or more:
            raise BadSnapshot(f"{self._path} is damaged: {name} is not the {size} bytes that were announced")
        return data

    def read_some(self, address: int, size: int) -> bytes:
        """At most *size* bytes, fewer where the mapping ends, none when nothing can be read. Raises BadSnapshot."""
        return self._pages.read_some(address, size)

    def regions(self) -> Sequence[Region]:
        """The mapped regions, ascending."""
        return self._regions

    def resident(self, start: int, end: int) -> Sequence[tuple[int, int]]:
        """The parts of [start, end) that were backed by memory."""
        return self._pages.resident(start, end)

    @property
    def threads(self) -> Sequence[NativeThread]:
        """The threads, the selected one first."""
        return self._threads

    def open(self, path: str) -> BinaryIO:
        """A mapped file, or its debug file; zeros where parts were left out. Raises OSError, BadSnapshot."""
        return io.BytesIO(self._file(path))

    def _file(self, path: str) -> bytes:
        if path not in self._parts:
            raise FileNotFoundError(f"{path} is not in this snapshot")
        if path not in self._files:
            size, parts = self._parts[path]
            data = bytearray(size)
            for offset, length, member in parts:
                data[offset : offset + length] = self._member(member, length)
            self._files[path] = bytes(data)
        return self._files[path]

    def _read_file(self, address: int, size: int) -> bytes:
        for region in self._regions:
            if region.start <= address < region.end and region.path in self._parts:
                start = region.file_offset + address - region.start
                end = start + min(size, region.end - address)
                for offset, length, _ in self._parts[region.path][1]:
                    if offset <= start < offset + length:
                        return self._file(region.path)[start : min(end, offset + length)]
        return b""


def opened(path: str, first: str) -> RecordedTarget:
    """The process of a snapshot. *first*: see RecordedTarget. Raises BadSnapshot, OSError."""
    snapshot = Snapshot(path)
    taken = snapshot.info.debugger.removeprefix(NOBODY).strip(" ()")  # "gdb 13.1", "a core file"
    what = "a snapshot" if snapshot.has_values else "a snapshot without values"
    info = replace(snapshot.info, debugger=f"{NOBODY} ({what}, from {taken})")
    return RecordedTarget(info, snapshot, snapshot.threads, first, known=snapshot.answers)


def _number_or_none(value: Any) -> int | None:
    return None if value is None else int(value)
