"""`refdbg` in a shell: commands on a core file, a running process or a snapshot, without a debugger."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from typing import NoReturn

from refdbg import __version__
from refdbg.dependencies import ROOT
from refdbg.errors import CommandError, RefdbgError

USAGE = """\
usage: refdbg CORE [PROGRAM] COMMAND...   run a command on a core file; without COMMAND a prompt opens
       refdbg --pid N COMMAND...          ... on a copy of a running process, which is stopped only meanwhile
       refdbg FILE.refdbg COMMAND...      ... on a snapshot, wherever it was taken
       refdbg report FILE.json [--html FILE]...   write the report of refdbg-run --json as text, HTML, Markdown, ...
       refdbg help [COMMAND]              list the commands, or explain one
       refdbg gdbinit | lldbinit          print the line that loads refdbg into every gdb or lldb
       refdbg --version

options, before everything else:
       --root FOLDER                      where the files are that the process of the core file saw below /

The same commands work inside gdb (`source gdb/refdbg.py`) and lldb (`command script import lldb/refdbg_lldb.py`).
To run a program and get a report at its end: refdbg-run PROGRAM ARGUMENTS...
Many programs on many interpreters, with one summary: refdbg-triage JOBS.toml --output FOLDER
"""


_OPTIONS = ("--pid", "--root")


def gdbinit() -> str:
    """The line for a user's gdbinit."""
    return (
        f"python import sys; sys.path.append({ROOT!r}); "
        "from refdbg.commands import complete, run; from refdbg.debuggers.gdb import install; install(run, complete)"
    )


def lldbinit() -> str:
    """The line for a user's lldbinit."""
    return f"command script import {ROOT}/lldb/refdbg_lldb.py"


def main() -> NoReturn:
    """The console script."""
    words = sys.argv[1:]
    if not words or words in (["-h"], ["--help"]):
        print(USAGE, end="")
    elif words[0] == "gdbinit":
        print(gdbinit())
    elif words[0] == "lldbinit":
        print(lldbinit())
    elif words == ["--version"]:
        print(f"refdbg {__version__}")
    else:
        try:
            status = _WORDS.get(words[0], lambda _rest: _on_target(words))(words[1:])
        except RefdbgError as error:
            print(f"refdbg: {error.text()}", file=sys.stderr)
            status = 2
        except KeyboardInterrupt:
            print("refdbg: interrupted", file=sys.stderr)
            status = 130
        except BrokenPipeError:  # `refdbg ... | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            status = 0
        except OSError as error:
            print(f"refdbg: cannot read {error.filename or words[0]}: {error.strerror}", file=sys.stderr)
            status = 2
        raise SystemExit(status)
    raise SystemExit(0)


def _report(words: list[str]) -> int:
    from refdbg.launch.report import report

    return report(words)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise CommandError(message, "`refdbg --help` shows the usage.")


def _help(words: list[str]) -> int:
    from refdbg.commands import help_text

    if words == ["report"]:
        return _report(["--help"])
    print(help_text(words))
    return 0


_WORDS = {"help": _help, "report": _report}  # what needs no process


def _on_target(words: list[str]) -> int:
    from refdbg.commands import nearest, run
    from refdbg.launch.session import RecordedSession, of_core, of_process, of_snapshot

    words = _newest_first(words)
    parser = _Parser(add_help=False)
    parser.add_argument("--pid", type=int)
    parser.add_argument("--root", default="")
    parser.add_argument("rest", nargs=argparse.REMAINDER)
    orders, unknown = parser.parse_known_args(words)
    if unknown:
        raise CommandError(f"there is no option {unknown[0]}{nearest(unknown[0], _OPTIONS)}",
                           "`refdbg --help` shows the usage.")
    rest = orders.rest
    if orders.pid is not None:
        if orders.root:
            raise CommandError("--root is for core files: a process has its files itself")
        session = RecordedSession(of_process(orders.pid))
    else:
        if not rest:
            raise CommandError("no core file or snapshot is named", "`refdbg --help` shows the usage.")
        path = rest.pop(0)
        if not os.path.exists(path):
            _explain_missing(path)
        executable = rest.pop(0) if rest and _is_program(rest[0]) else None
        if _is_snapshot(path):
            if executable or orders.root:
                raise CommandError("a snapshot needs no program and no --root: it has the parts of files it needs")
            session = RecordedSession(of_snapshot(path))
        else:
            session = RecordedSession(of_core(path, executable, orders.root.rstrip("/")))
    if rest and rest[0].partition("=")[0] in _OPTIONS:
        raise CommandError(f"{rest[0]} stands before everything else", "`refdbg --help` shows the usage.")
    try:
        if rest:
            return run(session, shlex.join(rest))
        from refdbg.launch.prompt import prompt

        return prompt(session)
    finally:
        session.target().images().keep()


def _newest_first(words: list[str]) -> list[str]:
    # `refdbg growth A B` for `refdbg B growth A`.
    files = [number for number, word in enumerate(words) if os.path.isfile(word)]
    if words[:1] == ["growth"] and len(files) > 1:
        newest = words[files[-1]]
        return [newest, *words[: files[-1]], *words[files[-1] + 1 :]]
    return words


def _words() -> set[str]:
    # The first words of all commands.
    from refdbg.commands.completion import subcommands

    return {words[0] for words, _help in subcommands()}


def _is_snapshot(path: str) -> bool:
    with open(path, "rb") as file:
        return file.read(2) == b"PK" or path.endswith(".refdbg")


def _explain_missing(path: str) -> NoReturn:
    if path in _words():
        raise CommandError(
            f"{path!r} needs a process to look at",
            f"`refdbg CORE {path}`, `refdbg --pid N {path}`, or inside gdb or lldb: `refdbg {path}`.",
        )
    raise CommandError(f"there is no file {path}", "`refdbg --help` shows the usage.")


def _is_program(word: str) -> bool:
    return word not in _words() and (os.sep in word or os.path.isfile(word))
