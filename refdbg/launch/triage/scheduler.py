"""All jobs of a folder on the workers of an existing Dask scheduler, results kept here as they come.

Each job is sent to one free worker. What becomes of it when that worker dies is decided here, not by Dask, which counts
the death against every job that the worker had.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import sys
import time
import uuid
import warnings
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from refdbg import __version__
from refdbg.errors import MissingDependency, RefdbgError
from refdbg.launch.triage import remote, result
from refdbg.launch.triage.folder import Folder, no_room
from refdbg.launch.triage.jobs import Job
from refdbg.launch.triage.workers import Stopped, Told, is_open, keep, stoppable

_CONNECT = 10.0  # seconds
_LOOK = 1.0
_PATIENCE = 60.0  # so long we wait for a worker
_TRIES = 3
_ASKED = "__import__('refdbg').__version__"  # evaluated there: code of ours might be another one there


class NoScheduler(RefdbgError):
    """A scheduler that does not answer, or not any more."""


class NoWorker(RefdbgError):
    """A scheduler that has no worker for us."""


@dataclass
class _Task:
    # *lost*: of the times that it was tried in vain, why.
    job: Job
    lost: list[str] = field(default_factory=list)
    worker: str = ""


def run_on(address: str, folder: Folder, told: Told) -> None:
    """Run the jobs that are not finished; what is finished is kept.

    Raises MissingDependency, NoScheduler, NoWorker, NoRoom, Stopped.
    """
    try:
        import distributed
    except ImportError as error:
        raise MissingDependency(
            f"--scheduler needs Dask's package distributed ({error})",
            f"Install it, as the extra refdbg[dask] does: {sys.executable} -m pip install distributed",
        ) from error
    logging.disable()  # what Dask's client says, we say
    with stoppable():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # on packages that no job uses
                client = distributed.Client(address, timeout=_CONNECT)
        except (OSError, ValueError, TypeError, ImportError) as error:
            raise NoScheduler(
                f"no Dask scheduler can be reached at {address}: {error}",
                "Start one with `dask scheduler --no-dashboard`, and name the address that it prints: tcp://HOST:PORT",
            ) from error
        try:
            _Run(distributed, client, folder, told).all()
        except (OSError, distributed.client.ClosedClientError, distributed.CancelledError) as error:
            raise NoScheduler(
                f"the scheduler at {address} does not answer any more",
                "When it is there again, give the same command: it goes on with the jobs that are not finished.",
            ) from error
        finally:
            with contextlib.suppress(OSError):
                client.close(timeout=_LOOK)


class _Run:
    def __init__(self, dask: Any, client: Any, folder: Folder, told: Told) -> None:
        self._dask, self._client, self._folder, self._told = dask, client, folder, told
        self._jobs: Iterator[_Task] = (_Task(job) for job in folder.jobs() if is_open(folder, job))
        self._more = True
        self._suspects: deque[_Task] = deque()  # their workers died
        self._sent: dict[Any, _Task] = {}  # by future; never more than there are threads
        self._threads: dict[str, int] = {}  # of the workers that are used
        self._refused: dict[str, str] = {}
        self._looked = 0.0
        self._alone = 0.0  # since when there is no worker; 0 while there is one
        self._met = False  # whether there was one
        self._names = (f"refdbg-{uuid.uuid4().hex}-{number}" for number in itertools.count())

    def all(self) -> None:
        """Returns when all have ended."""
        try:
            while self._more or self._suspects or self._sent:
                if time.monotonic() - self._looked >= _LOOK:
                    self._look_at_workers()
                self._send()
                self._wait()
                self._told.look()
        except (Stopped, RefdbgError):
            self._client.cancel([*self._sent], force=True)  # `remote` ends their programs
            raise

    def _look_at_workers(self) -> None:
        there = self._client.nthreads()
        self._refused = {address: why for address, why in self._refused.items() if address in there}
        new = [address for address in there if address not in self._threads and address not in self._refused]
        versions = self._client.run(eval, _ASKED, workers=new, on_error="return") if new else {}
        for address, version in versions.items():
            if version == __version__:
                self._threads[address] = there[address]
            elif isinstance(version, str):
                self._refuse(address, f"it has refdbg {version}, here is {__version__}: install the same there")
            elif isinstance(version, ImportError):
                self._refuse(address, f"it has no refdbg ({version}): install {__version__} there")
            # Else it did not answer: it is asked again.
        for address in [address for address in self._threads if address not in there]:
            del self._threads[address]
        for future, task in [*self._sent.items()]:
            if task.worker not in there:
                del self._sent[future]
                self._client.cancel([future], force=True)
                self._tried_in_vain(task, f"its worker {task.worker} died")
        self._looked = time.monotonic()
        if self._threads:
            self._alone, self._met = 0.0, True
            return
        if not self._alone:
            self._alone = self._looked
            self._told.says("waiting for a worker")
        if self._looked - self._alone > _PATIENCE or (there and not self._met and there.keys() <= self._refused.keys()):
            refused = [f"{address}: {why}" for address, why in self._refused.items()]
            raise NoWorker(
                "no worker of the scheduler can be used: " + ("; ".join(refused) or "there is none"),
                "Start workers that have this refdbg, a debugger and the interpreters: "
                "`dask worker ADDRESS --nthreads 1 --no-dashboard`",
            )

    def _refuse(self, address: str, why: str) -> None:
        self._refused[address] = why
        self._told.says(f"worker {address} gets no jobs: {why}")

    def _send(self) -> None:
        busy: dict[str, list[_Task]] = {address: [] for address in self._threads}
        for task in self._sent.values():
            if task.worker in busy:
                busy[task.worker].append(task)
        # A suspect has a worker for itself, the one that is free soonest: it must not take others along again.
        held = 0
        for address in sorted(busy, key=lambda each: len(busy[each])):
            if any(task.lost for task in busy[address]):
                continue
            if busy[address] and held < len(self._suspects):
                held += 1
            elif self._suspects and not busy[address]:
                self._start(self._suspects.popleft(), address)
            else:
                for _ in range(len(busy[address]), self._threads[address]):
                    self._start_next(address)

    def _start_next(self, address: str) -> None:
        for task in self._jobs:
            self._told.begins(task.job, None)
            self._start(task, address)
            return
        self._more = False

    def _start(self, task: _Task, address: str) -> None:
        task.worker = address
        future = self._client.submit(
            remote.run_here, remote.order(task.job, self._folder.base), key=next(self._names), pure=False,
            workers=[address], allow_other_workers=False, retries=0,
        )  # fmt: skip
        self._sent[future] = task

    def _wait(self) -> None:
        # Until one has ended, or the workers must be looked at.
        if not self._sent:
            if self._more or self._suspects:
                time.sleep(_LOOK / 4)
            return
        with contextlib.suppress(TimeoutError, self._dask.TimeoutError):
            self._dask.wait([*self._sent], timeout=_LOOK, return_when="FIRST_COMPLETED")
        for future in [future for future in self._sent if future.done()]:
            self._ended(future, self._sent.pop(future))

    def _ended(self, future: Any, task: _Task) -> None:
        if future.status == "error":
            self._tried_in_vain(task, f"on worker {task.worker}: {future.exception(timeout=_CONNECT)}")
            return
        try:
            found = future.result(timeout=_CONNECT)
        except (TimeoutError, self._dask.TimeoutError):  # the worker had the result, and died
            self._tried_in_vain(task, f"its worker {task.worker} died")
            return
        try:
            record = remote.received(found, self._folder.begin(task.job.key))
        except OSError as error:
            raise no_room(error) from error
        if remote.NO_ROOM in record:
            if self._threads.pop(task.worker, None):  # not said already
                self._refuse(task.worker, f"it has no room for results: {record[remote.NO_ROOM]}")
            self._jobs = itertools.chain([task], self._jobs)
            self._more = True
            return
        if record["outcome"] == "not started":
            record["why"] += f" (on worker {task.worker})"
        keep(self._folder, task.job, record, record["failures"], self._told)

    def _tried_in_vain(self, task: _Task, why: str) -> None:
        task.lost.append(why)
        if len(task.lost) < _TRIES:
            self._told.begins(task.job, why)
            self._suspects.append(task)
            return
        self._folder.begin(task.job.key)
        keep(self._folder, task.job, result.failed(task.job, f"given up after {_TRIES} workers: {why}"), task.lost,
             self._told)  # fmt: skip
