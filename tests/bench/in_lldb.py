"""The debugger's half of one row of the benchmark: runs inside lldb, which has stopped `crowd.py` in ascii()."""

from __future__ import annotations

import json
import os
import sys
import time

ORDERS = json.loads(os.environ["REFDBG_BENCH"])
sys.path.insert(0, ORDERS["root"])

from refdbg.cpython.runtime import Build  # noqa: E402
from refdbg.cpython.stop import Stop  # noqa: E402
from refdbg.debuggers.lldb import LldbSession  # noqa: E402


def __lldb_init_module(debugger: object, _names: object) -> None:
    session = LldbSession(debugger)
    samples = []
    for what in ("lldb, first walk", *["lldb, after forget()"] * ORDERS["repetitions"]):
        session.target().memory.forget()
        wall, cpu = time.perf_counter(), time.process_time()
        stop = Stop(Build(session.target()))
        found = stop.lists.tracked(next(stop.runtime.interpreters()))
        samples.append({
            "what": what, "wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "objects": len(found),
        })  # fmt: skip
    with open(ORDERS["output"], "w", encoding="utf-8") as file:
        json.dump({"samples": samples}, file)
