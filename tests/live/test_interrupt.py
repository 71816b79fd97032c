"""Ctrl-C during a command, typed at a terminal: it ends at once, and the debugger goes on."""

from __future__ import annotations

import os
import pty
import select
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.conftest import missing
from tests.support.debugger import lldb
from tests.support.run import ROOT

PROGRAM = "class Node: pass\nkeep = [Node() for _ in range(300_000)]\nascii(1)\n"


class Terminal:
    """A debugger at a terminal."""

    def __init__(self, command: Sequence[str]) -> None:
        self.pid, self.file = pty.fork()
        if not self.pid:
            os.execvp(command[0], command)
        self.seen = b""

    def until(self, text: bytes, seconds: float = 60) -> bool:
        """Whether the text appears in time."""
        end = time.monotonic() + seconds
        while text not in self.seen and time.monotonic() < end:
            if select.select([self.file], [], [], 0.1)[0]:
                self.seen += os.read(self.file, 65536)
        found = text in self.seen
        if found:
            self.seen = self.seen.partition(text)[2]
        return found

    def type(self, text: str) -> None:
        """Type something."""
        os.write(self.file, text.encode())


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
            terminal.type("\3")
            if terminal.until(b"refdbg: interrupted", 5):
                break
        else:
            pytest.fail(f"not interrupted: {terminal.seen!r}")
        terminal.type("refdbg census --limit 1\n")
        assert terminal.until(b"300,000")
    finally:
        os.kill(terminal.pid, 9)
        os.close(terminal.file)
        os.waitpid(terminal.pid, 0)
