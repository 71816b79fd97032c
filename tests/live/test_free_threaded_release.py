"""A free-threaded release build: its blocks have no headers, but mimalloc's pages say which are in use."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.live.test_extensions import CASES, extensions
from tests.live.test_free_threaded import DAMAGE, FIND, PROGRAMS, ended
from tests.live.test_traverse import check
from tests.support.debugger import run_gdb, run_lldb
from tests.support.run import run

LEAKING = """
import ctypes, os, sys, threading
class Node: pass
def lose(number):
    lost = [Node(), "x" * 5000, number + 0.5]
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(lost))
def deep(number): return number and deep(number - 1)
def ask():
    for number in range(20): lose(number)
    deep(100)
ask()
thread = threading.Thread(target=ask); thread.start(); thread.join()
kept = {"the key": Node()}
deep(100)
ascii(kept["the key"])
"""
MODULES = "import asyncio, decimal, json\nasync def main(): await asyncio.sleep(0.01)\nasyncio.run(main())"
THREADS = """
import concurrent.futures as futures, _interpreters
with futures.ThreadPoolExecutor(4) as executor: list(executor.map(str, range(1000)))
each = _interpreters.create()
_interpreters.exec(each, "import json")
_interpreters.destroy(each)
"""
NAMED = ("static_cache", "forgotten_type", "over_visit", "error_path", "cpp_owner", "capsule_owner")  # one of each kind


@pytest.fixture(scope="module")
def python(build: Callable[[str], str]) -> str:
    """The build."""
    return build("3.13t-release")


# Objects


def test_objects_and_blocks(python: str, tmp_path: Path) -> None:
    """Of threads that run, and of some that have ended: what gc.get_objects() gave, with its counts."""
    found = check(python, "free-threaded", [PROGRAMS / "free_threaded.py", tmp_path / "told"], tmp_path)
    assert found["tracked"] > 10_000 and found["twice"] == 0
    assert found["not found"] == 0 and sum(found["more"].values()) < 12
    assert found["collector's number"] == found["tracked"] - sum(found["more"].values())
    assert found["not in the heap"] == 0 and found["sorted"] and found["blocks"] > 50_000
    assert found["notes"] == [] and found["counts"] == found["told"]
    assert found["abandoned"] and found["states"]["merged"] > 100


def test_damaged_pages(python: str, tmp_path: Path) -> None:
    """The links of its free blocks are plain ones. The walk ends, counts what it lost, and says so."""
    damages = {place: said for place, said in DAMAGE.items() if "keys" not in place}
    script, program = tmp_path / "find.py", tmp_path / "program.py"
    script.write_text(FIND)
    program.write_text("nodes = [[number] for number in range(3000)]\ndel nodes[::2]\nascii(0)\n")
    commands = [f"source {script}"]
    for damage in damages:
        place, value = damage.split(" = ")
        commands += [f"set $place = &({place})", "set $old = *$place", f"set var *$place = {value}",
                     "refdbg status --json", "refdbg census --json", "set var *$place = $old"]  # fmt: skip
    answers = run_gdb(python, program, [*commands, "refdbg census --json"], folder=tmp_path)
    whole = answers[-1].record
    assert whole["notes"] == []
    for said, status, census in zip(damages.values(), answers[4::6], answers[5::6]):
        assert said in "\n".join(status.record["notes"])
        assert whole["objects"] - 3000 < census.record["objects"] < whole["objects"] + 3000


# A process that runs


@pytest.fixture(scope="module", params=["gdb", "lldb"])
def answers(request: pytest.FixtureRequest, python: str, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What the commands say of a program that has lost 40 lists, 20 of them in a thread that has ended."""
    folder = tmp_path_factory.mktemp("leaking")
    program = folder / "leaking.py"
    program.write_text(LEAKING)
    asked = ("leaks", "census", "objects __main__.Node --limit 100", "balance obj", "why obj")
    debugged = run_gdb if request.param == "gdb" else run_lldb
    return debugged(python, program, [f"refdbg {each} --json" for each in asked], folder=folder)


