"""Times one of gdb's commands at a stop, several times. REFDBG_BENCH (JSON): command, repetitions, output."""

from __future__ import annotations

import json
import os
import time

import gdb

ORDERS = json.loads(os.environ["REFDBG_BENCH"])
samples = []
for _ in range(ORDERS["repetitions"]):
    wall, cpu = time.perf_counter(), time.process_time()
    text = gdb.execute(ORDERS["command"], to_string=True)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    samples.append({"wall": wall, "cpu": cpu, "lines": len(text.splitlines())})
with open(ORDERS["output"], "w", encoding="utf-8") as file:
    json.dump(samples, file)
