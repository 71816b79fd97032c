"""What lldb does in its own way: stops, watchpoints, signals, exec, core files. The answers: test_same_everywhere."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import missing
from tests.support.cores import kernel_core
from tests.support.debugger import attached, lldb, on_core, run_lldb
from tests.support.run import ENVIRONMENT, Running, printed_total, refdbg_run, run

UNDER = ["--debugger", "lldb"]
GARBAGE = """\
import gc
class Node:
    def __del__(self): pass
def leave():
    node = Node(); node.itself = node
ascii(1)
for _ in range(3):
    leave(); gc.collect()
ascii(2)
"""


@pytest.fixture(scope="module", autouse=True)
def _lldb() -> None:
    if lldb() is None:
        missing("no lldb: apt-get install lldb-19")


def test_collections(python311: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(GARBAGE)
    commands = [
        "refdbg gc log", "refdbg gc stop --type Node", "continue", "refdbg gc unreachable --json", "continue",
        "refdbg gc stop --off", "continue", "refdbg gc log --off --json", "refdbg object obj",
    ]  # fmt: skip
    _, _, first, garbage, second, _, _, log, last = run_lldb(python311, program, commands, folder=tmp_path)
    for stopped in (first, second):
        assert "stopped before finalizers are called" in stopped.text and "finalizer Node.__del__" in stopped.text
    assert {row["type"]: row["objects"] for row in garbage.record["by_type"]} == {"__main__.Node": 1}
    assert [row["finalized"] for row in log.record["collections"]] == [1, 1, 1]
    assert "repr        2" in last.text  # the program went on to the second ascii()


def test_an_interpreter_loaded_later(build: Callable[[str], str], tmp_path: Path) -> None:
    shared = build("3.11-trace-refs")
    program = tmp_path / "program.py"
    program.write_text("import gc\ngc.collect()\nascii(1)\n")
    commands = ["breakpoint set -n builtin_ascii", "refdbg gc log --check", "process launch",
                "refdbg gc log --off --json", "process kill"]  # fmt: skip
    _, _, _, log, _ = run_lldb(shared, program, commands, stop_at=None, folder=tmp_path)
    *importing, last = [row["reason"] for row in log.record["collections"]]
    assert last == "gc.collect()" and set(importing) == {"allocation"}
    assert log.record["checks"] == [f"{len(importing) + 1} collections were replayed; all decided alike."]


def test_expressions_run_nothing(python311: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("ascii({'one': 1})\n")
    given = ["obj", "*obj", "(PyObject *) obj", "$rsi", "obj->ob_type", "&PyDict_Type", "PyDict_Type", "puts(1)", "nix"]
    answers = run_lldb(python311, program, [f"refdbg object {each}" for each in given], folder=tmp_path)
    assert all("{'one': 1}" in answer.text for answer in answers[:4])
    assert all("<class 'dict'>" in answer.text for answer in answers[4:7])
    assert "lldb would run code in the process" in answers[7].text
    assert "no such variable" in answers[8].text


def test_the_kernels_core_file(python311: str, tmp_path: Path) -> None:
    core = kernel_core(python311, tmp_path)
    census, stop = on_core("lldb", python311, core, ["refdbg census --limit 1000 --json", "refdbg gc stop"], tmp_path)
    assert {row["type"]: row["objects"] for row in census.record["by_type"]}["__main__.Node"] == 50
    assert census.record["notes"] == []
    assert "this is a core file" in stop.text


def test_the_core_file_that_lldb_saves(python311: str, tmp_path: Path) -> None:
    # A minidump: it has no thread pointer, and of each stack the used part.
    program, core = tmp_path / "program.py", tmp_path / "minidump"
    program.write_text("import sys\nkeep = [set()]\nprint(id(keep[0]), flush=True)\nsys.stdin.read()")
    running = Running([python311, program])
    asked = ["refdbg census --json", "refdbg leaks --json", f"refdbg referrers {running.line()} --json"]
    *live, _ = attached("lldb", running.process.pid, [*asked, f"process save-core --style full {core}"], tmp_path)
    running.end()
    saved = on_core("lldb", python311, core, asked, tmp_path)
    assert live[0].record == saved[0].record
    assert live[1].record["findings"] == saved[1].record["findings"]
    rows = [[row for row in each.record["rows"] if row["kind"] == "object"] for each in (live[2], saved[2])]
    assert rows[0] == rows[1] and any(row["label"] == "[0]" for row in rows[0])


def test_a_second_debugger(python311: str) -> None:
    code = "import os, sys; print(os.getpid(), flush=True); sys.stdin.readline()"
    first = Running([python311, "-c", code])
    pid = int(first.line())
    holder = subprocess.Popen(["gdb", "-nx", "-q", "-p", str(pid)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL)  # fmt: skip
    while "TracerPid:\t0\n" in Path(f"/proc/{pid}/status").read_text():
        time.sleep(0.05)
    for debugger in ("gdb", "lldb"):
        gather = f"""
