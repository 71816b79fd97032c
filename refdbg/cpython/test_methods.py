"""Which test method of unittest runs: from the Python frames (Lib/unittest, and the results of regrtest)."""

from __future__ import annotations

from collections.abc import Sequence

from refdbg.cpython.frames import Frame
from refdbg.cpython.runtime import Thread
from refdbg.cpython.stop import Stop
from refdbg.cpython.threads import gil_holder, kernel_ids
from refdbg.errors import DecodeError, LayoutNotFound, MemoryFault
from refdbg.records import FrameRow

# What the runner's result calls when a test begins (testresult.py: RegressionTestResult.startTest).
CLOCK = "time_perf_counter"
# Where an iterable is asked for and none found: the suite asks so before each test and its fixtures (_isnotsuite).
NOT_ITERABLE = "type_error"
_RESULT = "/testresult.py"
_SUITE = "/unittest/suite.py"
_ASKS = "_isnotsuite"
_STARTS = "startTest"
_METHOD = "test"  # unittest.TestLoader.testMethodPrefix
_RUNNERS = ("unittest.", "test.support.", "test.libregrtest.")
_FRAMES = 200


def starting(stop: Stop) -> str:
    """The test (module.class.method) that is about to begin where `CLOCK` was called, "" where it was called else."""
    return _test_in(stop, _RESULT, _STARTS)


def coming(stop: Stop) -> str:
    """The test whose fixtures are about to be set up where `NOT_ITERABLE` was called, "" where it was called else."""
    return _test_in(stop, _SUITE, _ASKS)


def fixtures(last: str, test: str) -> str:
    """What is set up before a test (module.class.method) when *last* was the one before it: "" for nothing."""
    class_, before = test.rpartition(".")[0], last.rpartition(".")[0]
    if class_ == before:
        return ""
    same = class_.rpartition(".")[0] == before.rpartition(".")[0]  # module
    return f"{'' if same else 'setUpModule or '}setUpClass of {class_}"


def _test_in(stop: Stop, file: str, function: str) -> str:
    # The argument `test` of the function, if that is what runs.
    main = next((each for each in stop.runtime.interpreters() if each.main), None)
    if main is None:
        return ""
    for frame in stop.frames.stack(Thread(gil_holder(stop.runtime, main), 0), 1):
        if frame.file.endswith(file) and frame.function.rpartition(".")[2] == function:
            test = dict(stop.frames.locals(frame)).get("test")
            return _name_of(stop, test) if test else ""
    return ""


def _name_of(stop: Stop, test: int) -> str:
    try:
        type_ = stop.texts.type_of(test)
        for entry in stop.texts.instances.attributes(test, type_):
            if stop.texts.string(entry.key) == "_testMethodName":
                return f"{stop.texts.type_name(type_.address)}.{stop.texts.string(entry.value)}"
    except (DecodeError, MemoryFault, LayoutNotFound):
        pass
    return ""


def main_stack(stop: Stop, thread: int) -> list[Frame]:
    """The frames, innermost first, that the main interpreter has in a thread (the kernel's id)."""
    threads = [each for interpreter in stop.runtime.interpreters() if interpreter.main
               for each in stop.runtime.threads(interpreter)]
    ids = kernel_ids(stop, threads)
    mine = [each for each in threads if ids.get(each.address) == thread] or threads[:1]
    return stop.frames.stack(mine[0], _FRAMES) if mine else []


def running(stop: Stop, frames: Sequence[Frame]) -> tuple[str, FrameRow] | None:
    """The test method (module.class.method) that the frames of a thread are in, and where; the outermost one."""
    for frame in reversed(frames):
        method = frame.function.rpartition(".")[2]
        if method.startswith(_METHOD):
            test = dict(stop.frames.locals(frame)).get("self")
            try:
                class_ = stop.texts.type_name(stop.texts.type_of(test).address) if test else ""
            except (DecodeError, MemoryFault):
                continue
            if "." in class_ and not class_.startswith(_RUNNERS):
                return f"{class_}.{method}", FrameRow(frame.function, frame.file, frame.line)
    return None
