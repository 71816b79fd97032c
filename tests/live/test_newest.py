"""Debug builds of 3.14 and 3.15 in a root of Debian sid, with its gdb and lldb, against what the programs say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import missing
from tests.support import sid
from tests.support.containers import ContainerError
from tests.support.debugger import Answer, run_gdb
from tests.support.run import ROOT, Ended, printed_total, run, types_of

PROGRAMS = ROOT / "tests" / "programs"
COLLECTIONS = PROGRAMS / "collections_oracle.py"
NEWEST = PROGRAMS / "newest.py"
ITEM = "((PyListObject *)obj)->ob_item[{}]"
OBJECTS = 10  # that newest.py tells of
TO_COME = "set var {unsigned long}&Py_Version = 0x03100000"
LOST = "import ctypes; lost = [object()]; ctypes.pythonapi.Py_IncRef(ctypes.py_object(lost))"


@pytest.fixture(scope="module")
def inside() -> list[str]:
    """What to put before a command line."""
    try:
        return sid.inside(sid.provide())
    except ContainerError as error:
        missing(f"no root of Debian sid: {error}")
        raise


@pytest.fixture(scope="module", params=sid.PYTHONS)
def python(request: pytest.FixtureRequest) -> str:
    """The interpreter's path in the root."""
    return f"/usr/bin/{request.param}"


@pytest.fixture(scope="module")
def looked(inside: list[str], python: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, dict[str, Answer]]:
    """What the program says of itself, and what commands answer."""
    folder = tmp_path_factory.mktemp("newest")
    commands = ["refdbg status --json", "refdbg census --json", "refdbg frames --all --locals --json",
                f"refdbg balance {ITEM.format(2)} --json", f"refdbg why {ITEM.format(2)} --json"]
    commands += [f"refdbg {what} {ITEM.format(n)} --json" for n in range(OBJECTS) for what in ("object", "referents")]
    commands += [TO_COME, "refdbg status"]
    answers = run_gdb(python, NEWEST, commands, [str(folder / "told")], folder=folder, inside=inside)
    told = json.loads((folder / "told").read_text())
    return told, dict(zip([*commands[:-1], "newer"], answers))


@pytest.fixture(scope="module")
def collected(inside: list[str], python: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Ended]:
    """What the program says of its collections, and its end under refdbg-run."""
    file = tmp_path_factory.mktemp("collections") / "told"
    ended = run([python, "-X", "showrefcount", COLLECTIONS, file], ["--objects", "100", "--check"], inside=inside)
    return json.loads(file.read_text()), ended


def test_status(looked: tuple[Any, dict[str, Answer]], python: str) -> None:
    _, answers = looked
    status = answers["refdbg status --json"].record
    assert status["python"].startswith(python[len("/usr/bin/python") :][:4])
    assert status["traits"] == {"debug": True, "trace_refs": False, "free_threaded": False, "immortal": True}
    assert status["notes"] == []
    (interpreter,) = status["interpreters"]
    assert len(interpreter["threads"]) == 2
    assert [row["name"] for row in interpreter["generations"]] == ["0", "1", "2", "permanent"]


def test_what_the_collector_tracks(looked: tuple[Any, dict[str, Answer]]) -> None:
    told, answers = looked
    (interpreter,) = answers["refdbg status --json"].record["interpreters"]
    assert abs(sum(row["tracked"] for row in interpreter["generations"]) - told["tracked"]) <= 8  # the open file
    assert answers["refdbg census --json"].record["objects"] > told["tracked"]


def test_frames(looked: tuple[Any, dict[str, Answer]]) -> None:
    told, answers = looked
    main, thread = answers["refdbg frames --all --locals --json"].record["threads"]
    assert [frame["function"] for frame in main["frames"]] == ["main", "<module>"]
    assert main["frames"][1]["line"] == told["main"][-1]["line"]
    expected = [frame for frame in told["thread"] if frame["file"] == str(NEWEST)]
    found = [frame for frame in thread["frames"] if frame["file"] == str(NEWEST)]
    assert [frame["function"] for frame in found] == ["wait.<locals>.Body", "wait"]
    assert [frame["line"] for frame in found] == [frame["line"] for frame in expected]
    assert [sorted(frame["locals"]) for frame in found] == [frame["locals"] for frame in expected]
    assert found[1]["locals"]["number"] == "3"


def test_objects(looked: tuple[Any, dict[str, Answer]]) -> None:
    told, answers = looked
    more = set()  # what getrefcount() has counted besides: its argument, the loop's variable
    assert len(told["objects"]) == OBJECTS
    for number, (address, type_, count, referents) in enumerate(told["objects"]):
        record = answers[f"refdbg object {ITEM.format(number)} --json"].record
        assert (record["address"], record["type"].rpartition(".")[2]) == (address, type_)
        if not record["immortal"]:
            more.add(count - record["refcount"])
        rows = answers[f"refdbg referents {ITEM.format(number)} --json"].record["references"]
        assert set(referents) <= {row["target"]["address"] for row in rows}, record
    assert len(more) == 1 and more <= {1, 2}


