"""Where objects were made: what refdbg reads of tracemalloc's tables, against what tracemalloc itself says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.debugger import ROOT, run_gdb
from tests.support.run import run

PROGRAM = ROOT / "tests" / "programs" / "allocations_oracle.py"
ON = ["-X", "tracemalloc=25"]
# Until 3.11 tracemalloc does not know what stands before an object whose dict is managed (PyType_IS_GC alone decides).
MANAGED = {"instance", "subclass of dict"}


def _line(text: str) -> int:
    lines = PROGRAM.read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


def _frames(allocation: Any) -> list[list[Any]]:
    return [[frame["file"], frame["line"]] for frame in allocation["frames"]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("allocations")


@pytest.fixture(scope="module")
def told(interpreter: str, folder: Path) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """What the program says of each object, and what refdbg answers on it."""
    file = folder / "told"
    answers = run_gdb(
        interpreter, PROGRAM, ["refdbg object {address} --json"], [str(file)], told=file, folder=folder, options=ON
    )
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    return [(row, answer.record) for row, answer in zip(rows, answers)]


def test_the_same_stack_as_tracemalloc(told: list[tuple[dict[str, Any], dict[str, Any]]]) -> None:
    assert len(told) == 27
    compared = 0
    for row, answer in told:
        found = _frames(answer["allocation"])
        if row["frames"] or row["kind"] not in MANAGED:
            assert found == row["frames"], row["kind"]
        else:
            assert found[0] == [str(PROGRAM), _line(f'yield "{row["kind"]}"')], row["kind"]
        compared += bool(found)
        assert answer["allocation"]["total"] == len(found)
    assert compared >= 25  # a block of a free list from before tracemalloc was started has no trace


def test_the_functions_are_named(told: list[tuple[dict[str, Any], dict[str, Any]]]) -> None:
    (row,) = [answer for row, answer in told if row["kind"] == "large list"]
    assert row["allocation"]["frames"][0]["function"] == "__main__.make"


@pytest.fixture(scope="module")
def commands(interpreter: str, folder: Path) -> dict[str, Any]:
    """Each command's answer at the stop, where a core file and snapshots are written as well."""
    asked = ["refdbg object obj --json", "refdbg object obj", "refdbg why obj", "refdbg leaks --json",
             f"gcore {folder / 'core'}", f"refdbg snapshot {folder / 'whole.refdbg'}",
             f"refdbg snapshot {folder / 'blank.refdbg'} --no-values"]  # fmt: skip
    answers = run_gdb(interpreter, PROGRAM, asked, [str(folder / "again")], folder=folder, options=ON)
    return {answer.command: answer for answer in answers}


def test_object_and_why_show_it(commands: dict[str, Any]) -> None:
    line = _line("kept = dict(make(7))")
    for command in ("refdbg object obj", "refdbg why obj"):
        assert f"allocated at {PROGRAM}:{line}" in commands[command].text


def test_findings_say_where_their_objects_were_made(commands: dict[str, Any]) -> None:
    findings = commands["refdbg leaks --json"].record["findings"]
    (lost,) = [each for each in findings if "__main__.Lost <" in each["message"]]
    (made,) = [each for each in lost["evidence"] if each["kind"] == "allocation"]
    assert made["location"] == {"file": str(PROGRAM), "line": _line("lost = Lost()")}
    assert f"called from {PROGRAM}:" in made["text"] and "in __main__.lose" in made["text"]


def test_its_own_keys_hold_nothing(commands: dict[str, Any]) -> None:
    # The table of traces has the address of the float, which begins its block; a leak is a leak all the same.
    findings = commands["refdbg leaks --json"].record["findings"]
    lost = [each for each in findings if "float 1.152921504606847e+18" in each["message"]]
    assert [each["verdict"] for each in lost] == ["lost-reference"]
    assert lost[0]["explains"]["references"] >= 8


@pytest.mark.parametrize("file", ["core", "whole.refdbg", "blank.refdbg"])
def test_without_a_debugger(commands: dict[str, Any], interpreter: str, folder: Path, file: str) -> None:
    assert commands  # has written the files
    live = commands["refdbg object obj --json"].record
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from refdbg.launch.shell import main; main()"
    program = [interpreter] if file == "core" else []
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder / file), *program, "object", hex(live["address"]), "--json"],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["allocation"] == live["allocation"]


def test_without_tracemalloc(python311: str, folder: Path) -> None:
    asked = ["refdbg object obj --json", "refdbg object obj"]
    record, text = run_gdb(python311, PROGRAM, asked, [str(folder / "off")], folder=folder)
    assert record.record["allocation"] is None
    assert "alloc" not in text.text.split("references")[1]


def test_at_the_end_of_the_program(interpreter: str, folder: Path) -> None:
    ended = run([interpreter, PROGRAM, folder / "end"], ["--allocations"])
    assert ended.status == 0
    (lost,) = [each for each in ended.report["findings"] if "__main__.Lost <" in each["message"]]
    (made,) = [each for each in lost["evidence"] if each["kind"] == "allocation"]
    assert made["location"] == {"file": str(PROGRAM), "line": _line("lost = Lost()")}
