"""`refdbg frames` against what the program under test says of its own stacks."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
ORACLE = ROOT / "tests" / "programs" / "frames_oracle.py"
LAST_LINE = next(number for number, line in enumerate(ORACLE.read_text().splitlines(), 1) if "return ascii(" in line)
MARK = "=== refdbg test ==="

# To be replaced by the shared driver and its fixture.


def _interpreters() -> dict[str, str]:
    cache = Path(os.environ.get("REFDBG_CACHE") or Path.home() / ".cache" / "refdbg") / "cpython"
    found = {"3.11": shutil.which("python3.11-dbg") or ""}
    for name in ("3.9", "3.13", "3.13t"):
        found[name] = next((str(path.parent / "build" / "python") for path in cache.glob(f"{name}-*/finished")), "")
    for path in filter(None, os.environ.get("REFDBG_PYTHONS", "").split(os.pathsep)):
        found[path] = path
    return found


@pytest.fixture(params=_interpreters().items(), ids=lambda item: item[0], scope="module")
def interpreter(request: pytest.FixtureRequest) -> str:
    name, path = request.param
    if not path:
        pytest.skip(f"no {name} debug build: tests/cpython/build {name}")
    return str(path)


def _gdb(python: str, commands: list[str], arguments: list[str]) -> list[str]:
    """Runs the program up to ascii() and the commands there; returns what each of them printed."""
    lines = ["gdb", "-nx", "-batch", "-iex", "set auto-load no", "-iex", "set breakpoint pending on",
             "-ex", f"source {ROOT}/gdb/refdbg.py", "-ex", "break builtin_ascii", "-ex", "run"]
    for command in commands:
        lines += ["-ex", f"echo \\n{MARK}\\n", "-ex", command]
    done = subprocess.run([*lines, "-ex", f"echo \\n{MARK}\\n", "-ex", "kill", "--args", python, *arguments],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, check=False)
    outputs = done.stdout.split(MARK)
    assert len(outputs) == len(commands) + 2, done.stdout
    return [output.strip() for output in outputs[1:-1]]


def _records(python: str, commands: list[str], arguments: list[str]) -> list[Any]:
    """The records that `refdbg … --json` commands among the commands printed; None for the other commands."""
    outputs = _gdb(python, commands, arguments)
    return [json.loads(output) if command.endswith("--json") else None for command, output in zip(commands, outputs)]


@pytest.fixture(scope="module")
def told(interpreter: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[Any]]:
    """What the program said of itself, and what refdbg said."""
    file = tmp_path_factory.mktemp("frames") / "truth.json"
    commands = ["refdbg frames --all --locals --json", "refdbg frames --json", "refdbg frames --thread 2 --json",
                "refdbg frames --all --limit 2 --json", "thread 4", "refdbg frames --json"]
    records = _records(interpreter, commands, [str(ORACLE), str(file)])
    return json.loads(file.read_text()), records


def _truth(truth: dict[str, Any], thread: dict[str, Any]) -> list[dict[str, Any]]:
    """What the program said of the thread with this kernel id."""
    (ident,) = [ident for ident, native in truth["native"].items() if native == thread["native_id"]]
    frames: list[dict[str, Any]] = truth["threads"][ident]
    return frames


def test_every_thread_has_its_stack(told: tuple[dict[str, Any], list[Any]]) -> None:
    truth, (everything, *_) = told
    assert len(everything["threads"]) == len(truth["threads"]) == len(truth["native"])
    for thread in everything["threads"]:
        frames = thread["frames"]
        if thread["selected"]:
            innermost = frames.pop(0)
            assert (innermost["function"], innermost["file"]) == ("last_call", str(ORACLE))
            assert innermost["line"] == LAST_LINE
        expected = _truth(truth, thread)
        assert [(frame["function"], frame["file"], frame["line"]) for frame in frames] == [
            (frame["function"], frame["file"], frame["line"]) for frame in expected
        ]
        assert [[frame["file"], frame["line"]] for frame in frames] == [frame["traceback"][:2] for frame in expected]
        assert not thread["note"]
    assert max(len(thread["frames"]) for thread in everything["threads"]) > 500


def test_locals(told: tuple[dict[str, Any], list[Any]]) -> None:
    truth, (everything, *_) = told
    compared = 0
    for thread in everything["threads"]:
        expected = _truth(truth, thread)
        for frame, own in zip(thread["frames"][-len(expected):], expected):
            names = {name for name in own["names"] if frame["function"] != "<module>" or not name.startswith("__")}
            assert frame["arguments"] == own["arguments"]
            if own["optimized"]:
                assert set(frame["locals"]) == names
            else:  # 3.13 shows a class body's comprehension only its own names
                assert set(frame["locals"]) >= names
            for name in names & set(own["reprs"]):
                assert frame["locals"][name] == own["reprs"][name], (frame, name)
                compared += 1
    assert compared > 500


def test_the_default_is_the_selected_thread(told: tuple[dict[str, Any], list[Any]]) -> None:
    truth, (everything, default, second, limited, _, other) = told
    (thread,) = default["threads"]
    assert thread["selected"]
    assert thread["number"] == 1
    assert thread["native_id"] == truth["native"][str(truth["current"])]
    assert not default["notes"]
    assert all(frame["locals"] is None for frame in thread["frames"])
    assert [thread["number"] for thread in second["threads"]] == [2]
    assert all(len(thread["frames"]) == 2 and thread["note"] == "more frames follow" for thread in limited["threads"])
    (thread,) = other["threads"]
    assert thread["selected"]
    assert thread["frames"] == [
        {**frame, "locals": None, "arguments": [], "deferred": []}
        for frame in next(each for each in everything["threads"] if each["number"] == thread["number"])["frames"]
    ]
    assert not thread["holds_gil"]


def test_the_holder_of_the_gil(interpreter: str, told: tuple[dict[str, Any], list[Any]]) -> None:
    _, (everything, *_) = told
    holders = [thread["number"] for thread in everything["threads"] if thread["holds_gil"]]
    assert holders == ([1] if _facts(interpreter)["gil"] else [])


@functools.cache
def _facts(python: str) -> dict[str, Any]:
    """The interpreter's minor version, and whether it has a GIL."""
    code = "import json, sys, sysconfig; print(json.dumps({'minor': sys.version_info[1], 'gil': not "
    code += "sysconfig.get_config_var('Py_GIL_DISABLED')}))"
    facts: dict[str, Any] = json.loads(subprocess.check_output([python, "-c", code]))
    return facts


