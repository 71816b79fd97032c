"""What refdbg answers on every interpreter under each debugger: `make matrix` prints it as tables."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.debugger import run_gdb, run_lldb
from tests.support.run import ROOT, run

PROGRAM = ROOT / "tests" / "programs" / "matrix.py"
NEAR = 2  # the list that gc.get_objects() returns, and what it is called with
ASKED = ("refdbg census --tracked --json", "refdbg frames --json")
LOST = re.compile(r"list \[<object object at \S+>\]: a reference that nobody holds")


@dataclass(frozen=True)
class Row:
    """One interpreter under one debugger.

    *tracked*: how many objects more refdbg finds than `gc.get_objects()` and the permanent generation; *frames*:
    whether functions and lines are those of `traceback`; both None where no stop was looked at. *left_over*: objects;
    *printed*: the interpreter's own total, None where it has none; *attributed*: refdbg's sum; *lost*: how sure it is
    of the loss that was planted, "" when it missed it.
    """

    interpreter: str
    debugger: str
    python: str
    tracked: int | None
    frames: bool | None
    left_over: int
    printed: int | None
    attributed: int | None
    lost: str

    @property
    def good(self) -> bool:
        """Whether every answer is right."""
        near = self.tracked is None or abs(self.tracked) <= NEAR
        return near and self.frames is not False and self.printed == self.attributed and bool(self.lost)


def looked_at(interpreter: str, python: str, debugger: str, inside: Sequence[str] = ()) -> Row:
    """A stop of the program, and its end."""
    tracked, frames = _stopped(python, debugger, inside)
    ended = run([python, "-X", "showrefcount", PROGRAM], ["--debugger", debugger], inside=inside)
    assert ended.status == 0, ended.err.decode()
    report = ended.report
    totals = report["totals"] or {}
    losses = [found for found in report["findings"] if LOST.search(found["message"])]
    return Row(
        interpreter, report["target"]["debugger"], report["target"]["python"], tracked, frames,
        report["interpreters"][0]["left_over"]["objects"], totals.get("references_reported"),
        totals.get("references_attributed"), losses[0]["confidence"] if losses else "",
    )


def _stopped(python: str, debugger: str, inside: Sequence[str]) -> tuple[int, bool]:
    with tempfile.TemporaryDirectory() as name:
        folder, told = Path(name), Path(name, "told")
        if debugger == "gdb":
            answers = run_gdb(python, PROGRAM, ASKED, [str(told)], folder=folder, inside=inside)
        else:
            answers = run_lldb(python, PROGRAM, ASKED, [str(told)], folder=folder, inside=inside)
        said, tracked = map(json.loads, told.read_text().splitlines())
    census, frames = (answer.record for answer in answers)
    functions = [[frame["function"], frame["line"]] for frame in frames["threads"][0]["frames"]]
    functions[0][1] = said[0][1]  # it has gone on since
    return census["objects"] - tracked, functions == said


def first_findings(report: dict[str, Any]) -> Iterator[str]:
    """The messages of the findings on subinterpreters, in their order."""
    return (f"{found['verdict']} ({found['confidence']}): {found['message']}"
            for found in report["findings"] if found["interpreter"])
