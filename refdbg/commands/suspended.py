"""`refdbg frames --suspended`: what generators, coroutines and tasks wait for, and where greenlets are."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator

from refdbg.answers import Suspended, SuspendedStack
from refdbg.commands.frame_rows import frame_rows
from refdbg.cpython import describe
from refdbg.cpython.frames import Frame
from refdbg.cpython.generators import NOT_STARTED, RUNNING, Generator, Generators
from refdbg.cpython.greenlets import KIND
from refdbg.cpython.greenlets import Suspended as StacksOfObjects
from refdbg.cpython.owned import Owned
from refdbg.cpython.stop import Stop
from refdbg.cpython.tasks import Task, Tasks
from refdbg.graph.objects import Objects


def suspended(stop: Stop, arguments: argparse.Namespace) -> Suspended:
    """The tasks that are not done, then everything suspended that nobody awaits. Raises TargetError, NotPython."""
    objects = stop.tracked()
    generators = Generators(stop.runtime, stop.types, stop.frames)
    tasks = Tasks(stop.texts, generators)
    of_tasks = sorted(_tasks(objects, tasks), key=_natural)
    chains = {task.coroutine: generators.chain(task.coroutine) for task in of_tasks}
    awaited = {each.address for found, _ in chains.values() for each in found}
    alone = [
        found for address, type_, _ in objects.rows() if type_ in generators.kinds and address not in awaited
        if (found := generators.at(address)) is not None and found.state != RUNNING
    ]
    for each in alone:
        chains[each.address] = generators.chain(each.address)
        awaited.update(inner.address for inner in chains[each.address][0][1:])
    rows = _Rows(stop, tasks, arguments)
    stacks = [rows.of_task(task, *chains[task.coroutine]) for task in of_tasks]
    stacks += [rows.of(each.kind, "", each.address, each.state, *chains[each.address])
               for each in alone if each.address not in awaited]
    guessed = [
        "no debug info describes _asyncio's TaskObj: the names and coroutines of tasks are words that stand where each "
        "release since 3.8 has them"
    ]
    with_frames = StacksOfObjects(stop, objects, lambda: Owned(stop.texts))
    stacks += _greenlets(stop, with_frames, arguments)
    notes = (guessed if tasks.guessed else []) + with_frames.notes
    return Suspended(stacks, notes + objects.coverage.notes)


def _greenlets(stop: Stop, known: StacksOfObjects, arguments: argparse.Namespace) -> Iterator[SuspendedStack]:
    for address, each in known.all.items():
        if each.status == "not started":
            yield SuspendedStack(KIND, "", address, NOT_STARTED, [], None)
        if address not in known.stacks:
            continue
        frames = [held.frame for held in known.held(address) if held.frame is not None]
        rows = frame_rows(stop, frames[: arguments.limit], arguments.locals)
        note = each.note or ("more frames follow" if len(frames) > arguments.limit else "")
        yield SuspendedStack(KIND, "main" if each.main else "", address, each.status, rows, None, note=note)


def _tasks(objects: Objects, tasks: Tasks) -> Iterator[Task]:
    for address, type_, _ in objects.rows():
        task = tasks.at(address, type_)
        if task is not None:
            yield task


def _natural(task: Task) -> list[tuple[int, str]]:
    # Task-2 before Task-10.
    return [(int(part[:18]), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", task.name)]


class _Rows:
    # Makes the records.
    def __init__(self, stop: Stop, tasks: Tasks, arguments: argparse.Namespace) -> None:
        self._stop = stop
        self._tasks = tasks
        self._arguments = arguments

    def of_task(self, task: Task, chain: list[Generator], end: int) -> SuspendedStack:
        states = [each.state for each in chain]
        running = RUNNING in states
        if running:
            state = RUNNING
        elif states[:1] == [NOT_STARTED]:
            state = NOT_STARTED
        else:
            state = "suspended" if task.waiter and not self._tasks.is_done(task.waiter) else "ready"
        return self.of("task", task.name, task.address, state, [] if running else chain, task.waiter or end)

    def of(
        self, kind: str, name: str, address: int, state: str, chain: list[Generator], waits_for: int
    ) -> SuspendedStack:
        frames: list[Frame] = []
        note = ""
        for each in chain[-self._arguments.limit :]:
            found = self._stop.frames.walk_from(each.frame, 1)
            frames += found.frames
            if not found.frames:
                note = note or found.note or f"the frame of the {each.kind} at {each.address:#x} cannot be read"
        if len(chain) > self._arguments.limit:
            note = note or "more frames follow"
        return SuspendedStack(
            kind, name, address, state, frame_rows(self._stop, frames[::-1], self._arguments.locals),
            describe.row(self._stop, waits_for) if waits_for else None, list(self._tasks.awaited(waits_for)), note,
        )
