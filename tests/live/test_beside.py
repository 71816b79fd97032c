"""On a large heap a process beside the debugger answers: the same as the debugger itself would."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import missing, python_of
from tests.support.debugger import attached, lldb, on_core
from tests.support.run import Running

PROGRAM = """\
import ctypes, sys, threading
class Node: pass
class Lost: pass
kept = [(Node(), [number], {number: str(number)}) for number in range(3000)]
large = b"\1" * (40 << 20)
for _ in range(3):
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(Lost()))
loop = Node(); loop.itself = loop; loop.text = "garbage"; del loop
threading.Thread(target=threading.Event().wait, args=(kept[0],), daemon=True).start()
def inner(argument):
    print(id(argument), flush=True)
    sys.stdin.readline()
inner(kept[1][0])
"""
USED = "import resource; print('USED', resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime)"
KILLED = "import refdbg.commands.beside; refdbg.commands.beside._MAIN = 'import os; os.kill(os.getpid(), 9)'"
LEAKS = "refdbg leaks --objects 3 --json"
HOW = {"gdb": "python {}", "lldb": "script {}"}


@pytest.fixture(scope="module", params=["3.11-debug", "3.13-debug"])
def said(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[str]]]:
    """What each debugger answers, live and on a core file; the program is none the wiser."""
    if lldb() is None:
        missing("no lldb: apt-get install lldb-19")
    folder = tmp_path_factory.mktemp("beside")
    python = python_of(request.param)
    program, core = folder / "program.py", folder / "core"
    program.write_text(PROGRAM)
    running = Running([python, program])
    running.line()
    found: dict[str, list[str]] = {}
    for debugger, how in HOW.items():
        commands = [how.format(USED), LEAKS, how.format(USED), how.format(KILLED), LEAKS]
        more = [f"gcore {core}"] if debugger == "gdb" else []
        answers = attached(debugger, running.process.pid, [*commands, *more], folder)
        found[debugger] = [answer.text for answer in answers]
    running.write("")
    assert running.end().status == 0
    for debugger in HOW:
        found[f"{debugger} core"] = [answer.text for answer in on_core(debugger, python, core, [LEAKS], folder)]
    yield found


def _record(text: str) -> Any:
    return json.loads(text[text.index("{") : text.rindex("}") + 1])


@pytest.mark.parametrize("debugger", list(HOW))
def test_the_same_answer(said: dict[str, list[str]], debugger: str) -> None:
    before, beside, after, _, alone, *_ = said[debugger]
    assert float(after.split()[-1]) > float(before.split()[-1]) + 0.3, "no process has answered"
    record = _record(beside)
    assert [finding["verdict"] for finding in record["findings"]] == ["lost-reference"]
    assert "Lost" in record["findings"][0]["message"]
    assert record == _record(alone)


@pytest.mark.parametrize("debugger", list(HOW))
def test_a_process_that_dies(said: dict[str, list[str]], debugger: str) -> None:
    assert "ended with -9; answered by the debugger instead, slower" in said[debugger][4]


@pytest.mark.parametrize("debugger", list(HOW))
def test_a_core_file(said: dict[str, list[str]], debugger: str) -> None:
    assert _record(said[f"{debugger} core"][0]) == _record(said["gdb"][1])
