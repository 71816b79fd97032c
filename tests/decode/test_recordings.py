"""Recordings of interpreters that are not here, read without a debugger, against what the program said of itself.

tests/recordings/make.py makes them of tests/programs/structures.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from refdbg.launch.session import of_snapshot
from tests.recordings.make import LARGEST, PROGRAM, Session, asked, code_in

ROOT = Path(__file__).parents[2]
RECORDINGS = sorted((ROOT / "tests" / "recordings").glob("*.refdbg"))
LINES = {
    line.rpartition("# LINE ")[2]: number
    for number, line in enumerate(PROGRAM.read_text().splitlines(), 1) if "# LINE " in line
}


def said(recording: Path) -> dict[str, Any]:
    """What the program said of itself."""
    truth: dict[str, Any] = json.loads(Path(str(recording).replace(".refdbg", ".json")).read_text())
    return truth


class Recorded:
    """What the program said, and what refdbg answers about the same moment."""

    def __init__(self, recording: Path) -> None:
        self.file = recording
        self.truth = said(recording)
        session = Session(of_snapshot(str(recording)))
        self.answers = {command: session.answer(command) for command in asked(self.truth)}
        self.session = session

    def __getitem__(self, command: str) -> Any:
        return self.answers[command]

    @property
    def free_threaded(self) -> bool:
        return "free-threading" in self.truth["version"]


@pytest.fixture(scope="module", params=RECORDINGS, ids=lambda path: path.name)
def recorded(request: pytest.FixtureRequest) -> Recorded:
    return Recorded(request.param)


def test_they_are_there() -> None:
    versions = [said(recording)["version"] for recording in RECORDINGS]
    kinds = {(".".join(version.split(".")[:2]), "free-threading" in version) for version in versions}
    assert kinds >= {("3.14", False), ("3.15", False), ("3.15", True)}


def test_no_machine_code(recorded: Recorded) -> None:
    assert list(code_in(recorded.file)) == []
    assert recorded.file.stat().st_size <= LARGEST
    code = [region for region in recorded.session.target().regions() if region.executable]
    assert len(code) > 2
    assert not any(recorded.session.target().memory.read_some(region.start, 16) for region in code)


def test_what_needs_code_is_not_answered(recorded: Recorded) -> None:
    """The emulator has nothing to run: that is said, and nothing is called garbage."""
    again = recorded.session.answer("gc again")
    assert again["unreachable"] == 0 and len(again["notes"]) > 10
    assert all("is undecided" in note for note in again["notes"])


def test_a_reader_that_has_gone(recorded: Recorded) -> None:
    """As with `| head`: an end without a word."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-c", "from refdbg.launch.shell import main; main()", recorded.file, "status"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False, cwd=ROOT,
                          env={**os.environ, "PYTHONUNBUFFERED": "1"})  # fmt: skip
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_status(recorded: Recorded) -> None:
    status, version = recorded["status"], recorded.truth["version"]
    assert version.startswith(status["python"])
    assert status["traits"] == {
        "debug": True, "trace_refs": False, "free_threaded": recorded.free_threaded, "immortal": True,
    }
    assert status["notes"] == []
    (interpreter,) = status["interpreters"]
    assert len(interpreter["threads"]) == 2 and not interpreter["enabled"]


def test_what_the_collector_tracks(recorded: Recorded) -> None:
    """Type by type what gc.get_objects() gave: on a free-threaded build from mimalloc's pages."""
    told = recorded.truth["tracked"]
    found: Counter[str] = Counter()
    for row in recorded["census --tracked --limit 1000"]["by_type"]:
        found[row["type"]] += row["objects"]
    assert found == Counter({name.removeprefix("builtins."): number for name, number in told.items()})
    (interpreter,) = recorded["status"]["interpreters"]
    assert sum(row["tracked"] for row in interpreter["generations"]) == sum(told.values()) > 5000
    census = recorded["census --limit 1000"]
    assert census["objects"] > sum(told.values())
    if recorded.free_threaded:
        assert sum(census["counts"].values()) == census["objects"] and census["counts"]["deferred"] > 100
    assert recorded["objects Node --limit 1000"]["total"] == recorded.truth["nodes"] > 100


def rows(frames: list[dict[str, Any]]) -> list[tuple[str, str, int]]:
    return [(frame["function"], frame["file"], frame["line"]) for frame in frames]


