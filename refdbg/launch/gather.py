"""Runs inside the debugger: lets a program run to its end and writes down what its collector does."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import dataclass, field
from typing import Any, NoReturn

from refdbg import __version__
from refdbg.commands.context import Context
from refdbg.cpython import events
from refdbg.cpython.collection import Running, frame_rows
from refdbg.cpython.runtime import Thread
from refdbg.cpython.stop import Stop, check_supported
from refdbg.errors import NotPython, RefdbgError
from refdbg.graph.objects import Coverage
from refdbg.launch.ends import Ends, weight
from refdbg.records import Finding
from refdbg.render import plain
from refdbg.target import Halt, Hit, Session, Target, TargetInfo

SCHEMA = "refdbg-report/1"
INTERRUPT = signal.SIGUSR1  # refdbg-run's word that the user pressed Ctrl-C


@dataclass
class Gathered:
    """What one run has shown so far."""

    warnings: list[str] = field(default_factory=list)
    coverage: Coverage = field(default_factory=Coverage)
    partial: str | None = None
    python: str = ""
    traits: dict[str, bool] = field(default_factory=dict)
    crash: dict[str, Any] | None = None
    crash_findings: list[Finding] = field(default_factory=list)


class Gatherer:
    """Watches one program from its first instruction to its end."""

    def __init__(self, session: Session, pid: int, limit: int, check: bool = False) -> None:
        """*limit*: how many objects are listed one by one; *check*: replay each collection's decision."""
        self._session = session
        self._context = Context.of(session)
        self._limit = limit
        self._pid = pid
        self._check = check
        self.seen = Gathered()
        session.on_error = self._error

    def run(self) -> dict[str, Any]:
        """Let the program run to its end and return the report as plain data."""
        session = self._session
        signal.signal(INTERRUPT, self._interrupt)
        session.attach(self._pid)
        self._target = session.target()
        self._ends = Ends(session, self._context.build, self._limit, self._check, self._look)
        self._first = session.break_on(events.RUN_MAIN, self._started)
        while True:
            halt = session.resume()
            if halt.ended:
                break
            self._crashed(halt)
        self._explain_silence()
        if self._ends.watch.missing and self.seen.python:
            self.seen.warnings.append(
                f"this build has no {' and no '.join(self._ends.watch.missing)} (optimised away): which objects "
                "a collection finalizes and clears is not known. Use a debug build (Debian: python3.11-dbg)."
            )
        return self._report(self._target.info)

    def _look(self, target: Target) -> None:
        # After an exec the report is about the new program, unless that is no Python.
        if target is not self._target:
            self._target = target
            self.seen = Gathered(partial=self.seen.partial)
            self._ends.forget()

    def _started(self, hit: Hit) -> bool:
        self._look(hit.target)
        stop = Stop(self._context.build(hit.target))
        self.seen.python = stop.runtime.version
        self.seen.traits = plain(stop.runtime.traits)
        try:
            check_supported(stop.runtime.build)
        except NotPython as error:
            self._error(f"{error}. Nothing of its collector was recorded. {error.hint}")
        return False

    def _error(self, text: str) -> None:
        self.seen.partial = self.seen.partial or text.splitlines()[0]
        if text not in self.seen.warnings:
            self.seen.warnings.append(text)

    def _interrupt(self, _number: int, _frame: object) -> None:
        # The program gets the Ctrl-C itself; only a walk of ours is cut short.
        if self._session.busy:
            raise KeyboardInterrupt

    def _crashed(self, halt: Halt) -> None:
        target = self._session.target()
        target.memory.forget()
        crash: dict[str, Any] = {
            "signal": halt.signal, "thread": halt.thread, "native": plain(target.native_frames()), "python": [],
        }
        self.seen.crash = crash
        try:
            stop = Stop(self._context.build())
            for interpreter in stop.runtime.interpreters():
                for thread in stop.runtime.threads(interpreter):
                    if thread.native_id in (halt.thread, 0):
                        rows = frame_rows(stop.frames.stack(Thread(thread.address, halt.thread), self._limit * 10))
                        crash["python"] = plain(rows)
        except RefdbgError as error:
            self.seen.warnings.append(f"no Python stack at {halt.signal}: {error}")
        running = self._ends.watch.under_way(halt.thread)
        if running is not None:
            self._crashed_collecting(running, halt)

    def _crashed_collecting(self, running: Running, halt: Halt) -> None:
        from refdbg.commands.over_visit import at_abort  # only such a run pays for it

        try:
            stop = Stop(self._context.build())
            if stop.runtime.traits.debug:
                findings, notes = at_abort(stop, running.tracked, running.interpreter.number)
                self.seen.crash_findings += findings
                self.seen.warnings += notes
        except RefdbgError as error:
            self.seen.warnings.append(f"{halt.signal} in a collection, whose visits were not checked: {error}")

    def _explain_silence(self) -> None:
        waiting = self._session.waiting()
        if not waiting:
            return
        if self._session.has_python():
            self.seen.warnings.append(
                "this Python has no debug info: nothing of its collector could be seen. "
                "Use a debug build (Debian: python3.11-dbg; from source: ./configure --with-pydebug)."
            )
        else:
            self.seen.warnings.append(
                "no CPython was seen in this program: it has no symbol _PyRuntime. "
                "Is it a Python program? refdbg-run follows exec, but not children."
            )

    def _report(self, info: TargetInfo) -> dict[str, Any]:
        seen, ends = self.seen, self._ends.endings
        seen.coverage.add(ends.coverage)
        totals = plain(ends.totals) if ends.totals else None
        last = "at_end" if seen.traits.get("debug") else "before_clear"
        watched = seen.traits and not seen.traits["free_threaded"]
        if seen.crash is None and watched and not any(last in end.moments for end in ends.endings()):
            seen.warnings.append(
                "the interpreter was not finalized (os._exit, a signal, or exec): what it leaves over is not known."
            )
        return {
            "schema": SCHEMA,
            "refdbg": __version__,
            "partial": seen.partial,
            "warnings": seen.warnings + self._ends.notes(),
            "target": {
                "argv": [], "pid": self._pid, "executable": info.executable, "build_id": info.build_id,
                "python": seen.python, "traits": seen.traits, "debugger": info.debugger,
                "exit_status": None, "signal": None, "crash": seen.crash,
            },
            "collections": plain(self._ends.collections),
            "interpreters": plain(ends.endings()),
            "totals": totals,
            "findings": plain(sorted(self._ends.findings() + seen.crash_findings, key=weight, reverse=True)),
            "coverage": {
                "objects": sum(end.left_over.objects for end in ends.endings() if end.left_over),
                "unreadable": seen.coverage.unreadable, "undecided_types": [],
                "truncated": seen.coverage.truncated, "notes": seen.coverage.notes,
            },
        }


def main(session: Session) -> None:
    """Entry point inside the debugger; its orders stand in the environment variable REFDBG_GATHER (JSON)."""
    orders = json.loads(os.environ["REFDBG_GATHER"])
    report: dict[str, Any]
    try:
        report = Gatherer(session, orders["pid"], orders["objects"], orders["check"]).run()
    except RefdbgError as error:
        report = {"error": error.text()}
    _end(report, orders["output"])


def refuse(reason: str) -> NoReturn:
    """Instead of `main`: this debugger cannot work."""
    _end({"error": reason}, json.loads(os.environ["REFDBG_GATHER"])["output"])


def _end(report: dict[str, Any], output: str) -> NoReturn:
    with open(output, "w", encoding="utf-8", errors="backslashreplace") as file:
        json.dump(report, file, ensure_ascii=False)
    sys.stdout.flush()
    os._exit(0)  # the program has ended and the report is written: what the debugger would tidy up does not matter