def test_what_is_lost_in_a_process_that_runs(answers: list[Any]) -> None:
    leaks, census, nodes, balance, why = (answer.record for answer in answers)
    (found,) = leaks["findings"]
    # Without headers malloc's blocks are not known as well as in a debug build.
    assert (found["verdict"], found["confidence"]) == ("lost-reference", "possible")
    assert found["explains"] == {"objects": 160, "references": 160}
    assert census["objects"] == leaks["objects"] > 15_000 and census["notes"] == []
    assert census["counts"]["immortal"] > 5000 and census["counts"]["local"] > 5000
    assert len(nodes["rows"]) == 41 and {row["refcount"] for row in nodes["rows"]} == {1, balance["object"]["refcount"]}
    assert balance["lost"] == 0 and balance["surplus"] == 0
    assert "['the key']" in [holder["label"] for holder in balance["holders"] if holder["counts"]]
    assert "kept" in json.dumps(why)


# What is left over


def _notes(report: dict[str, Any]) -> list[str]:
    # Those that tell of something else than what is kept by design.
    return [note for note in report["warnings"] if "by design" not in note and "see there" not in note]


@pytest.mark.parametrize("code", [MODULES, THREADS], ids=["modules", "threads"])
def test_clean_programs(python: str, code: str) -> None:
    report = ended(python, "-c", code).report
    assert report["findings"] == _notes(report) == [] and report["partial"] is None and report["totals"] is None
    left = {row["type"]: row["references"] for row in report["interpreters"][0]["left_over"]["by_type"]}
    if code == MODULES:
        assert left == {"str": 0}  # immortal ones, which only a debug build frees
    else:
        assert left["tuple"] > 1000 and any("became immortal" in note for note in report["warnings"])


def test_it_leaves_what_a_debug_build_leaves(python: str, build: Callable[[str], str]) -> None:
    """There the sum is what the interpreter has printed."""
    command = ("-X", "showrefcount", "-c", "import curses, _testsinglephase, _testcapi")
    mine, debug = (ended(each, *command).report for each in (python, build("3.13t")))
    assert debug["totals"]["references_unattributed"] == 0 < debug["totals"]["references_reported"]
    left, other = (
        {row["type"]: row["references"] for row in each["interpreters"][0]["left_over"]["by_type"]}
        for each in (mine, debug)
    )
    assert left == other and sum(left.values()) > 200
    found, others = (
        [(each["verdict"], each["confidence"], each["holder"]["symbol"], each["explains"]["references"])
         for each in report["findings"]] for report in (mine, debug)
    )  # fmt: skip
    assert found == others and {each[:2] for each in found} == {("static-reference", "proven")}


@pytest.mark.parametrize("case", [case for case in CASES if case[0] in NAMED], ids=NAMED)
def test_the_planted_defect_is_named(python: str, case: tuple[str, str, str, set[str]]) -> None:
    """With the verdict, the words and the confidence of a debug build."""
    name, verdict, words, confidence = case
    found = ended(python, PROGRAMS / f"leak_{name}.py", extensions(python))
    assert found.status == 0 and found.report["partial"] is None
    first = found.report["findings"][0]
    assert (first["verdict"], words in first["message"]) == (verdict, True) and first["confidence"] in confidence
    assert _notes(found.report) == []


def test_the_control_is_silent(python: str) -> None:
    report = ended(python, PROGRAMS / "leak_static_cache.py", extensions(python), "control").report
    assert report["findings"] == _notes(report) == []


def test_no_second_run_to_blame_in(python: str, tmp_path: Path) -> None:
    program = tmp_path / "loses.py"
    program.write_text("import ctypes; lost = []; ctypes.pythonapi.Py_IncRef(ctypes.py_object(lost))")
    report = run([python, str(program)], ["--blame", "list"]).report
    (found,) = report["findings"]
    assert "with a build --with-pydebug" in found["next"] and "at random" in report["blame"]["error"]
