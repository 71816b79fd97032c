"""Signals that arrive while the program is stopped at a breakpoint of ours."""

from __future__ import annotations

from pathlib import Path

from tests.support.run import both

PROGRAM = Path(__file__).parents[1] / "programs" / "alarms.py"


def test_an_interval_timer_does_not_keep_the_program_at_a_breakpoint(interpreter: str) -> None:
    """A pending signal is delivered before the instruction under the breakpoint, which is then hit again."""
    plain, wrapped = both([interpreter, PROGRAM])
    assert wrapped.plain == plain.plain
    collections = wrapped.report["collections"]
    assert [record["number"] for record in collections] == list(range(1, len(collections) + 1))
    assert sum(record["reason"] == "gc.collect()" for record in collections) >= 3
