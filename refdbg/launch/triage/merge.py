"""Results of several machines as one folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence

from refdbg.launch.triage.folder import BadFolder, Folder, Shard, made, opened, put


def merge(paths: Sequence[str], output: str) -> tuple[Folder, list[str]]:
    """A folder with the results of all, and what is to be said about them. Raises BadFolder, NoRoom.

    Of a job that several have finished the earliest result is taken.
    """
    parts = [opened(path) for path in paths]
    first = parts[0]
    if os.path.realpath(output) in {os.path.realpath(path) for path in paths}:
        raise BadFolder(f"{output} is one of the folders to merge")
    for part in parts[1:]:
        if part.fingerprint != first.fingerprint:
            raise BadFolder(f"{part.path} has the results of another job file than {first.path} ({part.count} jobs; "
                            f"{first.count} there)", "Only results of one job file can be merged.")  # fmt: skip
    merged = made(output, first.all_jobs(), first.base, Shard(1, 1))
    more, damaged = [], []
    for job in merged.jobs():
        results = [(found["started"], part) for part in parts if (found := part.result(job.key)) is not None]
        damaged += [part.of(job.key) for part in parts
                    if os.path.isdir(part.of(job.key)) and part.result(job.key) is None]  # fmt: skip
        if not results:
            continue
        if len(results) > 1:
            more.append(job.key)
        _copy(min(results, key=lambda each: each[0])[1], merged, job.key)
    notes = []
    if more:
        notes.append(f"{_jobs(more)} finished in more than one folder; the earliest result counts, once: {_few(more)}")
    if damaged:
        notes.append(f"{_jobs(damaged)} with a damaged result, or of another refdbg, left out: {_few(damaged)}")
    return merged, notes


def _copy(part: Folder, merged: Folder, key: str) -> None:
    folder = merged.begin(key)
    shutil.copytree(part.of(key), folder, dirs_exist_ok=True, copy_function=_link)
    put(folder, merged.of(key))


def _link(source: str, target: str) -> None:
    # The results of 10,000 jobs are not copied where they need not be: nobody writes into them.
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _jobs(keys: Sequence[str]) -> str:
    return f"{len(keys)} job{'' if len(keys) == 1 else 's'}"


def _few(keys: Sequence[str]) -> str:
    return ", ".join(keys[:5]) + (" …" if len(keys) > 5 else "")
