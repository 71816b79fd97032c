"""Core files, snapshots and running processes without a debugger: the answers are those that gdb gave at the stop."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.debugger import run_gdb

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
PROGRAM = TESTS / "programs" / "recorded.py"
REFDBG = [sys.executable, "-c", "from refdbg.launch.shell import main; main()"]

ASKED = (
    "status", "census --limit 1000", "census --tracked --limit 1000", "objects Node --limit 100", "object {obj}",
    "type dict", "frames --all --locals", "referents {obj}", "referrers {obj}", "why {obj}", "cycles", "cycles {obj}",
    "retained --limit 100", "retained Node", "visits Node", "visits {obj}", "visits dict", "balance {obj}", "gc again",
    "leaks",
)  # fmt: skip


def refdbg(*words: str | Path, status: int = 0, stdin: str = "", **environment: str) -> str:
    """What `refdbg WORDS` prints."""
    done = subprocess.run(
        [*REFDBG, *map(str, words)], input=stdin, capture_output=True, text=True, check=False, cwd=ROOT, timeout=300,
        env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == status, done.stdout + done.stderr
    assert "internal error" not in done.stdout and "Traceback" not in done.stderr
    return done.stdout + done.stderr


class Stop:
    """One stop: what gdb answered, and the files that were written there."""

    def __init__(self, python: str, folder: Path) -> None:
        self.core, self.snapshot, self.silent = (folder / name for name in ("core", "s.refdbg", "silent.refdbg"))
        address, *answers = run_gdb(
            python, PROGRAM,
            ["output (long)obj", *(f"refdbg {asked.format(obj='obj')} --json" for asked in ASKED),
             f"gcore {self.core}", f"refdbg snapshot {self.snapshot}", f"refdbg snapshot --no-values {self.silent}"],
            folder=folder,
        )  # fmt: skip
        self.object = address.text
        self.live = {asked: answer.record for asked, answer in zip(ASKED, answers)}

    def answers(self, *target: str | Path) -> dict[str, Any]:
        """What a target answers, at one prompt."""
        lines = "".join(f"{asked.format(obj=self.object)} --json\n" for asked in ASKED)
        rest = refdbg(*target, stdin=lines).strip()
        records = []
        while rest:
            record, end = json.JSONDecoder().raw_decode(rest)
            records.append(record)
            rest = rest[end:].lstrip()
        return dict(zip(ASKED, records))


@pytest.fixture(scope="module")
def stop(interpreter: str, tmp_path_factory: pytest.TempPathFactory) -> Stop:
    """The stop in builtin_ascii of tests/programs/recorded.py."""
    return Stop(interpreter, tmp_path_factory.mktemp("recorded"))


def _comparable(record: Any, asked: str) -> Any:
    if asked == "status":
        return {key: value for key, value in record.items() if key not in ("live", "debugger", "build_id")}
    return record


@pytest.mark.parametrize("kind", ["core", "snapshot"])
def test_a_file_answers_as_gdb_did(stop: Stop, kind: str) -> None:
    found = stop.answers(getattr(stop, kind))
    for asked in ASKED:
        assert _comparable(found[asked], asked) == _comparable(stop.live[asked], asked), asked
