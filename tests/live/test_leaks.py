"""The leaks of CPython's history, put back by small patches: each run names the culprit, the clean build nobody."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from refdbg.render.report import report_text
from tests.conftest import built, missing
from tests.support.run import ENVIRONMENT, run

PROGRAMS = Path(__file__).parents[1] / "programs"
SUBINTERPRETER_VERDICTS = {"missing-visit", "late-garbage", "state-reference", "over-visit", "lost-reference"}

# build, program, then (verdict, words of the message) of the first findings
CASES = [
    ("thread", "leak_thread.py", [("missing-visit", "_thread.lock: instances own their heap type, and lock_traverse")]),
    ("abc-no-traverse", "leak_abc.py", [("missing-visit", "_abc._abc_data: instances own references")]),
    ("abc-no-type", "leak_abc.py", [
        ("missing-visit", "_abc._abc_data: instances own their heap type, and abc_data_traverse never visits it"),
    ]),
    ("signal-static", "leak_signal_static.py", [
        ("static-reference", "`IntHandler`"), ("static-reference", "`ItimerError`"),
    ]),
    ("gc-never", "leak_gc.py", [
        ("state-reference", "codec_search_path"), ("state-reference", "codec_search_cache"),
    ]),
    ("gc-late", "leak_gc.py", [
        ("late-garbage", "codec_search_path` was released by interpreter_clear()"),
        ("late-garbage", "codec_search_cache` was released by interpreter_clear()"),
    ]),
    ("ast-never", "leak_ast.py", [("state-reference", "`PyInterpreterState.ast` still holds")]),
    ("ast-late", "leak_ast.py", [("late-garbage", "`PyInterpreterState.ast` was released by _PyAST_Fini()")]),
]  # fmt: skip


@cache
def report(build: str, program: str) -> dict[str, Any]:
    """The report of a program on a build of tests/cpython."""
    python = built(build)
    if python is None:
        missing(f"no {build}: run tests/cpython/build {build}")
    ended = run([str(python), PROGRAMS / program], env={**ENVIRONMENT, "PYTHONHASHSEED": "0"})
    assert ended.status == 0, ended.err
    return ended.report


def of_subinterpreters(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The findings on subinterpreters, as ranked."""
    return [finding for finding in found["findings"] if finding["interpreter"]]


@pytest.mark.parametrize(("build", "program", "expected"), CASES, ids=[case[0] for case in CASES])
def test_the_culprit_comes_first(build: str, program: str, expected: list[tuple[str, str]]) -> None:
    found = report(f"3.11-leak-{build}", program)
    findings = of_subinterpreters(found)
    # Nothing ranks higher but what the subinterpreters' own module leaves in C variables: the clean build has it too.
    for finding in found["findings"][: found["findings"].index(findings[0])]:
        assert finding["signature"] in {clean["signature"] for clean in report("3.11", program)["findings"]}
    for verdict, words in expected:
        assert [f for f in findings[:3] if f["verdict"] == verdict and words in f["message"]], findings[0]["message"]
    for finding in findings[: len(expected)]:
        assert finding["repetitions"] >= 3  # the main interpreter may have the same defect
        assert finding["explains"]["references"] > 0
        freed = finding["counterfactual"]["freed_references"]
        assert freed > 0.9 * finding["explains"]["references"]
        assert finding["confidence"] == "likely" or freed == finding["explains"]["references"]
    assert sum(f["explains"]["objects"] for f in findings) <= found["interpreters"][-1]["left_over"]["objects"]


@pytest.mark.parametrize("program", sorted({case[1] for case in CASES}))
def test_the_unpatched_build_has_none_of_them(program: str) -> None:
    found = report("3.11", program)
    assert of_subinterpreters(found) == []
    assert not {finding["verdict"] for finding in found["findings"]} & SUBINTERPRETER_VERDICTS


def test_the_signature_has_no_address() -> None:
    """The same leak is the same in another run, and on another build of the same defect its own."""
    first = of_subinterpreters(report("3.11-leak-thread", "leak_thread.py"))[0]
    report.cache_clear()
    again = of_subinterpreters(report("3.11-leak-thread", "leak_thread.py"))[0]
    assert first["signature"] == again["signature"]
    assert first["signature"] != of_subinterpreters(report("3.11-leak-abc-no-type", "leak_abc.py"))[0]["signature"]


def test_the_headline_says_what_subinterpreters_leak() -> None:
    found = report("3.11-leak-thread", "leak_thread.py")
    first = of_subinterpreters(found)[0]
    number, references = first["interpreter"], first["explains"]["references"]
    head = report_text(found, 120).split("\n\n")[0].splitlines()
    assert head[-1] == (
        f"  before that, interpreter {number}: {references} are explained by references that no tp_traverse reports; "
        f"{first['repetitions'] - 1} other interpreters alike"
    )
    assert "before that, interpreter" not in report_text(report("3.11", "leak_thread.py"), 120)


def test_overwritten_handlers_are_lost_in_the_main_interpreter() -> None:
    """_signal imported again: its exec function overwrites Handlers[…].func, and releases nobody."""
    findings = report("3.11-leak-signal-handlers", "leak_signal_handlers.py")["findings"]
    assert [finding["verdict"] for finding in findings[:2]] == ["lost-reference"] * 2
    assert "import_again.<locals>.<lambda>" in findings[0]["message"]
    assert "and 2 more objects: 3 references that nobody holds" in findings[0]["message"]
    assert "default_int_handler" in findings[1]["message"]
    for finding in findings[:2]:
        assert finding["counterfactual"]["freed_references"] == finding["explains"]["references"]
    clean = report("3.11", "leak_signal_handlers.py")["findings"]
    assert "lost-reference" not in {finding["verdict"] for finding in clean}


def test_a_module_made_anew_for_nothing_is_held_by_the_one_before() -> None:
    """_weakref (bpo-40050) leaks while the program runs, and is gone when it ends: nothing is left over."""
    assert report("3.11-leak-weakref", "leak_weakref.py")["findings"] == []
