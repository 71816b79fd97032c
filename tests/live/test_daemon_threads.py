"""Threads at an interpreter's end: what the frames of one that runs hold, and what one has lost that has ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.conftest import ROOT
from tests.live.test_extensions import extensions
from tests.support.run import run

PROGRAM = ROOT / "tests" / "programs" / "leak_daemon.py"


def line_of(text: str) -> int:
    """Where the program says that."""
    return 1 + [line.strip() for line in Path(PROGRAM).read_text().splitlines()].index(text)


def stack_findings(report: dict[str, Any]) -> list[dict[str, Any]]:
    return [found for found in report["findings"] if found["verdict"] == "stack-reference"]


def test_its_frames_are_named_by_thread_function_and_line(interpreter: str) -> None:
    ended = run([interpreter, "-X", "showrefcount", PROGRAM])
    assert ended.status == 0 and ended.report["partial"] is None
    (found,) = stack_findings(ended.report)
    assert found is ended.report["findings"][0] and found["confidence"] == "likely"
    kernel_id = int(ended.out)
    where = f"inner() ({PROGRAM}:{line_of('time.sleep(1000)')}) in thread 'keeper' (kernel id {kernel_id})"
    assert where in found["message"]
    texts = [evidence["text"] for evidence in found["evidence"] if evidence["kind"] == "holder"]
    old = interpreter_has_frame_objects(ended.report)
    if old:
        assert texts[0].startswith(f"{where}: frame <frame at ")
    else:
        assert any(text.startswith(f"local in_inner of {where}: __main__.Held") for text in texts)
        outer = f"outer() ({PROGRAM}:{line_of('inner(ready, in_outer)')})"
        assert any(text.startswith(f"local alone of {outer} in thread 'keeper'") for text in texts)
    # The thread's own objects are explained by it, and by nothing else than its boot block.
    others = [each for each in ended.report["findings"] if each["verdict"] in ("native-reference", "lost-reference")]
    assert sum(each["explains"]["objects"] for each in others) <= 2
    assert found["counterfactual"]["freed_references"] == found["explains"]["references"]
    again = stack_findings(run([interpreter, "-X", "showrefcount", PROGRAM]).report)
    assert [each["signature"] for each in again] == [found["signature"]]


def test_what_only_its_c_stack_holds(interpreter: str) -> None:
    ended = run([interpreter, "-X", "showrefcount", PROGRAM.with_name("leak_stack_owner.py"), extensions(interpreter)])
    assert ended.status == 0 and ended.report["partial"] is None
    rows = [(found, row["repr"]) for found in stack_findings(ended.report) for row in found["objects"]]
    (found,) = [found for found, text in rows if text == "['on a C stack']"]
    assert found["confidence"] == "possible"  # any word on a stack may be stale
    assert "C stack of thread 'sleeper' (kernel id " in found["message"] or any(
        "C stack of thread 'sleeper' (kernel id " in evidence["text"] for evidence in found["evidence"])


def test_what_one_has_lost_that_has_ended(interpreter: str) -> None:
    ended = run([interpreter, PROGRAM.with_name("lost_in_thread.py")])
    assert ended.status == 0 and ended.report["partial"] is None
    found = [each for each in ended.report["findings"] if each["subject"].get("type") == "__main__.Victim"]
    assert [(each["verdict"], each["confidence"]) for each in found] == [("lost-reference", "likely")]


def interpreter_has_frame_objects(report: dict[str, Any]) -> bool:
    """Until 3.10 each frame is an object."""
    return tuple(map(int, report["target"]["python"].split(".")[:2])) < (3, 11)


def test_a_joined_thread_leaves_nothing(interpreter: str) -> None:
    ended = run([interpreter, "-X", "showrefcount", PROGRAM, "joined"])
    assert ended.status == 0 and stack_findings(ended.report) == []
