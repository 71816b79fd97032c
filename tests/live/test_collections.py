"""The collector's runs as refdbg records them, against what the program under test knows of them itself."""

from __future__ import annotations

import json
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.support.debugger import Answer, run_gdb
from tests.support.run import ROOT, run, types_of

ORACLE = ROOT / "tests" / "programs" / "collections_oracle.py"

CASES = (
    "nothing", "plain", "finalizers", "resurrection", "second death", "freed early", "generation 0", "generation 1",
    "generator", "frozen", "unfrozen", "save all", "legacy", "thread 0", "thread 1", "thread 2",
)  # fmt: skip


@cache
def _told(python: str, folder: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    file = folder / "truth.json"
    ended = run([python, ORACLE, file], ["--objects", "100"])
    assert ended.status == 0, ended.err.decode()
    return json.loads(file.read_text()), ended.report


@pytest.fixture(scope="module")
def told(interpreter: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What the program said, and the report."""
    return _told(interpreter, tmp_path_factory.mktemp("collections"))


Told = tuple[list[dict[str, Any]], dict[str, Any]]


def _case(told: Told, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the program said of a collection, and the record of it."""
    truth, report = told
    cases = [case for case in truth if case["name"] not in ("allocation",)]
    records = [
        record for record in report["collections"]
        if record["reason"] == "gc.collect()" and record["frame"] and record["frame"]["function"] == "collect"
    ]
    assert [case["generation"] for case in cases] == [record["generation"] for record in records]
    for case, record in zip(cases, records):
        if case["name"] == name:
            return case, record
    pytest.skip(f"this interpreter has no case {name!r}")


@pytest.mark.parametrize("name", CASES)
def test_each_record(told: Told, name: str) -> None:
    case, record = _case(told, name)
    (info,) = case["infos"]
    assert record["phase"] == "running"
    assert record["interpreter"] == 0
    assert record["generation"] == info["generation"] == case["ran"].index(1)
    assert record["thread"] == case["thread"]
    assert (record["frame"]["file"], record["frame"]["line"]) == (str(ORACLE), case["line"])
    assert record["stack"][0] == record["frame"]
    assert record["stack"][-1]["function"] in ("<module>", "_bootstrap", "Thread._bootstrap")
    assert record["cleared"] == info["collected"]
    assert record["uncollectable"] == info["uncollectable"]
    assert record["cleared"] + record["uncollectable"] == case["returned"]
    assert record["unreachable"] == sum(
        record[key] for key in ("resurrected", "freed_early", "cleared", "uncollectable")
    )
    assert record["finalized"] == sum(finalizer["objects"] for finalizer in record["finalizers"])
    assert types_of(record["by_type"]) == case.get("by_type", types_of(record["by_type"]))
    if "by_type" in case:
        assert record["unreachable"] == sum(case["by_type"].values()) == len(record["objects"])
        for row in record["objects"]:
            assert row["repr"] == f"<{row['type']} object at {row['address']:#x}>"
            assert row["refcount"] == 1
    if case["tracked"] is not None:
        assert abs(record["tracked"] - case["tracked"]) <= 5
    assert record["seconds"] > 0


def test_records_are_numbered(told: Told) -> None:
    _, report = told
    assert [record["number"] for record in report["collections"]] == list(range(1, len(report["collections"]) + 1))


def test_nothing_found(told: Told) -> None:
    _, record = _case(told, "nothing")
    assert (record["unreachable"], record["by_type"], record["objects"], record["finalizers"]) == (0, [], [], [])
    assert record["tracked"] - 200 < record["tracked_after"] <= record["tracked"]  # tuples and dicts are untracked


def test_survivors(told: Told) -> None:
    _, record = _case(told, "plain")
    assert abs(record["tracked"] - 50 - record["tracked_after"]) <= 5
    _, record = _case(told, "generation 0")
    assert record["tracked"] - 6 >= record["tracked_after"] > 0


def test_finalizers_are_named(told: Told) -> None:
    case, record = _case(told, "finalizers")
    assert case["calls"] == 23 == record["finalized"]
    assert [(row["function"], row["objects"]) for row in record["finalizers"]] == [("Finalized.__del__", 23)]
    assert (record["finalizers"][0]["file"], record["finalizers"][0]["line"]) == (str(ORACLE), case["defined"])


def test_resurrection(told: Told) -> None:
    case, record = _case(told, "resurrection")
    assert case["kept"] == 7 == record["resurrected"]
    assert (record["finalized"], record["cleared"], record["freed_early"]) == (7, 0, 0)
    assert record["finalizers"][0]["function"] == "Phoenix.__del__"
    case, record = _case(told, "second death")
    assert case["kept"] == 0 == record["resurrected"]
    assert (record["finalized"], record["cleared"], record["finalizers"]) == (0, 7, [])


def test_freed_by_a_finalizer(told: Told) -> None:
    _, record = _case(told, "freed early")
    assert (record["finalized"], record["freed_early"], record["cleared"]) == (4, 4, 0)


def test_a_generator_is_finalized_by_c_code(told: Told) -> None:
    _, record = _case(told, "generator")
    assert record["finalized"] == 1
    (finalizer,) = record["finalizers"]
    assert "generator" in finalizer["function"] and "_PyGen_Finalize" in finalizer["function"]
    assert (finalizer["file"], finalizer["line"]) == (None, None)


def test_frozen_objects_are_not_examined(told: Told) -> None:
    _, record = _case(told, "frozen")
    assert record["tracked"] <= 10
    assert record["unreachable"] == 0
    _, record = _case(told, "unfrozen")
    assert record["cleared"] == 5


def test_saved_garbage(told: Told) -> None:
    case, _ = _case(told, "save all")
    assert case["garbage"] == 8


def test_legacy_finalizers(told: Told) -> None:
    case, record = _case(told, "legacy")
    assert case["garbage"] == 1 == record["uncollectable"]
    assert record["unreachable"] == 1


def test_collected_by_allocation(told: Told) -> None:
    truth, report = told
    case = next(case for case in truth if case["name"] == "allocation")
    records = [
        record for record in report["collections"] if record["frame"] and record["frame"]["function"] == "allocate"
    ]
    assert len(records) == len(case["infos"])
    assert records[0]["reason"] == "allocation"
    assert records[0]["generation"] == case["infos"][0]["generation"]
    assert records[0]["tracked"] >= 600


def test_finalization_comes_last(told: Told) -> None:
    phases = [record["phase"] for record in told[1]["collections"]]
    assert phases == sorted(phases, reverse=True)
    reasons = [record["reason"] for record in told[1]["collections"] if record["phase"] == "finalization"]
    assert "module cleanup" in reasons


NESTED = """
import gc, json, sys, threading
gc.disable()
gc.collect()
inside, done = threading.Event(), threading.Event()
class Slow:
    __slots__ = ("me",)
    def __del__(self):
        inside.set()
        done.wait()
def other():
    inside.wait()
    before = gc.get_stats()[2]["collections"]
    returned = gc.collect()
    print(json.dumps([returned, gc.get_stats()[2]["collections"] - before, threading.get_native_id()]))
    done.set()
thread = threading.Thread(target=other)
thread.start()
slow = Slow()
slow.me = slow
del slow
gc.collect(2)
thread.join()
"""


def test_two_threads_collect_at_once(interpreter: str) -> None:
    # The collector lets nobody in while it works: the second collection does nothing, and is none.
    ended = run([interpreter, "-c", NESTED])
    returned, ran, thread = json.loads(ended.out)
    assert (returned, ran) == (0, 0)
    records = [record for record in ended.report["collections"] if record["reason"] == "gc.collect()"]
    assert [record["finalized"] for record in records] == [0, 1]
    assert [record["cleared"] for record in records][1] == 1
    assert thread not in {record["thread"] for record in records}


# The same in gdb


GARBAGE = """\
import gc
gc.disable()
class Node:
    pass
class Other(Node):
    def __del__(self):
        pass
def make(cls, number):
    for _ in range(number):
        node = cls()
        node.me = node
ascii('start')
make(Node, 5)
gc.collect(0)
make(Other, 6)
gc.collect(1)
make(Node, 7)
gc.collect(2)
ascii('end')
"""


def _gdb(python: str, folder: Path, *commands: str) -> list[Answer]:
    program = folder / "garbage.py"
    program.write_text(GARBAGE)
    return run_gdb(python, program, commands, folder=folder)


def test_gc_log(interpreter: str, tmp_path: Path) -> None:
    started, empty, _, log, text, fewer, same, last, off = _gdb(
        interpreter, tmp_path, "refdbg gc log --objects 4 --json", "refdbg gc log", "continue", "refdbg gc log --json",
        "refdbg gc log", "refdbg gc log --objects 2 --json", "refdbg gc log --json",
        "refdbg gc log --off --objects 9 --json", "info breakpoints",
    )  # fmt: skip
    assert "from now on" in started.record["text"]
    assert "No collection yet" in empty.text
    record = log.record
    assert [row["generation"] for row in record["collections"]] == [0, 1, 2]
    assert [row["finalized"] for row in record["collections"]] == [0, 6, 0]
    assert [row["frame"]["line"] for row in record["collections"]] == [14, 16, 18]
    assert [types_of(row["by_type"])[f"__main__.{name}"] for row, name in zip(record["collections"],
                                                                             ("Node", "Other", "Node"))] == [5, 6, 7]
    assert all(len(row["objects"]) == 4 for row in record["collections"])
    for shown, number in (fewer, 2), (same, 2), (last, 4):  # what is asked for later, of what was recorded
        assert [len(row["objects"]) for row in shown.record["collections"]] == [number] * 3
    assert (record["recording"], last.record["recording"]) == (True, False)
    assert "Other.__del__" in text.text and "__main__.Other" in text.text and "garbage.py:16" in text.text
    assert "collect" not in off.text  # nothing is watched any more; the test's own breakpoint stays


@pytest.mark.parametrize(
    ("options", "generation", "garbage"),
    [("", 0, "Node"), ("--generation 2", 2, "Node"), ("--type Other", 1, "Other"),
     ("--generation 1 --at clear", 1, "Other"), ("--type __main__.Other --at clear", 1, "Other")],
)  # fmt: skip
def test_gc_stop(interpreter: str, tmp_path: Path, options: str, generation: int, garbage: str) -> None:
    rule, stopped, listed, frames, off, ended = _gdb(
        interpreter, tmp_path, f"refdbg gc stop {options}", "continue", "refdbg gc unreachable --objects 3 --json",
        "refdbg frames --json", "refdbg gc stop --off", "continue",
    )  # fmt: skip
    assert "will stop in collections" in rule.text
    assert f"generation {generation} (gc.collect())" in stopped.text and f"__main__.{garbage}" in stopped.text
    record = listed.record
    assert (record["generation"], record["reason"], record["at"]) == (
        generation, "gc.collect()", "clear" if "clear" in options else "finalize")  # fmt: skip
    assert types_of(record["by_type"])[f"__main__.{garbage}"] == {0: 5, 1: 6, 2: 7}[generation]
    assert len(record["objects"]) == 3
    assert record["unreachable"] >= 5
    expected = [] if garbage == "Node" or record["at"] == "clear" else [("Other.__del__", 6)]
    assert [(row["function"], row["objects"]) for row in record["finalizers"]] == expected
    assert record["stack"][0]["line"] == 14 + 2 * generation
    assert frames.record["threads"][0]["frames"][0]["line"] == 14 + 2 * generation
    assert "not stopped" in off.text
    assert "builtin_ascii" in ended.text


def test_gc_stop_at_begin_and_end(python311: str, tmp_path: Path) -> None:
    _, begun, refused, _, ended, over = _gdb(
        python311, tmp_path, "refdbg gc stop --at begin --generation 1", "continue", "refdbg gc unreachable",
        "refdbg gc stop --at end --generation 2", "continue", "refdbg gc unreachable",
    )  # fmt: skip
    assert "before the collector looks for garbage" in begun.text
    assert "has not looked for garbage yet" in refused.text and "--at finalize" in refused.text
    assert "garbage.py:18)) found 7 unreachable objects" in ended.text
    assert "its garbage is gone" in over.text


@pytest.mark.parametrize("step", ["finalize", "clear"])
def test_inside_a_collection_its_garbage_is_missed_and_said_to_be(interpreter: str, tmp_path: Path, step: str) -> None:
    before, *_, halted, census, again, whole, listed, _, after = _gdb(
        interpreter, tmp_path, "refdbg status --json", f"refdbg gc stop --type Other --at {step}", "continue",
        "refdbg status --json", "refdbg census --tracked --limit 1000 --json", "refdbg gc again --json",
        "refdbg census --limit 1000 --json", "refdbg gc unreachable --json", "continue", "refdbg status --json",
    )  # fmt: skip
    assert before.record["notes"] == after.record["notes"] == whole.record["notes"] == []
    for answer in (halted, census, again):
        assert "inside a collection" in answer.record["notes"][0]
        assert "refdbg gc unreachable" in answer.record["notes"][0]
    assert "__main__.Other" not in types_of(census.record["by_type"])
    assert types_of(whole.record["by_type"])["__main__.Other"] == 6
    assert types_of(listed.record["by_type"])["__main__.Other"] == 6
    assert "looks kept" in again.record["notes"][1]
    assert again.record["tracked"] == census.record["objects"] > 1000


def test_gc_again_names_finalizers(interpreter: str, tmp_path: Path) -> None:
    program = tmp_path / "garbage.py"
    program.write_text(GARBAGE.replace("gc.collect(", "int("))
    _, again, text = run_gdb(
        interpreter, program, ["continue", "refdbg gc again --json", "refdbg gc again"], folder=tmp_path
    )
    assert types_of(again.record["by_type"])["__main__.Other"] == 6
    (note,) = again.record["notes"]
    assert "Other.__del__" in note and f"{program}:6" in note and "6 of them" in note
    assert "would find" in text.text and "free" not in text.text.partition("note:")[0]


def test_gc_again_is_a_lower_bound_where_visits_are_undecided(python311: str, tmp_path: Path) -> None:
    program = tmp_path / "broken.py"
    program.write_text("import gc\ngc.disable()\nclass Broken: pass\nbroken = Broken()\n"
                       "garbage = []\ngarbage.append(garbage)\ndel garbage\nascii(broken)\n")
    whole, _, text, record = run_gdb(
        python311, program,
        ["refdbg gc again", "set var obj->ob_type->tp_traverse = (traverseproc)16", "refdbg gc again",
         "refdbg gc again --json"], folder=tmp_path,
    )  # fmt: skip
    assert whole.text.startswith("A full collection would find 1 of ")
    assert text.text.startswith("A full collection would find at least 1 of ")
    assert record.record["undecided"] == 1
    assert "what __main__.Broken objects visit is undecided (" in text.text


def test_gc_again_names_what_is_visited_too_often(python311: str, tmp_path: Path) -> None:
    modules = subprocess.run([ROOT / "tests" / "extensions" / "build", python311], stdout=subprocess.PIPE, text=True,
                             check=True).stdout.strip()  # fmt: skip
    program = tmp_path / "watched.py"
    program.write_text(
        f"import sys\nsys.path.insert(0, {modules!r})\nimport over_visit\nwatched = ['in', 'use']\n"
        "watchers = [over_visit.Watcher(watched) for _ in range(3)]\nascii(watched)\n"
    )
    again, text = run_gdb(python311, program, ["refdbg gc again --json", "refdbg gc again"], folder=tmp_path)
    (note,) = again.record["notes"]
    assert "list at 0x" in note and "['in', 'use']" in note
    assert note in text.text


def test_gc_stop_with_bad_orders(python311: str, tmp_path: Path) -> None:
    answers = _gdb(
        python311, tmp_path, "refdbg gc stop --generation 7", "refdbg gc stop --at never", "refdbg gc unreachable",
        "refdbg gc", "refdbg gc log --objects -3", "refdbg status",
    )  # fmt: skip
    generation, step, nothing, missing, negative, status = (answer.text for answer in answers)
    assert "there is no generation 7" in generation
    assert "never" in step and "finalize" in step
    assert "not stopped in a collection" in nothing
    assert "ACTION" in missing
    assert "-3" in negative or "negative" in negative
    assert "3.11" in status


def test_gc_log_before_the_program_runs(interpreter: str, tmp_path: Path) -> None:
    program = tmp_path / "garbage.py"
    program.write_text(GARBAGE)
    commands = ["refdbg gc log", "refdbg gc stop --type Other", "run", "refdbg gc log --json", "kill"]
    *_, stopped, log, _ = run_gdb(interpreter, program, commands, stop_at=None, folder=tmp_path)
    assert "__main__.Other" in stopped.text
    last = log.record["collections"][-1]
    assert (last["generation"], types_of(last["by_type"])["__main__.Node"]) == (0, 5)
