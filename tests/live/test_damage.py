"""Damaged memory: sizes that lie, lists that loop, pointers to nowhere. Nothing raises, nothing hangs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import python_of
from tests.support.debugger import ROOT, run_gdb


def test_damaged_objects(interpreter: str, tmp_path: Path) -> None:
    told, found = tmp_path / "told", tmp_path / "found"
    commands = [
        f"python import os; os.environ['TOLD'] = {str(told)!r}; os.environ['FOUND'] = {str(found)!r}",
        f"source {ROOT}/tests/support/damage.py",
    ]
    answers = run_gdb(interpreter, ROOT / "tests/programs/decode_oracle.py", commands, [str(told)], folder=tmp_path)
    assert found.exists(), answers
    report = json.loads(found.read_text())
    assert report["tried"] > 1000
    assert report["noticed"] > 200
    assert report["failures"] == []
    assert report["slow"] == []


@pytest.mark.parametrize("name", ["3.9-debug", "3.11-debug", "3.13-debug"])
def test_damaged_frames_and_generators(name: str, tmp_path: Path) -> None:
    found = tmp_path / "found"
    commands = [
        f"python import os; os.environ['FOUND'] = {str(found)!r}",
        f"source {ROOT}/tests/support/damage_frames.py",
    ]
    program, truth = ROOT / "tests/programs/suspended_oracle.py", str(tmp_path / "truth")
    answers = run_gdb(python_of(name), program, commands, [truth], folder=tmp_path)
    assert found.exists(), answers
    report = json.loads(found.read_text())
    assert report["places"] > 100
    assert report["changed"] > 8
    assert report["failures"] == []
    assert report["slow"] == []
