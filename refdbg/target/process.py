"""The mapped regions and the memory of a local process, through /proc."""

from __future__ import annotations

import ctypes
import os
import time
from array import array
from collections.abc import Iterator
from functools import cache
from typing import BinaryIO

from refdbg.errors import NoProcess
from refdbg.target.memory import DELETED, PAGE, PAGE_BITS, Region

# /proc/PID/pagemap (Documentation/admin-guide/mm/pagemap.rst): bit 63 present, bit 62 swapped; so looks a guard page
# (bit 58, since Linux 6.15), which cannot be read. The C library puts one below the stack of a thread.
_PRESENT_OR_SWAPPED, _GUARD = 3 << 62, 1 << 58
# ptrace(2); struct user_regs_struct (sys/user.h) in words.
_PTRACE_GETREGS, _USER_REGS, _RBP, _RIP, _RSP = 12, 27, 4, 16, 19

_DYING, _MOMENT = 100, 0.02  # how often to look whether a process has ended, and seconds between


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


def process_status(pid: int) -> dict[str, str]:
    """The fields of /proc/PID/status (proc(5)), none when the process is gone."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            return {name: value.strip() for name, _, value in (line.partition(":") for line in file)}
    except OSError:
        return {}


def is_dying(pid: int) -> bool:
    """Whether all threads of the process have ended, or it is gone. Waits for those that are about to."""
    for _ in range(_DYING):
        try:
            threads = os.listdir(f"/proc/{pid}/task")
        except FileNotFoundError:
            return True
        states = [process_status(int(thread)).get("State", "X")[0] for thread in threads]
        if all(state in "ZX" for state in states):
            return True
        time.sleep(_MOMENT)
    return False


def registers(thread: int) -> tuple[int, int, int] | None:
    """Program counter, stack pointer and frame pointer of a stopped thread that this process itself traces (x86-64).

    None where it does not. A debugger's own way to them takes it a tenth of a millisecond.
    """
    words = (ctypes.c_ulong * _USER_REGS)()
    if _libc().ptrace(_PTRACE_GETREGS, thread, None, ctypes.byref(words)) != 0:
        return None
    return words[_RIP], words[_RSP], words[_RBP]


@cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    libc.ptrace.restype = ctypes.c_long
    return libc


class ProcessMemory:
    """Reads /proc/PID/mem. The process must be stopped and traceable by us, or by whoever has opened that file."""

    def __init__(self, pid: int, opened: int | None = None) -> None:
        """*opened*: a descriptor of /proc/PID/mem. Raises NoProcess when the process is gone or may not be read."""
        self.pid = pid
        if opened is not None:
            self._mem = opened
            return
        try:
            self._mem = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise NoProcess(f"cannot read the memory of process {pid}: {error.strerror}") from error

    def read_some(self, address: int, size: int) -> bytes:
        """At most *size* bytes, fewer where the mapping ends, none when nothing can be read."""
        parts = []
        try:
            while size > 0:  # one call returns at most 2 GiB
                part = os.pread(self._mem, size, address)
                if not part:
                    break
                parts.append(part)
                address += len(part)
                size -= len(part)
        except (OSError, OverflowError):
            pass  # unmapped, or beyond the address space: what was read until then
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def regions(self) -> list[Region]:
        """The mapped regions, ascending."""
        try:
            with open(f"/proc/{self.pid}/maps", encoding="utf-8", errors="surrogateescape") as file:
                return parse_maps(file.read())
        except OSError as error:
            raise NoProcess(f"cannot read the mappings of process {self.pid}: {error.strerror}") from error

    def resident(self, start: int, end: int) -> list[tuple[int, int]]:
        """The parts of [start, end) that are backed by memory: reading the rest would fault it in."""
        return list(self._resident(start, end))

    def _resident(self, start: int, end: int) -> Iterator[tuple[int, int]]:
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
            if word & _PRESENT_OR_SWAPPED and not word & _GUARD:
                if run is None:
                    run = index
            elif run is not None:
                yield start + run * PAGE, start + index * PAGE
                run = None
        if run is not None:
            yield start + run * PAGE, end

    def open(self, path: str) -> BinaryIO:
        """A file by its path in the process, which may be in a container. Raises OSError."""
        if path.endswith(DELETED):
            for region in self.regions():
                if region.path == path:
                    return open(f"/proc/{self.pid}/map_files/{region.start:x}-{region.end:x}", "rb")
        return open(f"/proc/{self.pid}/root{path}", "rb")

    @property
    def descriptor(self) -> int:
        """Of /proc/PID/mem: who inherits it can read the process, whoever traces it."""
        return self._mem

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
