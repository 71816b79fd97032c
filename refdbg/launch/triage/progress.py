"""How far it is: a line that is rewritten at a terminal, else a plain line for each job."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import Any

from refdbg.launch.triage.jobs import Job
from refdbg.render.triage import one_line

_EVERY = 1.0  # seconds


class Progress:
    """Tells standard error."""

    def __init__(self, total: int, finished: int) -> None:
        """*finished*: how many of *total* an earlier run has done."""
        self._total, self._finished = total, finished
        self._done = 0
        self._running: list[str] = []
        self._begun = time.monotonic()
        self._terminal = sys.stderr is not None and sys.stderr.isatty()
        self._shown = 0.0
        if finished:
            self._line(f"{finished} of {total} jobs are finished already")

    def begins(self, job: Job, again: str | None) -> None:
        """A job is started; *again*: why it is not for the first time."""
        if again is not None:
            self._line(f"{job.key}: once more, {one_line(again)}")
            return
        self._running.append(job.key)
        self.look()

    def ended(self, found: dict[str, Any]) -> None:
        """A job has this result."""
        self._running.remove(found["key"])
        self._done += 1
        what = f"{found['outcome']}" + (f", {len(found['findings'])} findings" if found["findings"] else "")
        if found["why"]:
            what += f": {one_line(found['why'])}"
        left = self._left()
        self._line(
            f"[{self._finished + self._done}/{self._total}] {found['key']}  {found['seconds']:.1f} s  {what}"
            + (f"  ({left} left)" if left and not self._terminal else "")
        )

    def look(self) -> None:
        """At a terminal: what runs, and how long it will take."""
        if self._terminal and time.monotonic() - self._shown > _EVERY:
            self._shown = time.monotonic()
            left = self._left()
            text = f"[{self._finished + self._done}/{self._total}] {', '.join(self._running)}" + (
                f"  {left} left" if left else "")  # fmt: skip
            with contextlib.suppress(OSError):
                width = (os.get_terminal_size(sys.stderr.fileno()).columns or 80) - 1  # a new pty has no size
                self._write(f"\r\x1b[K{text[:width]}")

    def says(self, text: str) -> None:
        """What else there is to know."""
        self._line(text)

    def close(self) -> None:
        """Nothing more is rewritten."""
        if self._terminal:
            self._write("\r\x1b[K")

    def _left(self) -> str:
        # Jobs that are as long as those so far.
        rest = self._total - self._finished - self._done
        if not self._done or rest <= 0:
            return ""
        seconds = (time.monotonic() - self._begun) / self._done * rest
        for size, unit in ((3600, "h"), (60, "min")):
            if seconds >= 1.5 * size:
                return f"about {seconds / size:.0f} {unit}"
        return f"about {seconds:.0f} s"

    def _line(self, text: str) -> None:
        self._write(("\r\x1b[K" if self._terminal else "") + text + "\n")

    def _write(self, text: str) -> None:
        # stderr is None when it was closed before we started.
        if sys.stderr is not None:
            with contextlib.suppress(OSError):
                sys.stderr.write(text.encode("utf-8", "backslashreplace").decode())
                sys.stderr.flush()
