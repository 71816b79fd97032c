"""One job, once, through refdbg-run, with limits of time and memory."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

from refdbg.dependencies import ROOT
from refdbg.errors import RefdbgError
from refdbg.launch.run import NOT_EXECUTABLE, NOT_STARTED, NOT_WRITTEN, USAGE
from refdbg.launch.triage import processes, result
from refdbg.launch.triage.folder import NoRoom
from refdbg.launch.triage.jobs import Job

_RUN = f"import sys; sys.path.insert(0, {ROOT!r}); from refdbg.launch.run import main; main()"
_LOOK = 0.25  # seconds between two looks at the memory
_SETTLE = 30.0  # the debugger has so long to report on a program that we have ended
_HANGS = 180.0  # and refdbg-run so long beyond its --timeout
_WORDS = 300  # characters of what was said last
_FOREVER = 1e9


class NotStarted(RefdbgError):
    """A job that cannot be tried."""


class NoReport(RefdbgError):
    """The debugger failed: there is no report."""


class Attempt:
    """A job that runs."""

    def __init__(self, job: Job, base: str, folder: str) -> None:
        """*base*: what relative paths of the job are relative to. *folder*: for report.json and the program's output.

        Raises NotStarted, NoRoom.
        """
        self.job = job
        self.folder = folder
        self.started = time.time()
        self._begun = time.monotonic()
        self._limit: str | None = None  # why we have ended the program
        self._hung: str | None = None  # why we have ended everything
        self.peak = 0
        python, where = _interpreter(job, base), self._where(base)
        command = [
            sys.executable, "-I", "-c", _RUN, *job.options, "--json", os.path.join(folder, "report.json"),
            *(["--timeout", f"{job.timeout:g}"] if job.timeout else []), "--", python, *job.arguments,
        ]  # fmt: skip
        try:
            with open(os.path.join(folder, "output.txt"), "wb") as out, \
                    open(os.path.join(folder, "errors.txt"), "wb") as err:  # fmt: skip
                self._process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=where, start_new_session=True,
                    env={**os.environ, **job.env},
                    preexec_fn=processes.dying_with(os.getpid()),  # one thread only: safe
                )  # fmt: skip
        except OSError as error:
            raise NoRoom(f"{error.filename or folder}: {error.strerror}") from error
        self._pid = self._process.pid
        self.waitable = os.pidfd_open(self._pid)
        runs = 2 if any(option.startswith("--blame") for option in job.options) else 1
        self._deadline = self._begun + (job.timeout * runs + _HANGS if job.timeout else _FOREVER)

    def _where(self, base: str) -> str:
        if self.job.cwd is None:
            where = os.path.join(self.folder, "work")
            os.mkdir(where)
            return where
        where = os.path.join(base, os.path.expanduser(self.job.cwd))
        if not os.path.isdir(where):
            raise NotStarted(f"there is no folder {where} (cwd)")
        return where

    def wait(self) -> float:
        """Seconds until `look` must be called."""
        left = self._deadline - time.monotonic()
        return max(min(left, _LOOK) if self.job.memory and not self._hung else left, 0)

    def look(self) -> None:
        """See to the limits."""
        if self._hung:
            return
        family = processes.family(self._pid)
        if self.job.memory and not self._limit:
            used = processes.memory(family)
            self.peak = max(self.peak, used)
            if used > self.job.memory:
                self._limit = f"ended: it had {used >> 20} MiB of memory, its limit is {self.job.memory >> 20} MiB"
                processes.kill(processes.program_of(self._pid))
                self._deadline = min(self._deadline, time.monotonic() + _SETTLE)
        if time.monotonic() >= self._deadline:
            self._hung = f"the debugger had not ended after {time.monotonic() - self._begun:.0f} s"
            processes.kill(family)

    def stop(self, at_once: bool) -> None:
        """Ask the program to end, or end everything."""
        if at_once:
            processes.kill(processes.family(self._pid))
        else:
            self._process.send_signal(signal.SIGTERM)

    def end(self) -> dict[str, Any]:
        """The result, when it has ended. Raises NoReport, NotStarted, NoRoom."""
        os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOWAIT)
        processes.kill_group(self._pid)  # what the program has left running; nobody can have its number yet
        _, status, used = os.wait4(self._pid, 0)
        self._process.returncode = status = os.waitstatus_to_exitcode(status)
        os.close(self.waitable)
        shutil.rmtree(os.path.join(self.folder, "work"), ignore_errors=True)
        found = self._result(status)
        self.peak = max(self.peak, used.ru_maxrss * 1024)
        return {
            **found, "started": self.started, "seconds": round(time.monotonic() - self._begun, 3),
            "cpu_seconds": round(used.ru_utime + used.ru_stime, 3), "peak": self.peak,
        }  # fmt: skip

    def _result(self, status: int) -> dict[str, Any]:
        path = os.path.join(self.folder, "report.json")
        words = self._last_words()
        if NOT_WRITTEN in words:
            raise NoRoom(f"{path}: {words}")
        try:
            with open(path, encoding="utf-8") as file:
                report: Mapping[str, Any] = json.load(file)
            if "error" not in report:
                return result.reported(self.job, report, self._limit)
            why = str(report["error"])
        except FileNotFoundError:
            if status in (USAGE, NOT_STARTED, NOT_EXECUTABLE) and words.startswith("refdbg-run:"):
                raise NotStarted(words) from None
            why = f"refdbg-run ended with {status} and without a report: {words}"
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            why = f"the report is damaged: {error!r}"
        if self._limit:
            return {**result.failed(self.job, self._limit), "outcome": "incomplete"}
        raise NoReport(self._hung or why)

    def _last_words(self) -> str:
        with open(os.path.join(self.folder, "errors.txt"), "rb") as file:
            file.seek(max(os.fstat(file.fileno()).st_size - 4096, 0))
            lines = file.read().decode("utf-8", "backslashreplace").strip().splitlines()
        return lines[-1][:_WORDS] if lines else "(it said nothing)"


def _interpreter(job: Job, base: str) -> str:
    python = os.path.expanduser(job.python)
    if os.sep in python:
        python = os.path.join(base, python.removeprefix("./"))
    found = shutil.which(python)
    if found is None:
        raise NotStarted(f"interpreter {job.interpreter!r}: there is no executable {python}")
    return found
