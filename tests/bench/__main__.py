"""`python -m tests.bench [--python PATH]`: one run, one table of ratios."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tabulate import tabulate

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
PY_BT = Path("/usr/share/gdb/auto-load/usr/bin/python3.11-gdb.py")  # of Debian's python3.11-dbg
ENTRY = ROOT / ".venv/bin/refdbg-run"
# One environment for every run: totals and addresses depend on it.
ENVIRONMENT = {"PATH": os.environ.get("PATH", ""), "LANG": "C.UTF-8", "HOME": os.environ.get("HOME", "/")}


@dataclass
class Times:
    """The repetitions of one way to do the work, in seconds."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    objects: int = 0

    def add(self, wall: float, cpu: float, objects: int = 0) -> None:
        """One more repetition."""
        self.wall.append(wall)
        self.cpu.append(cpu)
        self.objects = objects

    @property
    def median(self) -> float:
        """Of the wall time."""
        return statistics.median(self.wall)

    @property
    def speed(self) -> float:
        """Objects per second."""
        return self.objects / self.median


def captures(python: str, size: int, repetitions: int, what: str) -> tuple[dict[str, Times], dict[str, int]]:
    """Every way to capture the objects of one process, in turn, in that process; or a collection replayed."""
    with tempfile.TemporaryDirectory(prefix="refdbg-bench-") as folder:
        told, output = Path(folder, "told"), Path(folder, "output")
        orders = {"root": str(ROOT), "what": what, "repetitions": repetitions, "output": str(output)}
        command = [
            "gdb", "-nx", "-batch", "-iex", "set auto-load no", "-ex", "set pagination off",
            "-ex", "break builtin_ascii", "-ex", "run", "-x", str(HERE / "in_gdb.py"),
            "--args", python, str(HERE / "crowd.py"), str(size), str(repetitions), str(told),
            *(["web"] if what != "capture" else []),
        ]  # fmt: skip
        done = subprocess.run(
            command, env={**ENVIRONMENT, "REFDBG_BENCH": json.dumps(orders)}, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        if not output.exists():
            raise SystemExit(f"the walk in gdb failed:\n{done.stdout[-4000:]}")
        answer = json.loads(output.read_text())
        own = [json.loads(line) for line in told.read_text().splitlines()]
    times: dict[str, Times] = defaultdict(Times)
    for sample in answer["samples"]:
        times[sample["what"]].add(sample["wall"], sample["cpu"], sample["objects"])
    for sample in own:
        times["in the process"].add(sample["wall"], sample["cpu"], sample["objects"])
    return times, answer["memory"]


def captures_in_lldb(python: str, size: int, repetitions: int) -> dict[str, Times]:
    """The same walk inside lldb, of a process of its own."""
    times: dict[str, Times] = defaultdict(Times)
    lldb = shutil.which("lldb-19") or shutil.which("lldb")
    if lldb is None:
        return times
    with tempfile.TemporaryDirectory(prefix="refdbg-bench-") as folder:
        output = Path(folder, "output")
        orders = {"root": str(ROOT), "repetitions": repetitions, "output": str(output)}
        subprocess.run(
            [lldb, "-x", "--batch", "-o", "breakpoint set -n builtin_ascii", "-o", "run", "-o",
             f"command script import {HERE / 'in_lldb.py'}", "-o", "process kill", "--",
             python, str(HERE / "crowd.py"), str(size), "1", str(Path(folder, "told"))],
            env={**ENVIRONMENT, "REFDBG_BENCH": json.dumps(orders)}, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True,
        )  # fmt: skip
        for sample in json.loads(output.read_text())["samples"]:
            times[sample["what"]].add(sample["wall"], sample["cpu"], sample["objects"])
    return times


def lldb_rows(lldb: dict[str, Times], gdb: dict[str, Times]) -> list[list[Any]]:
    """lldb's captures against gdb's."""
    rows = []
    for what, found in lldb.items():
        same = gdb[what.replace("lldb", "refdbg")]
        rows.append([f"capture: {what}", f"{found.objects:,}", len(found.wall), found.median,
                     f"{found.speed:,.0f} objects/s", f"{found.median / same.median:.2f} × gdb's time", "",
                     "≤ 2 × gdb's time"])  # fmt: skip
    return rows


def runs(python: str, repetitions: int) -> dict[str, Times]:
    """Whole runs of `-X showrefcount -c pass`: plain, under gdb, under refdbg-run; interleaved."""
    program = [python, "-X", "showrefcount", "-c", "pass"]
    entry = _entry()
    ways = {
        "plain": program,
        "gdb": ["gdb", "-nx", "-batch", "-ex", "run", "--args", *program],
        "refdbg-run": [*entry, "--text", "/dev/null", *program],
    }
    times: dict[str, Times] = defaultdict(Times)
    for repetition in range(repetitions + 1):
        for way, command in ways.items():
            wall, cpu = _timed(command)
            if repetition:  # the first fills the page cache
                times[way].add(wall, cpu)
    return times


def _entry() -> list[str]:
    return [str(ENTRY)] if ENTRY.exists() else [
        sys.executable, "-c",
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from refdbg.launch.run import main; main()",
    ]  # fmt: skip


def _timed(command: list[str], cwd: str | None = None, statuses: tuple[int, ...] = (0,)) -> tuple[float, float]:
    # Wall and CPU seconds, with the children that it has waited for.
    start = time.perf_counter()
    process = subprocess.Popen(
        command, env=ENVIRONMENT, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in statuses:
        raise SystemExit(f"exit status {process.returncode}: {' '.join(command)}")
    return wall, usage.ru_utime + usage.ru_stime


def capture_rows(times: dict[str, Times], memory: dict[str, int]) -> list[list[Any]]:
    """Speed and memory of the captures."""
    value, own = times["gdb.Value"], times["in the process"]
    rows = []
    for what in ("in the process", "gdb.Value", "refdbg, first walk", "refdbg, after forget()", "refdbg, pages known"):
        found = times[what]
        refdbg = what.startswith("refdbg")
        rows.append([
            f"capture: {what}", f"{found.objects:,}", len(found.wall), found.median,
            f"{found.speed:,.0f} objects/s",
            f"{found.speed / value.speed:.1f} × gdb.Value" if refdbg else "",
            f"{found.speed / own.speed:.2f} × in the process" if what != "in the process" else "",
            "≥ 12, aim 25 × gdb.Value" if refdbg else "",
        ])  # fmt: skip
    found = times["heap_objects"]
    rows.append(["every object, tracked or not", f"{found.objects:,}", len(found.wall), found.median,
                 f"{found.speed:,.0f} objects/s", f"{found.speed / value.speed:.1f} × gdb.Value", "", ""])
    objects = memory["objects"]
    for what, used in (("kept", memory["kept"]), ("at most", memory["most"])):
        rows.append([f"memory: {what}", f"{objects:,}", 1, None,
                     f"{(used - memory['page_bytes']) / objects:.0f} bytes/object", "",
                     f"+ {memory['page_bytes'] / objects:.0f} in copied pages", "≤ 200 bytes/object"])
    return rows


def replay_rows(times: dict[str, Times], memory: dict[str, int]) -> list[list[Any]]:
    """A full collection replayed, step by step."""
    rows = []
    objects, visits = memory["objects"], memory["visits"]
    steps = {what: found for what, found in times.items() if what.startswith("replay: ")}
    for what, found in steps.items():
        seconds = found.median
        result = {
            "replay: the copy of the process": f"{memory['copied'] / 2**20:.0f} MiB",
            "replay: all its objects": f"{memory['heap'] / seconds:,.0f} objects/s",
            "replay: visits": f"{objects / seconds:,.0f} objects/s, {memory['undecided']} undecided",
            "replay: edges": f"{visits / seconds:,.0f} visits/s",
        }.get(what, "")
        goal = "≥ 500,000 objects/s" if what == "replay: visits" else ""
        number = memory["heap"] if what == "replay: all its objects" else objects
        cpu = f"cpu {statistics.median(found.cpu):.3f} s"
        rows.append([what, f"{number:,}", len(found.wall), seconds, result, "", cpu, goal])
    whole = sum(found.median for found in steps.values())
    rows.append(["replay: all of it", f"{objects:,}", 1, whole, f"{visits:,} visits", "", "", "≤ 10 s"])
    rows.append(["replay: memory at most", f"{objects:,}", 1, None, f"{memory['most'] / 2**20:.0f} MiB", "", "",
                 "≤ 800 MiB"])
    return rows


def linear_table(python: str, sizes: list[int]) -> str:
    """`refdbg leaks` in gdb on webs of several sizes, against what the process needs to look at them itself."""
    rows: list[list[Any]] = []
    for size in sizes:
        times, found = captures(python, size, 1, "leaks")
        own = times["in the process"]
        rows.append([
            f"{found['objects']:,}", f"{found['heap']:,}", f"{found['wall']:.1f}", f"{found['cpu']:.1f}",
            f"{1e6 * found['cpu'] / found['heap']:.1f}", f"{own.median:.2f}", f"{found['wall'] / own.median:.1f}",
            f"{found['most'] / 2**20:.0f}",
        ])  # fmt: skip
    names = [
        "tracked objects", "objects in all", "refdbg leaks, s", "cpu s", "cpu µs/object",
        "gc.get_objects, getrefcount, get_referents there, s", "× its time", "gdb and child at most, MiB",
    ]  # fmt: skip
    return tabulate(zip(names, *rows), disable_numparse=True, colalign=["left", *("right" for _ in sizes)])


def run_rows(times: dict[str, Times]) -> list[list[Any]]:
    """The time of whole runs."""
    rows = []
    for what, found in times.items():
        gdb = times["gdb"]
        cpu = statistics.median(found.cpu)
        rows.append([
            f"-c pass: {what}", "", len(found.wall), found.median,
            f"cpu {cpu:.3f} s, fastest {min(found.wall):.3f} s",
            f"{found.median / gdb.median:.2f} × gdb (cpu {cpu / statistics.median(gdb.cpu):.2f} ×)"
            if what == "refdbg-run" else "",
            f"{found.median / times['plain'].median:.1f} × plain" if what != "plain" else "",
            "≤ 2, aim 1.7 × gdb" if what == "refdbg-run" else "",
        ])  # fmt: skip
    return rows


BLAMED = """
import ctypes
class Thing: pass
def work():
    thing = Thing()
    for _ in range({rounds}):
        things = [thing]
        things = None
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
work()
"""


def blame_line(python: str, changes: int) -> str:
    """`refdbg-run --blame` of an object whose count changes so often, to the end of both runs."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        options = ["--json", str(report), "--blame", "__main__.Thing"]
        command = [*_entry(), *options, python, "-c", BLAMED.format(rounds=changes // 2)]
        wall, cpu = _timed(command)
        found = json.loads(report.read_text(encoding="utf-8"))["blame"]["result"]
    seen = found["balance"]["increments"] + found["balance"]["decrements"]
    left = ", ".join(f"{each['references']:+} {each['site']['function']}" for each in found["balance"]["remaining"])
    return f"blame: {seen} changes, {wall:.1f} s (cpu {cpu:.1f} s), left {left}; goal: 60 s for 100000"


def refleak_line(python: str, test: list[str]) -> str:
    """`refdbg-run --refleak` of regrtest's -R 3:3 against the plain run; *test*: its name and options."""
    command = [python, "-m", "test", "-R", "3:3", *test]
    with tempfile.TemporaryDirectory() as folder:
        refdbg = [*_entry(), "--json", "report", "--refleak"]
        (plain, own), (wall, cpu) = (_timed([*words, *command], folder, (0, 2)) for words in ([], refdbg))
        (found,) = json.loads(Path(folder, "report").read_text(encoding="utf-8"))["repetitions"]
    limit = 2.5 * plain + 5 if plain < 60 else 2 * plain
    return (
        f"refleak: {found['test']} {found['references'][found['warmups']:]}, plain {plain:.1f} s (cpu {own:.1f} s), "
        f"refdbg {wall:.1f} s (cpu {cpu:.1f} s); goal: {limit:.1f} s"
    )


# Each frame is another function's, so that no output is shortened.
DEEP = """
import sys
sys.setrecursionlimit({frames} * 2)
lines = []
for row in range({frames} - 2):
    lines.append(f"def f{{row}}(a, b):\\n    c = [a, b]\\n    return f{{row + 1}}(b, {{row}})\\n")
lines.append(f"def f{{row + 1}}(a, b):\\n    return ascii(a)\\n")
path = sys.argv[1] + "/deep.py"
with open(path, "w") as file:
    file.write("".join(lines))
exec(compile("".join(lines), path, "exec"))
f0(1, 2)
"""


def frames_line(python: str, helper: Path, frames: int = 1000, repetitions: int = 4) -> str:
    """`refdbg frames` against CPython's own `py-bt`, each in a gdb of its own: the first time, and when repeated."""
    if not helper.exists():
        raise SystemExit(f"no {helper}: apt-get install python3.11-dbg, or name CPython's Tools/gdb/libpython.py")
    times: dict[str, list[dict[str, float]]] = {}
    for command in ("py-bt", "refdbg frames"):
        with tempfile.TemporaryDirectory(prefix="refdbg-bench-") as folder:
            output = Path(folder, "output")
            orders = {"command": command, "repetitions": repetitions, "output": str(output)}
            done = subprocess.run(
                ["gdb", "-nx", "-batch", "-iex", "set auto-load no", "-ex", "set pagination off",
                 "-ex", f"source {helper if command == 'py-bt' else ROOT / 'gdb/refdbg.py'}",
                 "-ex", "break builtin_ascii", "-ex", "run", "-x", str(HERE / "frames_in_gdb.py"), "-ex", "kill",
                 "--args", python, "-c", DEEP.format(frames=frames), folder],
                env={**ENVIRONMENT, "REFDBG_BENCH": json.dumps(orders)}, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
            )  # fmt: skip
            if not output.exists():
                raise SystemExit(f"{command} failed:\n{done.stdout[-4000:]}")
            times[command] = json.loads(output.read_text())
    (first, *again), (own_first, *own_again) = times["refdbg frames"], times["py-bt"]
    repeated, own = (statistics.median(each["cpu"] for each in found) for found in (again, own_again))
    return (
        f"frames: {frames} frames, {first['lines']} lines ({own_first['lines']} of py-bt); "
        f"first time {first['cpu']:.3f} s, {first['cpu'] / own_first['cpu']:.2f} × py-bt ({own_first['cpu']:.3f} s); "
        f"repeated {repeated:.3f} s, {repeated / own:.2f} × py-bt ({own:.3f} s); cpu; goal: 0.5 × py-bt"
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--python", default="python3.11-dbg", help="the interpreter (default: python3.11-dbg)")
    parser.add_argument("--objects", type=int, default=1_000_000, help="tracked objects (default: 1000000)")
    parser.add_argument("--repetitions", type=int, default=3, help="of each capture (default: 3)")
    parser.add_argument("--replays", type=int, default=3, help="of a replayed collection (default: 3)")
    parser.add_argument("--runs", type=int, default=15, help="of each whole run (default: 15)")
    parser.add_argument("--linear", type=int, nargs="+", metavar="N",
                        help="only this: refdbg leaks on so many objects each (100000 300000 1000000 4000000: minutes)")
    parser.add_argument("--blame", type=int, metavar="N", help="only this: blame of an object with N changes")
    parser.add_argument("--frames", nargs="?", type=Path, const=PY_BT, metavar="LIBPYTHON.PY",
                        help=f"only this: refdbg frames against the py-bt of that file of CPython's (default: {PY_BT})")
    parser.add_argument("--refleak", nargs=argparse.REMAINDER, metavar="WORD",
                        help="only this, and last: regrtest -R 3:3 WORD… with --python, a build with its test suite")
    orders = parser.parse_args()
    python = shutil.which(orders.python)
    if python is None or shutil.which("gdb") is None:
        raise SystemExit(f"needs gdb and {orders.python}")
    if orders.linear:
        print(f"{python}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}")
        print(linear_table(python, orders.linear))
        return
    if orders.blame:
        print(f"{python}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}")
        print(blame_line(python, orders.blame))
        return
    if orders.frames:
        print(f"{python}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}")
        print(frames_line(python, orders.frames))
        return
    if orders.refleak:
        print(f"{python}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}")
        print(refleak_line(python, orders.refleak))
        return
    rows: list[list[Any]] = []
    if orders.repetitions:
        times, memory = captures(python, orders.objects, orders.repetitions, "capture")
        rows += capture_rows(times, memory)
        rows += lldb_rows(captures_in_lldb(python, orders.objects, orders.repetitions), times)
    if orders.replays:
        rows += replay_rows(*captures(python, orders.objects, orders.replays, "replay"))
    if orders.runs:
        rows += run_rows(runs(python, orders.runs))
    print(f"{python}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}; medians of interleaved repetitions")
    print(tabulate(
        rows, ["what", "objects", "times", "seconds", "result", "ratio", "second ratio", "goal"],
        floatfmt=".3f", disable_numparse=[0, 1, 4, 5, 6, 7],
    ))  # fmt: skip
    if orders.repetitions:
        print(
            "\nmemory: growth of the debugger's resident size (/proc/self/statm; at most: VmHWM after clear_refs) over "
            "the first walk,\nless the bytes of the page cache. The process's other ways: gc.get_objects() + id, type, "
            "sys.getrefcount; a gdb.Value walk."
        )


if __name__ == "__main__":
    main()
