"""Runs programs with and without refdbg-run, and checks every report against its schema."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema

import refdbg.render

ROOT = Path(__file__).parents[2]
SCHEMA = Path(refdbg.render.__file__).with_name("report.schema.json")
TIMEOUT = 120
# One environment for every run: reference totals depend on it.
ENVIRONMENT = {"PATH": os.environ.get("PATH", ""), "LANG": "C.UTF-8", "HOME": os.environ.get("HOME", "/")}


def refdbg_run(*options: str) -> list[str]:
    """The command line of refdbg-run, to be followed by the program's."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from refdbg.launch.run import main; main()"
    return [sys.executable, "-c", code, *options]


@cache
def _validator() -> jsonschema.Draft202012Validator:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def validated(text: str | bytes) -> dict[str, Any]:
    """The report that *text* is; fails when it does not match the schema."""
    report: dict[str, Any] = json.loads(text)
    errors = []
    for error in _validator().iter_errors(report):
        # Of the two forms that a report can have, the one that it is meant to have.
        inner = [one for one in error.context or () if one.relative_schema_path[0] == int("error" in report)]
        errors += [f"{one.json_path}: {one.message}"[:400] for one in inner or [error]]
    assert not errors, "\n".join(errors[:10])
    return report


@dataclass(frozen=True)
class Ended:
    """How a program ended. *status*: as in subprocess, negative for a signal. *report*: {} of a plain run."""

    status: int
    out: bytes
    err: bytes
    report: dict[str, Any]

    @property
    def plain(self) -> tuple[int, bytes, bytes]:
        """All that a wrapper must not change."""
        return self.status, self.out, self.err


def run(
    program: Sequence[str | Path],
    options: Sequence[str] = (),
    *,
    wrapped: bool = True,
    input: bytes = b"",
    env: Mapping[str, str] | None = None,
    inside: Sequence[str] = (),
    **more: Any,
) -> Ended:
    """Run *program* to its end; under refdbg-run with a JSON report unless *wrapped* is False.

    *inside*: what to put before the command line.
    """
    env = ENVIRONMENT if env is None else env
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "report.json"
        wrapper = refdbg_run("--json", str(file), *options) if wrapped else []
        command = [*inside, *wrapper, *(str(word) for word in program)]
        done = subprocess.run(command, input=input, capture_output=True, env=env, timeout=TIMEOUT, check=False, **more)
        report = validated(file.read_bytes()) if file.exists() else {}
    return Ended(done.returncode, done.stdout, done.stderr, report)


def both(program: Sequence[str | Path], **more: Any) -> tuple[Ended, Ended]:
    """The program's plain run, and the one under refdbg-run."""
    return run(program, wrapped=False, **more), run(program, **more)


def printed_total(ended: Ended) -> int:
    """The last total that a debug build printed (-X showrefcount)."""
    lines = [line for line in ended.err.decode().splitlines() if line.startswith("[") and " refs, " in line]
    assert lines, f"no total in {ended.err!r}, status {ended.status}"
    return int(lines[-1][1:].split()[0])


class Running:
    """A program that is still running: it says by a line on its standard output when it is ready."""

    def __init__(self, program: Sequence[str | Path], file: Path | None = None, **more: Any) -> None:
        """*file*: where refdbg-run writes its report; None: a plain run."""
        command = [str(word) for word in program]
        if file is not None:
            command = [*refdbg_run("--json", str(file)), *command]
        more.setdefault("env", ENVIRONMENT)
        self._file = file
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more
        )

    def line(self) -> str:
        """The next line that the program prints."""
        assert self.process.stdout is not None
        line: bytes = self.process.stdout.readline()
        if not line:
            _, err = self.process.communicate(timeout=TIMEOUT)
            raise AssertionError(f"the program ended with {self.process.returncode}: {err.decode()}")
        return line.decode().rstrip("\n")

    def write(self, text: str) -> None:
        """Give the program a line of input."""
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode() + b"\n")
        self.process.stdin.flush()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to what was started: refdbg-run where there is one."""
        self.process.send_signal(number)

    def end(self) -> Ended:
        """Close its input and wait for its end."""
        out, err = self.process.communicate(timeout=TIMEOUT)
        report = validated(self._file.read_bytes()) if self._file and self._file.exists() else {}
        return Ended(self.process.returncode, out, err, report)


Launch = Callable[..., Running]


def types_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Objects by type name, of a by_type table."""
    return {row["type"]: row["objects"] for row in rows}
