"""`refdbg` in a shell: how to load it into gdb, and what its commands mean."""

from __future__ import annotations

import sys
from typing import NoReturn

from refdbg import __version__
from refdbg.dependencies import ROOT

_USAGE = """\
usage: refdbg gdbinit            print the line that loads refdbg into every gdb (append it to ~/.gdbinit)
       refdbg help [COMMAND]     list the commands inside gdb, or explain one
       refdbg --version

Inside gdb, after that line or `source gdb/refdbg.py`, the command is `refdbg` too.
To run a program and get a report at its end: refdbg-run PROGRAM ARGUMENTS...
"""


def gdbinit() -> str:
    """The line for a user's gdbinit."""
    return (
        f"python import sys; sys.path.append({ROOT!r}); "
        "from refdbg.commands import complete, run; from refdbg.debuggers.gdb import install; install(run, complete)"
    )


def main() -> NoReturn:
    """The console script."""
    words = sys.argv[1:]
    if words == ["gdbinit"]:
        print(gdbinit())
    elif words == ["--version"]:
        print(f"refdbg {__version__}")
    elif words[:1] == ["help"]:
        from refdbg.commands import help_text

        print(help_text(words[1:]))
    elif not words or words in (["-h"], ["--help"]):
        print(_USAGE, end="")
    else:
        print(f"refdbg: {' '.join(words)!r} works inside gdb only; see `refdbg --help`", file=sys.stderr)
        raise SystemExit(2)
    raise SystemExit(0)
