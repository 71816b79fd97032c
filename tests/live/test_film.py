"""One object through one collection; the replayed collector against CPython's own; what collections do not free."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.debugger import run_gdb
from tests.support.run import ROOT, Ended, run

PROGRAMS = ROOT / "tests" / "programs"
FILM = PROGRAMS / "film.py"
Build = Callable[[str], str]
Films = dict[str, tuple[Any, Any]]


# What the program follows, and the generation that it then collects.
CASES = {
    "node": 2, "held": 1, "reached": 0, "phoenix": 0, "finalized": 2, "breaker": 2, "old": 2, "outlived": 2,
    "save_all": 2, "legacy": 2,
}  # fmt: skip
UNEXAMINED = {"untracked": "untracked", "text": "no gc", "frozen": "permanent"}
AGAIN = "refdbg gc film --json"


def films(python: str, cases: dict[str, int], folder: Path) -> Films:
    """Of each case what `--now` says, while the call of ascii() holds the object, and the film."""
    commands = []
    for _ in cases:
        commands += ["refdbg gc film obj --now --json", "refdbg gc film obj --json", "continue", AGAIN, "continue"]
    answers = run_gdb(python, FILM, commands, [f"{case}:{number}" for case, number in cases.items()], folder=folder)
    found = {}
    for case, start in zip(cases, range(0, len(answers), 5)):
        now, begun, ran, again, _ = answers[start : start + 5]
        assert "end of the next collection" in begun.record["text"]
        assert '"steps"' in ran.text  # it is printed where the program stops
        assert again.record["object"]["address"] == now.record["object"]["address"]
        found[case] = now.record, again.record
    return found


@pytest.fixture(scope="module")
def filmed(interpreter: str, tmp_path_factory: pytest.TempPathFactory) -> Films:
    """The films of all cases, in one process."""
    cases = {case: number for case, number in CASES.items() if case != "legacy" or has_testcapi(interpreter)}
    return films(interpreter, cases, tmp_path_factory.mktemp("films"))


def has_testcapi(python: str) -> bool:
    """Whether something can make a class with a tp_del."""
    return not subprocess.run([python, "-c", "import _testcapi"], stderr=subprocess.DEVNULL, check=False).returncode


def steps(record: Any) -> list[str]:
    """What happened, in order."""
    return [step["kind"] for step in record["steps"]]


def numbers(record: Any) -> tuple[int, int, int, int | None]:
    """(count, visits, gc_refs, CPython's own gc_refs)."""
    refs = record["refs"]
    return refs["object"]["refcount"], refs["visits"], refs["gc_refs"], refs["own"]


def test_garbage_is_cleared_and_freed(filmed: Films) -> None:
    now, ran = filmed["node"]
    assert (now["decision"], now["agrees"], now["collection"], steps(now)) == ("held", None, None, [])
    assert numbers(now) == (2, 1, 1, None)  # the call of ascii() holds it
    assert (ran["decision"], ran["agrees"], ran["generation"]) == ("unreachable", True, "0")
    assert numbers(ran) == (1, 1, 0, 0)
    assert ran["refs"]["holders"] == [] and ran["refs"]["visitors"][0]["label"].endswith("['me']")
    assert steps(ran) == ["unreachable", "tp_clear", "freed"]
    assert "delete_garbage" in [frame["function"] for frame in ran["steps"][-1]["stack"]]
    assert ran["collection"]["generation"] == 2 and ran["collection"]["frame"]["function"] == "collect"


def test_held_from_outside(filmed: Films) -> None:
    _, ran = filmed["held"]
    assert (ran["decision"], ran["agrees"], ran["way"]) == ("held", True, [])
    assert numbers(ran) == (2, 1, 1, 1)
    (holder,) = ran["refs"]["holders"]
    assert holder["kind"] == "frame" and "local node of held()" in holder["label"]
    assert ran["refs"]["unknown"] == 0
    assert steps(ran) == ["kept", "survives"] and ran["steps"][-1]["generation"] == "2"


def test_reached_from_a_kept_root(filmed: Films) -> None:
    _, ran = filmed["reached"]
    assert (ran["decision"], ran["agrees"]) == ("reached", True)
    assert numbers(ran) == (2, 2, 0, 0)
    way = [(step["label"], step["object"]["type"]) for step in ran["way"]]
    assert way[0] == ("", "__main__.Holder") and way[-1] == ("[0]", "__main__.Node")
    assert all(step["visited"] for step in ran["way"][1:])
    assert ran["root"]["object"] == ran["way"][0]["object"] and ran["root"]["gc_refs"] == 1
    assert "local holder of reached()" in ran["root"]["holders"][0]["label"]
    assert steps(ran) == ["kept", "survives"] and ran["steps"][-1]["generation"] == "1"


def test_a_finalizer_brings_it_back(filmed: Films) -> None:
    _, ran = filmed["phoenix"]
    assert steps(ran) == ["unreachable", "finalizer", "resurrected", "survives"]
    _, finalizer, back, survives = ran["steps"]
    assert (finalizer["function"], finalizer["file"]) == ("Phoenix.__del__", str(FILM))
    assert FILM.read_text().splitlines()[finalizer["line"] - 1].strip() == "def __del__(self):"
    assert back["gc_refs"] == 1 and survives["generation"] == "1"


def test_a_finalizer_then_tp_clear(filmed: Films) -> None:
    _, ran = filmed["finalized"]
    assert steps(ran) == ["unreachable", "finalizer", "tp_clear", "freed"]
    assert ran["steps"][1]["function"] == "Finalized.__del__"


def test_freed_by_its_own_finalizer(filmed: Films) -> None:
    _, ran = filmed["breaker"]
    assert steps(ran) == ["unreachable", "finalizer", "freed"]
    assert "finalize_garbage" in [frame["function"] for frame in ran["steps"][-1]["stack"]]


def test_the_next_collection_that_examines_it(filmed: Films) -> None:
    now, ran = filmed["old"]
    assert now["generation"] == ran["generation"] == "2"
    assert ran["collection"]["generation"] == 2  # after one of generation 0, and one of generation 1
    assert steps(ran) == ["unreachable", "tp_clear", "freed"]


def test_freed_before_any_collection(filmed: Films) -> None:
    _, ran = filmed["outlived"]
    assert (ran["state"], ran["collection"], steps(ran)) == ("freed", None, ["freed"])
    functions = [frame["function"] for frame in ran["steps"][0]["stack"]]
    assert functions[0].endswith("_dealloc") and "subtype_dealloc" in functions  # not what gives the memory back


def test_debug_saveall(filmed: Films) -> None:
    _, ran = filmed["save_all"]
    assert steps(ran) == ["unreachable", "saved", "survives"] and ran["agrees"]


def test_a_legacy_finalizer(filmed: Films) -> None:
    if "legacy" not in filmed:
        pytest.skip("this Python has no _testcapi")
    _, ran = filmed["legacy"]
    assert steps(ran) == ["unreachable", "uncollectable", "survives"] and ran["agrees"]


def test_what_no_collection_examines(interpreter: str, tmp_path: Path) -> None:
    commands = ["refdbg gc film obj --json", "refdbg gc film obj --now --json", "continue"] * len(UNEXAMINED)
    answers = run_gdb(interpreter, FILM, commands, [f"{case}:2" for case in UNEXAMINED], folder=tmp_path)
    for number, state in enumerate(UNEXAMINED.values()):
        for answer in answers[3 * number : 3 * number + 2]:
            assert (answer.record["state"], answer.record["refs"]) == (state, None)


def test_texts(python311: str, tmp_path: Path) -> None:
    commands = [
        "refdbg gc film", "refdbg help gc film", "refdbg gc film obj", "refdbg gc film", "continue",
        "refdbg gc film --off",
    ]
    none, help_, _, waiting, ran, off = run_gdb(python311, FILM, commands, ["reached:2"], folder=tmp_path)
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
    assert checks(ended) == [f"{number} collections were replayed; all decided alike."]
    assert ended.report["partial"] is None


def test_a_collector_that_skips_an_object_disagrees(build: Build) -> None:
    ended = run([build("3.11-skip-subtract-refs"), PROGRAMS / "skipped.py"], ["--check"])
    first, *_, summary = checks(ended)
    assert "(gc.collect() in <module>" in first and "decided otherwise" in first
    assert first.count("(gc_refs 1, replayed 0)") == 3  # what the three objects hold
    assert "what visits each of them is: __main__.Skipped" in first
    assert "<__main__.Skipped object at 0x" in first.partition("it kept ")[2]
    assert "Other" not in first
    assert summary.endswith("; 4 decided otherwise.")


def test_gc_log_says_so_too(build: Build, tmp_path: Path) -> None:
    _, _, _, log = run_gdb(
        build("3.11-skip-subtract-refs"), FILM,
        ["refdbg gc log --check", "break Py_FinalizeEx", "continue", "refdbg gc log --off --json"],
        ["skipped:2"], folder=tmp_path,
    )
    assert "__main__.Skipped" in log.record["checks"][0]
    assert log.record["checks"][-1] == "1 collection was replayed; 1 decided otherwise."


def test_the_film_of_a_skipped_object(build: Build, tmp_path: Path) -> None:
    (_, ran), = films(build("3.11-skip-subtract-refs"), {"skipped": 2}, tmp_path).values()
    assert (ran["decision"], ran["agrees"], steps(ran)) == ("unreachable", False, ["kept", "survives"])
    assert numbers(ran) == (1, 1, 0, 1)


def not_freed(python: str, case: str) -> tuple[list[Any], list[Any]]:
    """The findings of tests/programs/not_freed.py on what collections did not free, and all."""
    findings = run([python, PROGRAMS / "not_freed.py", case]).report["findings"]
    return [found for found in findings if found["verdict"] in ("resurrected", "uncollectable")], findings


def test_resurrected(interpreter: str) -> None:
    (found,), findings = not_freed(interpreter, "phoenix_stays")
    assert (found["verdict"], found["confidence"]) == ("resurrected", "proven")
    assert found["subject"]["type"] == "__main__.Phoenix" and len(found["objects"]) == 1
    assert found["holder"]["owner"] == "Phoenix.__del__" and found["holder"]["field"].startswith("[0] of list [")
    assert "in 4 collections" in found["message"]
    (where,) = [evidence["location"] for evidence in found["evidence"] if evidence["kind"] == "finalizer"]
    program = PROGRAMS / "not_freed.py"
    assert where["file"] == str(program)
    assert program.read_text().splitlines()[where["line"] - 2] == "class Phoenix(Node):"
    assert found["explains"] == {"objects": 0, "references": 0} and findings[-1] == found
    assert "0x" not in found["signature"]
    (again,), _ = not_freed(interpreter, "phoenix_stays")
    assert again["signature"] == found["signature"]


def test_another_object_is_rescued(interpreter: str) -> None:
    (found,), _ = not_freed(interpreter, "rescued_stays")
    assert (found["subject"]["type"], found["holder"]["owner"]) == ("__main__.Node", "Rescuer.__del__")
    assert "the finalizer Rescuer.__del__" in found["message"]


def test_what_has_died_since_is_no_finding(interpreter: str) -> None:
    report = run([interpreter, PROGRAMS / "not_freed.py", "phoenix"]).report
    assert not [found for found in report["findings"] if found["verdict"] == "resurrected"]
    (note,) = [note for note in report["warnings"] if note.startswith("no leak: ")]
    assert "from 3 collections (__main__.Phoenix" in note and note.endswith("none of them is left over.")


def test_resurrected_and_left_over(interpreter: str) -> None:
    (found,), findings = not_freed(interpreter, "leaking")
    assert found["subject"]["type"] == "__main__.Leaking" and found["explains"]["objects"]
    assert found["confidence"] == "likely" and found["holder"]["field"] == ""  # nobody holds it: the reference is lost
    below = findings[findings.index(found) + 1 :]
    assert all(other["explains"]["references"] <= found["explains"]["references"] for other in below)


def test_uncollectable(interpreter: str) -> None:
    if not has_testcapi(interpreter):
        pytest.skip("this Python has no _testcapi")
    (found,), _ = not_freed(interpreter, "legacy")
    assert (found["verdict"], found["subject"]["type"]) == ("uncollectable", "__main__.Legacy")
    assert found["holder"]["owner"] == "slot_tp_del" and len(found["objects"]) == 2
    assert all(row["type"] == "__main__.Legacy" for row in found["objects"])


def test_what_saveall_has_saved_is_explained_once(interpreter: str) -> None:
    ended = run([interpreter, PROGRAMS / "not_freed.py", "saved_at_exit"])
    (found,) = [finding for finding in ended.report["findings"] if finding["holder"].get("owner") == "gc.DEBUG_SAVEALL"]
    assert found["explains"]["objects"] >= 50
    assert not [other for other in ended.report["findings"] if "InterpreterState.gc" in other["message"]]
    assert not [note for note in ended.report["warnings"] if "not explained yet" in note]
    assert sum(each["explains"]["objects"] for each in ended.report["findings"]) <= (
        ended.report["interpreters"][0]["left_over"]["objects"])


def test_saveall_is_said_to_be_the_cause(interpreter: str) -> None:
    (found,), _ = not_freed(interpreter, "save_all")
    assert (found["verdict"], found["holder"]["owner"]) == ("uncollectable", "gc.DEBUG_SAVEALL")
    assert found["message"].startswith("collectable, and saved: ") and "This is no leak" in found["message"]
    assert found["explains"] == {"objects": 0, "references": 0}
