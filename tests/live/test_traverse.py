"""What the emulated tp_traverse functions visit, and the collector replayed on it, against the collector itself."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.debugger import run_gdb

ROOT = Path(__file__).parents[2]
PROGRAMS = ROOT / "tests" / "programs"


def check(python: str, what: str, arguments: list[str | Path], folder: Path) -> Any:
    """What tests/support/in_gdb.py answers."""
    orders = {"what": what, "told": str(folder / "told"), "output": str(folder / "output")}
    done = subprocess.run(
        ["gdb", "-nx", "-batch", "-iex", "set auto-load no", "-x", ROOT / "tests" / "support" / "in_gdb.py", "--args",
         python, *arguments],
        env={**os.environ, "REFDBG_CHECK": json.dumps(orders)}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace", timeout=300, check=False,
    )
    output = folder / "output"
    assert output.exists(), done.stdout
    return json.loads(output.read_text())


def test_visits_equal_get_referents(interpreter: str, tmp_path: Path) -> None:
    found = check(interpreter, "visits", [PROGRAMS / "referents_oracle.py", tmp_path / "told"], tmp_path)
    assert found["objects"] > 10_000
    assert found["functions"] > 60
    # A capsule's traverse compares names with a strcmp that the emulator cannot run: undecided, and said so.
    assert [row for row in found["different"] if "vector instruction" not in row[2]] == []
    assert {row[1] for row in found["different"]} <= {"PyCapsule"}


@pytest.mark.parametrize(
    "arguments", [["-c", "pass"], ["-c", "import asyncio, decimal"], [PROGRAMS / "garbage.py"]],
    ids=["pass", "imports", "garbage"],
)
def test_the_replayed_collector_decides_alike(interpreter: str, arguments: list[str | Path], tmp_path: Path) -> None:
    collections = check(interpreter, "decisions", arguments, tmp_path)["collections"]
    seen = [record for record in collections if "unreachable" in record]
    assert seen and sum(record["unreachable"] for record in seen) > 100
    for record in seen:
        assert (record["only_predicted"], record["only_found"], record["negative"]) == (0, 0, 0), record


def test_gc_again_and_visits(interpreter: str, tmp_path: Path) -> None:
    again, node, of_type, unknown = run_gdb(
        interpreter, PROGRAMS / "hidden_garbage.py",
        ["refdbg gc again --json", "refdbg visits obj --json", "refdbg visits --type Node --json",
         "refdbg visits 0x1234"],
        folder=tmp_path,
    )
    counts = {row["type"]: row["objects"] for row in again.record["by_type"]}
    # Whether an instance's dict is an object of its own depends on the version.
    assert counts["__main__.Node"] == 3
    assert counts["list"] == 4
    assert set(counts) <= {"__main__.Node", "list", "dict"}
    assert not again.record["undecided"]
    assert node.record["traverse"] == of_type.record["traverse"] == "subtype_traverse"
    assert all(field["visited"] for field in node.record["fields"])
    assert node.record["extra"] == []
    assert of_type.record["objects"] == 4
    assert "no Python object" in unknown.text
