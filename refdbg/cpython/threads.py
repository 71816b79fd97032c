"""Which Python thread is which: thread states, the kernel's threads, and who holds the GIL."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from refdbg.cpython.runtime import Interpreter, Runtime, Thread
from refdbg.cpython.stop import Stop
from refdbg.errors import LayoutNotFound, MemoryFault, TargetError
from refdbg.target import Change

_ATTACHED = 1  # _Py_THREAD_ATTACHED (Include/internal/pycore_pystate.h)
_PTHREAD_SEARCH = 0x800  # bytes of a struct pthread in which its kernel id is looked for


def pthread(runtime: Runtime, thread: Thread) -> int:
    """What pthread_self() is in the thread (``PyThreadState.thread_id``). Raises MemoryFault."""
    return runtime.view(thread.address, "PyThreadState")["thread_id"]


@dataclass(frozen=True)
class Natives:
    """Which threads of the kernel run thread states (``PyThreadState *``).

    *ids*: the kernel's id by thread state, those not known left out; *selected*: what the debugger's selected thread
    runs; *unsure*: those whose id is that of the thread that has made them, which need not be the one that runs them.
    """

    ids: Mapping[int, int]
    selected: frozenset[int]
    unsure: frozenset[int]


def kernel_ids(stop: Stop, threads: Iterable[Thread]) -> Mapping[int, int]:
    """The kernel's id of each thread by the address of its thread state; those not known are left out."""
    return natives(stop, threads).ids


def natives(stop: Stop, threads: Iterable[Thread]) -> Natives:
    """Which thread of the kernel runs each of the threads. Raises nothing.

    A thread state names the thread that has made it (``bind_tstate``, Python/pystate.c), also while another runs it, as
    Modules/_xxsubinterpretersmodule.c lets it. Where that may be, the evaluator's place on the C stacks tells.
    """
    runtime, threads = stop.runtime, list(threads)
    named = _named(runtime, threads)
    running, unsure = _elsewhere(stop, threads, named)
    current = next(iter(runtime.target.threads()), None)
    selected = set()
    for thread in threads:
        if thread.address in running:
            own = current is not None and running[thread.address] == current.id
        else:
            try:  # pthread_self() is what the register has on x86-64
                own = current is not None and pthread(runtime, thread) == current.thread_pointer != 0
            except TargetError:
                own = False
        if own:
            selected.add(thread.address)
    ids = {address: native for address, native in {**named, **running}.items() if native}
    return Natives(ids, frozenset(selected), frozenset(unsure))


def _elsewhere(stop: Stop, threads: Sequence[Thread], named: Mapping[int, int]) -> tuple[dict[int, int], set[int]]:
    # Of the states with frames that share a kernel id, or name a thread that is no more: the one whose C stack has
    # the newest call of the evaluator, 0 where none has it; and those of them that keep no place on a C stack.
    known = {thread.id for thread in stop.runtime.target.threads()}
    shared = Counter(named.values())
    found: dict[int, int] = {}
    unsure: set[int] = set()
    for thread in threads:
        native = named.get(thread.address)
        if not known or native is None or (shared[native] == 1 and native in known):
            continue
        try:
            if not stop.frames.stack(thread, 1):
                continue
            places = stop.frames.evaluators(thread)
        except LayoutNotFound:
            continue
        if places:
            found[thread.address] = _stack_owner(stop.runtime, places[0])
        else:
            unsure.add(thread.address)
    return found, unsure


def _stack_owner(runtime: Runtime, address: int) -> int:
    # The kernel's id of the thread whose stack an address is on, 0: of none.
    pointer, owner = max(
        ((each.stack_pointer, each.id) for each in runtime.target.threads() if 0 < each.stack_pointer <= address),
        default=(0, 0),
    )
    regions = runtime.target.regions()
    row = bisect_right([region.start for region in regions], address) - 1
    if regions and not (row >= 0 and regions[row].start <= pointer and address < regions[row].end):
        return 0
    return owner


def _named(runtime: Runtime, threads: Sequence[Thread]) -> dict[int, int]:
    # Until 3.10 the thread state has only pthread_self(). The C library keeps the kernel's id in the structure there:
    # at the one offset where all threads have different ids that the debugger knows.
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
