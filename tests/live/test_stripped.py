"""Stripped release builds of 3.14 and 3.15, Debian sid's own, in a root of it: against what the program says.

The debug info of these builds lies in that root, too, in a folder that is hidden from all but one of these tests.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import missing
from tests.support import sid
from tests.support.containers import ContainerError
from tests.support.debugger import Answer, on_core, run_gdb, run_lldb
from tests.support.run import ENVIRONMENT, ROOT, Running

ORACLE = ROOT / "tests" / "programs" / "stripped_oracle.py"
LAYOUTS = ROOT / "tests" / "support" / "told_layouts.py"
HIDE = ["sh", "-c", 'mount -t tmpfs none /usr/lib/debug && exec "$@"', "hide"]
PYTHONS = ("/usr/bin/python3.14", "/usr/bin/python3.15")
QUESTIONS = ("status --json", "census --limit 1000 --json", "census --tracked --json", "frames --all --locals --json",
             "objects __main__.Slotted --json", "type dict", "type __main__.Slotted --json")
AGAIN = "gc again --json"
REFUSED = ("leaks", "gc log")
VERSION = "set var {unsigned long}((char *)&_PyRuntime + 8) = "
WAS = "set $was = {unsigned long}((char *)&_PyRuntime + 8)"
OTHERS = {f"{VERSION}0x030f00b1": "3.15.0 is an alpha or beta", f"{VERSION}0x031000f0": "3.13, 3.14, 3.15 only"}
FEW = 12  # objects that the program makes while it writes its file


@pytest.fixture(scope="module")
def root() -> Path:
    """Of Debian sid."""
    try:
        return sid.provide()
    except ContainerError as error:
        missing(f"no root of Debian sid: {error}")
        raise


@pytest.fixture(scope="module")
def inside(root: Path) -> list[str]:
    """What to put before a command line: there, without debug info."""
    return [*sid.inside(root), *HIDE]


class Looked:
    """What the program says of itself, and what is answered of it."""

    def __init__(self, told: Any, answers: dict[str, str]) -> None:
        self.told, self.answers = told, answers

    def record(self, question: str) -> Any:
        """The JSON of an answer."""
        text = self.answers[question]
        assert text.startswith("{"), text
        return json.loads(text)


def _named(questions: tuple[str, ...], answers: list[Answer]) -> dict[str, str]:
    return {question: answer.text for question, answer in zip(questions, answers)}


@pytest.fixture(scope="module", params=PYTHONS)
def gdb(request: pytest.FixtureRequest, inside: list[str], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(interpreter, folder with its core file, what was seen): at a stop under gdb."""
    folder = tmp_path_factory.mktemp("stripped")
    asked = [f"refdbg {question}" for question in (*QUESTIONS, AGAIN, *REFUSED)]
    answers = run_gdb(request.param, ORACLE, [f"gcore {folder}/core", *asked], [str(folder / "told")],
                      stop_at="getppid", folder=folder, inside=inside)[1:]
    told = json.loads((folder / "told").read_text())
    return request.param, folder, Looked(told, _named((*QUESTIONS, AGAIN, *REFUSED), answers))


def _checked(looked: Looked) -> None:
    told, record = looked.told, looked.record
    status = record("status --json")
    assert status["python"] == told["version"] and "(stripped)" in status["layout_source"]
    assert status["traits"] == {"debug": False, "trace_refs": False, "free_threaded": False, "immortal": True}
    (interpreter,) = status["interpreters"]
    assert len(interpreter["threads"]) == 2
    generations = interpreter["generations"]
    assert [row["name"] for row in generations] == ["0", "1", "2", "permanent"]
    census = record("census --limit 1000 --json")
    assert any("stripped" in note for note in census["notes"])
    tracked = record("census --tracked --json")["objects"]
    assert sum(row["tracked"] for row in generations) == census["objects"] == tracked
    found: Counter[str] = Counter()
    for row in census["by_type"]:
        found[row["type"].rpartition(".")[2]] += row["objects"]
    different = (found - Counter(told["types"])) + (Counter(told["types"]) - found)
    assert found["Node"] == 137 and different.total() <= FEW, different
    main, thread = record("frames --all --locals --json")["threads"]
    assert [_place(frame) for frame in thread["frames"]] == [_place(frame) for frame in told["thread"]]
    assert [sorted(frame["locals"]) for frame in thread["frames"]] == [frame["locals"] for frame in told["thread"]]
    assert [frame["locals"].get("captured") for frame in thread["frames"]].count("'in a cell'") == 1
    assert [frame["function"] for frame in main["frames"]] == ["values", "Body", "<module>"]
    assert [_place(frame) for frame in main["frames"][1:]] == [_place(frame) for frame in told["main"][1:]]
    for frame, expected in zip(main["frames"][1:], told["main"][1:]):
        assert _plain(sorted(frame["locals"])) == _plain(expected["locals"])
    assert {"file", "truth", "_", "types", "output"} == set(main["frames"][0]["locals"])
    (row,) = record("objects __main__.Slotted --json")["rows"]
    assert row["refcount"] == 41
    assert "kind        static type PyDict_Type" in looked.answers["type dict"]
    assert "HAVE_GC" in looked.answers["type __main__.Slotted --json"]


