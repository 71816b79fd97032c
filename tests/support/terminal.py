"""A program at a terminal."""

from __future__ import annotations

import os
import pty
import select
import signal
import time
from collections.abc import Sequence


class Terminal:
    """A command that somebody has typed at a terminal."""

    def __init__(self, command: Sequence[str]) -> None:
        self.pid, self.file = pty.fork()
        if not self.pid:
            os.execvp(command[0], list(command))
        self.all = self.seen = b""

    def until(self, text: bytes, seconds: float = 60) -> bool:
        """Whether the text appears in time."""
        end = time.monotonic() + seconds
        while text not in self.seen and time.monotonic() < end:
            if select.select([self.file], [], [], 0.1)[0]:
                new = os.read(self.file, 65536)
                self.all, self.seen = self.all + new, self.seen + new
        found = text in self.seen
        if found:
            self.seen = self.seen.partition(text)[2]
        return found

    def type(self, text: str) -> None:
        """Type something."""
        os.write(self.file, text.encode())

    def end(self) -> None:
        """Kill it."""
        os.kill(self.pid, signal.SIGKILL)
        os.close(self.file)
        os.waitpid(self.pid, 0)
