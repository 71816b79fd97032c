"""A job file of a CPython's own tests."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Sequence

from refdbg.errors import CommandError

_SECONDS = 120.0
_HEAD = """\
# Each test module of CPython for leaks, as `python -m test -R 3:3` looks for them. Run it:
#   refdbg-triage THIS_FILE.toml --output RESULTS
"""


def job_file(pythons: Sequence[str]) -> Iterator[str]:
    """The lines of a job file with the tests that each interpreter lists. Raises CommandError."""
    tests: dict[str, list[str]] = {}
    names = _names(pythons)
    for name, python in names.items():
        for test in _listed(python):
            tests.setdefault(test, []).append(name)
    yield _HEAD
    yield "[interpreters]"
    yield from (f"{json.dumps(name)} = {json.dumps(python)}" for name, python in names.items())
    yield "\n[defaults]"
    yield 'options = ["--refleak"]'
    yield "timeout = 3600"
    for test, having in tests.items():
        yield f'\n[[job]]\nname = "{test}"'
        if len(having) < len(names):
            yield f"interpreters = {json.dumps(having)}"
        yield f'arguments = ["-m", "test", "-R", "3:3", "{test}"]'


def _names(pythons: Sequence[str]) -> dict[str, str]:
    # Each by its version; where two have the same, numbered.
    names: dict[str, str] = {}
    for python in pythons:
        code = "import sys; print('.'.join(map(str, sys.version_info[:3])) + getattr(sys, 'abiflags', ''))"
        version = _asked(python, "-c", code).strip()
        number = 2
        name = version
        while name in names:
            name, number = f"{version}-{number}", number + 1
        names[name] = os.path.abspath(python) if os.sep in python else python
    return names


def _listed(python: str) -> list[str]:
    found = [line.strip() for line in _asked(python, "-m", "test", "--list-tests").splitlines()]
    tests = [line for line in found if line.replace(".", "_").isidentifier()]
    if not tests:
        raise CommandError(f"{python} -m test --list-tests lists no test")
    return tests


def _asked(python: str, *arguments: str) -> str:
    try:
        done = subprocess.run(
            [python, *arguments], stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=False,
            encoding="utf-8", errors="replace",
        )  # fmt: skip
    except OSError as error:
        raise CommandError(f"{python} cannot be started: {error.strerror}", "Name a python executable.") from error
    except subprocess.TimeoutExpired as error:
        raise CommandError(f"{python} {' '.join(arguments)} took more than {_SECONDS:g} s", "") from error
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["(nothing)"]
        raise CommandError(
            f"{python} {' '.join(arguments)} ended with {done.returncode}: {said[-1]}",
            "It needs its test package (Debian: libpython3.11-testsuite).",
        )
    return done.stdout
