"""Runs one program under one debugger, stops it at a marker, and executes refdbg commands there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
_MARK = "=== refdbg test ==="
_LLDB_MARK = f"script print('\\n{_MARK}', flush=True)"
_TIMEOUT = 300
_FOR_EACH = """import json
with open({told!r}, encoding="utf-8") as file:
    for line in file:
        print("\\n{mark}", flush=True)
        {execute}({command!r}.format(**json.loads(line)))"""
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
    options: Sequence[str] = (),
    inside: Sequence[str] = (),
) -> list[Answer]:
    """Starts *program* under gdb, stops where it first enters *stop_at*, and gives each command's answer.

    Commands are any of gdb's. With *told*, a file of JSON lines that the program has written by then, each command
    is given once for each line, its {fields} replaced by the line's. *stop_at* None: the program is not started.
    *folder* takes the command file. *options*: the interpreter's. *inside*: what to put before gdb's command line.
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
            loop = _FOR_EACH.format(told=str(told), execute="gdb.execute", command=command, mark=_MARK)
            lines += ["python", loop, "end"]
        else:
            lines += [f"echo \\n{_MARK}\\n", command]
    lines += [f"echo \\n{_MARK}\\n", "kill" if stop_at is not None else ""]
    output = _gdb(lines, ["--args", python, *options, str(program), *arguments], folder, inside)
    return _answers(output, commands, told)


def run_lldb(
    python: str,
    program: Path | str,
    commands: Sequence[str],
    arguments: Sequence[str] = (),
    *,
    stop_at: str | None = "builtin_ascii",
    told: Path | None = None,
    folder: Path,
    inside: Sequence[str] = (),
) -> list[Answer]:
    """The same under lldb; commands are any of lldb's."""
    lines = [f"command script import {ROOT}/lldb/refdbg_lldb.py"]
    if stop_at is not None:
        lines += [f"breakpoint set -n {stop_at}", "process launch"]
    for row, command in enumerate(commands):
        if told is not None:
            loop = _FOR_EACH.format(told=str(told), execute="debugger.HandleCommand", command=command, mark=_MARK)
            script = folder / f"for_each_{row}.py"
            body = "\n".join(f"    {line}" for line in loop.splitlines())
            script.write_text(f"def __lldb_init_module(debugger, names):\n{body}\n")
            lines.append(f"command script import {script}")
        else:
            lines += [_LLDB_MARK, command]
    lines += [_LLDB_MARK, "process kill" if stop_at is not None else ""]
    return _answers(_lldb(lines, ["--", python, str(program), *arguments], folder, inside), commands, told)


def attached(debugger: str, pid: int, commands: Sequence[str], folder: Path) -> list[Answer]:
    """Each command's answer in `gdb -p` or `lldb -p`; the process runs on afterwards."""
    return _asked(debugger, ["-p", str(pid)], commands, folder)


def on_core(
    debugger: str, python: str, core: Path, commands: Sequence[str], folder: Path, inside: Sequence[str] = ()
) -> list[Answer]:
    """Each command's answer on a core file. *inside*: what to put before the debugger's command line."""
    return _asked(debugger, [python, "-c", str(core)], commands, folder, inside)


def remote(debugger: str, python: str, address: str, commands: Sequence[str], folder: Path) -> list[Answer]:
    """Each command's answer on a gdbserver; the first commands may be settings that come before connecting."""
    settings = [command for command in commands if command.startswith("set ")]
    connect = {"gdb": "target remote", "lldb": "gdb-remote"}[debugger]
    leave = [] if debugger == "gdb" else ["detach"]
    given = [*settings, f"{connect} {address}", *(each for each in commands if each not in settings), *leave]
    answers = _asked(debugger, [python], given, folder)
    return answers[: len(settings)] + answers[len(settings) + 1 : len(given) - len(leave)]


def _asked(
    debugger: str, arguments: Sequence[str], commands: Sequence[str], folder: Path, inside: Sequence[str] = ()
) -> list[Answer]:
    run, load, mark = {
        "gdb": (_gdb, f"source {ROOT}/gdb/refdbg.py", f"echo \\n{_MARK}\\n"),
        "lldb": (_lldb, f"command script import {ROOT}/lldb/refdbg_lldb.py", _LLDB_MARK),
    }[debugger]
    lines = [load]
    for command in commands:
        lines += [mark, command]
    return _answers(run([*lines, mark], arguments, folder, inside), commands)


def _gdb(lines: Sequence[str], arguments: Sequence[str], folder: Path, inside: Sequence[str] = ()) -> str:
    script = folder / "commands.gdb"
    script.write_text("\n".join(lines) + "\n")
    done = subprocess.run(
        [*inside, "gdb", "-nx", "-batch", "-iex", "set auto-load no", "-x", script, *arguments],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        timeout=_TIMEOUT, check=False, env=_ENVIRONMENT,
    )  # fmt: skip
    return done.stdout


def lldb() -> str | None:
    """The lldb to test with."""
    return shutil.which("lldb-19") or shutil.which("lldb")


def _lldb(lines: Sequence[str], arguments: Sequence[str], folder: Path, inside: Sequence[str] = ()) -> str:
    script = folder / "commands.lldb"
    script.write_text("\n".join(lines) + "\n")
    program = "lldb" if inside else str(lldb())
    # lldb itself stops at the first command that fails.
    done = subprocess.run(
        [*inside, program, "--no-lldbinit", "--batch", "-o", f"command source -e false {script}", *arguments],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        timeout=_TIMEOUT, check=False, env=_ENVIRONMENT,
    )  # fmt: skip
    # Without the echo of each command, and lldb's complaints about debug info.
    return "\n".join(line for line in done.stdout.splitlines() if not line.startswith(("(lldb) ", "error: ")))


def _answers(output: str, commands: Sequence[str], told: Path | None = None) -> list[Answer]:
    given = commands
    if told is not None:
        rows = [json.loads(line) for line in told.read_text().splitlines()]
        given = [command.format(**row) for command in commands for row in rows]
    parts = output.split(_MARK)
    assert len(parts) == len(given) + 2, f"only {len(parts) - 2} commands were answered:\n{output[-4000:]}"
    return [Answer(command, part.strip()) for command, part in zip(given, parts[1:-1])]
