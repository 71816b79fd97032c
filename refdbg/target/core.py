"""Core files: the memory, threads and mapped files of a process that is no more.

ELF cores as the kernel, gdb's gcore and systemd-coredump write them (also cut short, also compressed by gzip or xz),
and the minidumps that lldb's `process save-core` writes.
"""

from __future__ import annotations

import gzip
import os
import shlex
import shutil
import struct
import tempfile
import zlib
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, BinaryIO

from refdbg.dependencies import elftools
from refdbg.errors import NoProcess
from refdbg.target import NativeThread
from refdbg.target.elf import build_id, build_id_in_memory, check_machine, first_mappings, segments_in_memory
from refdbg.target.malloc import NativeBlocks
from refdbg.target.memory import PAGE, Memory, Region
from refdbg.target.process import parse_maps

_PF_X, _PF_W, _PF_R = 1, 2, 4  # elf.h
_PT_LOAD = 1
_AT_ENTRY, _AT_RANDOM = 9, 25  # elf.h
_COMPRESSED = {b"\x28\xb5\x2f\xfd": "zstd -d {0} -o core", b"\x04\x22\x4d\x18": "lz4 -d {0} core"}

# elf_prstatus (linux/elfcore.h) and user_regs_struct (sys/user.h): the thread's id, rsp, fs_base, rip and rbp on
# x86-64; the stack pointer on AArch64.
_PR_PID = 32
_PR_REGISTERS = 112
_STACK_POINTER = {"EM_X86_64": _PR_REGISTERS + 19 * 8, "EM_AARCH64": _PR_REGISTERS + 31 * 8}
_FS_BASE, _RIP, _RBP = _PR_REGISTERS + 21 * 8, _PR_REGISTERS + 16 * 8, _PR_REGISTERS + 4 * 8
_PSINFO_PID = 24

# minidumpapiset.h, and Breakpad's streams of Linux (google-breakpad, minidump_format.h)
_DIRECTORY = struct.Struct("<III")
_MD_THREADS, _MD_MEMORY, _MD_MEMORY64, _MD_SYSTEM, _MD_EXCEPTION = 3, 5, 9, 7, 6
_MD_STATUS, _MD_AUXV, _MD_MAPS = 0x47670004, 0x47670008, 0x47670009
_MD_THREAD = struct.Struct("<IIIIQQIIII")
_MD_RANGE = struct.Struct("<QII")
_MD_RANGE64 = struct.Struct("<QQ")
_MD_AMD64 = 9
_MD_RSP, _MD_RBP, _MD_RIP = 0x98, 0xA0, 0xF8  # in CONTEXT of AMD64
_PTHREAD = 0x400  # of struct pthread's bytes: its tid is among them

Part = tuple[int, int, int]  # address, its end, where it stands in the file


@dataclass(frozen=True)
class _Contents:
    parts: list[Part]
    regions: list[Region]
    threads: list[NativeThread]
    pid: int | None
    executable: str


