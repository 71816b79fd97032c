"""The prompt that `refdbg FILE` opens: the commands, with history and completion."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from refdbg.commands import run
from refdbg.launch.session import RecordedSession

_PROMPT = "(refdbg) "
_LEAVE = ("quit", "exit", "q")
_HISTORY_LENGTH = 1000


def prompt(session: RecordedSession) -> int:
    """Read commands until the end of the input or `quit`. Returns the last command's exit status."""
    by_hand = sys.stdin.isatty()
    history = _history() if by_hand else None
    if by_hand:
        _complete(session)
        print(f"{session.target().info.executable}, {session.target().info.debugger}. `help` lists the commands, "
              "Ctrl-D leaves.")
    status = 0
    try:
        while True:
            try:
                line = input(_PROMPT if by_hand else "").strip()
            except KeyboardInterrupt:
                print()
                continue
            except EOFError:
                break
            if line in _LEAVE:
                break
            if line and not line.startswith("#"):
                status = run(session, line.removeprefix("refdbg "))
    finally:
        if history is not None:
            _save(history)
    return status


def _history() -> str:
    import readline

    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    path = os.path.join(state, "refdbg", "history")
    with suppress(OSError):
        readline.read_history_file(path)
    return path


def _save(path: str) -> None:
    import readline

    readline.set_history_length(_HISTORY_LENGTH)
    with suppress(OSError):
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        readline.write_history_file(path)


def _complete(session: RecordedSession) -> None:
    import readline

    from refdbg.commands.completion import candidates
    from refdbg.commands.context import Context

    context = Context.of(session)
    found: list[str] = []

    def next_candidate(_word: str, state: int) -> str | None:
        if state == 0:
            found[:] = candidates(context, readline.get_line_buffer()[: readline.get_endidx()])
        return found[state] if state < len(found) else None

    readline.set_completer_delims(" \t\n")
    readline.set_completer(next_candidate)
    readline.parse_and_bind("tab: complete")
