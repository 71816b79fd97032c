"""Which test methods leak in regrtest's `-R`, and where what they leak was made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.run import run

PLANTED = Path(__file__).parents[1] / "programs" / "planted"
KEEPS = "test_planted.PlantedTests.test_b_keeps"
FIXTURE = "setUpClass of test_planted.PlantedTestsSetUp"
LOSES = "test_planted.PlantedTests.test_c_loses"


@pytest.fixture(scope="module", params=["3.9", "3.11", "3.13"])
def repetitions(
    request: pytest.FixtureRequest, build: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], bool]:
    """The report on planted leaks, and whether tracemalloc was on: it makes the slowest of them too slow."""
    traced = request.param != "3.13"
    program = [build(request.param), "-m", "test", "--testdir", PLANTED, "-R", "3:3", "test_planted"]
    folder = tmp_path_factory.mktemp("refleak")  # regrtest writes its reflog.txt there
    return run(program, ["--refleak", *(["--allocations"] if traced else [])], cwd=folder).report, traced


def _tests(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    (record,) = report["repetitions"]
    assert record["verdict"] == "leak"
    return {row["test"]: row for row in record["tests"]}


def test_the_methods_that_leak(repetitions: tuple[dict[str, Any], bool]) -> None:
    tests = _tests(repetitions[0])
    assert set(tests) - {""} == {KEEPS, LOSES, FIXTURE}
    assert tests[FIXTURE]["objects"] == 1
    assert 2 <= tests[KEEPS]["objects"] <= 4 and not tests[KEEPS]["older"]  # until 3.10 an instance's dict is an object
    assert (tests[LOSES]["objects"], tests[LOSES]["older"]) == (0, 2)


def test_each_finding_names_its_test(repetitions: tuple[dict[str, Any], bool]) -> None:
    findings = repetitions[0]["findings"]
    node, set_up = (next(each for each in findings if name in each["message"]) for name in ("KEPT", "SET_UP"))
    (lost,) = [each for each in findings if each["verdict"] == "lost-reference"]
    for finding, test in ((node, KEEPS), (lost, LOSES), (set_up, FIXTURE)):
        assert f"it comes from {test}" in [each["text"] for each in finding["evidence"] if each["kind"] == "test"]


def test_where_it_was_made(repetitions: tuple[dict[str, Any], bool]) -> None:
    report, traced = repetitions
    (record,) = report["repetitions"]
    allocated = {row["type"]: row["allocation"]["frames"] for row in record["growth"]["allocated"]}
    if not traced:
        assert not allocated
        return
    functions = [frame["function"] for frame in allocated["test_planted.Node"]]
    assert functions[:2] == ["test_planted.keep", KEEPS]
    assert any("tracemalloc is on" in warning for warning in report["warnings"])
    (node,) = [each for each in report["findings"] if "KEPT" in each["message"]]
    (made,) = [each for each in node["evidence"] if each["kind"] == "allocation"]
    assert made["location"]["file"].endswith("test_planted.py") and KEEPS in made["text"]


def test_a_leak_in_subinterpreters(build: Callable[[str], str], tmp_path: Path) -> None:
    program = [build("3.11-leak-thread"), "-m", "test", "-R", "3:3", "test_threading", "-m", "SubinterpThreadingTests"]
    report = run(program, ["--refleak"], cwd=tmp_path).report
    methods = {f"test.test_threading.SubinterpThreadingTests.test_threads_join{end}" for end in ("", "_2")}
    tests = _tests(report)
    assert set(tests) - {""} == methods
    assert all(tests[each]["objects"] >= 17 for each in methods)
    (finding,) = [each for each in report["findings"] if each["verdict"] == "missing-visit"]
    made = [each["text"] for each in finding["evidence"] if each["kind"] == "interpreter"]
    assert {text.removeprefix("the interpreter was made in ").split(" ")[0] for text in made} == methods
