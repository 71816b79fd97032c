"""Core files: what the commands answer on one is what they answered on the process a moment before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import python_of
from tests.support.cores import kernel_core
from tests.support.debugger import ROOT, Answer, run_gdb
from tests.support.run import ENVIRONMENT

PROGRAM = """\
import threading
class Node: pass
keep = [Node() for _ in range(50)]
held = {"the key": Node()}
event = threading.Event()
threading.Thread(target=event.wait, daemon=True).start()
def inner(argument):
    ascii(argument)
inner(held["the key"])
"""

ASKED = (
    "refdbg status --json", "refdbg census --limit 1000 --json", "refdbg census --tracked --limit 1000 --json",
    "refdbg objects Node --limit 100 --json", "refdbg frames --all --json", "refdbg gc again --json",
    "refdbg referrers {node} --json", "refdbg referrers &PyBaseObject_Type --limit 100000 --json",
)  # fmt: skip

Answers = tuple[list[Answer], list[Answer], Path]


@pytest.fixture(scope="module")
def answers(interpreter: str, tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """What the commands answer on a live process, on its core file, and the file."""
    folder = tmp_path_factory.mktemp("core")
    program, core = folder / "program.py", folder / "core"
    program.write_text(PROGRAM)
    asked = [each.format(node="obj") for each in ASKED]
    *live, address, _ = run_gdb(interpreter, program, [*asked, "output (long)obj", f"gcore {core}"], folder=folder)
    asked = [each.format(node=address.text) for each in ASKED]
    _, *dead = run_gdb(interpreter, program, [f"core-file {core}", *asked], stop_at=None, folder=folder)
    return live, dead, core


def _pair(answers: Answers, command: str) -> tuple[Any, Any]:
    live, dead, _ = answers
    row = next(row for row, each in enumerate(ASKED) if each.startswith(command))
    return live[row].record, dead[row].record


@pytest.mark.parametrize("command", ["refdbg census --limit", "refdbg census --tracked", "refdbg objects"])
def test_the_same_objects(answers: Answers, command: str) -> None:
    live, dead = _pair(answers, command)
    assert live == dead
    assert (live.get("objects") or live["total"]) > 50


def test_the_same_status(answers: Answers) -> None:
    live, dead = _pair(answers, "refdbg status")
    assert (live.pop("live"), dead.pop("live")) == (True, False)
    assert live == dead


def test_the_same_frames_and_garbage(answers: Answers) -> None:
    for command in ("refdbg frames", "refdbg gc again"):
        live, dead = _pair(answers, command)
        assert live == dead


def test_referrers(answers: Answers) -> None:
    live, dead = _pair(answers, "refdbg referrers {node}")
    assert [row for row in dead["rows"] if row["label"] == "['the key']" and row["owner"]["type"] == "dict"]
    assert live == dead
    live, dead = _pair(answers, "refdbg referrers &PyBaseObject_Type")
    assert _has_static_data(dead)
    # A page that is written to before it becomes read-only is writable in the core file: it may show more.
    assert {row["place"] for row in live["rows"]} <= {row["place"] for row in dead["rows"]}


def _has_static_data(referrers: Any) -> bool:
    # tp_base of a type in the interpreter's own data.
    rows = [row for row in referrers["rows"] if "tp_base" in row["label"]]
    return any("PyDict_Type" in row["label"] or "<class 'dict'>" in str(row["owner"]) for row in rows)


def test_nothing_can_be_watched(answers: Answers, interpreter: str, tmp_path: Path) -> None:
    core = answers[2]
    commands = [f"core-file {core}", "refdbg gc stop", "refdbg gc log", "refdbg gc stop --type Node", "print 6 * 7"]
    _, *refused, last = run_gdb(interpreter, "", commands, stop_at=None, folder=tmp_path)
    for answer in refused:
        first, hint = answer.text.splitlines()
        assert first.startswith("refdbg: this is a core file: nothing runs in it")
        assert "`run`" in hint
    assert last.text == "$1 = 42"


def test_a_core_file_and_another_program(answers: Answers, tmp_path: Path) -> None:
    core = answers[2]
    _, nothing, _, wrong = run_gdb(
        "", "", [f"core-file {core}", "refdbg census", "file /bin/ls", "refdbg census"], stop_at=None, folder=tmp_path
    )
    assert "gdb has no program for this core file" in nothing.text and "`file /" in nothing.text
    assert "is another build than the core file is of" in wrong.text


def test_a_core_file_after_its_process(python311: str, tmp_path: Path) -> None:
    # Both have the same pid: nothing of the one may be taken for the other.
    program = tmp_path / "program.py"
    program.write_text("kept = [1]\nascii(kept)\nkept += 'abc'\nascii(kept)\n")
    core = tmp_path / "core"
    _, then, _, now, _, _, dead = run_gdb(
        python311, program,
        [f"gcore {core}", "refdbg object obj", "continue", "refdbg object obj", "kill", f"core-file {core}",
         "refdbg object obj"],
        folder=tmp_path,
    )  # fmt: skip
    assert "[1]" in then.text and "'c'" in now.text
    assert dead.text == then.text


def test_the_kernels_core_file(interpreter: str, tmp_path: Path) -> None:
    core = kernel_core(interpreter, tmp_path)
    commands = [f"core-file {core}", "refdbg census --limit 1000 --json", "refdbg gc again --json",
                "refdbg referrers &PyBaseObject_Type --limit 100000 --json"]  # fmt: skip
    _, census, again, referrers = run_gdb(interpreter, "", commands, stop_at=None, folder=tmp_path)
    assert {row["type"]: row["objects"] for row in census.record["by_type"]}["__main__.Node"] == 50
    assert census.record["scope"] == "all objects in allocator blocks"
    assert census.record["notes"] == []
    assert _has_static_data(referrers.record)
    assert again.record["tracked"] > 1000


def test_a_core_file_that_was_cut(python311: str, tmp_path: Path) -> None:
    core = kernel_core(python311, tmp_path)
    cut = tmp_path / "cut"
    cut.write_bytes(core.read_bytes()[: core.stat().st_size * 2 // 3])
    commands = [f"core-file {cut}", "refdbg census --json", "refdbg status", "print 6 * 7"]
    _, census, status, last = run_gdb(python311, "", commands, stop_at=None, folder=tmp_path)
    for answer in (census, status):
        assert "internal error" not in answer.text and "Traceback" not in answer.text
    assert "cannot be read" in census.text
    assert last.text == "$1 = 42"


@pytest.mark.parametrize("place", ["_PyRuntimeState_Init", "_PyTypes_InitTypes", "finalize_interp_delete"])
def test_at_the_ends_of_the_runtime(place: str, tmp_path: Path) -> None:
    """Where there are no objects yet, or no longer: what `leaks` has not looked at is not free of leaks."""
    core = tmp_path / "core"
    python313 = python_of("3.13-debug")
    run_gdb(python313, "-c", [f"gcore {core}"], ["1"], stop_at=place, folder=tmp_path)
    said = {}
    for command in ("status", "frames", "census", "leaks"):
        words = [Path(sys.executable).with_name("refdbg"), core, python313, command]
        done = subprocess.run(words, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False)
        assert "Traceback" not in done.stderr
        said[command] = done.stdout + done.stderr
    assert "debug, immortal" in said["status"]
    assert "File" not in said["frames"]
    some = place == "_PyTypes_InitTypes"
    assert said["census"].startswith("3 objects of 2 types" if some else "0 objects")
    assert ("No leak was found" in said["leaks"]) == some
    assert ("Python has no objects here" in said["leaks"]) == (not some)
