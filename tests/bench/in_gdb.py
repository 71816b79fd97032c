"""The debugger's half of the benchmark: runs inside gdb, which has started `crowd.py` and knows the orders.

Orders (the environment variable REFDBG_BENCH, JSON): root, what (capture or replay), repetitions, output.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import sys
import threading
import time
from typing import Any, Callable

import gdb

ORDERS = json.loads(os.environ["REFDBG_BENCH"])
sys.path.insert(0, ORDERS["root"])

from refdbg.analysis.collector import replay  # noqa: E402
from refdbg.commands import complete, run  # noqa: E402
from refdbg.cpython.heap import heap_objects  # noqa: E402
from refdbg.cpython.runtime import Build  # noqa: E402
from refdbg.cpython.stop import Stop  # noqa: E402
from refdbg.cpython.traverse import Traverse  # noqa: E402
from refdbg.debuggers.gdb import GdbSession, install  # noqa: E402
from refdbg.graph.rows import Rows  # noqa: E402
from refdbg.target.capture import Capture  # noqa: E402

samples: list[dict[str, Any]] = []


def measure(what: str, work: Callable[[], Any]) -> Any:
    """Do *work*, note its time and how many objects it found."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    samples.append({"what": what, "wall": wall, "cpu": cpu, "objects": len(found)})
    return found


def walk_by_value() -> list[tuple[int, int, int]]:
    """(address, type, count) of every tracked object as a gdb script would find them."""
    runtime = gdb.parse_and_eval("&_PyRuntime")
    interpreter = runtime["interpreters"]["main"]
    head_type = gdb.lookup_type("PyGC_Head").pointer()
    object_type = gdb.lookup_type("PyObject").pointer()
    collector = interpreter["gc"]
    heads = [collector["generations"][number]["head"] for number in range(3)]
    heads.append(collector["permanent_generation"]["head"])
    rows = []
    for head in heads:
        last = head.address
        node = head["_gc_next"].cast(head_type)
        while node != last:
            found = (node + 1).cast(object_type)
            fields = found.dereference()
            rows.append((int(found), int(fields["ob_type"]), int(fields["ob_refcnt"])))
            node = node["_gc_next"].cast(head_type)
    return rows


def resident() -> int:
    """The bytes of this process that are in memory now."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def highest() -> int:
    """The most that was in memory since `forget_highest`."""
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))


def forget_highest() -> None:
    """Start `highest` anew (Documentation/filesystems/proc.rst, clear_refs)."""
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")


def capture(session: GdbSession) -> Any:
    """All that a command does before it has the objects: build and stop are new."""
    stop = Stop(Build(session.target()))
    return stop.lists.tracked(next(stop.runtime.interpreters()))


def first_turn(session: GdbSession) -> dict[str, int]:
    """The very first walk; the debugger's memory before, at most and after."""
    gc.collect()
    forget_highest()
    before = resident()
    found = measure("refdbg, first walk", lambda: capture(session))
    gc.collect()
    pages = session.target().memory.pages
    return {
        "objects": len(found), "pages": len(pages), "page_bytes": sum(map(len, pages.values())),
        "kept": resident() - before, "most": highest() - before,
    }


def turn(session: GdbSession) -> None:
    """One repetition of each way, in the same stopped process."""
    memory = session.target().memory
    memory.forget()
    found = measure("refdbg, after forget()", lambda: capture(session))
    measure("refdbg, pages known", lambda: capture(session))
    memory.forget()
    expected = set(found.rows())
    by_value = set(measure("gdb.Value", walk_by_value))
    if expected != by_value:
        raise AssertionError(f"the two walks differ in {len(expected ^ by_value)} objects")
    stop = Stop(Build(session.target()))
    measure("heap_objects", lambda: heap_objects(stop.runtime, stop.types).objects)
    memory.forget()


def step(what: str, work: Callable[[], Any]) -> Any:
    """One step of a replay or of an analysis."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    samples.append({"what": f"{ORDERS['what']}: {what}", "wall": wall, "cpu": cpu, "objects": 0})
    return found


def collection(session: GdbSession) -> dict[str, int]:
    """A full collection replayed on a copy of the process, step by step; the memory that takes, and the numbers."""
    gc.collect()
    session.target().memory.forget()
    forget_highest()
    before = resident()

    captured = step("the copy of the process", lambda: Capture(session.target()))
    stop = Stop(Build(captured))
    tracked = step("its tracked objects", lambda: stop.lists.tracked(next(stop.runtime.interpreters())))
    heap = step("all its objects", lambda: stop.heap)
    traverse = step("memory for the emulator", lambda: Traverse(stop))
    visited = step("visits", lambda: traverse.visits(tracked.addresses, tracked.types))
    edges = step("edges", lambda: visited.edges(Rows(tracked.addresses)))
    step("decision", lambda: replay(tracked.refcounts, edges, range(len(tracked)), stop.runtime.immortal_count))
    return {
        "objects": len(tracked), "heap": len(heap.objects), "visits": len(visited.targets),
        "undecided": len(visited.undecided), "copied": captured.bytes, "most": highest() - before,
    }


def of_both(told: list[int], ended: threading.Event) -> None:
    """The memory of gdb and of the process that answers beside it, shared pages once, every 0.1 s."""
    while not ended.wait(0.1):
        told.append(sum(map(proportional, [os.getpid(), *children()])))


def children() -> list[int]:
    """Our child processes but for the program."""
    with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
        return [int(pid) for pid in file.read().split() if int(pid) != gdb.selected_inferior().pid]


def proportional(pid: int) -> int:
    """The bytes of a process that are in memory, those that n processes share divided by n."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:"))
    except OSError:
        return 0


def cpu() -> float:
    """The seconds that gdb and the children that it has waited for have used."""
    return sum(usage.ru_utime + usage.ru_stime for usage in map(resource.getrusage, (resource.RUSAGE_SELF, -1)))


def leaks(session: GdbSession) -> dict[str, Any]:
    """`refdbg leaks` as somebody types it, on everything."""
    told: list[int] = []
    ended = threading.Event()
    watcher = threading.Thread(target=of_both, args=(told, ended))
    watcher.start()
    wall, used = time.perf_counter(), cpu()
    answer = gdb.execute("refdbg leaks --json", to_string=True)
    wall, used = time.perf_counter() - wall, cpu() - used
    ended.set()
    watcher.join()
    record = json.loads(answer)
    session.target().memory.forget()
    stop = Stop(Build(session.target()))
    tracked = stop.lists.tracked(next(stop.runtime.interpreters()))
    return {"objects": len(tracked), "heap": record["objects"], "wall": wall, "cpu": used, "most": max(told)}


def main() -> None:
    """Alternate between the process's turns and ours."""
    session = GdbSession()
    if ORDERS["what"] == "leaks":
        install(run, complete)
        memory = leaks(session)
    elif ORDERS["what"] == "replay":
        memory = collection(session)
        for _ in range(ORDERS["repetitions"] - 1):
            collection(session)
    else:
        memory = first_turn(session)
        for repetition in range(ORDERS["repetitions"]):
            if repetition:
                gdb.execute("continue", to_string=True)
            turn(session)
    with open(ORDERS["output"], "w", encoding="utf-8") as file:
        json.dump({"samples": samples, "memory": memory}, file)
    gdb.execute("kill")


main()
