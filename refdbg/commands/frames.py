"""`refdbg frames`: the Python frames of threads."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from refdbg.answers import Stacks, Suspended, ThreadStack
from refdbg.commands.context import Context
from refdbg.commands.frame_rows import frame_rows
from refdbg.commands.suspended import suspended
from refdbg.cpython import threads
from refdbg.cpython.c_stack import CFrame, Mixed, mixed
from refdbg.cpython.frame_chains import STACK_LIMIT
from refdbg.cpython.frames import Frame, Stack
from refdbg.cpython.runtime import Interpreter, Thread
from refdbg.cpython.stop import Stop
from refdbg.errors import CommandError, TargetError

_C_FRAMES = 1 << 18  # of one thread
_UNSURE = ("several thread states name this kernel thread, which has made them: another may run these frames "
           "(`thread apply all bt` shows which)")


def add_commands(subcommands: Any) -> None:
    """Add this module's subcommands."""
    frames = subcommands.add_parser(
        "frames",
        help="the Python frames of the selected thread, or of others",
        description="The Python frames, innermost first: of the debugger's selected thread, or else of the thread "
        "that holds the GIL. Arguments are marked `arg`.",
    )
    which = frames.add_mutually_exclusive_group()
    which.add_argument("--all", action="store_true", help="all threads of all interpreters")
    which.add_argument("--thread", type=int, metavar="N", help="the thread with this number (see --all) or kernel id")
    which.add_argument("--suspended", action="store_true", help="instead, what is suspended: generators, coroutines "
                       "with what they await, asyncio's tasks by name, and greenlets")
    frames.add_argument("--locals", action="store_true", help="with the local variables that are set; (deferred): by a "
                        "reference that no count includes (free-threaded, 3.14 and later)")
    frames.add_argument("--native", action="store_true", help="with the C functions between and above them, but for "
                        "those that only carry a call on (`bt` has these too)")
    frames.add_argument("--limit", type=int, default=STACK_LIMIT, metavar="N", help="at most N frames of each thread")
    frames.set_defaults(run=show)


@dataclass(frozen=True)
class _Candidate:
    number: int
    thread: Thread
    interpreter: Interpreter
    native_id: int | None
    selected: bool
    holds_gil: bool
    unsure: bool


def show(context: Context, arguments: argparse.Namespace) -> Stacks | Suspended:
    """Frame stacks as the arguments ask for them. Raises CommandError, TargetError."""
    if arguments.limit < 1:
        raise CommandError("--limit needs a number of frames, at least 1")
    stop = context.stop
    if arguments.suspended:
        if arguments.native:
            raise CommandError("what is suspended has no C frames: --native does not go with --suspended")
        return suspended(stop, arguments)
    candidates, notes = _candidates(stop)
    chosen = candidates
    if arguments.thread is not None:
        chosen = _numbered(candidates, arguments.thread)
    elif not arguments.all:
        chosen, reason = _default(candidates)
        notes += [reason] if reason else []
    return Stacks([_stack(stop, each, arguments) for each in chosen], notes)


def _candidates(stop: Stop) -> tuple[list[_Candidate], list[str]]:
    runtime = stop.runtime
    found: list[tuple[Thread, Interpreter]] = []
    notes: list[str] = []
    for interpreter in runtime.interpreters():
        try:
            found += [(thread, interpreter) for thread in runtime.threads(interpreter)]
        except TargetError as error:
            notes.append(f"the threads of interpreter {interpreter.number} cannot be read: {error}")
    natives = threads.natives(stop, [thread for thread, _ in found])
    holders = {interpreter.address: threads.gil_holder(runtime, interpreter) for _, interpreter in found}
    candidates = [
        _Candidate(number, thread, interpreter, natives.ids.get(thread.address), thread.address in natives.selected,
                   holders[interpreter.address] == thread.address, thread.address in natives.unsure)
        for number, (thread, interpreter) in enumerate(found, 1)
    ]
    return candidates, notes


def _numbered(candidates: list[_Candidate], number: int) -> list[_Candidate]:
    for key in ("number", "native_id"):
        chosen = [each for each in candidates if getattr(each, key) == number]
        if chosen:
            return chosen
    raise CommandError(f"no Python thread has the number or kernel id {number}", "`refdbg frames --all` lists them.")


def _default(candidates: list[_Candidate]) -> tuple[list[_Candidate], str]:
    # The threads to show when none was asked for, and the reason when it is not simply the selected one.
    selected = [each for each in candidates if each.selected]
    holding = [each for each in candidates if each.holds_gil]
    # A thread has one state in each interpreter that it has entered: the one that it runs in holds the GIL.
    running = [each for each in selected if each.holds_gil]
    if running or selected:
        return running or selected, ""
    if holding:
        return holding, "the selected thread runs no Python code: this is the thread that holds the GIL"
    return candidates, "the selected thread runs no Python code and none holds the GIL: these are all threads"


def _stack(stop: Stop, candidate: _Candidate, arguments: argparse.Namespace) -> ThreadStack:
    # Which C frames run which Python frames is known of whole stacks only.
    stack = stop.frames.walk(candidate.thread, STACK_LIMIT if arguments.native else arguments.limit)
    frames: Sequence[Frame | CFrame] = stack.frames
    notes = [stack.note] if stack.note else []
    notes += [_UNSURE] if candidate.unsure else []
    if arguments.native:
        both = _with_native(stop, candidate, stack)
        frames = _cut(both.frames, arguments.limit)
        notes += [both.note] if both.note else []
        notes += ["more frames follow"] if len(frames) < len(both.frames) else []
    return ThreadStack(candidate.number, candidate.thread.address, candidate.native_id, candidate.interpreter.number,
                       candidate.selected, candidate.holds_gil, frame_rows(stop, frames, arguments.locals),
                       "; ".join(notes))


def _cut(frames: Sequence[Frame | CFrame], limit: int) -> Sequence[Frame | CFrame]:
    # At most *limit* Python frames, and what the innermost of them have called.
    own = [row for row, frame in enumerate(frames) if isinstance(frame, Frame)]
    return frames[: own[limit - 1] + 1] if len(own) > limit else frames


def _with_native(stop: Stop, candidate: _Candidate, stack: Stack) -> Mixed:
    if candidate.native_id is None:
        return Mixed([*stack.frames], "its kernel id is not known, so its C frames cannot be found")
    if candidate.unsure:
        return Mixed([*stack.frames], "so C functions are left out")
    target = stop.runtime.target
    images = target.images()
    libraries: dict[int, str] = {}

    def library(place: int) -> str:
        page = place >> 12
        if page not in libraries:
            found = images.library_at(place)
            libraries[page] = found.path if found is not None else ""
        return libraries[page]

    native = target.native_stack(candidate.native_id, _C_FRAMES)
    return mixed(native, stack, stop.frames.evaluators(candidate.thread), library)