def _plain(names: list[str]) -> list[str]:
    return [name for name in names if not name.startswith("__")]  # of a module these are not shown


def _place(frame: Any) -> tuple[str, str, int]:
    return frame["function"], frame["file"], frame["line"]


def test_in_gdb(gdb: tuple[str, Path, Looked]) -> None:
    looked = gdb[2]
    _checked(looked)
    for question in REFUSED:
        assert "this Python is stripped" in looked.answers[question]
        assert "install its debug info" in looked.answers[question]


def test_what_a_collection_would_find(gdb: tuple[str, Path, Looked]) -> None:
    again = gdb[2].record(AGAIN)
    assert {row["type"]: row["objects"] for row in again["by_type"]} == {"__main__.Node": 37, "list": 37}
    assert (again["unreachable"], again["undecided"], again["notes"]) == (74, 0, [])


def test_in_lldb(gdb: tuple[str, Path, Looked], inside: list[str], tmp_path: Path) -> None:
    asked = [f"refdbg {question}" for question in QUESTIONS]
    answers = run_lldb(gdb[0], ORACLE, asked, [str(tmp_path / "told")], stop_at="getppid", folder=tmp_path,
                       inside=inside)
    _checked(Looked(json.loads((tmp_path / "told").read_text()), _named(QUESTIONS, answers)))


@pytest.mark.parametrize("debugger", ["gdb", "lldb"])
def test_on_a_core_file(debugger: str, gdb: tuple[str, Path, Looked], inside: list[str], tmp_path: Path) -> None:
    python, folder, looked = gdb
    asked = [f"refdbg {question}" for question in QUESTIONS]
    answers = on_core(debugger, python, folder / "core", asked, tmp_path, inside)
    _checked(Looked(looked.told, _named(QUESTIONS, answers)))


def _refdbg(words: list[str], folder: Path, before: list[str], status: int = 0) -> str:
    done = subprocess.run(
        [*before, sys.executable, "-c", "from refdbg.launch.shell import main; main()", *words], text=True, timeout=120,
        env={**ENVIRONMENT, "XDG_CACHE_HOME": str(folder)},  # in another what was learnt of debug info may be found
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == status, done.stdout
    return done.stdout.strip()


def test_a_core_file_without_a_debugger(gdb: tuple[str, Path, Looked], root: Path, tmp_path: Path) -> None:
    _, folder, looked = gdb
    hide = ["unshare", "--mount", "--propagation", "private", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"',
            str(root / "usr/lib/debug")]
    core = ["--root", str(root), str(folder / "core")]
    answers = {question: _refdbg([*core, *question.split()], tmp_path, hide) for question in QUESTIONS}
    _checked(Looked(looked.told, answers))


def test_a_process(gdb: tuple[str, Path, Looked], inside: list[str], tmp_path: Path) -> None:
    program = Running([*inside, gdb[0], ORACLE, tmp_path / "told"])
    try:
        assert program.line() == "ready"
        pid = ["--pid", str(program.process.pid)]
        answers = {question: _refdbg([*pid, *question.split()], tmp_path, []) for question in QUESTIONS}
        _checked(Looked(json.loads((tmp_path / "told").read_text()), answers))
        assert "this Python is stripped" in _refdbg([*pid, "leaks"], tmp_path, [], status=2)
    finally:
        ended = program.end()
    assert ended.out.decode().splitlines()[-1] == "collected 74"


@pytest.mark.parametrize("python", PYTHONS)
def test_what_is_deduced_is_what_the_debug_info_says(root: Path, python: str, tmp_path: Path) -> None:
    (answer,) = run_gdb(python, ORACLE, [f"source {LAYOUTS}"], [str(tmp_path / "told")], stop_at="getppid",
                        folder=tmp_path, inside=sid.inside(root))
    found = json.loads(answer.text)
    assert found["different"] == []
    assert found["structs"] >= 30 and found["fields"] > 150


@pytest.mark.parametrize("python", PYTHONS)
def test_one_that_is_starting_is_refused_and_other_versions(inside: list[str], python: str, tmp_path: Path) -> None:
    commands = ["refdbg census", *(command for other in OTHERS for command in (other, "refdbg census"))]
    commands += [f"{VERSION}$was", "delete", "break getppid", "continue", "refdbg census"]
    _, starting, *others, _, _, _, _, started = run_gdb(
        python, ORACLE, [WAS, *commands], [str(tmp_path / "told")], stop_at="pthread_cond_init", folder=tmp_path,
        inside=inside,
    )
    assert any(words in starting.text for words in ("has no interpreter (yet", "Has it started?"))
    for answer, words in zip(others[1::2], OTHERS.values()):
        assert words in answer.text and "Install its debug info" in answer.text
    assert "objects tracked by the collector" in started.text  # what was read before is forgotten
    for answer in [starting, *others]:
        assert "Traceback" not in answer.text and "objects of" not in answer.text
