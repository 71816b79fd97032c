"""`python -m tests.matrix`: prints the tables; exits with 1 when an answer is wrong.

Every interpreter that the tests know, under gdb and lldb: those of tests/cpython/build, Debian's, pyenv's, those in
the root of Debian sid, and those that REFDBG_PYTHONS names (a path list). Then the leaks of CPython's history.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from tabulate import tabulate

from tests.conftest import BUILD, built
from tests.live.test_leaks import CASES, PROGRAMS
from tests.live.test_release import PYENV
from tests.matrix import Row, first_findings, looked_at
from tests.support import sid
from tests.support.containers import ContainerError
from tests.support.run import ENVIRONMENT, run

BUILT = ("3.9", "3.11", "3.11-trace-refs", "3.13", "3.13t", "3.14t", "3.13-release", "3.13t-release")
DEBUGGERS = ("gdb", "lldb")
WIDTH = 60


def interpreters() -> Iterator[tuple[str, str, list[str]]]:
    """(name, path, what to put before a command line) of each."""
    apt = shutil.which("python3.11-dbg")
    if apt:
        yield "python3.11-dbg", apt, []
    for name in BUILT:
        path = built(name)
        if path is None:
            print(f"no {name}: run {BUILD} {name}", file=sys.stderr)
        else:
            yield name, path, []
    for python in PYENV:
        yield f"pyenv {python.parents[1].name}", str(python), []
    for named in filter(None, os.environ.get("REFDBG_PYTHONS", "").split(os.pathsep)):
        yield Path(named).name, named, []
    try:
        inside = sid.inside(sid.provide())
    except ContainerError as error:
        print(f"no root of Debian sid: {error}", file=sys.stderr)
        return
    for name in sid.PYTHONS:
        yield f"sid {name}", f"/usr/bin/{name}", inside


def shown(row: Row) -> list[str]:
    """The row's cells."""
    unknown = "not asked"
    return [
        row.interpreter, row.python, row.debugger,
        unknown if row.tracked is None else f"{row.tracked:+}",
        unknown if row.frames is None else "same" if row.frames else "DIFFER",
        f"{row.left_over}", "none" if row.printed is None else f"{row.printed}",
        "" if row.printed is None else f"{row.printed - (row.attributed or 0)}", row.lost or "MISSED",
    ]  # fmt: skip


def main() -> int:
    """Print both tables."""
    rows, wrong = [], 0
    for name, python, inside in interpreters():
        for debugger in DEBUGGERS:
            print(f"{name} under {debugger}", file=sys.stderr, flush=True)
            try:
                row = looked_at(name, python, debugger, inside)
            except Exception as error:  # one that fails is a row, too
                rows.append([name, "", debugger, f"FAILED: {str(error).splitlines()[0][:WIDTH]}"])
                wrong += 1
            else:
                rows.append(shown(row))
                wrong += not row.good
    print(tabulate(rows, [
        "interpreter", "Python", "debugger", "tracked", "frames", "left over", "printed total", "unattributed", "lost",
    ], disable_numparse=True))  # fmt: skip
    print()
    rows = []
    for build, program, expected in CASES:
        python = built(f"3.11-leak-{build}")
        for debugger in DEBUGGERS if python else ():
            ended = run([str(python), PROGRAMS / program], ["--debugger", debugger],
                        env={**ENVIRONMENT, "PYTHONHASHSEED": "0"})
            first = next(first_findings(ended.report), "")
            verdict, words = expected[0]
            right = first.startswith(verdict) and words in first
            rows.append([build, ended.report["target"]["debugger"], "yes" if right else "NO", first[:WIDTH]])
            wrong += not right
    print(tabulate(rows, ["leak put back", "debugger", "as expected", "first finding"]))
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
