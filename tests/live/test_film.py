"""One object through one collection; the replayed collector against CPython's own; what collections do not free."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.debugger import run_gdb
from tests.support.run import ROOT, Ended, run

PROGRAMS = ROOT / "tests" / "programs"
FILM = PROGRAMS / "film.py"
Build = Callable[[str], str]


def film(python: str, case: str, folder: Path, generation: int = 2) -> tuple[Any, Any]:
    """The film of the case's object: as replayed where it is still held, and as it ran."""
    now, begun, ran, again = run_gdb(
        python, FILM,
        ["refdbg gc film obj --now --json", "refdbg gc film obj --json", "continue", "refdbg gc film --json"],
        [case, str(generation)], folder=folder,
    )
    assert "in the next collection" in begun.record["text"] or "end of the next collection" in begun.record["text"]
    assert '"steps"' in ran.text  # it is printed where the program stops
    assert again.record["object"]["address"] == now.record["object"]["address"]
    return now.record, again.record


def steps(record: Any) -> list[str]:
    """What happened, in order."""
    return [step["kind"] for step in record["steps"]]


def numbers(record: Any) -> tuple[int, int, int, int | None]:
    """(count, visits, gc_refs, CPython's own gc_refs)."""
    refs = record["refs"]
    return refs["object"]["refcount"], refs["visits"], refs["gc_refs"], refs["own"]


def test_garbage_is_cleared_and_freed(interpreter: str, tmp_path: Path) -> None:
    now, ran = film(interpreter, "node", tmp_path)
    assert (now["decision"], now["agrees"], now["collection"], steps(now)) == ("held", None, None, [])
    assert numbers(now) == (2, 1, 1, None)  # the call of ascii() holds it
    assert (ran["decision"], ran["agrees"], ran["generation"]) == ("unreachable", True, "0")
    assert numbers(ran) == (1, 1, 0, 0)
    assert ran["refs"]["holders"] == [] and ran["refs"]["visitors"][0]["label"].endswith("['me']")
    assert steps(ran) == ["unreachable", "tp_clear", "freed"]
    assert "delete_garbage" in [frame["function"] for frame in ran["steps"][-1]["stack"]]
    assert ran["collection"]["generation"] == 2 and ran["collection"]["frame"]["function"] == "collect"


def test_held_from_outside(interpreter: str, tmp_path: Path) -> None:
    _, ran = film(interpreter, "held", tmp_path, 1)
    assert (ran["decision"], ran["agrees"], ran["way"]) == ("held", True, [])
    assert numbers(ran) == (2, 1, 1, 1)
    (holder,) = ran["refs"]["holders"]
    assert holder["kind"] == "frame" and "local node of held()" in holder["label"]
    assert ran["refs"]["unknown"] == 0
    assert steps(ran) == ["kept", "survives"] and ran["steps"][-1]["generation"] == "2"


def test_reached_from_a_kept_root(interpreter: str, tmp_path: Path) -> None:
    _, ran = film(interpreter, "reached", tmp_path, 0)
    assert (ran["decision"], ran["agrees"]) == ("reached", True)
    assert numbers(ran) == (2, 2, 0, 0)
    way = [(step["label"], step["object"]["type"]) for step in ran["way"]]
    assert way[0] == ("", "__main__.Holder") and way[-1] == ("[0]", "__main__.Node")
    assert all(step["visited"] for step in ran["way"][1:])
    assert ran["root"]["object"] == ran["way"][0]["object"] and ran["root"]["gc_refs"] == 1
    assert "local holder of reached()" in ran["root"]["holders"][0]["label"]
    assert steps(ran) == ["kept", "survives"] and ran["steps"][-1]["generation"] == "1"


def test_a_finalizer_brings_it_back(interpreter: str, tmp_path: Path) -> None:
    _, ran = film(interpreter, "phoenix", tmp_path, 0)
    assert steps(ran) == ["unreachable", "finalizer", "resurrected", "survives"]
    _, finalizer, back, survives = ran["steps"]
    assert (finalizer["function"], finalizer["file"]) == ("Phoenix.__del__", str(FILM))
    assert FILM.read_text().splitlines()[finalizer["line"] - 1].strip() == "def __del__(self):"
    assert back["gc_refs"] == 1 and survives["generation"] == "1"


