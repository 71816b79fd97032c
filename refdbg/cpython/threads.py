"""Which Python thread is which: thread states, the kernel's threads, and who holds the GIL."""

from __future__ import annotations

from collections.abc import Iterable

from refdbg.cpython.runtime import Interpreter, Runtime, Thread
from refdbg.errors import LayoutNotFound, MemoryFault
from refdbg.target import Change

_ATTACHED = 1  # _Py_THREAD_ATTACHED (Include/internal/pycore_pystate.h)
_PTHREAD_SEARCH = 0x800  # bytes of a struct pthread in which its kernel id is looked for


def pthread(runtime: Runtime, thread: Thread) -> int:
    """What pthread_self() is in the thread (``PyThreadState.thread_id``). Raises MemoryFault."""
    return runtime.view(thread.address, "PyThreadState")["thread_id"]


def kernel_ids(runtime: Runtime, threads: Iterable[Thread]) -> dict[int, int]:
    """The kernel's id of each thread by the address of its thread state; those not known are left out.

    Until 3.10 the thread state has only pthread_self(). The C library keeps the kernel's id in the structure
    there: at the one offset where all threads have different ids that the debugger knows.
    """
    threads = list(threads)
    found = {thread.address: thread.native_id for thread in threads if thread.native_id}
    handles: dict[int, int] = {}
    for thread in threads:
        if thread.address not in found:
            try:
                handles[thread.address] = pthread(runtime, thread)
            except MemoryFault:
                continue
    known = {thread.id for thread in runtime.target.threads()}
    blocks = []
    for handle in sorted(set(handles.values())):
        try:
            blocks.append((handle, runtime.memory.read(handle, _PTHREAD_SEARCH)))
        except MemoryFault:
            continue  # the thread has ended, or this is no address
    for offset in range(0, _PTHREAD_SEARCH, 4):
        ids = {handle: int.from_bytes(block[offset : offset + 4], "little") for handle, block in blocks}
        if ids and len(set(ids.values())) == len(ids) and known.issuperset(ids.values()):
            found.update({address: ids[handle] for address, handle in handles.items() if handle in ids})
            break
    return found


def gil_holder(runtime: Runtime, interpreter: Interpreter) -> int:
    """The thread state that holds the interpreter's GIL (``PyThreadState *``), 0: none, or not known."""
    try:
        return _holder(runtime, _gil(runtime, interpreter))
    except (LayoutNotFound, MemoryFault):
        return 0


def _gil(runtime: Runtime, interpreter: Interpreter) -> tuple[int, int]:
    # Where the number stands that says whether it is taken (0: nowhere), and where by whom; both 0 without a GIL.
    gil = runtime.build.interpreter
    if "ceval.gil" in gil and gil["ceval.gil"].inner is None:  # 3.12+: a pointer, each interpreter may have its own
        address = runtime.memory.u64(interpreter.address + gil.offset("ceval.gil"))
        layout = runtime.build.layout("_gil_runtime_state")
        if "enabled" in layout and not runtime.view(address, "_gil_runtime_state")["enabled"]:
            return 0, 0
        return address + layout.offset("locked"), address + layout.offset("last_holder")
    return 0, runtime.state.at("gilstate.tstate_current")  # until 3.11; the only one of all interpreters


def _holder(runtime: Runtime, gil: tuple[int, int]) -> int:
    locked, holder = gil
    # Since 3.13 plain members, in 3.12 _Py_atomic_int and _Py_atomic_address; the value comes first.
    if not holder or (locked and runtime.memory.integer(locked, 4, signed=True) <= 0):
        return 0
    return runtime.memory.u64(holder)


class Running:
    """Which Python thread a thread of the kernel runs as: found once, and sought again only when that has changed."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._last: dict[int, tuple[Thread, Interpreter]] = {}
        self._gils: dict[int, tuple[int, int]] = {}  # by interpreter

    def of(self, change: Change) -> int:
        """``PyThreadState *`` of the thread that has made it, 0 where it runs none."""
        try:
            native = change.thread
            last = self._last.get(native)
            if last is not None and self._runs(*last):
                return last[0].address
            self._gils.clear()
            pointer = change.thread_pointer  # what pthread_self() is on x86-64
            for interpreter in self._runtime.interpreters():
                for thread in self._runtime.threads(interpreter):
                    own = thread.native_id == native if thread.native_id else pthread(self._runtime, thread) == pointer
                    if own and self._runs(thread, interpreter):
                        self._last[native] = thread, interpreter
                        return thread.address
        except (LayoutNotFound, MemoryFault):
            pass  # not initialised yet, or at its very end
        return 0

    def _runs(self, thread: Thread, interpreter: Interpreter) -> bool:
        # A thread has one state in each interpreter that it has entered.
        if self._runtime.traits.free_threaded:
            return self._runtime.view(thread.address, "PyThreadState")["state"] == _ATTACHED
        gil = self._gils.get(interpreter.address)
        if gil is None:
            gil = self._gils[interpreter.address] = _gil(self._runtime, interpreter)
        return _holder(self._runtime, gil) == thread.address
