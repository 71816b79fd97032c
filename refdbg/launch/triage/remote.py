"""One job on a worker of a scheduler, in a process of its own, as `workers` runs it; its results as bytes."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import tempfile
import zlib
from typing import Any, NoReturn

from refdbg.dependencies import ROOT
from refdbg.launch.triage import processes
from refdbg.launch.triage.folder import Folder, NoRoom, Shard, made
from refdbg.launch.triage.jobs import Job, job_of
from refdbg.launch.triage.workers import Stopped, run_all, stoppable

NO_ROOM = "no room"
FILES = ("report.json", "output.txt", "errors.txt")
_RUN = f"import sys; sys.path.insert(0, {ROOT!r}); from refdbg.launch.triage.remote import main; main()"
_LOOK = 1.0  # seconds
_ENDING = ("closing", "closed", "failed")  # a worker whose scheduler is gone, among others
_MOST = 64 << 20  # bytes of one file: schedulers are not made to pass on more


def order(job: Job, base: str) -> str:
    """What `run_here` is to do."""
    return json.dumps({"job": job.record(), "base": base})


def run_here(text: str) -> bytes:
    """Called by a Dask worker: run the job of this order, and return what `received` takes. Raises RuntimeError.

    The job is ended when the task is cancelled, its client or the scheduler is gone, or the worker dies.
    """
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()
    process = subprocess.Popen(
        [sys.executable, "-I", "-c", _RUN, str(os.getpid())],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    given: bytes | None = text.encode()
    while True:
        try:
            out, err = process.communicate(given, timeout=_LOOK)
            break
        except subprocess.TimeoutExpired:
            given = None
            task = worker.state.tasks.get(key)
            if task is None or task.state != "executing" or worker.status.name in _ENDING:
                process.terminate()  # it sees to the end of its program
    if process.returncode:
        words = err.decode("utf-8", "backslashreplace").strip().splitlines() or ["(it said nothing)"]
        raise RuntimeError(f"the worker's process ended with {process.returncode}: {words[-1]}")
    return bytes(out)


def received(found: bytes, folder: str) -> dict[str, Any]:
    """The result of the job, whose files are put into *folder*; or {NO_ROOM: why}. Raises OSError, ValueError."""
    record: dict[str, Any] = json.loads(found)
    if NO_ROOM in record:
        return record
    for name in FILES:
        if name in record["files"]:
            with open(os.path.join(folder, name), "wb") as file:
                file.write(zlib.decompress(base64.b64decode(record["files"][name])))
    return dict(record["result"])


def main() -> NoReturn:
    """The process of one job; its order is read from standard input. Its argument: who has started it."""
    processes.dying_with(int(sys.argv[1]))()
    try:
        with stoppable(), tempfile.TemporaryDirectory(prefix="refdbg-triage-") as place:
            record = _done(json.load(sys.stdin), place)
    except NoRoom as error:
        record = {NO_ROOM: str(error)}
    except Stopped as error:
        raise SystemExit(128 + error.number) from error
    json.dump(record, sys.stdout)
    sys.stdout.flush()
    raise SystemExit(0)


def _done(asked: dict[str, Any], place: str) -> dict[str, Any]:
    job = job_of(asked["job"])
    folder = made(place, [job], asked["base"], Shard(1, 1))
    run_all(folder, 1, _Nobody())
    return {"result": folder.result(job.key), "files": _files(folder, job.key)}


def _files(folder: Folder, key: str) -> dict[str, str]:
    found = {}
    for name in FILES:
        path = os.path.join(folder.of(key), name)
        if os.path.exists(path):
            size = os.stat(path).st_size
            with open(path, "rb") as file:
                data = file.read() if size <= _MOST else (
                    f"(refdbg-triage: {size >> 20} MiB, more than is passed on through a scheduler)\n".encode())
            found[name] = base64.b64encode(zlib.compress(data)).decode()
    return found


class _Nobody:
    # Only one's own side is told how it goes.
    def begins(self, job: Job, again: str | None) -> None: ...

    def ended(self, found: dict[str, Any]) -> None: ...

    def look(self) -> None: ...

    def says(self, text: str) -> None: ...
