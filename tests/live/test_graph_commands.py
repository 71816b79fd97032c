"""Why objects are alive, their cycles and what they retain, in tests/programs/graph_oracle.py."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.debugger import Answer, run_gdb

TESTS = Path(__file__).parents[1]
PROGRAM = TESTS / "programs" / "graph_oracle.py"
NATIVE = TESTS / "programs" / "graph_native.py"
UNSEEN = TESTS / "programs" / "graph_unseen.py"
EXTENSIONS = TESTS / "extensions" / "build"
WHY = ("leaf", "first", "slotted", "tail", "alive", "handler", "lock", "table", "lost")
RETAINED = ("heavy", "light", "alive", "tail")


@pytest.fixture(scope="module")
def told_and_records(
    interpreter: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, int], dict[str, Any], Path]:
    folder = tmp_path_factory.mktemp("graph")
    told = folder / "told"
    commands = {f"why {name}": f"refdbg why {{{name}}} --json" for name in WHY}
    commands |= {f"retained {name}": f"refdbg retained {{{name}}} --json" for name in RETAINED}
    commands |= {
        "cycles": f"refdbg cycles --json --dot {folder}/cycles.dot",
        "cycles alive": "refdbg cycles {alive} --json",
        "cycles payload": "refdbg cycles {payload} --json",
        "cycles text": "refdbg cycles {text} --json",
        "why obj": f"refdbg why obj --json --dot {folder}/why.dot",
        "why static": "refdbg why &PyType_Type --json",
        "retained": "refdbg retained --json --limit 5000",
        "retained type": "refdbg retained __main__.Node --json",
    }
    answers = run_gdb(interpreter, PROGRAM, list(commands.values()), [str(told)], told=told, folder=folder)
    return json.loads(told.read_text()), {name: each.record for name, each in zip(commands, answers)}, folder


@pytest.fixture
def told(told_and_records: tuple[dict[str, int], dict[str, Any], Path]) -> dict[str, int]:
    """The addresses that the program wrote."""
    return told_and_records[0]


@pytest.fixture
def records(told_and_records: tuple[dict[str, int], dict[str, Any], Path]) -> dict[str, Any]:
    """What each command answered."""
    return told_and_records[1]


@pytest.fixture
def folder(told_and_records: tuple[dict[str, int], dict[str, Any], Path]) -> Path:
    """Where drawings were written."""
    return told_and_records[2]


def _way(steps: list[dict[str, Any]]) -> list[str]:
    # The labels, without the dict that an instance may have or not.
    return [step["label"].removeprefix("__dict__") for step in steps if step["label"] not in ("", "__dict__")]


def _types(steps: list[dict[str, Any]]) -> list[str]:
    return [step["object"]["type"] for step in steps]


# why


def test_a_chain_from_a_global(told: dict[str, int], records: dict[str, Any]) -> None:
    record = records["why leaf"]
    assert (record["verdict"], record["direct"], record["more"], record["unknown"]) == ("held", 1, 0, [])
    (path,) = record["paths"]
    assert path["holder"]["kind"] in ("frame", "interpreter") and path["holder"]["certain"]
    assert _way(path["steps"])[-4:] == ["['registry']", "['chain']", "[1]", "['deep']"]
    assert path["steps"][-1]["object"]["address"] == record["object"]["address"] == told["leaf"]
    assert path["steps"][-4]["object"]["address"] == told["table"]
    assert all(step["visited"] and step["owned"] and step["exact"] for step in path["steps"][1:])


def test_only_a_cycle_holds_it(told: dict[str, int], records: dict[str, Any]) -> None:
    for name, way in (("first", ["['other']", "['other']"]), ("slotted", [".other", "[0]"]), ("tail", ["['me']"])):
        record = records[f"why {name}"]
        assert (record["verdict"], record["paths"], record["unknown"]) == ("cycle", [], []), name
        assert _way(record["cycle"]) == way
        assert record["cycle"][0]["object"] == record["cycle"][-1]["object"]
        assert record["cycle"][0]["object"]["address"] == told[name]


def test_what_hangs_on_a_cycle(told: dict[str, int], records: dict[str, Any]) -> None:
    record = records["why lock"]
    assert record["verdict"] == "cycle"
    assert _way(record["cycle"]) == ["['me']"]
    assert told["locked"] in [step["object"]["address"] for step in record["cycle"]]
    assert _way(record["leads"]) == ["['lock']"]


def test_a_c_variable(told: dict[str, int], records: dict[str, Any]) -> None:
    (path,) = records["why handler"]["paths"]
    assert path["holder"]["kind"] in ("static", "runtime") and path["holder"]["certain"]
    assert "handlers[12].func" in path["holder"]["label"].lower()
    assert [step["object"]["address"] for step in path["steps"]] == [told["handler"]]


def test_a_running_frame(records: dict[str, Any]) -> None:
    record = records["why obj"]
    assert record["verdict"] == "held"
    assert any(path["holder"]["kind"] == "frame" and "running()" in path["holder"]["label"] for path in record["paths"])
    assert [row["type"] for row in record["through"]] in (["list"], ["dict"])  # its own cycle


def test_nobody_holds_it(told: dict[str, int], records: dict[str, Any]) -> None:
    record = records["why lost"]
    assert record["verdict"] in ("unknown", "weak")  # a stale word may be left on the stack
    assert [(row["object"]["address"], row["references"]) for row in record["unknown"]] == [(told["lost"], 1)]


def test_a_static_object(records: dict[str, Any]) -> None:
    assert records["why static"]["verdict"] in ("static", "immortal")


# cycles


def test_garbage_cycles(told: dict[str, int], records: dict[str, Any]) -> None:
    record = records["cycles"]
    groups = {
        frozenset(step["object"]["address"] for step in cycle): component
        for component in record["components"] for cycle in component["cycles"]
    }
    mine = {name: next(group for key, group in groups.items() if told[name] in key)
            for name in ("first", "slotted", "tail", "locked")}
    assert all(component["garbage"] and component["seen"] for component in mine.values())
    assert record["garbage"] >= 4 and record["live"] > 10 and record["largest_live"] > 100
    assert _way(mine["first"]["cycles"][0]) == ["['other']", "['other']"]
    assert all(step["visited"] for step in mine["first"]["cycles"][0][1:])
    assert mine["first"]["keepers"] == []
    # The ring that another garbage object leads to.
    owners = [keeper["owner"]["type"] for keeper in mine["slotted"]["keepers"]]
    assert owners in (["__main__.Node"], ["dict"])


def test_cycles_through_an_object(told: dict[str, int], records: dict[str, Any]) -> None:
    (component,) = records["cycles alive"]["components"]
    assert component["contains"] and not component["garbage"]
    cycle = component["cycles"][0]
    assert cycle[0]["object"]["address"] == cycle[-1]["object"]["address"] == told["alive"]
    assert _way(cycle) == ["['child']", "['parent']"]
    assert component["keepers"]


def test_cycles_that_hold_an_object(told: dict[str, int], records: dict[str, Any]) -> None:
    component = records["cycles payload"]["components"][0]
    assert not component["contains"] and component["garbage"]
    assert _way(component["leads"]) == ["['payload']"]
    # What is not tracked is looked up by its holders.
    record = records["cycles text"]
    assert "does not track" in " ".join(record["notes"])
    assert _way(record["components"][0]["leads"])[-2:] == ["['payload']", "[0]"]


# retained


def test_what_would_go_with_an_object(told: dict[str, int], records: dict[str, Any]) -> None:
    for name, objects, least in (("heavy", 2002, 80_000), ("light", 1, 0), ("alive", 2, 0), ("tail", 3, 0)):
        record = records[f"retained {name}"]
        (row,) = record["rows"]
        assert row["object"]["address"] == told[name]
        instance_dicts = 4 if name != "light" else 2  # until 3.10 each instance has a dict of its own
        assert objects <= row["objects"] <= objects + instance_dicts, name
        assert least < row["bytes"] < least + 60_000
        assert (record["together"]["objects"], record["together"]["bytes"]) == (row["objects"], row["bytes"])
        assert row["garbage"] == (name == "tail")
    assert {row["type"]: row["objects"] for row in records["retained heavy"]["by_type"]}["int"] == 1000


def test_the_largest_retainers(told: dict[str, int], records: dict[str, Any]) -> None:
    record = records["retained"]
    assert [row["bytes"] for row in record["rows"]] == sorted((row["bytes"] for row in record["rows"]), reverse=True)
    rows = {row["object"]["address"]: row for row in record["rows"]}
    assert rows[told["heavy"]]["objects"] == records["retained heavy"]["rows"][0]["objects"]
    together = records["retained type"]
    assert together["total"] == 11
    # What two of them share goes only with both.
    assert {row["type"] for row in together["by_type"]} >= {"bytes", "_thread.lock", "list"}


# Drawings


def test_drawings(told: dict[str, int], records: dict[str, Any], folder: Path) -> None:
    for name, file in (("why obj", "why.dot"), ("cycles", "cycles.dot")):
        graph = records[name]["graph"]
        text = (folder / file).read_text()
        assert text.startswith("digraph")
        assert text.count(" -> ") == len(graph["edges"]) > 0
        assert all(f"n{node['id']} [" in text for node in graph["nodes"])
    graph = records["cycles"]["graph"]
    cluster = {node["object"]["address"]: node["cluster"] for node in graph["nodes"] if node["object"]}
    assert cluster[told["first"]] is not None and cluster[told["first"]] != cluster[told["slotted"]]


# Bad input


def _answers(python: str, commands: list[str], folder: Path) -> list[Answer]:
    told = folder / "told"
    return run_gdb(python, PROGRAM, commands, [str(told)], folder=folder)


def test_bad_input(python311: str, tmp_path: Path) -> None:
    commands = [
        *(f"refdbg {command} 0x1238" for command in ("why", "cycles", "retained")),
        *(f"refdbg {command} nothing_of_that_name" for command in ("why", "cycles", "retained")),
        "refdbg why", "refdbg retained Handlerr", "refdbg retained &_Py_NoneStruct", "refdbg why obj --limit -1",
        f"refdbg why obj --dot {tmp_path}/missing/x.dot", f"refdbg why obj --svg {tmp_path}/missing/x.svg",
        "refdbg retained async_generator",
    ]
    answers = _answers(python311, commands, tmp_path)
    texts = {answer.command: answer.text for answer in answers}
    for command, text in texts.items():
        assert "internal error" not in text and "Traceback" not in text, text
        assert "refdbg: " in text, command
    assert all("no Python object" in answer.text for answer in answers[:3])
    assert all("nothing_of_that_name" in answer.text for answer in answers[3:6])
    assert "Did you mean" in texts["refdbg retained Handlerr"] or "census" in texts["refdbg retained Handlerr"]
    assert "static" in texts["refdbg retained &_Py_NoneStruct"]
    assert "no objects of the type" in texts["refdbg retained async_generator"]
    assert "cannot write" in answers[-3].text


def test_each_answer_has_a_text(python311: str, tmp_path: Path) -> None:
    told = tmp_path / "told"
    commands = [f"refdbg why {{{name}}}" for name in WHY] + [f"refdbg retained {{{name}}}" for name in RETAINED]
    commands += ["refdbg cycles", "refdbg cycles {alive}", "refdbg cycles {text}", "refdbg retained", "refdbg why obj",
                 "refdbg why &PyType_Type", "refdbg retained __main__.Node", "refdbg why obj --limit 0",
                 "refdbg cycles --limit 0", "refdbg retained --limit 0", f"refdbg why obj --svg {tmp_path}/why.svg"]
    for answer in run_gdb(python311, PROGRAM, commands, [str(told)], told=told, folder=tmp_path):
        assert answer.text and "refdbg: " not in answer.text, answer.text
    assert "<svg" in (tmp_path / "why.svg").read_text()


def test_a_reference_that_is_not_visited(build: Callable[[str], str], tmp_path: Path) -> None:
    """A build whose locks forget to visit their type."""
    told = tmp_path / "told"
    commands = ["refdbg why {lock_type} --limit 100 --json"]
    (why,) = run_gdb(build("3.11-leak-thread"), PROGRAM, commands, [str(told)], told=told, folder=tmp_path)
    last = [path["steps"][-1] for path in why.record["paths"] if len(path["steps"]) > 1]
    assert {step["visited"] for step in last if step["label"] == "ob_type"} == {False}
    assert {step["visited"] for step in last if step["label"] == "['LockType']"} == {True}
    edges = [edge for edge in why.record["graph"]["edges"] if edge["label"] == "ob_type"]
    assert edges and False in {edge["visited"] for edge in edges}


def extensions(python: str) -> str:
    """The folder of tests/extensions, compiled for *python*."""
    return subprocess.run([EXTENSIONS, python], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def test_a_native_block(python311: str, tmp_path: Path) -> None:
    told = tmp_path / "told"
    commands = ["refdbg why {callback} --json"]
    (why,) = run_gdb(python311, NATIVE, commands, [str(told), extensions(python311)], told=told, folder=tmp_path)
    assert why.record["verdict"] in ("held", "weak")
    assert [path["holder"]["kind"] in ("block", "memory") for path in why.record["paths"]] == [True]


def test_a_cycle_that_the_collector_does_not_see(python311: str, tmp_path: Path) -> None:
    told = tmp_path / "told"
    commands = [f"refdbg cycles {{pair}} --json --dot {tmp_path}/cycles.dot", "refdbg why {pair} --json"]
    cycles, why = run_gdb(python311, UNSEEN, commands, [str(told), extensions(python311)], told=told, folder=tmp_path)
    (component,) = cycles.record["components"]
    assert (component["seen"], component["contains"], component["garbage"]) == (False, True, False)
    assert [(step["label"], step["visited"]) for step in component["cycles"][0][1:]] == [
        (".second", False), ("[0]", True)
    ]
    assert 'style="dashed"' in (tmp_path / "cycles.dot").read_text()
    assert why.record["verdict"] == "cycle"
    assert [step["visited"] for step in why.record["cycle"][1:]] == [False, True]
