"""All jobs of a folder, so many at once; one process looks after them."""

from __future__ import annotations

import contextlib
import select
import signal
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any, Protocol

from refdbg.launch.triage import result
from refdbg.launch.triage.attempt import Attempt, NoReport, NotStarted
from refdbg.launch.triage.folder import Folder, NoRoom
from refdbg.launch.triage.jobs import Job

_GRACE = 10.0  # seconds that programs have when we are asked to stop
_ATTEMPTS = 2
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_REPEATED = ("not started",)  # these cost nothing, and the reason may be gone


class Told(Protocol):
    """Who is told how it goes."""

    def begins(self, job: Job, again: str | None) -> None:
        """A job is started; *again*: why it is not for the first time."""

    def ended(self, found: dict[str, Any]) -> None:
        """A job has this result, which is kept."""

    def look(self) -> None:
        """Some time has passed."""

    def says(self, text: str) -> None:
        """What else there is to know."""


class Stopped(Exception):
    """We were asked to stop, by the signal *number*."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def run_all(folder: Folder, number: int, told: Told) -> None:
    """Run the jobs that are not finished, *number* at once. Raises NoRoom, Stopped; what is finished is kept."""
    waiting = (job for job in folder.jobs() if is_open(folder, job))
    running: list[tuple[Attempt, list[str]]] = []  # with the failures before
    with stoppable():
        try:
            more = True
            while more or running:
                while more and len(running) < number:
                    more = _start_next(folder, waiting, running, told)
                _wait(running)
                told.look()
                for each in [each for each in running if _has_ended(each[0])]:
                    running.remove(each)
                    _ended(folder, *each, running, told)
        except BaseException:
            _end([attempt for attempt, _ in running])
            raise


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Meanwhile Ctrl-C and the like raise Stopped."""
    handlers = {
        each: signal.signal(each, _stop) for each in _STOPS if signal.getsignal(each) is not signal.SIG_IGN  # nohup
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _stop(number: int, _frame: FrameType | None) -> None:
    raise Stopped(number)


def is_open(folder: Folder, job: Job) -> bool:
    """Whether a job has still to be run."""
    found = folder.result(job.key)
    return found is None or found["outcome"] in _REPEATED


def _start_next(
    folder: Folder, waiting: Iterator[Job], running: list[tuple[Attempt, list[str]]], told: Told
) -> bool:
    for job in waiting:
        _start(folder, job, [], running, told)
        return True
    return False


def _start(
    folder: Folder, job: Job, failures: list[str], running: list[tuple[Attempt, list[str]]], told: Told
) -> None:
    told.begins(job, f"the debugger failed: {failures[-1]}" if failures else None)
    try:
        running.append((Attempt(job, folder.base, folder.begin(job.key)), failures))
    except NotStarted as error:
        keep(folder, job, result.not_started(job, str(error)), failures, told)


def _ended(
    folder: Folder, attempt: Attempt, failures: list[str], running: list[tuple[Attempt, list[str]]], told: Told
) -> None:
    job = attempt.job
    try:
        found = attempt.end()
    except NotStarted as error:
        found = result.not_started(job, str(error))
    except NoReport as error:
        failures = [*failures, str(error)]
        if len(failures) < _ATTEMPTS:
            _start(folder, job, failures, running, told)
            return
        found = result.failed(job, str(error))
    keep(folder, job, found, failures, told)


def keep(folder: Folder, job: Job, found: dict[str, Any], failures: list[str], told: Told) -> None:
    """The job has ended so. Raises NoRoom."""
    found = {"started": time.time(), "seconds": 0.0, "cpu_seconds": 0.0, "peak": 0, **found, "failures": failures}
    folder.finish(job.key, found)
    told.ended(found)


def _has_ended(attempt: Attempt) -> bool:
    attempt.look()
    poll = select.poll()
    poll.register(attempt.waitable, select.POLLIN)
    return bool(poll.poll(0))


def _wait(running: list[tuple[Attempt, list[str]]], longest: float = 1.0) -> None:
    # Until one may have ended, or a limit must be looked at.
    if not running:
        return
    poll = select.poll()
    for attempt, _ in running:
        poll.register(attempt.waitable, select.POLLIN)
    poll.poll(max(min([longest, *(attempt.wait() for attempt, _ in running)]) * 1000, 1))


def _end(running: list[Attempt]) -> None:
    # Their results are not kept. Another Ctrl-C ends them at once.
    until = time.monotonic() + _GRACE
    with contextlib.suppress(Stopped):
        for attempt in running:
            attempt.stop(at_once=False)
        while time.monotonic() < until and not all(_has_ended(attempt) for attempt in running):
            time.sleep(0.05)
    for number in _STOPS:
        signal.signal(number, signal.SIG_IGN)
    for attempt in running:
        attempt.stop(at_once=True)
        with contextlib.suppress(NoReport, NotStarted, NoRoom):
            attempt.end()
