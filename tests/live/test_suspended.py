"""`refdbg frames --suspended` against what the program says of its own tasks, coroutines and generators."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import missing, python_of
from tests.support import sid
from tests.support.containers import ContainerError
from tests.support.debugger import ROOT, lldb, run_gdb, run_lldb

PROGRAM = ROOT / "tests/programs/suspended_oracle.py"
COMMANDS = ("refdbg frames --suspended --locals --json", "refdbg frames --suspended --limit 2 --json",
            "refdbg frames --suspended", "refdbg frames --suspended --native")

Told = tuple[dict[str, Any], list[Any], list[str]]


@pytest.fixture(scope="module", params=["gdb-3.9-debug", "gdb-3.11-debug", "gdb-3.13-debug", "lldb-3.13-debug",
                                        *(f"sid-{name}" for name in sid.PYTHONS)])
def told(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """What the program said, the records, and the texts."""
    debugger, _, python = request.param.partition("-")
    if debugger == "lldb" and lldb() is None:
        missing("no lldb: apt-get install lldb-19")
    folder = tmp_path_factory.mktemp("suspended")
    truth = folder / "truth.json"
    if debugger == "sid":
        try:
            inside = sid.inside(sid.provide())
        except ContainerError as error:
            missing(f"no root of Debian sid: {error}")
        answers = run_gdb(f"/usr/bin/{python}", PROGRAM, COMMANDS, [str(truth)], folder=folder, inside=inside)
    else:
        run = run_gdb if debugger == "gdb" else run_lldb
        answers = run(python_of(python), PROGRAM, COMMANDS, [str(truth)], folder=folder)
    return json.loads(truth.read_text()), [each.record for each in answers[:2]], [each.text for each in answers[2:]]


def _frames(stack: dict[str, Any]) -> list[list[Any]]:
    return [[frame["function"], frame["file"], frame["line"]] for frame in stack["frames"]]


def _end(stack: dict[str, Any]) -> int:
    waits_for = stack["waits_for"]
    return int(waits_for["address"]) if waits_for is not None else 0


def test_tasks(told: Told) -> None:
    truth, (record, _), _ = told
    found = {each["name"]: each for each in record["stacks"] if each["kind"] == "task"}
    assert set(found) == set(truth["tasks"])
    assert [name for name in found if name.startswith("Task-")] == [f"Task-{number}" for number in range(1, 5)]
    for name, own in truth["tasks"].items():
        stack = found[name]
        assert stack["address"] == own["address"]
        assert stack["state"] == own["state"], name
        assert _frames(stack) == [frame[:3] for frame in own["frames"]], name
        assert not stack["note"]
        if own["end"] or own["state"] == "running":
            assert _end(stack) == own["end"], name
    assert {own["state"] for own in truth["tasks"].values()} == {"running", "suspended", "ready", "not started"}
    assert len(found["deep"]["frames"]) == 301


def test_what_no_task_awaits(told: Told) -> None:
    truth, (record, _), _ = told
    found = {str(each["address"]): each for each in record["stacks"] if each["kind"] != "task"}
    assert set(found) == set(truth["alone"])
    for address, own in truth["alone"].items():
        stack = found[address]
        assert (stack["kind"], stack["state"]) == (own["kind"], own["state"])
        assert _frames(stack) == [frame[:3] for frame in own["frames"]]
        assert _end(stack) == own["end"]
    assert {own["kind"] for own in truth["alone"].values()} == {"coroutine", "generator", "async generator"}


def test_locals_and_arguments(told: Told) -> None:
    truth, (record, _), _ = told
    frames = [frame for stack in record["stacks"] for frame in stack["frames"]]
    own = {}
    for each in [*truth["tasks"].values(), *truth["alone"].values()]:
        own.update({tuple(frame[:3]): frame[3] for frame in each["frames"]})
    compared = 0
    for frame in frames:
        for name, text in own[frame["function"], frame["file"], frame["line"]].items():
            if frame["function"] not in ("deep", "inner"):  # called with several values
                assert frame["locals"][name] == text
                compared += 1
    assert compared > 5
    (arguments,) = [frame for frame in frames if frame["function"] == "arguments"]
    assert arguments["arguments"] == ["first", "key", "rest", "others"]
    assert {**arguments["locals"], "closure": ""} == {
        "first": "1", "rest": "(2,)", "key": "'word'", "others": "{'other': 3}", "local": "1", "closure": "",
    }


def test_what_a_task_waits_for(told: Told) -> None:
    _, (record, _), (text, refused) = told
    found = {each["name"]: each for each in record["stacks"] if each["kind"] == "task"}
    waiting = next(each for each in found.values() if each["frames"] and each["frames"][0]["function"] == "of_task")
    assert waiting["tasks"] == ["returning"]
    assert len(found["gathering"]["tasks"]) == 2
    assert set(found["gathering"]["tasks"]) <= set(found)
    assert "Task 'returning' at 0x" in text
    assert "(tasks 'Task-" in text
    assert "\n" not in next(line for line in text.splitlines() if "é" in line)
    assert "--native does not go with --suspended" in refused


def test_limited(told: Told) -> None:
    _, (record, limited), _ = told
    whole, cut = (
        next(each for each in found["stacks"] if each["name"] == "deep") for found in (record, limited)
    )
    assert _frames(cut) == _frames(whole)[:2]
    assert cut["note"] == "more frames follow"


def test_without_debug_info_of_asyncio(tmp_path: Path) -> None:
    truth = tmp_path / "truth.json"
    commands = ["nosharedlibrary", "refdbg frames --suspended --json"]
    _, answer = run_gdb(python_of("3.13-debug"), PROGRAM, commands, [str(truth)], folder=tmp_path)
    record, own = answer.record, json.loads(truth.read_text())["tasks"]
    found = {each["name"]: each for each in record["stacks"] if each["kind"] == "task"}
    for name in set(own) - {"done"}:
        assert _frames(found[name]) == [frame[:3] for frame in own[name]["frames"]], name
        assert found[name]["address"] == own[name]["address"]
    assert "words that stand where each release since 3.8 has them" in record["notes"][0]
