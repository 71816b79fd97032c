"""A folder of results: the jobs, and of each finished one a folder `jobs/KEY`, which appears whole or not at all.

triage.json   what it is: the fingerprint and the number of jobs, the shard
jobs.jsonl    all jobs, one a line, those of other shards, too
jobs/KEY/     result.json, report.json (of refdbg-run), output.txt, errors.txt
running/      what is not finished
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any

from refdbg import __version__
from refdbg.errors import RefdbgError
from refdbg.launch.triage.jobs import Job, job_of

SCHEMA = "refdbg-triage/1"
_OWN = {"triage.json", "jobs.jsonl", "jobs", "running", "lock"}
_NEEDED = {"key", "interpreter", "outcome", "started", "refdbg", "python", "build", "findings"}  # of a result
_ROOM = 1 << 20  # bytes that must be left for a result to be trusted


class BadFolder(RefdbgError):
    """A folder of results that cannot be used."""

    hint = "Name another folder."


class NoRoom(RefdbgError):
    """The disk is full, or a limit on files is met: what was about to be written is not there."""

    hint = "Make room and give the same command again: it goes on with the jobs that are not finished."


@dataclass(frozen=True)
class Shard:
    """Every *of*-th job, from the *number*-th on; both count from 1. *interpreter*: of the jobs of this one only."""

    number: int
    of: int
    interpreter: str | None = None

    def __str__(self) -> str:
        part = f"shard {self.number}/{self.of}" if self.of > 1 else "all jobs"
        return f"{part} of interpreter {self.interpreter}" if self.interpreter else part


class Folder:
    """An open folder of results."""

    def __init__(self, path: str, about: dict[str, Any]) -> None:
        self.path = os.path.abspath(path)  # jobs have other working folders
        self.base: str = about["base"]
        self.fingerprint: str = about["jobs"]
        self.count: int = about["count"]
        number, of = about.get("shard") or (1, 1)
        self.shard = Shard(number, of, about.get("interpreter"))
        self._lock: IO[str] | None = None

    def all_jobs(self) -> Iterator[Job]:
        """All jobs, those of other shards, too."""
        with open(os.path.join(self.path, "jobs.jsonl"), encoding="utf-8") as file:
            for line in file:
                yield job_of(json.loads(line))

    def jobs(self) -> Iterator[Job]:
        """The jobs that belong here."""
        only = self.shard.interpreter
        number = 0
        for job in self.all_jobs():
            if only in (None, job.interpreter):
                if number % self.shard.of == self.shard.number - 1:
                    yield job
                number += 1

    @property
    def size(self) -> int:
        """How many jobs belong here."""
        return sum(1 for _ in self.jobs())

    def of(self, key: str) -> str:
        """The folder of a finished job."""
        return os.path.join(self.path, "jobs", key)

    def result(self, key: str) -> dict[str, Any] | None:
        """What is known of a finished job; None where it is not finished, or what is there is damaged."""
        try:
            with open(os.path.join(self.of(key), "result.json"), encoding="utf-8") as file:
                found = json.load(file)
        except (OSError, ValueError):
            return None
        whole = isinstance(found, dict) and found.get("schema") == SCHEMA and found.keys() >= _NEEDED
        return found if whole else None

    def begin(self, key: str) -> str:
        """An empty folder for what is not finished."""
        folder = os.path.join(self.path, "running", key)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            os.makedirs(folder)
        except OSError as error:
            raise no_room(error) from error
        return folder

    def finish(self, key: str, result: dict[str, Any]) -> None:
        """Keep what stands in the folder that *begin* has returned, with this result. Raises NoRoom."""
        folder = os.path.join(self.path, "running", key)
        try:
            disk = os.statvfs(self.path)
            if disk.f_bavail * disk.f_frsize < _ROOM:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            with open(os.path.join(folder, "result.json"), "w", encoding="utf-8", errors="backslashreplace") as file:
                json.dump({"schema": SCHEMA, **result}, file, ensure_ascii=False)
            put(folder, self.of(key))
        except OSError as error:
            raise no_room(error) from error

    def write(self, name: str, text: str) -> None:
        """Replace one of the files about all of it. Raises NoRoom."""
        write(os.path.join(self.path, name), text)

    def lock(self) -> None:
        """Keep others out, until this process ends. Raises BadFolder."""
        try:
            self._lock = open(os.path.join(self.path, "lock"), "w", encoding="ascii")  # noqa: SIM115  as long as we are
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BadFolder(f"another refdbg-triage works in {self.path}, or it may not be written: {error.strerror}",
                            "Wait for it, or name another folder.") from error  # fmt: skip


def put(source: str, target: str) -> None:
    """Rename a folder to its place, which is replaced. Raises OSError."""
    if os.path.isdir(target):
        shutil.rmtree(target)
    os.replace(source, target)


def write(path: str, text: str) -> None:
    """Replace a file as a whole. Raises NoRoom."""
    try:
        with open(f"{path}.new", "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
        os.replace(f"{path}.new", path)
    except OSError as error:
        raise no_room(error) from error


def opened(path: str) -> Folder:
    """A folder that has results. Raises BadFolder."""
    try:
        with open(os.path.join(path, "triage.json"), encoding="utf-8") as file:
            about = json.load(file)
        if about["schema"] != SCHEMA:
            raise BadFolder(f"{path} has the results of another refdbg: {about['schema']!r}, not {SCHEMA!r}")
        return Folder(path, about)
    except OSError as error:
        raise BadFolder(f"{path} has no results of refdbg-triage: triage.json: {error.strerror}") from error
    except (ValueError, LookupError, TypeError) as error:
        raise BadFolder(f"{path}/triage.json is damaged: {error!r}") from error


def made(path: str, jobs: Iterable[Job], base: str, shard: Shard) -> Folder:
    """The folder for these jobs, locked: a new one, or the one that has results of them. Raises BadFolder, NoRoom."""
    try:
        os.makedirs(path, exist_ok=True)
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        strange = None if os.path.exists(os.path.join(path, "triage.json")) else next(
            (name for name in os.listdir(path) if name.removesuffix(".new") not in _OWN), None
        )
        if strange is not None:
            raise BadFolder(f"{path} has other files ({strange}) and no results of refdbg-triage")
    except OSError as error:
        raise BadFolder(f"the results folder {path} cannot be made or written: {error.strerror}") from error
    new = Folder(path, {"base": base, "jobs": "", "count": 0})
    new.lock()
    digest, count, met = hashlib.sha256(), 0, set()
    listed = os.path.join(path, "jobs.jsonl")
    try:
        os.makedirs(os.path.join(path, "jobs"), exist_ok=True)
        with open(f"{listed}.new", "w", encoding="utf-8", errors="backslashreplace") as file:
            for job in jobs:
                line = json.dumps(job.record()) + "\n"
                digest.update(line.encode())
                file.write(line)
                count += 1
                met.add(job.interpreter)
    except OSError as error:
        raise no_room(error) from error
    if shard.interpreter not in (None, *met):
        os.unlink(f"{listed}.new")
        raise BadFolder(f"no job is for an interpreter {shard.interpreter!r}; there are {', '.join(sorted(met))}", "")
    new.fingerprint, new.count, new.shard = digest.hexdigest(), count, shard
    if os.path.exists(os.path.join(path, "triage.json")):
        _check_same(opened(path), new, shard)
    shutil.rmtree(os.path.join(path, "running"), ignore_errors=True)  # what a killed run has left
    os.replace(f"{listed}.new", listed)
    new.write("triage.json", json.dumps({
        "schema": SCHEMA, "refdbg": __version__, "base": base, "jobs": new.fingerprint, "count": count,
        "shard": [shard.number, shard.of] if shard.of > 1 else None, "interpreter": shard.interpreter,
    }, indent=1) + "\n")  # fmt: skip
    return new


def _check_same(old: Folder, new: Folder, shard: Shard) -> None:
    if old.fingerprint != new.fingerprint:
        os.unlink(os.path.join(new.path, "jobs.jsonl.new"))
        raise BadFolder(
            f"{old.path} has the results of another job file ({old.count} jobs; {new.count} here), or it was changed",
            "Name another folder, or delete this one.",
        )
    if old.shard != shard:
        os.unlink(os.path.join(new.path, "jobs.jsonl.new"))
        raise BadFolder(
            f"{old.path} has the results of {old.shard}, not of {shard}",
            "Each shard has a folder of its own; `refdbg-triage merge` joins them.",
        )  # fmt: skip


def no_room(error: OSError) -> RefdbgError:
    """What to raise where a file cannot be written: NoRoom or BadFolder."""
    where = error.filename or "the results folder"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return NoRoom(f"{where} cannot be written: {error.strerror}")
    return BadFolder(f"{where} cannot be written: {error.strerror}", "")