def test_running_frames(recorded: Recorded) -> None:
    """Also of a thread that runs bytecode of its own, which has its own line numbers to find."""
    main, thread = recorded["frames --all --locals"]["threads"]
    told = recorded.truth["stacks"]
    mine = told.pop(str(recorded.truth["thread"]))
    (other,) = told.values()
    assert rows(main["frames"]) == [("stop", mine[0][1], LINES["stop"]), *(tuple(row[:3]) for row in mine[1:])]
    assert rows(thread["frames"]) == [tuple(row[:3]) for row in other]
    assert thread["frames"][0]["line"] == LINES["wait"]
    for frame, row in zip([*main["frames"][1:], *thread["frames"]], [*mine[1:], *other]):
        assert set(frame["locals"]) == {name for name in row[3] if frame["function"] != "<module>" or name[:2] != "__"}
    assert [frame["function"] for frame in main["frames"]] == ["stop", *["recurse"] * 4, "Sized.__len__", "<module>"]
    assert thread["frames"][0]["locals"]["number"] == "3"


def test_deferred_references(recorded: Recorded) -> None:
    """A class and a function that frames hold without counting them."""
    main, thread = recorded["frames --all --locals"]["threads"]
    deferred = {"kind", "called"} if recorded.free_threaded else set()
    assert set(main["frames"][0]["deferred"]) >= deferred  # and what it has borrowed from its caller
    assert bool(main["frames"][0]["deferred"]) == recorded.free_threaded
    assert thread["frames"][0]["deferred"] == sorted(deferred & {"kind"})
    kept = recorded[f"balance {recorded.truth['kept']}"]
    labels = Counter(holder["label"] for holder in kept["holders"])
    assert labels["local kind"] == 4  # of two generators, of an awaited object's, and of a frame object
    number = recorded[f"object {recorded.truth['kept']}"]["refcount"]
    assert kept["object"]["refcount"] - number == (6 if recorded.free_threaded else 0)
    length = recorded[f"balance {recorded.truth['called']}"]
    in_c = [holder for holder in length["holders"] if holder["label"].startswith("C function in thread 0")]
    assert len(in_c) == recorded.free_threaded


def test_split_counts(recorded: Recorded) -> None:
    """Each object counts its type; where threads count such references, they count them for the type."""
    node = recorded[f"object {recorded.truth['Node']}"]
    if not recorded.free_threaded:
        assert node["split"] is None
        return
    assert node["split"]["by_threads"] == recorded.truth["nodes"]
    assert node["split"]["deferred"] and node["refcount"] > recorded.truth["nodes"]


def test_every_reference_is_accounted_for(recorded: Recorded) -> None:
    balances = [answer for command, answer in recorded.answers.items() if command.startswith("balance ")]
    assert len(balances) > 15
    for balance in balances:
        called = balance["object"]["address"] == recorded.truth["called"] and not recorded.free_threaded
        assert balance["lost"] == 0
        # With a GIL nothing links what C code has on its stack.
        assert balance["owned"] == balance["object"]["refcount"] - called, balance["object"]


def test_objects(recorded: Recorded) -> None:
    for (address, type_, referents), number in zip(recorded.truth["objects"], recorded.truth["counts"]):
        found = recorded[f"object {address}"]
        assert (found["address"], found["type"]) == (address, type_.removeprefix("builtins."))
        if not found["split"] or not found["split"]["deferred"]:
            assert found["refcount"] == number, found
        links = recorded[f"referents {address}"]["references"]
        for row in links:
            if row["label"] == "__dict__":  # the values are in the object, and it visits them itself
                links = links + recorded.session.answer(f"referents {row['target']['address']}")["references"]
        assert set(referents) <= {row["target"]["address"] for row in links}, found
    for address, text in zip(recorded.truth["plain"], recorded.truth["reprs"]):
        assert recorded[f"object {address}"]["repr"] == text
    slotted = recorded["type Slotted"]
    assert slotted["basicsize"] == recorded.truth["size"] and slotted["instances"] == 1


def test_suspended(recorded: Recorded) -> None:
    stacks = {row["address"]: row for row in recorded["frames --suspended --locals"]["stacks"]}
    assert len(recorded.truth["suspended"]) == 3
    for address, function, line, names in recorded.truth["suspended"]:
        outermost = stacks[address]["frames"][-1]
        assert (outermost["function"], outermost["line"], sorted(outermost["locals"])) == (function, line, names)
    assert [stacks[row[0]]["state"] for row in recorded.truth["suspended"]] == ["suspended"] * 2 + ["not started"]
    address, line, _ = recorded.truth["coroutine"]
    functions = [frame["function"] for frame in stacks[address]["frames"]]
    assert functions == ["Awaited.__await__", "inner", "outer"]
    assert stacks[address]["frames"][-1]["line"] == line
    assert {row["kind"] for row in stacks.values()} >= {"generator", "coroutine", "async generator"}


def test_why(recorded: Recorded) -> None:
    why = recorded[f"why {recorded.truth['kept']}"]
    assert any("local kind of wait() in thread 1" in path["holder"]["label"] for path in why["paths"])
