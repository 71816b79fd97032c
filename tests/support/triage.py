"""Runs refdbg-triage as a user does."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema

import refdbg.render
from tests.support.run import ENVIRONMENT, ROOT, TIMEOUT

SCHEMA = json.loads(Path(refdbg.render.__file__).with_name("triage.schema.json").read_text(encoding="utf-8"))
TRIAGE = [
    sys.executable, "-c",
    f"import sys; sys.path.insert(0, {str(ROOT)!r}); from refdbg.launch.triage.command import main; main()",
]  # fmt: skip


@dataclass(frozen=True)
class Triaged:
    """How a refdbg-triage ended, and the summary that it wrote; {} where there is none."""

    status: int
    out: str
    err: str
    summary: dict[str, Any]

    def row(self, key: str) -> dict[str, Any]:
        """What the summary says of a job."""
        (found,) = [row for row in self.summary["rows"] if row["key"] == key]
        return dict(found)


def triage(*words: str | Path, folder: Path | None = None) -> Triaged:
    """Run refdbg-triage; *folder*: its --output, which a summary is read from."""
    command = [*TRIAGE, *map(str, words), *(["--output", str(folder)] if folder else [])]
    done = subprocess.run(command, capture_output=True, env=ENVIRONMENT, timeout=TIMEOUT, check=False, text=True)
    file = (folder or Path(words[-1])) / "summary.json"
    summary = json.loads(file.read_text()) if file.is_file() else {}
    if 0 < len(summary.get("rows", ())) < 1000:  # that takes its time
        jsonschema.Draft202012Validator(SCHEMA).validate(summary)
    return Triaged(done.returncode, done.stdout, done.stderr, summary)


def results(folder: Path) -> dict[str, dict[str, Any]]:
    """The result of each finished job."""
    return {file.parent.name: json.loads(file.read_text()) for file in folder.glob("jobs/*/result.json")}


def comparable(record: dict[str, Any]) -> dict[str, Any]:
    """What two runs of the same jobs have in common."""
    rows = [{key: value for key, value in row.items() if key != "seconds"} for row in record["rows"]]
    # A message may have addresses of one run in it.
    groups = [{key: each[key] for key in each if key not in ("first_seen", "message")} for each in record["groups"]]
    return {**record, "rows": rows, "groups": groups}
