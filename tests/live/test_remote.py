"""gdb on a gdbserver, lldb on an lldb-server: the same answers through the debugger's own reads."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import missing
from tests.support.debugger import Answer, attached, lldb, remote
from tests.support.run import Running

PROGRAM = """\
import sys
class Node: pass
keep = [Node() for _ in range(50)]
held = {"the key": Node()}
print(id(held["the key"]), flush=True)
sys.stdin.readline()
"""
ASKED = ("status", "census --limit 1000", "leaks", "balance {}", "why {}", "cycles", "retained {}", "referrers {}",
         "frames --locals", "gc again", "visits Node")  # fmt: skip


@contextmanager
def served(debugger: str, pid: int, folder: Path) -> Iterator[str]:
    """The address of a server that has attached to the process."""
    pipe = folder / "port"
    command = {
        "gdb": ["gdbserver", "--once", "--attach", "localhost:0", str(pid)],
        "lldb": ["lldb-server-19", "gdbserver", "--named-pipe", str(pipe), "--attach", str(pid), "localhost:0"],
    }[debugger]
    if shutil.which(command[0]) is None:
        missing(f"no {command[0]}: apt-get install gdbserver lldb-19")
    os.mkfifo(pipe)
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None
        if debugger == "lldb":
            port = pipe.read_text().strip("\0")
        else:
            port = listening(server.stderr)
        yield f"localhost:{port}"
    finally:
        server.terminate()
        server.communicate()


def listening(lines: Iterable[str]) -> str:
    """The port that a gdbserver has chosen."""
    return next(found[1] for found in (re.search(r"Listening on port (\d+)", line) for line in lines) if found)


def answers(debugger: str, python: str, folder: Path, settings: list[str]) -> tuple[list[Answer], list[Answer]]:
    """What is answered natively, and through a server, of one process."""
    program = folder / "program.py"
    program.write_text(PROGRAM)
    running = Running([python, program])
    node, pid = running.line(), running.process.pid
    commands = [f"refdbg {each.format(node)} --json" for each in ASKED]
    native = attached(debugger, pid, commands, folder)
    with served(debugger, pid, folder) as address:
        far = remote(debugger, python, address, [*settings, *commands], folder)[len(settings):]
    running.write("")
    assert running.end().status == 0
    return native, far


@pytest.mark.parametrize("debugger", ["gdb", "lldb"])
def test_the_same_answers(debugger: str, python311: str, tmp_path: Path) -> None:
    if lldb() is None:
        missing("no lldb: apt-get install lldb-19")
    native, far = answers(debugger, python311, tmp_path, [])
    for one, other in zip(native, far):
        assert one.text == other.text, one.command
        assert one.text.startswith("{")


def test_gdbserver_that_starts_the_program(python311: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("class Node: pass\nkeep = [Node() for _ in range(50)]\nascii(keep)\n")
    server = subprocess.Popen(["gdbserver", "--once", "localhost:0", python311, program], stderr=subprocess.PIPE,
                              stdout=subprocess.DEVNULL, text=True)  # fmt: skip
    assert server.stderr is not None
    port = listening(server.stderr)
    commands = ["break builtin_ascii", "continue", "refdbg census --limit 1000 --json", "refdbg gc stop --at begin",
                "delete 1", "continue", "refdbg gc stop --off", "continue"]  # fmt: skip
    answered = remote("gdb", python311, f"localhost:{port}", commands, tmp_path)
    assert {"__main__.Node": 50}.items() <= {
        row["type"]: row["objects"] for row in answered[2].record["by_type"]
    }.items()
    assert "generation 2 (" in answered[5].text
    server.wait(timeout=60)


def test_memory_regions_that_are_not_known(python311: str, tmp_path: Path) -> None:
    # A stub that serves no files: nothing may look lost only because it was not searched for.
    _, far = answers("gdb", python311, tmp_path, ["set remote hostio-open-packet off"])
    by_command = {answer.command.split()[1]: answer for answer in far}
    assert by_command["census"].record["scope"] == "objects tracked by the collector"
    for command in ("balance", "why", "leaks", "referrers"):
        assert "memory regions are not known" in by_command[command].text
    assert by_command["frames"].text.startswith("{")
