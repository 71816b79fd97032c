"""The mapped regions and the memory of a local process (through /proc) or of a core file, without a debugger."""

from __future__ import annotations

import os
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from refdbg.dependencies import elftools
from refdbg.errors import NoProcess
from refdbg.target.memory import PAGE, PAGE_BITS, Region

# /proc/PID/pagemap (Documentation/admin-guide/mm/pagemap.rst): bit 63 present, bit 62 swapped.
_PRESENT_OR_SWAPPED = 3 << 62
_PF_X, _PF_W, _PF_R = 1, 2, 4  # elf.h
_AT_RANDOM = 25


def parse_maps(text: str) -> list[Region]:
    """The regions of a /proc/PID/maps text."""
    regions = []
    for line in text.splitlines():
        fields = line.split(None, 5)
        start, end = (int(part, 16) for part in fields[0].split("-"))
        mode = fields[1]
        path = fields[5] if len(fields) > 5 else ""
        regions.append(Region(start, end, mode[0] == "r", mode[1] == "w", mode[2] == "x", path, int(fields[2], 16)))
    return regions


class ProcessMemory:
    """Reads /proc/PID/mem. The process must be stopped and traceable by us."""

    def __init__(self, pid: int) -> None:
        """Raises NoProcess when the process is gone or may not be read."""
        self.pid = pid
        try:
            self._mem = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise NoProcess(f"cannot read the memory of process {pid}: {error.strerror}") from error

    def read_some(self, address: int, size: int) -> bytes:
        """At most *size* bytes, fewer where the mapping ends, none when nothing can be read."""
        data = b""
        try:
            data = os.pread(self._mem, size, address)
            while data and len(data) < size:  # one call returns at most 2 GiB
                more = os.pread(self._mem, size - len(data), address + len(data))
                if not more:
                    break
                data += more
        except (OSError, OverflowError):
            pass  # unmapped, or beyond the address space: what was read until then
        return data

    def regions(self) -> list[Region]:
        """The mapped regions, ascending."""
        try:
            with open(f"/proc/{self.pid}/maps", encoding="utf-8", errors="surrogateescape") as file:
                return parse_maps(file.read())
        except OSError as error:
            raise NoProcess(f"cannot read the mappings of process {self.pid}: {error.strerror}") from error

    def resident(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The parts of [start, end) that are backed by memory: reading the rest would fault it in."""
        words = array("Q")
        try:
            with open(f"/proc/{self.pid}/pagemap", "rb", buffering=0) as file:
                file.seek((start >> PAGE_BITS) * 8)
                words.frombytes(file.read(((end - start) >> PAGE_BITS) * 8))
        except (OSError, ValueError):
            yield start, end
            return
        run: int | None = None
        for index, word in enumerate(words):
            if word & _PRESENT_OR_SWAPPED:
                if run is None:
                    run = index
            elif run is not None:
                yield start + run * PAGE, start + index * PAGE
                run = None
        if run is not None:
            yield start + run * PAGE, end

    def cpu_seconds(self, thread: int) -> float | None:
        """The CPU time of a thread (Documentation/scheduler/sched-stats.rst: nanoseconds, first field)."""
        try:
            with open(f"/proc/{self.pid}/task/{thread}/schedstat", encoding="ascii") as file:
                return int(file.read().split()[0]) / 1e9
        except (OSError, ValueError, IndexError):
            return None

    def close(self) -> None:
        """Release the file descriptor."""
        os.close(self._mem)


class CoreMemory:
    """Reads a core file. *otherwise(address, size)*: what reads the mapped files, whose bytes it may leave out."""

    def __init__(self, path: str, otherwise: Callable[[int, int], bytes]) -> None:
        """Raises NoProcess when *path* is no core file that can be read, MissingDependency."""
        self._otherwise = otherwise
        try:
            with open(path, "rb") as file:
                elf = elftools.ELFFile(file)
                segments = list(elf.iter_segments())
                loads = sorted((s.header for s in segments if s["p_type"] == "PT_LOAD"), key=lambda s: s["p_vaddr"])
                notes = [note for s in segments if s["p_type"] == "PT_NOTE" for note in s.iter_notes()]
            self._core = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except (OSError, elftools.ELFError) as error:
            raise NoProcess(f"cannot read the core file {path}: {error}", "") from error
        # (address, its end, where it stands in the file)
        self._parts = [(s["p_vaddr"], s["p_vaddr"] + s["p_filesz"], s["p_offset"]) for s in loads if s["p_filesz"]]
        self._starts = [start for start, _, _ in self._parts]
        self._regions = list(_core_regions(loads, _mapped_files(notes), _stack_address(notes)))

    def read_some(self, address: int, size: int) -> bytes:
        """At most *size* bytes, fewer where the mapping ends, none when nothing can be read."""
        found = []
        end = address + size
        while address < end:
            row = bisect_right(self._starts, address) - 1
            start, stop, offset = self._parts[row] if row >= 0 else (0, 0, 0)
            if address < stop:
                data = os.pread(self._core, min(end, stop) - address, offset + address - start)
            else:
                following = self._starts[row + 1] if row + 1 < len(self._starts) else end
                data = self._otherwise(address, min(end, following) - address)
            if not data:
                break  # not mapped, or the core file was cut
            found.append(data)
            address += len(data)
        return b"".join(found)

    def regions(self) -> list[Region]:
        """The mapped regions, ascending."""
        return self._regions

    def close(self) -> None:
        """Release the file descriptor."""
        os.close(self._core)


def _mapped_files(notes: Iterable[Any]) -> list[tuple[int, int, int, str]]:
    # (start, end, offset in the file, path) of each mapping of a file (fs/binfmt_elf.c, fill_files_note).
    found = []
    for note in notes:
        if note["n_type"] == "NT_FILE":
            table = note["n_desc"]
            for entry, path in zip(table["Elf_Nt_File_Entry"], table["filename"]):
                offset = entry["page_offset"] * table["page_size"]
                found.append((entry["vm_start"], entry["vm_end"], offset, os.fsdecode(path)))
    return sorted(found)


def _stack_address(notes: Iterable[Any]) -> int:
    # An address in the main thread's stack, 0 when not known: the kernel puts random bytes there for the program.
    for note in notes:
        if note["n_type"] == "NT_AUXV":
            data = note["n_desc"]
            vector = array("Q", data if isinstance(data, bytes) else data.encode("latin-1"))
            for kind, value in zip(vector[::2], vector[1::2]):
                if kind == _AT_RANDOM:
                    return int(value)
    return 0


def _core_regions(loads: Sequence[Any], files: Sequence[tuple[int, int, int, str]], stack: int) -> Iterator[Region]:
    # The core's segments, and between them the mapped files of which nothing was written.
    segments = [(s["p_vaddr"], s["p_vaddr"] + s["p_memsz"], s["p_flags"], s["p_filesz"]) for s in loads if s["p_memsz"]]
    starts = [start for start, *_ in segments]
    file_starts = [start for start, *_ in files]
    rows = []
    for start, end, flags, dumped in segments:
        path, offset = "[stack]" if start <= stack < end else "", 0
        row = bisect_right(file_starts, start) - 1
        if row >= 0 and start < files[row][1]:
            path, offset = files[row][3], files[row][2] + start - files[row][0]
        # What gcore leaves out because nobody may read it is "readable" there, like what was never touched.
        rows.append((start, end, flags if dumped or path else 0, path, offset))
    for start, end, offset, path in files:
        row = bisect_right(starts, end - 1) - 1
        if row < 0 or segments[row][1] <= start:
            rows.append((start, end, _flags_in_file(path, offset), path, offset))
    for start, end, flags, path, offset in sorted(rows):
        yield Region(start, end, bool(flags & _PF_R), bool(flags & _PF_W), bool(flags & _PF_X), path, offset)


def _flags_in_file(path: str, offset: int) -> int:
    # How an ELF file asks to be mapped at *offset*; a core file says it only of what it contains.
    try:
        with open(path, "rb") as file:
            for segment in elftools.ELFFile(file).iter_segments():
                first = segment["p_offset"] & -PAGE
                if segment["p_type"] == "PT_LOAD" and first <= offset < segment["p_offset"] + segment["p_filesz"]:
                    return int(segment["p_flags"])
    except (OSError, elftools.ELFError):
        pass  # no ELF file, or no more: data that is only read
    return _PF_R
