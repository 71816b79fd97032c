"""`refdbg frames --native`: which C functions stand between which Python functions."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import missing, python_of
from tests.support.debugger import ROOT, lldb, on_core, run_gdb, run_lldb
from tests.support.run import ENVIRONMENT

PROGRAM = ROOT / "tests/programs/mixed_stack.py"
FRAMES = "refdbg frames --all --native --json"
OUTER = ["sorting", "generator", "collecting", "main", "<module>"]
# Python functions, innermost first, each with the C function that it has called, and the C file of that.
EXPECTED = [
    ("innermost", "builtin_ascii$", "bltinmodule.c"), ("between", "", ""), ("__lt__", "", ""),
    ("pushing", "_heapq_heappush$", "_heapqmodule.c"), ("reducing", "", ""),
    ("folding", "(_?functools_)reduce$", "_functoolsmodule.c"), ("key", "", ""),
    ("sorting", "builtin_sorted$", "bltinmodule.c"), ("generator", "", ""),
    ("collecting", "list_", "listobject.c"), ("main", "", ""), ("<module>", "", ""),
]  # fmt: skip


@pytest.fixture(scope="module", params=["3.9-debug", "3.11-debug", "3.13-debug"])
def told(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any, list[Any], Path]:
    """The interpreter, what gdb said, what was seen step by step, and a core file of the process."""
    folder = tmp_path_factory.mktemp("mixed")
    python = python_of(request.param)
    found, core = folder / "found", folder / "core"
    commands = [
        f"python import os; os.environ['FOUND'] = {str(found)!r}",
        "tbreak builtin_sorted", "continue", "tbreak _PyEval_EvalFrameDefault", "continue",
        f"source {ROOT}/tests/support/stepped.py", "continue", FRAMES, f"gcore {core}",
    ]
    answers = run_gdb(python, PROGRAM, commands, folder=folder)
    return python, answers[-2].record, json.loads(found.read_text()), core


def _check(stack: dict[str, Any]) -> None:
    python = [row for row, frame in enumerate(stack["frames"]) if not frame["native"]]
    assert [stack["frames"][row]["function"].rpartition(".")[2] for row in python] == [each[0] for each in EXPECTED]
    assert python[-1] == len(stack["frames"]) - 1
    assert not stack["note"]
    for (function, pattern, file), before, row in zip(EXPECTED, [-1, *python], python):
        between = stack["frames"][before + 1 : row]
        called = [frame for frame in between if pattern and re.match(pattern, frame["function"])]
        if pattern:
            assert called, (function, between)
            assert between[-1]["function"].startswith(("gen_", called[-1]["function"])), (function, between)
            assert file in called[-1]["file"]
            assert called[-1]["line"] > 0
        else:
            names = [frame["function"] for frame in between]
            assert not [name for name in names if not name.startswith(("gen_", "slot_"))], (function, names)


def _functions(stack: dict[str, Any]) -> list[Any]:
    return [(frame["function"], frame["file"], frame["line"]) for frame in stack["frames"]]


def test_c_functions_stand_where_they_were_called(told: tuple[str, Any, list[Any], Path]) -> None:
    _, record, _, _ = told
    _check(record["threads"][0])
    for thread in record["threads"][1:]:
        assert "lock_PyThread_acquire_lock" in [frame["function"] for frame in thread["frames"]]
        assert thread["frames"][0]["native"]
        assert not thread["note"]


def test_at_each_instruction_of_a_call(told: tuple[str, Any, list[Any], Path]) -> None:
    _, _, stepped, _ = told
    seen = set()
    for functions, whole, note in stepped:
        own = [each.rpartition(".")[2] for each in functions]
        assert own[-5:] == OUTER
        assert whole, note
        assert not note or ("being made" in note and own == OUTER)
        seen.add(len(own))
    assert {5, 6} <= seen  # before and after the frame was there


@pytest.mark.parametrize("told", ["3.13-debug"], indirect=True, scope="module")
def test_in_lldb(told: tuple[str, Any, list[Any], Path], tmp_path: Path) -> None:
    python, record, _, _ = told
    if lldb() is None:
        missing("no lldb: apt-get install lldb-19")
    *_, answer = run_lldb(python, PROGRAM, ["continue", FRAMES], folder=tmp_path)
    _check(answer.record["threads"][0])
    assert _functions(answer.record["threads"][0]) == _functions(record["threads"][0])


@pytest.mark.parametrize("told", ["3.13-debug"], indirect=True, scope="module")
def test_without_a_debugger(told: tuple[str, Any, list[Any], Path]) -> None:
    python, record, _, core = told
    command = [Path(sys.executable).with_name("refdbg"), core, python, *FRAMES.split()[1:]]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True, check=True)
    stack = json.loads(done.stdout)["threads"][0]
    _check(stack)
    assert _functions(stack) == _functions(record["threads"][0])


def test_a_state_that_another_thread_runs(tmp_path: Path) -> None:
    """A thread state names the thread that has made it, whose C functions need not be its own."""
    program = tmp_path / "other.py"
    program.write_text(
        "import threading, time\n"
        "threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n"
        "time.sleep(1)\n"
        "ascii('here')\n"
    )
    states = [f"_PyRuntime.interpreters.main->threads.head->{next_}native_thread_id" for next_ in ("", "next->")]
    swapped = [f"set var $id = {states[0]}", f"set var {states[0]} = {states[1]}", f"set var {states[1]} = $id"]
    *_, answer = run_gdb(python_of("3.11-debug"), program, [*swapped, FRAMES], folder=tmp_path)
    for thread in answer.record["threads"]:
        assert not [frame for frame in thread["frames"] if frame["native"]]
        assert "another may run them" in thread["note"]


SUBINTERPRETER = """\
import sys, threading, time
import _xxsubinterpreters as interpreters
made = interpreters.create()
idle = interpreters.create()
def runs():
    with open(sys.argv[1], "w") as file:
        print(threading.get_native_id(), file=file)
    interpreters.run_string(made, "import time\\ntime.sleep(1000)")
