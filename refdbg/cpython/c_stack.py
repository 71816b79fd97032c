"""C stacks and Python's frames as one: which C function called which Python function, and the other way round."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from refdbg.cpython.frames import Frame, Stack
from refdbg.target import NativeCall

EVALUATE = re.compile(r"_PyEval_EvalFrameDefault")
# How the interpreter gets from one frame to the next, and to the first one.
BETWEEN = re.compile(
    r"_?PyEval_\w+$|_PyFunction_\w+$|_?PyObject_(Fast|Vector|Method)?[Cc]all\w*$|_PyObject_MakeTpCall$|_?PyVectorcall_\w+$"
    r"|method_vectorcall\w*$|method_call$|cfunction_\w+$|object_vacall$|function_code_fastcall$|call_function$|_PyCFunction_\w+$"
    r"|do_call_core$|trace_call_function$|vectorcall_\w+$|run_eval_code_obj$|run_mod$|_?PyRun_\w+$|pyrun_\w+$|pymain_\w+$"
    r"|_start$|Py_BytesMain$|Py_RunMain$|Py_Main$|main$|builtin_exec\w*$|slot_tp_call$|_PyEval_EvalFrame$|gen_send_ex2?$"
)
SYSTEM = re.compile(r"(libc|ld-linux|libpthread|ld)[-.]")
# How a thread of Python's begins.
_BEGINS = re.compile(r"thread_run$|pythread_wrapper$|t_bootstrap$")
# What compilers append to the names of the parts and the copies of a function.
_PART = re.compile(r"(\.(isra|constprop|part|cold|lto_priv|llvm)(\.\d+)?)+$")


@dataclass(frozen=True)
class CFrame:
    """A C function on a stack. *file*: of its source, or else of its library (*line* is 0 then)."""

    function: str
    file: str
    line: int


@dataclass(frozen=True)
class Mixed:
    """Python and C frames, innermost first. *note*: what could not be put together, "" if nothing."""

    frames: list[Frame | CFrame]
    note: str


def mixed(
    native: Sequence[NativeCall], stack: Stack, evaluators: Sequence[int], library: Callable[[int], str]
) -> Mixed:
    """The Python frames in the places of the C calls of the evaluator that run them, between other C functions.

    C functions that only carry a call on are left out, and of those of the C library that call each other all but the
    first. *evaluators*: see Frames.evaluators; *library*: the path of the file that a code address is in, "" if none.
    """
    if not native:
        return Mixed([*stack.frames], "no C stack of this thread is to be had here: `bt` in a debugger shows it")
    runs, note = _matched(native, stack, evaluators)
    if runs is None:
        return Mixed([*stack.frames], note)
    frames: list[Frame | CFrame] = []
    shown = 0  # Python frames
    system: NativeCall | None = None  # the outermost so far of the C library's functions in a row
    for row, call in enumerate(native[: _end(native, max(runs, default=-1), bool(stack.note), library)]):
        if _is_system(call, library):
            system = call
            continue
        if system is not None:
            frames.append(_c_frame(system, library))
            system = None
        if row in runs:
            first, shown = runs[row]
            frames += stack.frames[first:shown]
        elif not BETWEEN.match(_name(call)):
            frames.append(_c_frame(call, library))
    frames += stack.frames[shown:]  # of calls that the debugger did not find
    return Mixed(frames, note)


def _end(native: Sequence[NativeCall], last: int, cut: bool, library: Callable[[int], str]) -> int:
    # Where the C frames end that are worth showing; *last*: that of the outermost Python frame.
    if cut and last >= 0:
        return last + 1  # what has called these Python frames is not shown either
    for end in range(len(native), last + 1, -1):
        call = native[end - 1]
        if not (BETWEEN.match(_name(call)) or _BEGINS.match(_name(call)) or _is_system(call, library)):
            return end
    return last + 1


def _name(call: NativeCall) -> str:
    return _PART.sub("", call.frame.function)


def _is_system(call: NativeCall, library: Callable[[int], str]) -> bool:
    return bool(SYSTEM.match(library(call.place).rpartition("/")[2]))


def _c_frame(call: NativeCall, library: Callable[[int], str]) -> CFrame:
    frame = call.frame
    return CFrame(_name(call), frame.file or library(call.place), frame.line or 0 if frame.file else 0)


def _matched(
    native: Sequence[NativeCall], stack: Stack, evaluators: Sequence[int]
) -> tuple[Mapping[int, tuple[int, int]] | None, str]:
    # By row of the evaluator's C frame: which Python frames it runs, as rows of the stack. None where nothing tells.
    calls = [row for row, call in enumerate(native) if EVALUATE.match(call.frame.function)]
    bounds: list[tuple[int, int]] = []
    for count in stack.calls:
        start = bounds[-1][1] if bounds else 0
        bounds.append((start, start + count))
    if evaluators and len(evaluators) >= len(bounds):
        runs = {}
        places = sorted((place, index) for index, place in enumerate(evaluators))
        for row in calls:
            low = native[row].stack_pointer
            behind = (native[other].stack_pointer for other in range(row + 1, len(native)))
            high = next((pointer for pointer in behind if pointer > low), 1 << 64)
            found = bisect_left(places, (low, 0))
            if found < len(places) and places[found][0] < high and places[found][1] < len(bounds):
                runs[row] = bounds[places[found][1]]
        if bounds and not runs:  # until 3.12 a subinterpreter's state names the thread that made it, whoever runs it
            return None, ("none of these Python frames runs on the C stack of the thread that the thread state names: "
                          "another may run them, C functions are left out")
        missing = len(bounds) - len(runs)
        some = f"{missing} call{'s' if missing > 1 else ''} of the evaluator"
        return runs, f"the C stack lacks {some}: what C functions ran there is not known" if missing else ""
    # One more: it has been called, and its frame is not linked yet.
    begun = 1 if len(calls) == len(bounds) + 1 else 0
    if len(calls) - begun == len(bounds):
        return dict(zip(calls[begun:], bounds)), ""
    return None, (f"the C stack has {len(calls)} calls of the evaluator, Python's has {len(bounds)} of this "
                  "interpreter: C functions are left out, `bt` shows them")
