"""The processes of one job: refdbg-run, the debugger, the program and its children."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1
_PAGE = os.sysconf("SC_PAGE_SIZE")


def dying_with(parent: int) -> Callable[[], None]:
    """What a child of *parent* calls to be asked to end when that dies, even by SIGKILL."""
    libc = ctypes.CDLL(None)

    def ask() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
        if os.getppid() != parent:  # it has died before we asked
            os._exit(1)

    return ask


def family(pid: int) -> list[int]:
    """The process and all that descend from it, as far as their parents live."""
    found = [pid]
    for each in found:
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{each}/task"):
                with open(f"/proc/{each}/task/{task}/children", encoding="ascii") as file:
                    found += map(int, file.read().split())
    return found


def memory(pids: list[int]) -> int:
    """Bytes of memory that the processes have and share with no file."""
    pages = 0
    for pid in pids:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/statm", encoding="ascii") as file:
            words = file.read().split()
            pages += int(words[1]) - int(words[2])
    return pages * _PAGE


def kill(pids: list[int]) -> None:
    """SIGKILL to each that is still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def kill_group(group: int) -> None:
    """SIGKILL to what is left of a process group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def program_of(pid: int) -> list[int]:
    """Of refdbg-run's children those in its own group: the program. The debugger has a session of its own."""
    found = []
    for each in family(pid)[1:]:
        with contextlib.suppress(ProcessLookupError):
            if os.getpgid(each) == pid:
                found.append(each)
    return found
