"""A Session without a debugger: commands run on a core file, a copy of a process, a snapshot."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Sequence

from refdbg.cpython.runtime import RUNTIME
from refdbg.errors import NoProcess, NotEvaluated, NotLive, SymbolNotFound
from refdbg.target import Breakpoint, Console, Halt, OnChange, OnHit, TargetInfo, Where, snapshot
from refdbg.target.attach import Copy
from refdbg.target.core import CoreMemory
from refdbg.target.recorded import NOBODY, RecordedTarget

_SYMBOL = re.compile(r"&?\s*([A-Za-z_][\w.]*)(?:\s*\+\s*(\d+|0x[0-9a-fA-F]+))?$")


def of_core(path: str, executable: str | None, root: str) -> RecordedTarget:
    """The process of a core file. *executable*: its program, where it is not at its old place. Raises NoProcess."""
    if executable is not None and not os.path.isfile(executable):
        raise NoProcess(f"there is no program {executable}", "Name the program that the core file is of.")
    core = CoreMemory(path, program=executable, root=root)
    if not core.has_heap():
        if core.is_cut:
            raise NoProcess(
                f"{path} was cut short: no object can be seen", "`ulimit -c unlimited`; is the disk full?"
            )
        raise NoProcess(
            f"{path} contains no memory but that of mapped files: no object can be seen",
            "The process's /proc/PID/coredump_filter left it out (0x33 is the default and is enough); lldb writes it "
            "with `process save-core --style full FILE`.",
        )
    _check_program(core)
    return _target(core, core.executable, core.pid, "a core file")


def of_snapshot(path: str) -> RecordedTarget:
    """The process of a snapshot. Raises BadSnapshot."""
    return snapshot.opened(path, RUNTIME)


def of_process(pid: int) -> RecordedTarget:
    """A copy of a running process. Raises NoProcess."""
    copy = Copy(pid)
    return _target(copy, copy.executable, pid, "a copy of the running process")


def _target(source: CoreMemory | Copy, executable: str, pid: int | None, what: str) -> RecordedTarget:
    info = TargetInfo(executable, pid, False, f"{NOBODY} ({what})", "")
    return RecordedTarget(info, source, source.threads, RUNTIME, cached=True)


def _check_program(core: CoreMemory) -> None:
    # Without the program nothing else can be said: better than "no symbol".
    try:
        core.open(core.executable).close()
    except OSError as error:
        raise NoProcess(
            f"the program of this core file, {core.executable or 'whose name it lacks'}, cannot be read: "
            f"{error.strerror or error}",
            f"Name it (refdbg {core.path} PROGRAM ...), or its folder tree (refdbg --root FOLDER {core.path} ...).",
        ) from error


class ShellConsole:
    """Standard output; a refusal goes to standard error."""

    def __init__(self) -> None:
        self.colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self.width = shutil.get_terminal_size((120, 24)).columns

    def write(self, text: str) -> None:
        print(text.encode("utf-8", "backslashreplace").decode())

    def refuse(self, text: str) -> None:
        sys.stdout.flush()
        print(text.encode("utf-8", "backslashreplace").decode(), file=sys.stderr)


class RecordedSession:
    """Commands on one RecordedTarget; nothing runs in it."""

    def __init__(self, target: RecordedTarget) -> None:
        self.console: Console = ShellConsole()
        self.on_error: Callable[[str], None] = lambda text: print(f"refdbg: {text}", file=sys.stderr)
        self.busy = False
        self._target = target

    def target(self) -> RecordedTarget:
        return self._target

    def evaluate(self, expression: str) -> int:
        try:
            return int(expression, 0)
        except ValueError:
            pass
        match = _SYMBOL.match(expression.strip())
        if match is None:
            raise NotEvaluated(f"cannot evaluate {expression!r} without a debugger")
        try:
            return self._target.address_of(match[1]) + int(match[2] or "0", 0)
        except SymbolNotFound as error:
            raise NotEvaluated(f"cannot evaluate {expression!r}: {error}") from error

    def break_on(self, functions: Sequence[str], on_hit: OnHit, where: Where = "entry") -> Breakpoint:
        raise NotLive(f"nothing runs here, so nothing can be watched: {self._target.info.debugger}")

    def watch_word(self, address: int, on_change: OnChange) -> Breakpoint | None:
        return None

    def waiting(self) -> list[str]:
        return []

    def has_python(self) -> bool:
        try:
            self._target.address_of(RUNTIME)
        except SymbolNotFound:
            return False
        return True

    def attach(self, pid: int) -> None:
        raise NotLive("an unattended run needs a debugger", "Use refdbg-run.")

    def resume(self) -> Halt:
        raise NotLive("nothing runs here", "Use refdbg-run.")
