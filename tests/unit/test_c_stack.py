"""Which C calls of the evaluator run which Python frames."""

from __future__ import annotations

from refdbg.cpython.c_stack import CFrame, mixed
from refdbg.cpython.frames import Frame, Stack
from refdbg.target import NativeCall, NativeFrame

EVALUATOR = "_PyEval_EvalFrameDefault"
PYTHON = [Frame(0x1000 + row, 0x2000, name, "file.py", row) for row, name in enumerate("abcd")]


def _native(*names: str) -> list[NativeCall]:
    # Each begins 0x100 behind the one that it has called.
    return [NativeCall(NativeFrame(name, "file.c", 1), 0x5000, 0x100 * row) for row, name in enumerate(names)]


def _names(native: list[NativeCall], calls: list[int], places: list[int]) -> tuple[list[str], str]:
    found = mixed(native, Stack(PYTHON, "", calls), places, lambda place: "python")
    return [frame.function for frame in found.frames], found.note


def test_by_place() -> None:
    native = _native("inner.isra.0", EVALUATOR, "_PyEval_Vector", "between", EVALUATOR, "Py_RunMain", "main")
    assert _names(native, [3, 1], [0x110, 0x4F0]) == (["inner", "a", "b", "c", "between", "d"], "")


def test_another_interpreters_evaluator_runs_none_of_these() -> None:
    native = _native("inner", EVALUATOR, "run", EVALUATOR, "start")
    assert _names(native, [4], [0x310])[0] == ["inner", "run", "a", "b", "c", "d", "start"]


def test_by_number() -> None:
    native = _native(EVALUATOR, "x", EVALUATOR, EVALUATOR, "y", EVALUATOR)
    assert _names(native, [1, 1, 1, 1], []) == (["a", "x", "b", "c", "y", "d"], "")
    begun = _native(EVALUATOR, "w", *[call.frame.function for call in native])
    assert _names(begun, [1, 1, 1, 1], []) == (["w", "a", "x", "b", "c", "y", "d"], "")


def test_a_number_that_does_not_fit_is_no_place() -> None:
    names, note = _names(_native(EVALUATOR, "x", EVALUATOR), [1, 1, 1, 1], [])
    assert names == ["a", "b", "c", "d"]
    assert "2 calls of the evaluator, Python's has 4" in note


def test_what_was_not_unwound_is_said() -> None:
    names, note = _names(_native("x", EVALUATOR), [2, 2], [0x110, 0x910])
    assert names == ["x", "a", "b", "c", "d"]
    assert "1 call of" in note
    assert "no C stack" in _names([], [4], [])[1]


def test_of_the_c_library_the_function_that_was_called() -> None:
    native = _native("futex", "sem_wait", "mine", EVALUATOR)
    native = [call._replace(place=row << 12) for row, call in enumerate(native)]
    stack = Stack(PYTHON[:1], "", [1])
    found = mixed(native, stack, [0x310], lambda place: "/lib/libc.so.6" if place < 0x2000 else "/bin/python")
    assert [frame.function for frame in found.frames] == ["sem_wait", "mine", "a"]
    assert [isinstance(frame, CFrame) for frame in found.frames] == [True, True, False]
