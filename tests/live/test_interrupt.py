"""Ctrl-C during a command, typed at a terminal: it ends at once, and the debugger goes on."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.conftest import missing
from tests.support.debugger import lldb
from tests.support.run import ROOT
from tests.support.terminal import Terminal

WAITS = "import time; from refdbg.commands.progress import progress\nwith progress(): time.sleep({})\nprint('done')"
PROGRAM = "class Node: pass\nkeep = [Node() for _ in range(600_000)]\nascii(1)\n"


@pytest.mark.parametrize("debugger", ["gdb", "lldb"])
def test_ctrl_c(debugger: str, python311: str, tmp_path: Path) -> None:
    if lldb() is None:
        missing("no lldb: apt-get install lldb-19")
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    terminal = Terminal({
        "gdb": ["gdb", "-nx", "-q", "-ex", "set pagination off", "-ex", f"source {ROOT}/gdb/refdbg.py",
                "-ex", "break builtin_ascii", "-ex", "run", "--args", python311, str(program)],
        "lldb": [str(lldb()), "-x", "-o", f"command script import {ROOT}/lldb/refdbg_lldb.py",
                 "-o", "breakpoint set -n builtin_ascii", "-o", "run", "--", python311, str(program)],
    }[debugger])  # fmt: skip
    try:
        assert terminal.until(b"obj=") and terminal.until(f"({debugger}) ".encode())
        for delay in (1, 2, 3, 4):  # too early, and the debugger itself takes it
            terminal.type("refdbg leaks\n")
            terminal.until(b"No leak was found", delay)
            told = b" s (Ctrl-C ends it)" in terminal.seen
            terminal.type("\3")
            if terminal.until(b"refdbg: interrupted", 5):
                assert told or delay < 3  # after a second it says what it is doing
                break
        else:
            pytest.fail(f"not interrupted: {terminal.seen!r}")
        terminal.type("refdbg census --limit 1\n")
        assert terminal.until(b"600,000")
    finally:
        terminal.end()


def test_who_waits_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    told = b" s (Ctrl-C ends it)"
    terminal = Terminal([sys.executable, "-c", WAITS.format(3)])
    assert terminal.until(told) and terminal.until(b"\r\033[Kdone")
    terminal.end()
    terminal = Terminal([sys.executable, "-c", WAITS.format(0)])
    assert terminal.until(b"done")
    assert told not in terminal.all
    terminal.end()