def test_balance_and_why(looked: tuple[Any, dict[str, Answer]]) -> None:
    _, answers = looked
    balance = answers[f"refdbg balance {ITEM.format(2)} --json"].record
    assert (balance["object"]["refcount"], balance["owned"], balance["lost"]) == (3, 3, 0)
    assert "local slotted" in answers[f"refdbg why {ITEM.format(2)} --json"].text


def test_a_newer_one_is_warned_of(looked: tuple[Any, dict[str, Answer]]) -> None:
    _, answers = looked
    assert "CPython 3.16.0 is newer than this refdbg" in answers["newer"].text


def test_collections(collected: tuple[Any, Ended]) -> None:
    told, ended = collected
    assert ended.status == 0, ended.err
    cases = [case for case in told if case["name"] != "allocation"]
    records = [
        record for record in ended.report["collections"]
        if record["reason"] == "gc.collect()" and record["frame"]["function"] == "collect"
    ]
    assert len(cases) == len(records) > 10
    for case, record in zip(cases, records):
        (info,) = case["infos"]
        assert record["generation"] == case["generation"] == info["generation"], case["name"]
        assert record["cleared"] == info["collected"]
        assert record["uncollectable"] == info["uncollectable"]
        assert record["cleared"] + record["uncollectable"] == case["returned"]
        assert (record["frame"]["line"], record["thread"]) == (case["line"], case["thread"])
        assert types_of(record["by_type"]) == case.get("by_type", types_of(record["by_type"]))
        if case["tracked"] is not None:
            assert abs(record["tracked"] - case["tracked"]) <= 5
    assert any("all decided alike" in warning for warning in ended.report["warnings"])
    assert "uncollectable" in {finding["verdict"] for finding in ended.report["findings"]}
    assert any(note.startswith("no leak: ") for note in ended.report["warnings"])


def test_the_total_is_itemised(collected: tuple[Any, Ended]) -> None:
    """_testcapi's static types leave objects, and interned strings that CPython counts twice from 3.14 on."""
    totals = collected[1].report["totals"]
    assert totals["references_reported"] == printed_total(collected[1]) > 300
    assert totals["references_unattributed"] == 0
    assert "interned strings, counted twice by CPython" in {line["what"] for line in totals["lines"]}
    assert collected[1].report["partial"] is None


@pytest.mark.parametrize("debugger", ["gdb", "lldb"])
def test_a_lost_reference(inside: list[str], debugger: str) -> None:
    ended = run([f"/usr/bin/{sid.PYTHONS[-1]}", "-X", "showrefcount", "-c", LOST], ["--debugger", debugger],
                inside=inside)
    assert (ended.status, ended.report["partial"]) == (0, None)
    assert ended.report["target"]["debugger"].startswith(debugger)
    (finding,) = ended.report["findings"]
    assert finding["verdict"] == "lost-reference"
    assert finding["explains"] == {"objects": 2, "references": 2}
    assert ended.report["totals"]["references_unattributed"] == 0
    assert printed_total(ended) == 2


@pytest.mark.parametrize("release", ["3.14", "3.15"])
def test_leaks_of_a_program_at_low_addresses(inside: list[str], release: str, tmp_path: Path) -> None:
    # Debian's release builds are not position-independent: what points into their heap could be a reference count.
    program = tmp_path / "lost.py"
    program.write_text(f"{LOST}\nimport io, itertools, encodings.utf_8\nascii(1)\n")
    (answer,) = run_gdb(f"/usr/bin/python{release}", program, ["refdbg leaks --json"], folder=tmp_path, inside=inside)
    assert [(each["verdict"], each["subject"]["type"]) for each in answer.record["findings"]] == [
        ("lost-reference", "list")
    ]


BORROWING = """
import gc
class Node: pass
def borrowing(argument):
    return (argument, (yield))  # the first is on the stack, borrowed from the variable
node = Node()
made = borrowing(node)
next(made)
held = [made, node, gc.get_referents(made).count(node)]
ascii(held)
"""
VISITS = (
    "python from refdbg.cpython.runtime import Build; from refdbg.cpython.stop import Stop; "
    "from refdbg.debuggers.gdb import GdbSession; stop = Stop(Build(GdbSession().target())); "
    f"made, node = (int(gdb.parse_and_eval('{ITEM}'.format(row))) for row in (0, 1)); "
    "print(stop.visits.of(stop.heap.index[made]).count(node))"
)


def test_what_a_frame_borrows_is_not_visited(inside: list[str], python: str, tmp_path: Path) -> None:
    program = tmp_path / "borrowing.py"
    program.write_text(BORROWING)
    commands = [f"refdbg object {ITEM.format(2)} --json", VISITS]
    told, visits = run_gdb(python, program, commands, folder=tmp_path, inside=inside)
    assert told.record["repr"] == "2"  # any other visitor is told of both
    assert visits.text.strip() == "1"