from refdbg.debuggers.{debugger} import *
from refdbg.errors import RefdbgError
try:
    {"GdbSession()" if debugger == "gdb" else "LldbSession(lldb.debugger)"}.attach({pid})
except RefdbgError as error:
    print("REFUSED", error.text())
"""
        assert f"gdb (process {holder.pid}) is debugging it already" in _inside(debugger, gather)
    holder.communicate(b"detach\nquit\n")
    first.write("")
    assert first.end().status == 0


def _inside(debugger: str, code: str) -> str:
    root = Path(__file__).parents[2]
    script = f"import sys; sys.path.insert(0, {str(root)!r}); exec({code!r})"
    command = {
        "gdb": ["gdb", "-nx", "-batch", "-ex", f"python {script}"],
        "lldb": [str(lldb()), "-x", "--batch", "-o", f"script {script}"],
    }[debugger]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False).stdout


# refdbg-run --debugger lldb


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGSEGV", "SIGABRT", "SIGUSR1"])
def test_death_by_signal(python311: str, name: str) -> None:
    ended = run([python311, "-c", f"import os, signal; os.kill(os.getpid(), signal.{name})"], UNDER)
    assert ended.status == -signal.Signals[name]
    crash = ended.report["target"]["crash"]
    assert (crash or {}).get("signal") == (name if name in ("SIGSEGV", "SIGABRT") else None)
    if crash:
        assert crash["native"][0]["function"] in ("kill", "__GI_kill") and crash["python"][0]["line"] == 1


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGINT", "SIGALRM", "SIGCHLD", "SIGRTMIN"])
def test_a_handled_signal(python311: str, name: str) -> None:
    code = (
        f"import os, signal; signal.signal(signal.{name}, lambda number, frame: print('got', number))\n"
        f"for _ in range(3): os.kill(os.getpid(), signal.{name})\n"
    )
    ended = run([python311, "-c", code], UNDER)
    assert (ended.status, ended.out) == (0, f"got {signal.Signals[name].value}\n".encode() * 3)
    assert ended.report["interpreters"][0]["left_over"] is not None


def test_sigtrap_is_lost_and_said(python311: str) -> None:
    ended = run([python311, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGTRAP); print('on')"], UNDER)
    assert ended.out == b"on\n"
    assert "SIGTRAP that lldb cannot pass on" in ended.report["partial"]


def test_exec_of_another_python(python311: str, build: Callable[[str], str]) -> None:
    shared = build("3.11-trace-refs")
    code = f"import os; os.execv({shared!r}, [{shared!r}, '-X', 'showrefcount', '-c', 'print(1)'])"
    ended = run([python311, "-c", code], UNDER)
    assert (ended.status, ended.out) == (0, b"1\n")
    assert Path(ended.report["target"]["executable"]).resolve() == Path(shared).resolve()
    assert ended.report["totals"]["references_reported"] == printed_total(ended)
    assert ended.report["totals"]["references_unattributed"] == 0


def test_children_run_untouched(python311: str) -> None:
    code = (
        "import os, subprocess, sys\npid = os.fork()\nif not pid: os._exit(7)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
        "print(subprocess.run([sys.executable, '-c', 'import gc; gc.collect(); raise SystemExit(5)']).returncode)"
    )
    ended = run([python311, "-u", "-c", code], UNDER)
    assert (ended.status, ended.out) == (0, b"7\n5\n")
    assert ended.report["interpreters"][0]["left_over"] is not None


def test_ctrl_c_is_the_programs(python311: str, tmp_path: Path) -> None:
    code = "import time\nprint('ready', flush=True)\ntime.sleep(60)"
    command = [*refdbg_run("--json", str(tmp_path / "report.json"), *UNDER), python311, "-c", code]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT,
                               start_new_session=True)  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT and b"KeyboardInterrupt" in err
    assert (tmp_path / "report.json").exists()