threading.Thread(target=runs, daemon=True).start()
time.sleep(1)
ascii("here")
"""


def _of_subinterpreter(record: Any, runner: int, runs: bool) -> None:
    # The kernel id of the thread that runs it; whether that one is the selected one.
    states = {}
    for thread in record["threads"]:
        python = [frame["function"] for frame in thread["frames"] if not frame["native"]]
        states[(thread["interpreter"], *python[-1:])] = thread
    sub, own, main = states[1, "<module>"], states[0, "Thread._bootstrap"], states[0, "<module>"]
    assert sub["native_id"] == own["native_id"] == runner != main["native_id"]
    assert (main["selected"], own["selected"], sub["selected"]) == (not runs, runs, runs)
    assert not sub["note"]


def test_a_subinterpreter_that_another_thread_runs(tmp_path: Path) -> None:
    """Until 3.12 its only thread state is that of the thread that has made it."""
    program, file, core, python = tmp_path / "other.py", tmp_path / "id", tmp_path / "core", python_of("3.11-debug")
    program.write_text(SUBINTERPRETER)
    plain = "refdbg frames --json"
    commands = [FRAMES, plain, f"gcore {core}", "thread 2", FRAMES, plain]
    answers = run_gdb(python, program, commands, [str(file)], folder=tmp_path)
    runner = int(file.read_text())
    _of_subinterpreter(answers[0].record, runner, False)
    _of_subinterpreter(answers[4].record, runner, True)
    (sub,) = [each for each in answers[0].record["threads"] if each["interpreter"] == 1]
    functions = [frame["function"] for frame in sub["frames"]]
    assert functions.index("time_sleep") < functions.index("<module>") < functions.index("interp_run_string")
    assert [each["interpreter"] for each in answers[1].record["threads"]] == [0]
    assert [each["interpreter"] for each in answers[5].record["threads"]] == [0, 1]
    whole = "refdbg frames --all --json"
    if lldb() is None:
        missing("no lldb: apt-get install lldb-19")
    (answer,) = on_core("lldb", python, core, [whole], tmp_path)
    _of_subinterpreter(answer.record, runner, False)
    _of_subinterpreter(_without_debugger([core, python]), runner, False)


def test_a_subinterpreter_of_a_running_process(tmp_path: Path) -> None:
    program, file = tmp_path / "other.py", tmp_path / "id"
    program.write_text(SUBINTERPRETER.replace('ascii("here")', 'print("ready", flush=True); time.sleep(1000)'))
    with subprocess.Popen([python_of("3.11-debug"), program, file], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            _of_subinterpreter(_without_debugger(["--pid", process.pid]), int(file.read_text()), False)
        finally:
            process.kill()


def _without_debugger(what: list[Any]) -> Any:
    command = [str(each) for each in [Path(sys.executable).with_name("refdbg"), *what, "frames", "--all", "--json"]]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def test_a_subinterpreter_that_no_c_stack_tells_of(tmp_path: Path) -> None:
    """3.9 keeps no address of a C frame."""
    program = tmp_path / "other.py"
    program.write_text(SUBINTERPRETER)
    (answer,) = run_gdb(python_of("3.9-debug"), program, [FRAMES], [str(tmp_path / "id")], folder=tmp_path)
    main, own, sub, _ = answer.record["threads"]
    for thread in (main, sub):  # both name the main thread
        assert "another may run these frames" in thread["note"]
        assert [frame["function"] for frame in thread["frames"]] == ["<module>"]
    assert not own["note"].startswith("several")
