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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tabulate import tabulate

from tests.bench.__main__ import ENVIRONMENT, HERE, ROOT

REFDBG = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); "
          "from refdbg.launch.shell import main; main()"]
# (command, goal in seconds)
COMMANDS = (("census --tracked", "≤ 2"), ("census", "≤ 2"), ("leaks", "≤ 10, 800 MiB"))


def timed(*words: str) -> tuple[float, float, float]:
    """Wall and CPU seconds, and MiB at most, of `refdbg WORDS`."""
    start = time.perf_counter()
    process = subprocess.Popen([*REFDBG, *words], env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"exit status {process.returncode}: refdbg {' '.join(words)}")
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


@contextmanager
def paused(python: str, heap: str, size: int) -> Iterator[subprocess.Popen[str]]:
    """A process that has its objects (`pause.py`); it tells its longest pause at the end of its input."""
    with subprocess.Popen(
        [python, str(HERE / "pause.py"), str(size), heap], env=ENVIRONMENT, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        yield process


def core_of(process: subprocess.Popen[str], folder: Path) -> str:
    """A core file of the process, by gcore."""
    subprocess.run(["gcore", "-o", folder / "core", str(process.pid)], check=True, capture_output=True)
    return str(folder / f"core.{process.pid}")


def objects_in(core: str) -> int:
    """How many objects the process had, tracked or not."""
    told = subprocess.run([*REFDBG, core, "census", "--json"], env=ENVIRONMENT, check=True, stdout=subprocess.PIPE)
    return int(json.loads(told.stdout)["objects"])


def measured(python: str, heap: str, size: int, folder: Path) -> list[list[Any]]:
    """The rows of one heap: everything that can be asked of its core file, its snapshot, the running process."""
    rows: list[list[Any]] = []

    def run(where: str, target: list[str], command: str, goal: str) -> None:
        wall, cpu, most = timed(*target, *command.split())
        rows.append([heap, where, command.partition(" /")[0], f"{wall:.2f}", f"{cpu:.2f}", f"{most:,.0f}", goal])

    with paused(python, heap, size) as process:
        core = core_of(process, folder)
        before = json.loads(process.communicate("\n")[0])
    with paused(python, heap, size) as process:
        run("--pid", ["--pid", str(process.pid)], "census", "")
        pause = json.loads(process.communicate("\n")[0])
    for command, goal in COMMANDS:
        run("core file", [core], command, goal)
    run("core file", [core], f"snapshot {folder}/{heap}.refdbg", "")
    for command, _goal in COMMANDS:
        run("snapshot", [f"{folder}/{heap}.refdbg"], command, "")
    packed = os.path.getsize(f"{folder}/{heap}.refdbg")
    print(f"{heap}: {objects_in(core):,} objects in all; core file {os.path.getsize(core) >> 20} MiB, snapshot "
          f"{packed >> 20} MiB; longest pause {pause:.2f} s by `refdbg --pid` (goal ≤ 2), {before:.2f} s by gcore")
    return rows


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.files", description=__doc__)
    parser.add_argument("--python", default="python3.11-dbg", help="the interpreter (default: python3.11-dbg)")
    parser.add_argument("--objects", type=int, default=1_000_000, help="of the crowd tracked, of the web in all")
    orders = parser.parse_args()
    print(f"{shutil.which(orders.python)}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}\n"
          f"crowd: {orders.objects:,} tracked objects; web: {orders.objects:,} in all, three visits each")
    with tempfile.TemporaryDirectory(prefix="refdbg-bench-") as name:
        folder = Path(name)
        rows = measured(orders.python, "crowd", orders.objects, folder)
        with paused(orders.python, "web", 1) as process:
            others = objects_in(core_of(process, folder)) - 1  # what every process has
            process.communicate("\n")
        rows += measured(orders.python, "web", orders.objects - others, folder)
    print(tabulate(rows, ["heap", "of", "command", "seconds", "cpu", "MiB at most", "goal"], disable_numparse=True))


if __name__ == "__main__":
    main()