def test_a_finalizer_then_tp_clear(interpreter: str, tmp_path: Path) -> None:
    _, ran = film(interpreter, "finalized", tmp_path)
    assert steps(ran) == ["unreachable", "finalizer", "tp_clear", "freed"]
    assert ran["steps"][1]["function"] == "Finalized.__del__"


def test_freed_by_its_own_finalizer(interpreter: str, tmp_path: Path) -> None:
    _, ran = film(interpreter, "breaker", tmp_path)
    assert steps(ran) == ["unreachable", "finalizer", "freed"]
    assert "finalize_garbage" in [frame["function"] for frame in ran["steps"][-1]["stack"]]


def test_the_next_collection_that_examines_it(interpreter: str, tmp_path: Path) -> None:
    now, ran = film(interpreter, "old", tmp_path)
    assert now["generation"] == ran["generation"] == "2"
    assert (ran["collection"]["number"], ran["collection"]["generation"]) == (3, 2)
    assert steps(ran) == ["unreachable", "tp_clear", "freed"]


def test_freed_before_any_collection(interpreter: str, tmp_path: Path) -> None:
    _, ran = film(interpreter, "outlived", tmp_path)
    assert (ran["state"], ran["collection"], steps(ran)) == ("freed", None, ["freed"])
    assert ran["steps"][0]["stack"][0]["function"] == "subtype_dealloc"


def test_debug_saveall(interpreter: str, tmp_path: Path) -> None:
    _, ran = film(interpreter, "save_all", tmp_path)
    assert steps(ran) == ["unreachable", "saved", "survives"] and ran["agrees"]


def test_a_legacy_finalizer(interpreter: str, build: Build, tmp_path: Path) -> None:
    if "/.cache/" not in interpreter:
        pytest.skip("Debian's python3.11-dbg has no _testcapi")
    _, ran = film(interpreter, "legacy", tmp_path)
    assert steps(ran) == ["unreachable", "uncollectable", "survives"] and ran["agrees"]


@pytest.mark.parametrize(("case", "state"), [("untracked", "untracked"), ("frozen", "permanent"), ("text", "no gc")])
def test_what_no_collection_examines(interpreter: str, case: str, state: str, tmp_path: Path) -> None:
    for command in ("refdbg gc film obj --json", "refdbg gc film obj --now --json"):
        (answer,) = run_gdb(interpreter, FILM, [command], [case, "2"], folder=tmp_path)
        assert (answer.record["state"], answer.record["refs"]) == (state, None)


def test_texts(python311: str, tmp_path: Path) -> None:
    commands = [
        "refdbg gc film", "refdbg help gc film", "refdbg gc film obj", "refdbg gc film", "continue", "refdbg gc film --off",
    ]
    none, help_, _, waiting, ran, off = run_gdb(python311, FILM, commands, ["reached", "2"], folder=tmp_path)
    assert "there is no film yet" in none.text and "in no collection yet" in waiting.text
    assert "free list" in help_.text and "followed any more" in off.text
    for part in (
        "gc_refs is 0", "visits lead to it from an object that stays", "local holder of reached()",
        "CPython decides alike, with gc_refs 0.", "it survives, in generation 2",
    ):
        assert part in ran.text


def checks(ended: Ended) -> list[str]:
    """What --check has said."""
    return [warning for warning in ended.report["warnings"] if "replayed" in warning]


@pytest.mark.parametrize(
    "arguments", [["-c", "pass"], ["-c", "import asyncio, decimal"], [PROGRAMS / "garbage.py"]],
    ids=["pass", "imports", "garbage"],
)
def test_the_replayed_collector_decides_alike(interpreter: str, arguments: list[str | Path]) -> None:
    """gc_refs of every object, and the garbage, of every collection."""
    ended = run([interpreter, *arguments], ["--check"])
    collections = ended.report["collections"]
    assert sum(record["unreachable"] for record in collections) > 100
    number = len(collections)
    assert checks(ended) == [f"{number} collections were replayed: each decided as the replayed collector does."]
    assert ended.report["partial"] is None


