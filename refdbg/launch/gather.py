"""Runs inside the debugger: lets a program run to its end and writes down what its collector does."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import dataclass, field, replace
from typing import Any

from refdbg import __version__
from refdbg.commands.context import Context
from refdbg.cpython import events
from refdbg.cpython.collection import CollectionWatch, Listener, Running, frame_rows
from refdbg.cpython.finalization import FinalizationWatch
from refdbg.cpython.runtime import Build, Thread
from refdbg.cpython.stop import Stop
from refdbg.errors import RefdbgError
from refdbg.graph.objects import Coverage, Objects
from refdbg.records import Collection, Finding
from refdbg.render import plain
from refdbg.target import Halt, Hit, Session, Target, TargetInfo
from refdbg.target.capture import Capture

SCHEMA = "refdbg-report/1"
INTERRUPT = signal.SIGUSR1  # refdbg-run's word that the user pressed Ctrl-C


@dataclass
class Gathered:
    """What one run has shown so far."""

    collections: list[Collection] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    coverage: Coverage = field(default_factory=Coverage)
    partial: str | None = None
    python: str = ""
    traits: dict[str, bool] = field(default_factory=dict)
    crash: dict[str, Any] | None = None


class Gatherer:
    """Watches one program from its first instruction to its end."""

    def __init__(self, session: Session, pid: int, limit: int) -> None:
        self._session = session
        self._context = Context.of(session)
        self._limit = limit
        self._pid = pid
        self.seen = Gathered()
        self._left_by_subinterpreters: set[int] = set()
        session.on_error = self._error

    def run(self) -> dict[str, Any]:
        """Let the program run to its end and return the report as plain data."""
        session = self._session
        signal.signal(INTERRUPT, self._interrupt)
        session.attach(self._pid)
        self._target = session.target()
        self._watch = CollectionWatch(
            session, self._context.build, Listener(begin=self._begins, end=self._ended), self._limit
        )
        self._ends = FinalizationWatch(session, self._context.build, self._limit, self._explain, self._explain_kept)
        self._first = session.break_on(events.RUN_MAIN, self._started)
        while True:
            halt = session.resume()
            if halt.ended:
                break
            self._crashed(halt)
        self._explain_silence()
        if self._watch.missing and self.seen.python:
            self.seen.warnings.append(
                f"this build has no {' and no '.join(self._watch.missing)} (optimised away): which objects "
                "a collection finalizes and clears is not known. Use a debug build (Debian: python3.11-dbg)."
            )
        return self._report(self._target.info)

    def _look(self, target: Target) -> None:
        # After an exec the report is about the new program, unless that is no Python.
        if target is not self._target:
            self._target = target
            self.seen = Gathered(partial=self.seen.partial)
            self._watch.count = 0
            self._ends.forget()

    def _started(self, hit: Hit) -> bool:
        self._look(hit.target)
        stop = Stop(self._context.build(hit.target))
        self.seen.python = stop.runtime.version
        self.seen.traits = plain(stop.runtime.traits)
        return False

    def _begins(self, running: Running) -> bool:
        self._look(running.stop.runtime.target)
        self._ends.collection_begins(running)
        return False

    def _ended(self, _running: Running, record: Collection) -> bool:
        self.seen.collections.append(record)
        return False

    def _explain(self, stop: Stop) -> None:
        from refdbg.commands.explain import static_findings  # only a run that leaves something over pays for it

        findings, notes = static_findings(stop, self._limit, frozenset(self._left_by_subinterpreters))
        self.seen.findings += findings
        self.seen.warnings += notes

    def _explain_kept(
        self, number: int, capture: Capture, tracked: Objects, now: Stop, left_over: Objects
    ) -> None:
        from refdbg.commands.last_collection import LastCollection

        self._left_by_subinterpreters.update(left_over.addresses)
        found, notes = LastCollection(Stop(Build(capture)), tracked, now, left_over).findings(number, self._limit)
        for each in found:
            # Every subinterpreter leaks alike: the newest finding stands for all, the first ones have more noise.
            same = [old for old in self.seen.findings if old.signature == each.signature]
            self.seen.findings = [old for old in self.seen.findings if old not in same]
            self.seen.findings.append(replace(each, repetitions=1 + sum(old.repetitions for old in same)))
        self.seen.warnings += notes

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
        seen, ends = self.seen, self._ends
        seen.coverage.add(ends.coverage)
        totals = plain(ends.totals) if ends.totals else None
        last = "at_end" if seen.traits.get("debug") else "before_clear"
        if seen.crash is None and seen.traits and not any(last in end.moments for end in ends.endings()):
            seen.warnings.append(
                "the interpreter was not finalized (os._exit, a signal, or exec): what it leaves over is not known."
            )
        return {
            "schema": SCHEMA,
            "refdbg": __version__,
            "partial": seen.partial,
            "warnings": seen.warnings + ends.warnings,
            "target": {
                "argv": [], "pid": self._pid, "executable": info.executable, "build_id": info.build_id,
                "python": seen.python, "traits": seen.traits, "debugger": info.debugger,
                "exit_status": None, "signal": None, "crash": seen.crash,
            },
            "collections": plain(seen.collections),
            "interpreters": plain(ends.endings()),
            "totals": totals,
            "findings": plain(sorted(seen.findings, key=_weight, reverse=True)),
            "coverage": {
                "objects": sum(end.left_over.objects for end in ends.endings() if end.left_over),
                "unreadable": seen.coverage.unreadable, "undecided_types": [],
                "truncated": seen.coverage.truncated, "notes": seen.coverage.notes,
            },
        }


def _weight(finding: Finding) -> int:
    # What it explains, in all interpreters together.
    return finding.explains.references * finding.repetitions


def main(session: Session) -> None:
    """Entry point inside the debugger; its orders stand in the environment variable REFDBG_GATHER (JSON)."""
    orders = json.loads(os.environ["REFDBG_GATHER"])
    report: dict[str, Any]
    try:
        report = Gatherer(session, orders["pid"], orders["objects"]).run()
    except RefdbgError as error:
        report = {"error": error.text()}
    with open(orders["output"], "w", encoding="utf-8", errors="backslashreplace") as file:
        json.dump(report, file, ensure_ascii=False)
    sys.stdout.flush()
    os._exit(0)  # the program has ended and the report is written: what the debugger would tidy up does not matter
