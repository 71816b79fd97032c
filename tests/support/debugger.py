"""Runs one program under one debugger, stops it at a marker, and executes refdbg commands there."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
_MARK = "=== refdbg test ==="
_TIMEOUT = 300
_FOR_EACH = """import json
with open({told!r}, encoding="utf-8") as file:
    for line in file:
        gdb.write("\\n{mark}\\n")
        gdb.execute({command!r}.format(**json.loads(line)))"""
# One environment for every run; gdb's own LINES and COLUMNS are unset in the program.
_ENVIRONMENT = {"PATH": os.environ.get("PATH", ""), "LANG": "C.UTF-8", "HOME": os.environ.get("HOME", "/")}


@dataclass(frozen=True)
class Answer:
    """What one command printed."""

    command: str
    text: str

    @property
    def record(self) -> Any:
        """The record of a command with --json."""
        try:
            return json.loads(self.text)
        except ValueError as error:
            raise AssertionError(f"{self.command!r} printed no JSON:\n{self.text}") from error


def run_gdb(
    python: str,
    program: Path | str,
    commands: Sequence[str],
    arguments: Sequence[str] = (),
    *,
    stop_at: str | None = "builtin_ascii",
    told: Path | None = None,
    folder: Path,
) -> list[Answer]:
    """Starts *program* under gdb, stops where it first enters *stop_at*, and gives each command's answer.

    Commands are any of gdb's. With *told*, a file of JSON lines that the program has written by then, each command
    is given once for each line, its {fields} replaced by the line's. *stop_at* None: the program is not started.
    *folder* takes the command file.
    """
    lines = [
        "set width 0",
        "set confirm off",
        "set pagination off",
        "set breakpoint pending on",
        "set disable-randomization on",
        f"source {ROOT}/gdb/refdbg.py",
    ]
    if stop_at is not None:
        lines += [f"break {stop_at}", "run"]
    for command in commands:
        if told is not None:
            lines += ["python", _FOR_EACH.format(told=str(told), command=command, mark=_MARK), "end"]
        else:
            lines += [f"echo \\n{_MARK}\\n", command]
    lines += [f"echo \\n{_MARK}\\n", "kill" if stop_at is not None else ""]
    script = folder / "commands.gdb"
    script.write_text("\n".join(lines) + "\n")
    done = subprocess.run(
        ["gdb", "-nx", "-batch", "-iex", "set auto-load no", "-x", script, "--args", python, str(program), *arguments],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        timeout=_TIMEOUT, check=False, env=_ENVIRONMENT,
    )  # fmt: skip
    given = commands
    if told is not None:
        rows = [json.loads(line) for line in told.read_text().splitlines()]
        given = [command.format(**row) for command in commands for row in rows]
    parts = done.stdout.split(_MARK)
    assert len(parts) == len(given) + 2, f"gdb answered only {len(parts) - 2} commands:\n{done.stdout[-4000:]}"
    return [Answer(command, part.strip()) for command, part in zip(given, parts[1:-1])]
