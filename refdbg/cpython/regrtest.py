"""What CPython's own test runner is doing, from its Python frames (Lib/test/libregrtest/refleak.py)."""

from __future__ import annotations

from dataclasses import dataclass

from refdbg.cpython.runtime import Thread
from refdbg.cpython.stop import Stop
from refdbg.cpython.threads import gil_holder
from refdbg.errors import RefdbgError

_FUNCTIONS = ("dash_R", "runtest_refleak")  # until 3.11, 3.12+
_FILE = "/libregrtest/refleak.py"
_WARMUPS = ("nwarmup", "warmups")
_FRAMES = 64
_CLEANUP = "dash_R_cleanup"
# What the cleanup calls, type.__subclasses__(), before it makes objects of its own.
SUBCLASSES = ("type___subclasses__", "type___subclasses___impl")


@dataclass(frozen=True)
class Repetition:
    """The repetition of a test that `-R WARMUPS:RUNS` is at. *number*: from 0; *total*: with the warmups.

    *variables*: what the runner's own local variables hold (``PyObject *``).
    """

    test: str
    number: int
    warmups: int
    total: int
    variables: frozenset[int]


def cleaning_up(stop: Stop) -> bool:
    """Whether `SUBCLASSES` was called by the cleanup after a repetition: what comes now is no test's."""
    main = next((each for each in stop.runtime.interpreters() if each.main), None)
    frames = stop.frames.stack(Thread(gil_holder(stop.runtime, main), 0), 1) if main is not None else []
    return any(frame.function == _CLEANUP and frame.file.endswith(_FILE) for frame in frames)


def repetition(stop: Stop) -> Repetition | None:
    """What the thread that holds the main interpreter's GIL repeats; None where it is not the test runner."""
    try:
        main = next(each for each in stop.runtime.interpreters() if each.main)
        for frame in stop.frames.stack(Thread(gil_holder(stop.runtime, main), 0), _FRAMES):
            if frame.function in _FUNCTIONS and frame.file.endswith(_FILE):
                values = dict(stop.frames.locals(frame))
                numbers = {
                    name: int(stop.texts.repr(values[name]))
                    for name in values.keys() & {"i", "repcount", *_WARMUPS}
                }
                warmups = next(numbers[name] for name in _WARMUPS if name in numbers)
                name = stop.texts.string(values["test_name"]) or ""
                return Repetition(name, numbers["i"], warmups, numbers["repcount"], frozenset(values.values()))
    except (RefdbgError, KeyError, ValueError, StopIteration):
        pass  # another version of the runner: it is a program like others
    return None
