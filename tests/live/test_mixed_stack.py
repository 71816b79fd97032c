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
from tests.support.debugger import ROOT, lldb, run_gdb, run_lldb
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


def test_a_subinterpreter_that_another_thread_runs(tmp_path: Path) -> None:
    """Until 3.12 its thread state names the thread that has made it, whose C functions are not its own."""
    program = tmp_path / "other.py"
    program.write_text(
        "import threading, time\n"
        "import _xxsubinterpreters as interpreters\n"
        "made = interpreters.create()\n"
        "code = 'import time\\nready = True\\ntime.sleep(1000)'\n"
        "threading.Thread(target=interpreters.run_string, args=(made, code), daemon=True).start()\n"
        "time.sleep(1)\n"
        "ascii('here')\n"
    )
    (answer,) = run_gdb(python_of("3.11-debug"), program, [FRAMES], folder=tmp_path)
    (other,) = [each for each in answer.record["threads"] if each["interpreter"] == 1]
    assert [frame["function"] for frame in other["frames"]] == ["<module>"]
    assert "another may run them" in other["note"]