def _back(python: str) -> str:
    return "f_back" if _facts(python)["minor"] < 11 else "previous"


def _frame(number: int, python: str) -> str:
    """gdb's expression for the main thread's frame *number*."""
    minor = _facts(python)["minor"]
    start = "frame" if minor < 11 else "cframe->current_frame" if minor < 13 else "current_frame"
    head = "tstate_head" if minor < 11 else "threads.head"
    thread = f"((PyThreadState *) ((PyInterpreterState *) _PyRuntime.interpreters.main)->{head})"
    return f"{thread}->{start}" + f"->{_back(python)}" * number


def _code_field(python: str) -> str:
    return f"{_frame(2, python)}->{'f_executable' if _facts(python)['minor'] >= 13 else 'f_code'}"


def _code_member(python: str, old: str, new: str, since: int) -> str:
    minor = _facts(python)["minor"]
    code = f"({_code_field(python)}.bits & ~1UL)" if minor >= 14 else _code_field(python)  # its low bit: not counted
    return f"((PyCodeObject *) {code})->{new if minor >= since else old}"


def _table(python: str) -> str:
    return _code_member(python, "co_lnotab", "co_linetable", 10)


# gdb's commands that damage the third frame, or the link to it.
DAMAGES: dict[str, Callable[[str], list[str]]] = {
    "circle": lambda python: [
        f"set var $first = {_frame(0, python)}", f"set var {_frame(1, python)}->{_back(python)} = $first"],
    "link": lambda python: [f"set var *(unsigned long *) &{_frame(1, python)}->{_back(python)} = 0xdead0000"],
    "code": lambda python: [f"set var *(unsigned long *) &{_code_field(python)} = 0x10"],
    "no code": lambda python: [
        f"set var *(unsigned long *) &{_code_field(python)} = (unsigned long) &PyType_Type"],
    "table": lambda python: [f"set var *(unsigned long *) &{_table(python)} = 0xdead0000"],
    "table size": lambda python: [f"set var ((PyVarObject *) {_table(python)})->ob_size = 0x7fffffffffffffff"],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_stack_ends_with_a_note(interpreter: str, damage: str, tmp_path: Path) -> None:
    commands = ["refdbg frames --json", *DAMAGES[damage](interpreter), "refdbg frames --locals --json"]
    # One thread, so that the main thread's state is the interpreter's first.
    program = tmp_path / "program.py"
    program.write_text("def f(a): return ascii(a)\ndef g(b):\n    return f(b)\ndef h(c):\n    return g(c)\nh('x')\n")
    records = _records(interpreter, commands, [str(program)])
    whole, damaged = records[0]["threads"][0], records[-1]["threads"][0]
    assert [frame["function"] for frame in whole["frames"]] == ["f", "g", "h", "<module>"]
    assert not whole["note"]
    assert 1 <= len(damaged["frames"]) <= 2
    assert damaged["note"]
    assert ("circle" in damaged["note"]) == (damage == "circle")
    for frame, before in zip(damaged["frames"], whole["frames"]):
        assert (frame["function"], frame["line"]) == (before["function"], before["line"])
        assert frame["locals"]


def test_damaged_names_cost_only_the_locals(interpreter: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("def f(a): return ascii(a)\ndef g(b):\n    return f(b)\ndef h(c):\n    return g(c)\nh('x')\n")
    names = _code_member(interpreter, "co_varnames", "co_localsplusnames", 11)
    commands = [f"set var ((PyVarObject *) {names})->ob_size = 1 << 30", "refdbg frames --locals --json"]
    thread = _records(interpreter, commands, [str(program)])[-1]["threads"][0]
    assert [frame["function"] for frame in thread["frames"]] == ["f", "g", "h", "<module>"]
    assert [frame["locals"] for frame in thread["frames"][:3]] == [{"a": "'x'"}, {"b": "'x'"}, {}]


def test_text(interpreter: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("def f(a):\n    if a:\n        return f(a - 1)\n    return ascii(a)\n\n\nf(6)\n")
    plain, with_locals, wrong, unknown = _gdb(
        interpreter, ["refdbg frames", "refdbg frames --locals", "refdbg frames --thread 1 --all",
                      "refdbg frames --thread 99999999"], [str(program)])
    assert f'  File "{program}", line 4, in f\n    return ascii(a)\n  File "{program}", line 3, in f\n' in plain
    assert plain.endswith(f'  File "{program}", line 7, in <module>\n    f(6)')
    assert "  [the same frame 3 more times]\n" in plain
    assert "    return ascii(a)\n      arg a = 0\n" in with_locals
    assert "not allowed with" in wrong
    assert "no Python thread has the number or kernel id 99999999" in unknown


def test_a_thread_without_python(interpreter: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("ascii(1)\n")
    # Nowhere near a Python thread: the register is what tells the threads apart.
    record = _records(interpreter, ["set var $fs_base = 0x1000", "refdbg frames --json"], [str(program)])[-1]
    assert [frame["function"] for frame in record["threads"][0]["frames"]] == ["<module>"]
    assert "runs no Python code" in record["notes"][0]
