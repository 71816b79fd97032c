"""Functions that the emulator cannot run, or only with help: each object apart, and all others answered."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.debugger import run_gdb

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "tests" / "programs" / "hostile_traverse.py"
EACH = 20  # objects of a type, as in the program
FILE = r"\(hostile_traverse\.so\)"
REASONS = {
    "Looping": rf"no end in looping_traverse {FILE}|no end in 3 calls for other objects",
    "Endless": rf"(more visits than memory has words|no end) in endless_traverse {FILE}"
               r"|no end in 3 calls for other objects",
    "Crashing": rf"read of 0x0 in crashing_traverse {FILE}",
    "Jumping": rf"jump to 0x1230 in jumping_traverse {FILE}",
    "Scribbling": rf"write to 0x\w+ in scribbling_traverse {FILE}",
    "Avx": rf"unsupported instruction in avx_traverse {FILE}",
    "SseAvx": rf"unsupported instruction in avx_traverse {FILE}|unsupported instruction in sse_avx_traverse {FILE}",
}


def extensions(python: str) -> str:
    """The folder of tests/extensions, compiled for *python*."""
    done = subprocess.run(
        [ROOT / "tests" / "extensions" / "build", python], stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout.strip()


def check(python: str, folder: Path, *gdb_options: str) -> Any:
    """What tests/support/in_gdb.py answers for every object that the program knows the visits of."""
    orders = {"what": "visits", "told": str(folder / "told"), "output": str(folder / "output")}
    done = subprocess.run(
        ["gdb", "-nx", "-batch", "-iex", "set auto-load no", *gdb_options,
         "-x", ROOT / "tests" / "support" / "in_gdb.py", "--args", python, PROGRAM, extensions(python),
         folder / "told"],
        env={**os.environ, "REFDBG_CHECK": json.dumps(orders)}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace", timeout=300, check=False,
    )
    output = folder / "output"
    assert output.exists(), done.stdout
    return json.loads(output.read_text())


def test_every_other_object_is_answered(interpreter: str, tmp_path: Path) -> None:
    start = time.monotonic()
    found = check(interpreter, tmp_path)
    assert time.monotonic() - start < 120
    assert found["objects"] > 5_000
    reasons: dict[str, list[str]] = {name: [] for name in REASONS}
    unlinked = []
    for _repr, name, reason in found["different"]:
        # Capsules and struct sequences are among those that are equal: libc's strcmp and memcmp are replaced.
        assert "hostile_traverse." in name, (name, reason)
        if name.startswith("unlinked."):
            unlinked.append((name, reason))
        else:
            reasons[name.partition(".")[2]].append(reason)
    for name, pattern in REASONS.items():
        assert len(reasons[name]) == EACH, name
        for reason in reasons[name]:
            assert re.fullmatch(pattern, reason), (name, reason)
    assert [name for name, _ in unlinked] == ["unlinked.hostile_traverse.Crashing"]
    assert "crashing_traverse (unlinked.so" in unlinked[0][1]


def test_the_commands_name_type_and_reason(python311: str, tmp_path: Path) -> None:
    again, looping, crashing, avx, junk, counting = run_gdb(
        python311, PROGRAM,
        ["refdbg gc again --json", *(f"refdbg visits hostile_traverse.{name}" for name in
         ("Looping", "Crashing", "SseAvx", "Junk", "Counting"))],
        [extensions(python311), str(tmp_path / "told")], folder=tmp_path,
    )  # fmt: skip
    assert again.record["undecided"] == EACH * len(REASONS) + 1  # and one of the unlinked library
    assert again.record["tracked"] > 5_000
    notes = "\n".join(again.record["notes"])
    for name in REASONS:
        assert f"hostile_traverse.{name}" in notes
    assert "no end in looping_traverse (hostile_traverse.so)" in looping.text
    assert f"{EACH} objects undecided: read of 0x0 in crashing_traverse (hostile_traverse.so)" in crashing.text
    assert "unsupported instruction in" in avx.text
    for answer in (junk, counting):
        assert "undecided" not in answer.text and "Traceback" not in answer.text
    assert "junk_traverse" in junk.text and "counting_traverse" in counting.text


def test_libc_without_debug_symbols(build: Callable[[str], str], tmp_path: Path) -> None:
    """Its .dynsym is all that Debian's libc has: struct sequences and capsules are decided all the same."""
    found = check(build("3.13"), tmp_path, "-iex", "set debug-file-directory /nonexistent")
    assert {name.rpartition(".")[0] for _, name, _ in found["different"]} == {
        "hostile_traverse", "unlinked.hostile_traverse"
    }