class CoreMemory:
    """Reads a core file. What it leaves out of the mapped files is read from *otherwise*, or from the files."""

    def __init__(
        self, path: str, otherwise: Callable[[int, int], bytes] | None = None, program: str | None = None,
        root: str = "",
    ) -> None:
        """*program*: where the executable is now; *root*: the folder that the process saw as /.

        Raises NoProcess when *path* is no core file that can be read, MissingDependency.
        """
        self.path = path
        self._otherwise = otherwise or self._read_mapped_file
        self._root = root
        self._checked: dict[str, str] = {}  # what is wrong with a mapped file, "" for nothing
        self._opened: dict[str, BinaryIO | None] = {}
        try:
            self._file = _opened(path)
            contents = _contents(self._file, path, root)
        except OSError as error:
            raise NoProcess(f"cannot read {path}: {error.strerror or error}", "") from error
        except _damage() as error:
            raise NoProcess(f"{path} is no core file, or is damaged: {error}", "Name a core file.") from error
        self.pid = contents.pid
        self.executable = contents.executable
        self._program = program
        self._parts = contents.parts
        self._starts = [start for start, _, _ in self._parts]
        self._regions = contents.regions
        self._name_heap()
        self._bases = first_mappings(self._regions)
        self.threads = contents.threads
        if not any(thread.thread_pointer for thread in self.threads):
            self.threads = self._with_thread_pointers(self.threads)

    def _name_heap(self) -> None:
        # The kernel names the heap in /proc/PID/maps, not in a core file: the first region behind the program that
        # malloc's blocks fill.
        memory = Memory(self.read_some)
        behind = False
        for row, region in enumerate(self._regions):
            behind = behind or (bool(self.executable) and region.path == self.executable)
            if region.path == "[heap]":
                return
            if behind and region.path == "" and region.writable and NativeBlocks(memory, region).complete:
                self._regions[row] = replace(region, path="[heap]")
                return

    def _with_thread_pointers(self, threads: Sequence[NativeThread]) -> list[NativeThread]:
        # Minidumps lack fs_base. It points to glibc's struct pthread (nptl/descr.h), which has its own address as its
        # first and third word (tcbhead_t.tcb and .self), and further on the thread's kernel id.
        found: dict[int, int] = {}
        wanted = {thread.id for thread in threads}
        for start, end, _ in self._parts:
            words = array("Q", self._read_dumped(start, (end - start) & -8))
            for row in [row for row, word in enumerate(words) if word == start + 8 * row]:
                if words[row + 2 : row + 3] == words[row : row + 1]:
                    ids = memoryview(words)[row : row + _PTHREAD // 8].cast("B").cast("I")
                    found.update((id_, words[row]) for id_ in wanted.intersection(ids))
        return [replace(each, thread_pointer=found.get(each.id, 0)) for each in threads]

    def read_some(self, address: int, size: int) -> bytes:
        """At most *size* bytes, fewer where the mapping ends, none when nothing can be read."""
        found = []
        end = address + size
        while address < end:
            row = bisect_right(self._starts, address) - 1
            start, stop, offset = self._parts[row] if row >= 0 else (0, 0, 0)
            if address < stop:
                data = os.pread(self._file.fileno(), min(end, stop) - address, offset + address - start)
            else:
                following = self._starts[row + 1] if row + 1 < len(self._starts) else end
                data = self._otherwise(address, min(end, following) - address)
                if not data and address < following < min(address + PAGE, end):
                    data = bytes(following - address)  # a minidump has of a stack what is in use, not whole pages
            if not data:
                break  # not mapped, or the core file was cut
            found.append(data)
            address += len(data)
        return b"".join(found)

    def _read_mapped_file(self, address: int, size: int) -> bytes:
        region = next((region for region in self._regions if region.start <= address < region.end), None)
        if region is None or not region.path.startswith("/"):
            return b""
        if region.path not in self._opened:
            try:
                self._opened[region.path] = self.open(region.path)
            except OSError:
                self._opened[region.path] = None
        file = self._opened[region.path]
        if file is None:
            return b""
        return os.pread(file.fileno(), min(size, region.end - address), region.file_offset + address - region.start)

    def open(self, path: str) -> BinaryIO:
        """A mapped file, from this machine. Raises OSError, also for a file of another build."""
        place = self._program if self._program and path == self.executable else self._root + path
        if path in self._bases and path not in self._checked:
            self._checked[path] = self._difference(path, place)
        if self._checked.get(path):
            raise OSError(self._checked[path])
        return open(place, "rb")

    def build_id(self, path: str) -> str:
        """The build id that a mapped file had, "" where the core file does not contain it."""
        base = self._bases.get(path, 0)
        return build_id_in_memory(lambda address, size: self._read_dumped(base + address, size))

    def _difference(self, path: str, place: str) -> str:
        wanted = self.build_id(path)
        with open(place, "rb") as file:
            try:
                found = build_id(elftools.ELFFile(file))
            except elftools.ELFError:
                found = ""
        if wanted and found != wanted:
            return f"{place} is another build than the process had (build id {found or 'none'}, not {wanted})"
        return ""

    def _read_dumped(self, address: int, size: int) -> bytes:
        return _read_part(self._file, self._parts, self._starts, address, size)

    @property
    def is_cut(self) -> bool:
        """Whether the file ends before what it announces."""
        size = os.fstat(self._file.fileno()).st_size
        return any(offset + end - start > size for start, end, offset in self._parts)

    def has_heap(self) -> bool:
        """Whether it contains any memory that is no file's: /proc/PID/coredump_filter can leave it out."""
        anonymous = [region for region in self._regions if region.writable and not region.path.startswith(("/", "[st"))]
        return any(self._read_dumped(region.start, 1) for region in anonymous)

    def regions(self) -> list[Region]:
        """The mapped regions, ascending."""
        return self._regions

    def resident(self, start: int, end: int) -> Sequence[tuple[int, int]]:
        """The parts of [start, end) that the file contains, or that a mapped file has."""
        if any(region.path.startswith("/") for region in self._regions if region.start < end and start < region.end):
            return [(start, end)]
        row = max(bisect_right(self._starts, start) - 1, 0)
        return [(max(low, start), min(high, end)) for low, high, _ in self._parts[row:] if start < high and low < end]

    def close(self) -> None:
        """Release the file descriptors."""
        for file in (self._file, *filter(None, self._opened.values())):
            file.close()


def _damage() -> tuple[type[BaseException], ...]:
    return EOFError, struct.error, zlib.error, elftools.ELFError, ValueError, OverflowError, MemoryError


def _opened(path: str) -> BinaryIO:
    with open(path, "rb") as file:
        magic = file.read(4)
    if magic in _COMPRESSED:
        command = _COMPRESSED[magic].format(shlex.quote(path))
        raise NoProcess(
            f"{path} is compressed by {command.split()[0]}, which refdbg does not read (gzip and xz it does)",
            f"Decompress it first: `{command}` (of systemd's: `coredumpctl dump PID -o core`).",
        )
    if magic[:2] == b"\x1f\x8b":
        return _unpacked(gzip.open, path)
    if magic == b"\xfd7zX":
        import lzma  # not every Python has it

        try:
            return _unpacked(lzma.open, path)
        except lzma.LZMAError as error:
            raise ValueError(error) from error
    return open(path, "rb")


def _unpacked(open_: Callable[[str], Any], path: str) -> BinaryIO:
    plain = tempfile.TemporaryFile()  # noqa: SIM115 - it is what we return
    with open_(path) as packed, suppress(EOFError):  # cut short: what is there is the answer
        shutil.copyfileobj(packed, plain, 1 << 20)
    plain.seek(0)
    return plain


def _contents(file: BinaryIO, path: str, root: str) -> _Contents:
    if file.read(4) == b"MDMP":
        return _minidump(file, path)
    elf = elftools.ELFFile(file)
    if elf["e_type"] != "ET_CORE":
        raise NoProcess(f"{path} is no core file, but {_what(elf['e_type'])}", "Name the core file first: refdbg CORE.")
    check_machine(elf, path, "core file")
    segments = list(elf.iter_segments())
    loads = sorted((s.header for s in segments if s["p_type"] == "PT_LOAD"), key=lambda s: s["p_vaddr"])
    size = os.fstat(file.fileno()).st_size
    if any(s["p_type"] == "PT_NOTE" and s["p_offset"] + s["p_filesz"] > size for s in segments):
        raise NoProcess(
            f"{path} was cut short: what it says of threads and mapped files is missing",
            "`ulimit -c unlimited` lets the kernel write all of it; is the disk full?",
        )
    notes = [note for s in segments if s["p_type"] == "PT_NOTE" for note in s.iter_notes()]
    auxiliary = _auxiliary(_bytes_of(notes, "NT_AUXV"))
    parts = [(s["p_vaddr"], s["p_vaddr"] + s["p_filesz"], s["p_offset"]) for s in loads if s["p_filesz"]]
    read = partial(_read_part, file, parts, [start for start, _, _ in parts])
    regions = list(_regions(loads, _mapped_files(notes), auxiliary.get(_AT_RANDOM, 0), read, root))
    threads = list(_threads(notes, elf["e_machine"]))
    process = _bytes_of(notes, "NT_PRPSINFO", "n_descdata")
    pid = int.from_bytes(process[_PSINFO_PID : _PSINFO_PID + 4], "little") if process else None
    return _Contents(parts, regions, threads, pid, _path_at(regions, auxiliary.get(_AT_ENTRY, 0)))


def _what(kind: str) -> str:
    return {"ET_EXEC": "a program", "ET_DYN": "a program or library"}.get(kind, str(kind))


def _path_at(regions: Iterable[Region], address: int) -> str:
    return next((region.path for region in regions if region.start <= address < region.end), "")


def _bytes_of(notes: Iterable[Any], kind: str, key: str = "n_descdata") -> bytes:
    for note in notes:
        if note["n_type"] == kind:
            data = note.get(key, note["n_desc"])
            return data if isinstance(data, bytes) else data.encode("latin-1")
    return b""


def _auxiliary(data: bytes) -> dict[int, int]:
    # The auxiliary vector (getauxval(3)).
    vector = array("Q", data[: len(data) & ~15])
    return dict(zip(vector[::2], vector[1::2]))


def _threads(notes: Iterable[Any], machine: str) -> Iterator[NativeThread]:
    # The one that has crashed is the first.
    for note in notes:
        if note["n_type"] == "NT_PRSTATUS":
            data = _bytes_of([note], "NT_PRSTATUS")
            registers = (_STACK_POINTER[machine], *((_FS_BASE, _RIP, _RBP) if machine == "EM_X86_64" else ()))
            words = [int.from_bytes(data[at : at + 8], "little") for at in registers]
            stack, base, place, frame = words if len(words) == 4 else (words[0], 0, 0, 0)
            yield NativeThread(int.from_bytes(data[_PR_PID : _PR_PID + 4], "little"), stack, base, place, frame)


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


def _read_part(file: BinaryIO, parts: Sequence[Part], starts: Sequence[int], address: int, size: int) -> bytes:
    # What one part of the core file has at *address*.
    row = bisect_right(starts, address) - 1
    start, stop, offset = parts[row] if row >= 0 else (0, 0, 0)
    return os.pread(file.fileno(), max(min(size, stop - address), 0), offset + address - start)


def _regions(
    loads: Sequence[Any], files: Sequence[tuple[int, int, int, str]], stack: int,
    read: Callable[[int, int], bytes], root: str,
) -> Iterator[Region]:
    # The core's segments, and between them the mapped files of which nothing was written. *stack*: an address in the
    # main thread's stack (the kernel puts random bytes there for the program), 0 when not known. *read*: of the core.
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
    bases = {path: start for start, _, offset, path in reversed(files) if offset == 0}
    for start, end, offset, path in files:
        row = bisect_right(starts, end - 1) - 1
        if row < 0 or segments[row][1] <= start:
            rows.append((start, end, _flags_of(read, bases.get(path, 0), root + path, offset), path, offset))
    for start, end, flags, path, offset in sorted(rows):
        yield Region(start, end, bool(flags & _PF_R), bool(flags & _PF_W), bool(flags & _PF_X), path, offset)


def _flags_of(read: Callable[[int, int], bytes], base: int, path: str, offset: int) -> int:
    # How an ELF file asks to be mapped at *offset*; a core file says it only of what it contains. The file's own
    # headers are mostly in it, else they are those that *path* has now.
    segments = list(segments_in_memory(lambda start, size: read(base + start, size)))
    if not segments:
        with suppress(OSError), open(path, "rb") as file:
            segments = list(segments_in_memory(lambda start, size: os.pread(file.fileno(), size, start)))
    for segment in segments:
        if segment.kind == _PT_LOAD and segment.offset & -PAGE <= offset < segment.offset + segment.size:
            return segment.flags
    return _PF_R  # data that is only read


def _minidump(file: BinaryIO, path: str) -> _Contents:
    def read(offset: int, size: int) -> bytes:
        file.seek(offset)
        return file.read(size)

    _, _, count, directory = struct.unpack("<4sIII", read(0, 16))
    if directory + count * _DIRECTORY.size > os.fstat(file.fileno()).st_size:
        raise ValueError("its directory of streams is not in it")
    streams: dict[int, bytes] = {}
    for kind, size, offset in _DIRECTORY.iter_unpack(read(directory, count * _DIRECTORY.size)):
        streams.setdefault(kind, read(offset, size))
    if struct.unpack_from("<H", streams.get(_MD_SYSTEM, b"\0\0"))[0] != _MD_AMD64 or _MD_MAPS not in streams:
        raise NoProcess(f"{path} is a minidump, but not of a Linux process on x86-64", "")
    regions = parse_maps(os.fsdecode(streams[_MD_MAPS].rstrip(b"\0")))
    parts = [(start, start + size, offset) for start, size, offset in
             _MD_RANGE.iter_unpack(_rows(streams.get(_MD_MEMORY, bytes(4)), 4, _MD_RANGE.size))]
    if _MD_MEMORY64 in streams:
        place = struct.unpack_from("<Q", streams[_MD_MEMORY64], 8)[0]
        for start, size in _MD_RANGE64.iter_unpack(_rows(streams[_MD_MEMORY64], 16, _MD_RANGE64.size)):
            parts.append((start, start + size, place))
            place += size
    crashed = int.from_bytes(streams.get(_MD_EXCEPTION, b"")[:4], "little")
    threads = []
    for row in _MD_THREAD.iter_unpack(_rows(streams.get(_MD_THREADS, bytes(4)), 4, _MD_THREAD.size)):
        context = read(row[9], row[8])
        if row[6]:
            parts.append((row[5], row[5] + row[6], row[7]))  # its stack, which the list of memory may leave out
        stack, frame, place = (int.from_bytes(context[at : at + 8], "little") for at in (_MD_RSP, _MD_RBP, _MD_RIP))
        threads.append(NativeThread(row[0], stack, 0, place, frame))
    threads.sort(key=lambda thread: thread.id != crashed)
    auxiliary = _auxiliary(streams.get(_MD_AUXV, b""))
    status = streams.get(_MD_STATUS, b"").decode("ascii", "replace").split()
    pid = int(status[status.index("Pid:") + 1]) if "Pid:" in status else None
    return _Contents(sorted(set(parts)), regions, threads, pid, _path_at(regions, auxiliary.get(_AT_ENTRY, 0)))


def _rows(stream: bytes, start: int, size: int) -> bytes:
    # A stream's rows: some writers align them to 8 bytes.
    count = int.from_bytes(stream[:4], "little")
    start = max(start, len(stream) - count * size) if 0 <= len(stream) - count * size - start <= 4 else start
    return stream[start : start + count * size]