def test_a_collector_that_skips_an_object_disagrees(build: Build, tmp_path: Path) -> None:
    python = build("3.11-skip-subtract-refs")
    ended = run([python, PROGRAMS / "skipped.py"], ["--check"])
    first, *_, summary = checks(ended)
    assert "(gc.collect() in <module>" in first and "decided otherwise" in first
    assert first.count("(gc_refs 1, replayed 0)") == 3  # what the three objects hold
    assert "what visits each of them is: __main__.Skipped" in first
    assert "<__main__.Skipped object at 0x" in first.partition("it kept ")[2]
    assert "Other" not in first
    assert summary.endswith("4 of them decided otherwise.")
    log, *_ = run_gdb(
        python, PROGRAMS / "skipped.py", ["refdbg gc log --json"], stop_at="Py_FinalizeEx", folder=tmp_path
    )
    assert "recorded from now on" in log.record["text"]


def test_gc_log_says_so_too(build: Build, tmp_path: Path) -> None:
    _, _, log = run_gdb(
        build("3.11-skip-subtract-refs"), FILM, ["refdbg gc log --check", "continue", "refdbg gc log --off --json"],
        ["skipped_twice", "2"], folder=tmp_path,
    )
    assert "__main__.Skipped" in log.record["checks"][0]
    assert log.record["checks"][-1] == "1 collections were replayed; 1 of them decided otherwise."


def test_the_film_of_a_skipped_object(build: Build, tmp_path: Path) -> None:
    _, ran = film(build("3.11-skip-subtract-refs"), "skipped", tmp_path)
    assert (ran["decision"], ran["agrees"], steps(ran)) == ("unreachable", False, ["kept", "survives"])
    assert numbers(ran) == (1, 1, 0, 1)


def not_freed(python: str, case: str) -> tuple[list[Any], list[Any]]:
    """The findings of tests/programs/not_freed.py on what collections did not free, and all."""
    findings = run([python, PROGRAMS / "not_freed.py", case]).report["findings"]
    return [found for found in findings if found["verdict"] in ("resurrected", "uncollectable")], findings


def test_resurrected(interpreter: str) -> None:
    (found,), findings = not_freed(interpreter, "phoenix")
    assert (found["verdict"], found["confidence"]) == ("resurrected", "proven")
    assert found["subject"]["type"] == "__main__.Phoenix" and len(found["objects"]) == 1
    assert found["holder"]["owner"] == "Phoenix.__del__" and found["holder"]["field"].startswith("[0] of list [")
    assert "in 3 collections" in found["message"]
    (where,) = [evidence["location"] for evidence in found["evidence"] if evidence["kind"] == "finalizer"]
    program = PROGRAMS / "not_freed.py"
    assert where["file"] == str(program)
    assert program.read_text().splitlines()[where["line"] - 2] == "class Phoenix(Node):"
    assert found["explains"] == {"objects": 0, "references": 0} and findings[-1] == found
    assert "0x" not in found["signature"]
    (again,), _ = not_freed(interpreter, "phoenix")
    assert again["signature"] == found["signature"]


def test_another_object_is_rescued(interpreter: str) -> None:
    (found,), _ = not_freed(interpreter, "rescued")
    assert (found["subject"]["type"], found["holder"]["owner"]) == ("__main__.Node", "Rescuer.__del__")
    assert "the finalizer Rescuer.__del__" in found["message"]


def test_resurrected_and_left_over(interpreter: str) -> None:
    (found,), findings = not_freed(interpreter, "leaking")
    assert found["subject"]["type"] == "__main__.Leaking" and found["explains"]["objects"] == 1
    assert found["confidence"] == "likely" and found["holder"]["field"] == ""  # nobody holds it: the reference is lost
    below = findings[findings.index(found) + 1 :]
    assert all(other["explains"]["references"] <= found["explains"]["references"] for other in below)


def test_uncollectable(interpreter: str) -> None:
    if "/.cache/" not in interpreter:
        pytest.skip("Debian's python3.11-dbg has no _testcapi")
    (found,), _ = not_freed(interpreter, "legacy")
    assert (found["verdict"], found["subject"]["type"]) == ("uncollectable", "__main__.Legacy")
    assert found["holder"]["owner"] == "slot_tp_del" and len(found["objects"]) == 2
    assert all(row["type"] == "__main__.Legacy" for row in found["objects"])


def test_saveall_is_said_to_be_the_cause(interpreter: str) -> None:
    (found,), _ = not_freed(interpreter, "save_all")
    assert (found["verdict"], found["holder"]["owner"]) == ("uncollectable", "gc.DEBUG_SAVEALL")
    assert "This is no leak" in found["message"]
    assert found["explains"] == {"objects": 0, "references": 0}
