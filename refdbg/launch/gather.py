"""Runs inside the debugger: lets a program run to its end and writes down what its collector does."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NoReturn

from refdbg import __version__
from refdbg.commands.context import Context
from refdbg.cpython import events
from refdbg.cpython.collection import CollectionWatch, Listener, Running, frame_rows, garbage, outlived
from refdbg.cpython.finalization import FinalizationWatch, LastEntry
from refdbg.cpython.runtime import Interpreter, Thread
from refdbg.cpython.stop import Stop, check_supported
from refdbg.errors import NotPython, RefdbgError, SymbolNotFound
from refdbg.graph.objects import Coverage, Objects
from refdbg.records import Collection, Finding, TotalLine
from refdbg.render import plain
from refdbg.target import Breakpoint, Change, Halt, Hit, NativeFrame, Session, Target, TargetInfo

if TYPE_CHECKING:
    from refdbg.commands.decision import Agreement
    from refdbg.commands.left_over import LeftOver
    from refdbg.commands.not_cleared import Outlived
    from refdbg.commands.not_freed import NotFreed

_RELEASE_FRAMES = 14  # of the C stack that has released what an interpreter's state held
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
    released: dict[str, list[NativeFrame]] = field(default_factory=dict)  # by signature: who did it, too late


class Gatherer:
    """Watches one program from its first instruction to its end."""

    def __init__(self, session: Session, pid: int, limit: int, check: bool = False) -> None:
        """*limit*: how many objects are listed one by one; *check*: replay each collection's decision."""
        self._session = session
        self._context = Context.of(session)
        self._limit = limit
        self._pid = pid
        self._check = check
        self._agreement: Agreement | None = None
        self._not_freed: NotFreed | None = None
        self._outlived: Outlived | None = None
        self.seen = Gathered()
        self._left_by_subinterpreters: set[int] = set()
        self._late: dict[str, int] = {}  # by signature: the field of an interpreter's state to watch
        self._late_watches: list[Breakpoint] = []
        self._balanced: LeftOver | None = None
        session.on_error = self._error

    def run(self) -> dict[str, Any]:
        """Let the program run to its end and return the report as plain data."""
        session = self._session
        signal.signal(INTERRUPT, self._interrupt)
        session.attach(self._pid)
        self._target = session.target()
        self._watch = CollectionWatch(
            session, self._context.build,
            self._with_check(
                Listener(begin=self._begins, finalize=self._finalizing, clear=self._clearing, end=self._ended)
            ),
            self._limit,
        )
        self._check_decisions()
        self._ends = FinalizationWatch(session, self._context.build, self._limit, self._explain, self._owners)
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

    def _with_check(self, listener: Listener) -> Listener:
        if not self._check:
            return listener
        from refdbg.commands.decision import Agreement  # only a run that asks for it pays for it

        self._agreement = found = Agreement()
        return replace(listener, examine=found.examine, subtracted=found.subtracted, deduced=found.deduced)

    def _check_decisions(self) -> None:
        try:
            if self._check:
                self._watch.watch_decision()
        except SymbolNotFound as error:
            self._agreement = None
            self.seen.warnings.append(f"no collection can be checked: {error}. {error.hint}")

    def _look(self, target: Target) -> None:
        # After an exec the report is about the new program, unless that is no Python.
        if target is not self._target:
            self._target = target
            self.seen = Gathered(partial=self.seen.partial)
            self._not_freed = self._outlived = None
            self._watch.count = 0
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

    def _begins(self, running: Running) -> bool:
        self._look(running.stop.runtime.target)
        self._ends.collection_begins(running)
        if running.phase == "finalization":
            self._watch_late(running.interpreter)
        return False

    def _watch_late(self, interpreter: Interpreter) -> None:
        # What earlier interpreters released too late this one releases too: after which collection, and by whom.
        for watch in self._late_watches:
            watch.delete()
        self._late_watches = []
        for signature, offset in self._late.items():
            if signature not in self.seen.released:
                def changed(change: Change, signature: str = signature) -> None:
                    self.seen.released[signature] = change.stack(_RELEASE_FRAMES)

                placed = self._session.watch_word(interpreter.address + offset, changed)
                if placed is not None:
                    self._late_watches.append(placed)

    def _finalizing(self, running: Running) -> bool:
        if len(running.unreachable) and running.stack:  # no frame runs when the interpreter ends
            from refdbg.commands.over_visit import at_finalization

            for found in at_finalization(running.stop, running.unreachable, running.interpreter.number):
                if all(found.signature != old.signature for old in self.seen.findings):
                    self.seen.findings.append(found)
        return False

    def _clearing(self, running: Running) -> bool:
        if running.brought_back:
            self._gather_not_freed().brought_back(running)
        return False

    def _gather_not_freed(self) -> NotFreed:
        if self._not_freed is None:
            from refdbg.commands.not_freed import NotFreed  # only a run with such objects pays for it

            self._not_freed = NotFreed(self._limit)
        return self._not_freed

    def _ended(self, running: Running, record: Collection) -> bool:
        self.seen.collections.append(record)
        if len(garbage(running.stop, running.interpreter)) > running.garbage_before:
            self._gather_not_freed().ended(running)
        alive = outlived(running, record.uncollectable)
        if alive:
            from refdbg.commands.not_cleared import Outlived  # only a run with such objects pays for it

            self._outlived = self._outlived or Outlived(self._limit)
            self._outlived.ended(running, record.number, alive)
        if self._agreement is not None:
            self._agreement.ended(running, record)
        return False

    def _explain(
        self, number: int, last: LastEntry | None, now: Stop, left_over: Objects
    ) -> None:
        from refdbg.commands.explain import explain  # only a run that leaves something over pays for it

        earlier = self._left_by_subinterpreters
        if number:
            earlier.update(left_over.addresses)
        else:
            known = sum(1 for address in left_over.addresses if address in earlier)
            left_over = left_over.pick(
                row for row, address in enumerate(left_over.addresses) if address not in earlier
            )
            if known:
                self.seen.warnings.append(f"{known} objects were left over by subinterpreters: see there.")
        if self._not_freed is not None:
            self._not_freed.left_over(left_over)
        claims = [each.claim for each in (self._outlived, self._not_freed) if each is not None]
        why = explain(self._left_over(now, left_over, number), last, self._limit, claims)
        self._late.update(why.late)
        earlier_findings = {found.signature: found for found in self.seen.findings}
        for each in why.findings:
            # Every subinterpreter leaks alike: the newest finding stands for all, the first ones have more noise.
            same = earlier_findings.get(each.signature)
            if same is not None:
                self.seen.findings.remove(same)
                each = replace(each if number else same, repetitions=same.repetitions + 1)
            self.seen.findings.append(each)
        self.seen.warnings += why.notes

    def _findings(self) -> list[Finding]:
        findings = []
        for found in self.seen.findings:
            stack = self.seen.released.get(found.signature)
            if stack:
                from refdbg.verdicts.kept_root import released_by

                source = f"{stack[0].file}:{stack[0].line}" if stack[0].file else ""
                found = released_by(found, stack[0].function, [frame.function for frame in stack[1:]], source)
            findings.append(found)
        return findings + [
            finding for each in (self._outlived, self._not_freed) if each is not None for finding in each.findings()
        ]

    def _checks(self) -> list[str]:
        return [*self._agreement.warnings, self._agreement.summary()] if self._agreement is not None else []

    def _owners(self, stop: Stop) -> list[TotalLine]:
        return self._left_over(stop, stop.heap.objects, 0).owners()

    def _left_over(self, stop: Stop, objects: Objects, number: int) -> LeftOver:
        # Where the total is printed, the same is asked for twice.
        from refdbg.commands.left_over import LeftOver

        known = self._balanced
        if known is None or known.stop is not stop or known.objects != len(objects):
            known = self._balanced = LeftOver(stop, objects, number)
        return known

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
        running = self._watch.under_way(halt.thread)
        if running is not None:
            self._crashed_collecting(running, halt)

    def _crashed_collecting(self, running: Running, halt: Halt) -> None:
        from refdbg.commands.over_visit import at_abort  # only such a run pays for it

        try:
            stop = Stop(self._context.build())
            if stop.runtime.traits.debug:
                findings, notes = at_abort(stop, running.tracked, running.interpreter.number)
                self.seen.findings += findings
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
        seen, ends = self.seen, self._ends
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
            "warnings": seen.warnings + ends.warnings + self._checks(),
            "target": {
                "argv": [], "pid": self._pid, "executable": info.executable, "build_id": info.build_id,
                "python": seen.python, "traits": seen.traits, "debugger": info.debugger,
                "exit_status": None, "signal": None, "crash": seen.crash,
            },
            "collections": plain(seen.collections),
            "interpreters": plain(ends.endings()),
            "totals": totals,
            "findings": plain(sorted(self._findings(), key=_weight, reverse=True)),
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
        if "blame" in orders:
            from refdbg.launch.blame_inside import report_of

            report = report_of(session, orders)
        else:
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
