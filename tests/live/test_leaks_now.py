"""`refdbg leaks` and `refdbg balance` at a stop in the middle of a program."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.live.test_extensions import extensions
from tests.support.debugger import run_gdb

PROGRAM = Path(__file__).parents[1] / "programs" / "leaks_oracle.py"
COMMANDS = [
    "refdbg leaks --json", "refdbg balance obj --json", "refdbg balance obj", "refdbg balance 8",
]


@pytest.fixture(scope="module")
def answers(interpreter: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    found = run_gdb(interpreter, PROGRAM, COMMANDS, [extensions(interpreter)],
                    folder=tmp_path_factory.mktemp("leaks"))
    return {answer.command: answer for answer in found}


def test_lost_references_and_hidden_cycles_are_found(answers: dict[str, Any]) -> None:
    findings = answers["refdbg leaks --json"].record["findings"]
    lost = [finding for finding in findings if finding["verdict"] == "lost-reference"]
    mine = [finding for finding in lost if "['lost', 'for', 'good']" in finding["message"]]
    assert len(mine) == 1
    assert re.search("[5-9] references that nobody holds", mine[0]["message"])  # stale words may stand for some
    assert mine[0]["explains"]["objects"] == 1
    (hidden,) = [finding for finding in findings if finding["verdict"] == "missing-visit"]
    assert hidden["message"].startswith("forgotten_field.Pair: second is owned, and pair_traverse never visits it")
    assert hidden["explains"]["objects"] == 5


def test_what_a_collection_frees_is_no_leak(answers: dict[str, Any]) -> None:
    record = answers["refdbg leaks --json"].record
    assert record["garbage"] >= 10  # the five lists too
    assert record["leaked"] == 5
    assert not {finding["verdict"] for finding in record["findings"]} & {"static-reference", "state-reference"}


def test_the_balance_of_an_object(answers: dict[str, Any]) -> None:
    record = answers["refdbg balance obj --json"].record
    assert record["object"]["repr"] == "{'name': ['alive']}"
    assert record["lost"] == record["surplus"] == 0
    counted = [holder for holder in record["holders"] if holder["counts"]]
    assert len(counted) == record["object"]["refcount"]
    assert "['kept']" in [holder["label"] for holder in counted]
    assert "accounted for" in answers["refdbg balance obj"].text


def test_a_wrong_address(answers: dict[str, Any]) -> None:
    assert answers["refdbg balance 8"].text.startswith("refdbg: 0x8 is no Python object")
