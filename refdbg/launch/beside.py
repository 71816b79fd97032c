"""The process beside a debugger that answers a command on a large heap: with the project's own Python, and numpy."""

from __future__ import annotations

import os
import pickle
import sys

from refdbg.commands import answer
from refdbg.cpython.runtime import RUNTIME
from refdbg.errors import RefdbgError
from refdbg.launch.session import RecordedSession


def main() -> None:
    """Reads (Handed, words of the command) from standard input, writes the record, or None where there is none.

    Both pickled: the debugger's Python may be another one, and has numpy of neither.
    """
    handed, words = pickle.load(sys.stdin.buffer)
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        session = RecordedSession(handed.target(RUNTIME))
        record = answer(session, words)
        session.target().images().keep()
    except RefdbgError:
        record = None  # the debugger may know more; else it says why
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    with answers:
        pickle.dump(record, answers, protocol=4)
