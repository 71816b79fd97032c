"""A running process without a debugger: it is stopped while its memory is copied, and runs on."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import BinaryIO

from refdbg.dependencies import elftools
from refdbg.errors import NoProcess
from refdbg.target import NativeThread
from refdbg.target.elf import check_machine
from refdbg.target.memory import Region
from refdbg.target.pages import Pages, to_copy
from refdbg.target.process import ProcessMemory, process_status

# sys/ptrace.h
_DETACH, _GETREGSET, _SEIZE, _INTERRUPT = 17, 0x4204, 0x4206, 0x4207
_EVENT_STOP = 128
_WALL = 0x4000_0000
_NT_PRSTATUS = 1
_REGISTERS = 34  # words: AArch64 has more than x86-64's 27
# Words in user_regs_struct: stack pointer; thread-local storage base, next instruction, frame pointer.
_STACK_POINTER, _OTHERS = {"x86_64": 19, "aarch64": 31}, {"x86_64": (21, 16, 4)}
_CAP_SYS_PTRACE = 19  # linux/capability.h
_PATIENCE = 5.0  # seconds for a thread that the kernel does not let stop
_YAMA = "/proc/sys/kernel/yama/ptrace_scope"


class Copy:
    """The memory of a process as it was at one moment."""

    def __init__(self, pid: int) -> None:
        """Stops the process *pid*, copies what it can have written, and lets it run on. Raises NoProcess."""
        if pid == os.getpid():
            raise NoProcess(f"{pid} is this process itself: it cannot stop itself", "Name another process.")
        _check(pid)
        memory = ProcessMemory(pid)
        try:
            with _stopped(pid) as threads:
                self.threads = list(threads)
                self._regions = memory.regions()
                copied = to_copy(self._regions)
                pieces = [
                    (low, memory.read_some(low, high - low))
                    for region in copied
                    for low, high in memory.resident(region.start, region.end)
                ]
                self._files = {region.path: _open(memory, region.path) for region in self._regions if region.executable}
                self.executable = os.readlink(f"/proc/{pid}/exe")
            if any(not data for _, data in pieces):
                raise NoProcess(f"process {pid} ended while it was being copied", "Start it again.")
        except OSError as error:
            raise NoProcess(f"process {pid} ended while it was being copied ({error.strerror})", "") from error
        finally:
            memory.close()
        spans = [(start, len(data)) for start, data in pieces]
        self._pages = Pages(spans, lambda row: pieces[row][1], copied, self._read_file)

    def read_some(self, address: int, size: int) -> bytes:
        """At most *size* bytes, fewer where the mapping ends, none when nothing can be read."""
        return self._pages.read_some(address, size)

    def regions(self) -> Sequence[Region]:
        """The mapped regions, ascending."""
        return self._regions

    def resident(self, start: int, end: int) -> Sequence[tuple[int, int]]:
        """The parts of [start, end) that are backed by memory."""
        return self._pages.resident(start, end)

    def open(self, path: str) -> BinaryIO:
        """A mapped file as the process has it, also when it has been replaced since. Raises OSError."""
        file = self._files.get(path)
        return open(path if file is None else f"/proc/self/fd/{file.fileno()}", "rb")

    def _read_file(self, address: int, size: int) -> bytes:
        for region in self._regions:
            if region.start <= address < region.end:
                file = self._files.get(region.path)
                if file is None:
                    break
                size = min(size, region.end - address)
                return os.pread(file.fileno(), size, region.file_offset + address - region.start)
        return b""


def _open(memory: ProcessMemory, path: str) -> BinaryIO | None:
    try:
        return memory.open(path) if path.startswith("/") else None
    except OSError:
        return None  # deleted, and we are not privileged


def _check(pid: int) -> None:
    group = process_status(pid).get("Tgid", str(pid))
    if group != str(pid):
        raise NoProcess(f"{pid} is a thread of process {group}", f"refdbg --pid {group}")
    try:
        with open(f"/proc/{pid}/exe", "rb") as file:
            check_machine(elftools.ELFFile(file), f"process {pid}", "process")
    except FileNotFoundError as error:
        if process_status(pid).get("State", "").startswith(("Z", "X")):
            raise NoProcess(f"process {pid} has ended, or its main thread has", "") from error
        if os.path.exists(f"/proc/{pid}"):
            raise NoProcess(f"process {pid} is one of the kernel's own", "") from error
        raise NoProcess(f"there is no process {pid}", "`pgrep -a python` lists those of Python.") from error
    except PermissionError as error:
        raise _not_permitted(pid) from error


def _not_permitted(pid: int) -> NoProcess:
    status = process_status(pid)
    tracer = status.get("TracerPid", "0")
    if tracer not in ("", "0"):
        return NoProcess(
            f"process {pid} is being debugged by process {tracer} ({process_status(int(tracer)).get('Name', '?')})",
            "A process has one debugger at a time: use refdbg in that one, or let it detach.",
        )
    owner = int((status.get("Uid") or "-1").split()[0])
    if owner != os.geteuid():
        return NoProcess(
            f"process {pid} belongs to user {owner}, and you are user {os.geteuid()}",
            "Run refdbg as that user or as root; in a container with --cap-add=SYS_PTRACE.",
        )
    scope = ""
    with suppress(OSError), open(_YAMA, encoding="ascii") as file:
        scope = file.read().strip()
    if scope not in ("", "0"):
        return NoProcess(
            f"process {pid} may not be stopped: kernel.yama.ptrace_scope is {scope}",
            "As root: `sysctl kernel.yama.ptrace_scope=0`, or run refdbg as root (CAP_SYS_PTRACE).",
        )
    if int(process_status(os.getpid()).get("CapEff", "0"), 16) >> _CAP_SYS_PTRACE & 1:
        return NoProcess(
            f"process {pid} may not be stopped, though CAP_SYS_PTRACE is there",
            "It may have more capabilities than you, or another user namespace; or seccomp forbids ptrace.",
        )
    return NoProcess(
        f"process {pid} may not be stopped: the capability CAP_SYS_PTRACE is missing",
        "Run refdbg as root; in a container with --cap-add=SYS_PTRACE (and a seccomp profile that allows ptrace).",
    )


class _Thread:
    # One thread under ptrace. When we die, the kernel lets it run on.

    def __init__(self, libc: ctypes.CDLL, pid: int, id_: int) -> None:
        self._libc = libc
        self._pid = pid
        self.id = id_
        self._signal = 0  # one that arrived instead of our stop: it is passed on
        self._request(_SEIZE)

    def _request(self, request: int, address: int = 0, data: object = None) -> None:
        if self._libc.ptrace(request, self.id, ctypes.c_void_p(address), data) == -1:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def stop(self) -> bool:
        """False when it has ended."""
        try:
            self._request(_INTERRUPT)
        except ProcessLookupError:
            return False
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            try:
                ended, status = os.waitpid(self.id, _WALL | os.WNOHANG)
            except ChildProcessError:
                return False
            if not ended:
                time.sleep(0.0002)
                continue
            if not os.WIFSTOPPED(status):
                return False
            if status >> 16 != _EVENT_STOP:
                self._signal = os.WSTOPSIG(status)
            return True
        raise NoProcess(f"thread {self.id} of process {self._pid} does not stop: it waits inside the kernel",
                        "Try again later; `cat /proc/PID/task/TID/wchan` says what it waits for.")

    def registers(self) -> NativeThread:
        """Its id and registers."""
        words = (ctypes.c_uint64 * _REGISTERS)()
        vector = (ctypes.c_uint64 * 2)(ctypes.addressof(words), ctypes.sizeof(words))
        self._request(_GETREGSET, _NT_PRSTATUS, ctypes.byref(vector))
        machine = os.uname().machine
        base, place, frame = (words[row] for row in _OTHERS[machine]) if machine in _OTHERS else (0, 0, 0)
        return NativeThread(self.id, words[_STACK_POINTER[machine]], base, place, frame)

    def let_go(self) -> None:
        """Let it run on."""
        with suppress(ProcessLookupError):
            self._request(_DETACH, 0, ctypes.c_void_p(self._signal))


@contextmanager
def _stopped(pid: int) -> Iterator[Iterator[NativeThread]]:
    # Stops every thread, also those that are made meanwhile.
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    libc.ptrace.restype = ctypes.c_long
    threads: dict[int, _Thread] = {}
    try:
        while True:
            new = [int(name) for name in os.listdir(f"/proc/{pid}/task") if int(name) not in threads]
            if not new:
                break
            for id_ in sorted(new, key=lambda each: each != pid):
                try:
                    threads[id_] = _Thread(libc, pid, id_)
                except ProcessLookupError:
                    continue  # it has ended
                except PermissionError as error:
                    if id_ != pid and threads:
                        continue  # it is about to end
                    raise _not_permitted(pid) from error
                if not threads[id_].stop():
                    del threads[id_]
            if not threads:
                raise NoProcess(f"process {pid} has ended", "")
        yield (thread.registers() for thread in threads.values())
    finally:
        for thread in threads.values():
            thread.let_go()
