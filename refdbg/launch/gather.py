"""Runs inside the debugger: lets a program run to its end and writes down what its collector does."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NoReturn, Protocol

from refdbg import __version__
from refdbg.commands.context import Context
from refdbg.cpython import events
from refdbg.cpython.collection import Running, frame_rows
from refdbg.cpython.runtime import Thread
from refdbg.cpython.stop import Stop, check_supported
from refdbg.cpython.threads import gil_holder, kernel_ids
from refdbg.errors import NotPython, RefdbgError
from refdbg.graph.objects import Coverage, Objects
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


class Watching(Protocol):
    """What is watched in a program."""

    @property
    def coverage(self) -> Coverage:
        """What could not be read."""
        ...

    @property
    def objects(self) -> int:
        """How many objects the report is about."""
        ...

    def forget(self) -> None:
        """Another program runs now: what was recorded is not about it."""
        ...

    def under_way(self, thread: int) -> Running | None:
        """The collection that the thread (kernel id) is in the middle of, where that is watched."""
        ...

    def findings(self) -> list[Finding]:
        """The verdicts."""
        ...

    def notes(self, traits: Mapping[str, bool], crashed: bool) -> list[str]:
        """What the findings do not explain, and what could not be watched.

        *traits*: the build's, {} when it was not seen to start.
        """
        ...

    def parts(self) -> dict[str, Any]:
        """Its own parts of the report."""
        ...


class Gatherer:
    """Watches one program from its first instruction to its end."""

    def __init__(self, session: Session, pid: int, limit: int, watch: Callable[[Gatherer], Watching]) -> None:
        """*limit*: how many objects are listed one by one; *watch* begins to watch, when the debugger has attached."""
        self.session = session
        self.context = Context.of(session)
        self.limit = limit
        self._pid = pid
        self._watch = watch
        self.seen = Gathered()
        session.on_error = self._error

    def run(self) -> dict[str, Any]:
        """Let the program run to its end and return the report as plain data."""
        signal.signal(INTERRUPT, self._interrupt)
        self.session.attach(self._pid)
        self._target = self.session.target()
        self._watching = self._watch(self)
        self._first = self.session.break_on(events.RUN_MAIN, self._started)
        while True:
            halt = self.session.resume()
            if halt.ended:
                break
            self._crashed(halt)
        self._explain_silence()
        return self._report(self._target.info)

    def look(self, target: Target) -> None:
        """After an exec the report is about the new program, unless that is no Python."""
        if target is not self._target:
            self._target = target
            self.seen = Gathered(partial=self.seen.partial)
            self._watching.forget()

    def _started(self, hit: Hit) -> bool:
        self.look(hit.target)
        stop = Stop(self.context.build(hit.target))
        self.seen.python = stop.runtime.version
        self.seen.traits = plain(stop.runtime.traits)
        if stop.runtime.unknown:
            self.seen.warnings.append(stop.runtime.unknown)
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
        # The program gets the Ctrl-C itself; only a walk of ours that keeps it from the program is cut short. This
        # word of it may come so late that the program has had it long since.
        if self.session.busy and _pending(self._pid, signal.SIGINT):
            raise KeyboardInterrupt

    def _crashed(self, halt: Halt) -> None:
        target = self.session.target()
        target.memory.forget()
        crash: dict[str, Any] = {
            "signal": halt.signal, "thread": halt.thread,
            "native": plain([call.frame for call in target.native_stack()]), "python": [],
        }
        self.seen.crash = crash
        try:
            stop = Stop(self.context.build())
            state = _state_in(stop, halt.thread)
            if state:
                crash["python"] = plain(frame_rows(stop.frames.stack(Thread(state, halt.thread), self.limit * 10)))
        except RefdbgError as error:
            self.seen.warnings.append(f"no Python stack at {halt.signal}: {error}")
        running = self._watching.under_way(halt.thread)
        if running is not None:
            self._crashed_collecting(running, halt)

    def _crashed_collecting(self, running: Running, halt: Halt) -> None:
        from refdbg.commands.over_visit import at_abort  # only such a run pays for it

        try:
            stop = Stop(self.context.build())
            if stop.runtime.traits.debug:
                findings, notes = at_abort(stop, running.tracked, running.interpreter.number)
                self.seen.crash_findings += findings
                self.seen.warnings += notes
        except RefdbgError as error:
            self.seen.warnings.append(f"{halt.signal} in a collection, whose visits were not checked: {error}")

    def _explain_silence(self) -> None:
        if not self.session.waiting() or self.seen.python:
            return  # what the compiler has left no trace of waits as well
        if self.session.has_python():
            self.seen.warnings.append(
                "this Python has no debug info: nothing of its collector could be seen. "
                "Install it, or use a debug build (Debian: python3.11-dbg; from source: ./configure --with-pydebug). "
                "Of a stripped CPython from 3.13 on `refdbg status`, `census` and `frames` tell something, in a "
                "debugger or by `refdbg --pid`."
            )
        else:
            self.seen.warnings.append(
                "no CPython was seen in this program: it has no symbol _PyRuntime. "
                "Is it a Python program? refdbg-run follows exec, but not children."
            )

    def _report(self, info: TargetInfo) -> dict[str, Any]:
        seen, watching = self.seen, self._watching
        seen.coverage.add(watching.coverage)
        return {
            "schema": SCHEMA,
            "refdbg": __version__,
            "partial": seen.partial,
            "warnings": seen.warnings + watching.notes(seen.traits, seen.crash is not None),
            "target": {
                "argv": [], "pid": self._pid, "executable": info.executable, "build_id": info.build_id,
                "python": seen.python, "traits": seen.traits, "debugger": info.debugger,
                "exit_status": None, "signal": None, "crash": seen.crash,
            },
            **plain(watching.parts()),
            "findings": plain(sorted(watching.findings() + seen.crash_findings, key=weight, reverse=True)),
            "coverage": {
                "objects": watching.objects,
                "unreadable": seen.coverage.unreadable, "undecided_types": [],
                "truncated": seen.coverage.truncated, "notes": seen.coverage.notes,
            },
        }


def _state_in(stop: Stop, thread: int) -> int:
    # `PyThreadState *` of what a thread (the kernel's id) runs, 0: no Python. It has one in each interpreter that it
    # has entered: the one that it runs in holds the GIL.
    states = [(each, interpreter) for interpreter in stop.runtime.interpreters()
              for each in stop.runtime.threads(interpreter)]
    ids = kernel_ids(stop, [each for each, _ in states])
    own = [(gil_holder(stop.runtime, interpreter) == each.address, bool(stop.frames.stack(each, 1)), each.address)
           for each, interpreter in states if ids.get(each.address) == thread]
    return max(own, default=(False, False, 0))[2]


def _pending(pid: int, number: int) -> bool:
    # Not yet delivered to the process. A traced one keeps even what it ignores, until it runs again.
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            masks = [line.split()[1] for line in file if line.startswith(("SigPnd:", "ShdPnd:"))]
    except OSError:  # killed meanwhile
        return False
    return any(int(mask, 16) >> (number - 1) & 1 for mask in masks)


def main(session: Session) -> None:
    """Entry point inside the debugger; its orders stand in the environment variable REFDBG_GATHER (JSON)."""
    orders = json.loads(os.environ["REFDBG_GATHER"])
    report: dict[str, Any]
    try:
        if "blame" in orders:
            from refdbg.launch.blame_inside import report_of

            report = report_of(session, orders)
        else:
            report = Gatherer(session, orders["pid"], orders["objects"], partial(watch, orders)).run()
    except RefdbgError as error:
        report = {"error": error.text()}
    _end(report, orders["output"])


def watch(
    orders: dict[str, Any], gatherer: Gatherer, left: Callable[[Stop, Objects, int], None] | None = None
) -> Watching:
    """Begin to watch as the orders say. *left* is called with what each interpreter leaves over."""
    if orders["marker"]:
        from refdbg.launch.refleak import Refleak  # only a run that asks for it pays for it

        return Refleak(gatherer.session, gatherer.context.build, gatherer.limit, orders["marker"])
    return Ends(gatherer.session, gatherer.context.build, gatherer.limit, orders["check"], gatherer.look, left)


def refuse(reason: str) -> NoReturn:
    """Instead of `main`: this debugger cannot work."""
    _end({"error": reason}, json.loads(os.environ["REFDBG_GATHER"])["output"])


def _end(report: dict[str, Any], output: str) -> NoReturn:
    with open(output, "w", encoding="utf-8", errors="backslashreplace") as file:
        json.dump(report, file, ensure_ascii=False)
    sys.stdout.flush()
    os._exit(0)  # the program has ended and the report is written: what the debugger would tidy up does not matter
