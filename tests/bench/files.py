"""`python -m tests.bench.files`: core files, snapshots and a running process, without a debugger."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tabulate import tabulate

from tests.bench.__main__ import ENVIRONMENT, HERE, ROOT

REFDBG = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); "
          "from refdbg.launch.shell import main; main()"]
# (command, goal in seconds)
COMMANDS = (("census --tracked", "≤ 4"), ("census", "≤ 4"), ("leaks", "≤ 10"))


def timed(*words: str) -> tuple[float, float, float]:
    """Wall and CPU seconds, and MiB at most, of `refdbg WORDS`."""
    start = time.perf_counter()
    process = subprocess.Popen([*REFDBG, *words], env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"exit status {process.returncode}: refdbg {' '.join(words)}")
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.files", description=__doc__)
    parser.add_argument("--python", default="python3.11-dbg", help="the interpreter (default: python3.11-dbg)")
    parser.add_argument("--objects", type=int, default=1_000_000, help="tracked objects (default: 1000000)")
    orders = parser.parse_args()
    rows: list[list[Any]] = []

    def run(where: str, target: list[str], command: str, goal: str) -> None:
        wall, cpu, most = timed(*target, *command.split())
        shown = command.partition(" /")[0]
        rows.append([where, shown, f"{wall:.2f}", f"{cpu:.2f}", f"{most:,.0f}", goal])

    with tempfile.TemporaryDirectory(prefix="refdbg-bench-") as name:
        folder = Path(name)
        with subprocess.Popen(
            [orders.python, str(HERE / "pause.py"), str(orders.objects)], env=ENVIRONMENT, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            assert process.stdin is not None and process.stdout is not None
            process.stdout.readline()
            subprocess.run(["gcore", "-o", folder / "core", str(process.pid)], check=True, capture_output=True)
            before = json.loads(process.communicate("\n")[0])
        with subprocess.Popen(
            [orders.python, str(HERE / "pause.py"), str(orders.objects)], env=ENVIRONMENT, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            process.stdout.readline()
            run("--pid", ["--pid", str(process.pid)], "census", "")
            pause = json.loads(process.communicate("\n")[0])
        core = str(folder / f"core.{next(folder.glob('core.*')).suffix[1:]}")
        for command, goal in COMMANDS:
            run("core file", [core], command, goal)
        run("core file", [core], f"snapshot {folder}/s.refdbg", "")
        for command, _goal in COMMANDS:
            run("snapshot", [f"{folder}/s.refdbg"], command, "")
        size, packed = os.path.getsize(core), os.path.getsize(folder / "s.refdbg")
    print(f"{shutil.which(orders.python)}, {orders.objects:,} tracked objects, {os.cpu_count()} CPUs, load "
          f"{os.getloadavg()[0]:.1f}; core file {size >> 20} MiB, snapshot {packed >> 20} MiB")
    print(tabulate(rows, ["of", "command", "seconds", "cpu", "MiB at most", "goal"], disable_numparse=True))
    print(f"longest pause of the process: {pause:.2f} s by `refdbg --pid` (goal ≤ 2), {before:.2f} s by gcore")


if __name__ == "__main__":
    main()
