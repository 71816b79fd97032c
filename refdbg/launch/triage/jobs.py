"""The job file, TOML, and the jobs that it stands for."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from refdbg.errors import RefdbgError
from refdbg.launch import outputs

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}")
_SIZE = re.compile(r"(\d+)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
# Options of refdbg-run that a job may not have: what they do, triage does, or they belong to one run only.
_OURS = (*(f"--{name}" for name in outputs.FORMATS), "--timeout", "--baseline", "--update-baseline",
         "--error-exitcode", "--bisect-run", "--version", "--help", "-h")  # fmt: skip
_HEADER = re.compile(r"\s*(\[\[?)\s*([^\]]+?)\s*\]\]?\s*(#.*)?$")


class BadJobs(RefdbgError):
    """A job file that cannot be used."""

    hint = "`refdbg-triage --help` shows what a job file has."


@dataclass(frozen=True)
class Job:
    """One run of refdbg-run, as the file says it: paths are not resolved. *memory*: bytes."""

    name: str
    interpreter: str
    python: str
    arguments: tuple[str, ...]
    options: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str | None
    timeout: float | None
    memory: int | None

    @property
    def key(self) -> str:
        """The name of its results; no other job of the file has it."""
        return f"{self.name}@{self.interpreter}"

    def record(self) -> dict[str, Any]:
        """It as JSON can have it."""
        return {name: value for name, value in asdict(self).items() if value}


def job_of(record: Mapping[str, Any]) -> Job:
    """The job that has this record. Raises KeyError."""
    return Job(
        record["name"], record["interpreter"], record["python"], tuple(record.get("arguments", ())),
        tuple(record.get("options", ())), record.get("env", {}), record.get("cwd"), record.get("timeout"),
        record.get("memory"),
    )  # fmt: skip


def read(path: str) -> Iterator[Job]:
    """The jobs of a file, in its order, each for all of its interpreters. Raises BadJobs before the first one."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
        document = tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise BadJobs(f"the job file {path} cannot be read: {error}", "It is a TOML file in UTF-8.") from error
    except tomllib.TOMLDecodeError as error:
        raise BadJobs(f"{path} is no TOML: {error}") from error
    checked = _Checked(path, text, document)
    return checked.jobs()


class _Checked:
    # A job file that was found to be right, with the lines of its parts for what was not.
    def __init__(self, path: str, text: str, document: dict[str, Any]) -> None:
        self._path = path
        self._lines = _Lines(text)
        self._only(document, ("interpreters", "defaults", "job"), "", 0)
        self._interpreters = self._table(document, "interpreters")
        if not self._interpreters:
            raise BadJobs(f"{path} names no interpreter", 'It needs [interpreters] with lines like debug = "./python".')
        for name, python in self._interpreters.items():
            self._named(name, "interpreters", 0)
            if not isinstance(python, str) or not python:
                self._bad("interpreters", 0, name, "is no path of an interpreter")
        self._defaults = self._table(document, "defaults")
        self._section(self._defaults, "defaults", 0)
        self._jobs = document.get("job", [])
        if not isinstance(self._jobs, list) or not all(isinstance(each, dict) for each in self._jobs):
            self._bad("", 0, "job", "is not made of [[job]] tables")
        if not self._jobs:
            raise BadJobs(f"{path} has no [[job]]")
        self._lines.expect("job", len(self._jobs))
        met: dict[str, int] = {}
        for number, job in enumerate(self._jobs):
            self._section(job, "job", number)
            if "name" not in job:
                self._bad("job", number, "", "has no name")
            self._named(job["name"], "job", number, "name")
            if not any("arguments" in each for each in (job, self._defaults)):
                self._bad("job", number, "", "has no arguments")
            first = met.setdefault(job["name"], number)
            if first != number:
                where = self._lines.of("job", first, "name")
                self._bad("job", number, "name", f"is {job['name']!r}, which " + (
                    f"the job in line {where} has already" if where else f"job {first + 1} has already"))

    def jobs(self) -> Iterator[Job]:
        """One by one."""
        defaults = self._defaults
        for job in self._jobs:
            both = {**defaults, **job, "env": {**defaults.get("env", {}), **job.get("env", {})}}
            for interpreter in both.get("interpreters", self._interpreters):
                yield Job(
                    job["name"], interpreter, self._interpreters[interpreter],
                    tuple(both["arguments"]), tuple(both.get("options", ())),
                    both["env"], both.get("cwd"), both.get("timeout"), _bytes(both.get("memory")),
                )  # fmt: skip

    def _table(self, document: dict[str, Any], name: str) -> dict[str, Any]:
        found = document.get(name, {})
        if not isinstance(found, dict):
            self._bad("", 0, name, f"is no table: write [{name}]")
        return dict(found)

    def _section(self, table: dict[str, Any], section: str, number: int) -> None:
        # [defaults], or a [[job]].
        keys = ("interpreters", "arguments", "options", "env", "cwd", "timeout", "memory")
        self._only(table, keys if section == "defaults" else ("name", *keys), section, number)
        for key in ("interpreters", "arguments", "options"):
            if key in table and not _are_texts(table[key]):
                self._bad(section, number, key, 'is no list of texts, like ["-c", "pass"]')
        for name in table.get("interpreters", ()):
            if name not in self._interpreters:
                self._bad(section, number, "interpreters", f"names {name!r}, which [interpreters] has not")
        if len(set(table.get("interpreters", ()))) != len(table.get("interpreters", ())):
            self._bad(section, number, "interpreters", "names one twice")
        for option in table.get("options", ()):
            if option.split("=")[0] in _OURS:
                self._bad(section, number, "options", f"has {option}, which is not for a job of many")
        env = table.get("env", {})
        if not isinstance(env, dict) or not _are_texts([*env.values()]):
            self._bad(section, number, "env", 'is no table of texts, like {PYTHONHASHSEED = "0"}')
        if any("=" in name or "\0" in name + value for name, value in env.items()):
            self._bad(section, number, "env", "has a name with a = or a NUL in it")
        if not isinstance(table.get("cwd", ""), str):
            self._bad(section, number, "cwd", "is no path")
        seconds = table.get("timeout", 1)
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds < 1e9:
            self._bad(section, number, "timeout", "is no number of seconds")
        try:
            _bytes(table.get("memory"))
        except ValueError:
            self._bad(section, number, "memory", 'is no size: a number of bytes, or "500M", "4G"')

    def _only(self, table: Iterable[str], keys: Sequence[str], section: str, number: int) -> None:
        for key in table:
            if key not in keys:
                self._bad(section, number, key, f"is not known here; there are {', '.join(keys)}")

    def _named(self, name: Any, section: str, number: int, key: str = "") -> None:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            self._bad(section, number, key or str(name), f"{'is' if key else 'is a name that is'} not made of letters, "
                      "digits and _ . + - (at most 100): it names files")  # fmt: skip

    def _bad(self, section: str, number: int, key: str, what: str) -> None:
        line = self._lines.of(section, number, key)
        table = f"job {number + 1}" if section == "job" else f"[{section}]" if section else ""
        where = ", ".join(filter(None, [self._path, f"line {line}" if line else "", table]))
        raise BadJobs(f"{where}: {key + ' ' if key else ''}{what}")


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) and "\0" not in each for each in value)


def _bytes(value: Any) -> int | None:
    if value is None:
        return None
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    size = int(match[1]) * _UNITS[match[2].upper()] if match else value
    if isinstance(size, bool) or not isinstance(size, int) or size <= 0:
        raise ValueError(value)
    return size


class _Lines:
    # Where tables and keys stand, for messages: TOML parsers keep no lines.
    def __init__(self, text: str) -> None:
        self._text = text.splitlines()
        self._headers = [
            (number, match[2].replace('"', "").replace("'", "").replace(" ", ""), match[1] == "[[")
            for number, line in enumerate(self._text, 1) if (match := _HEADER.match(line))
        ]
        self._trusted = True

    def expect(self, section: str, count: int) -> None:
        """A text over several lines may contain what looks like a header: then better no line than a wrong one."""
        self._trusted = len(self._starts(section)) == count

    def of(self, section: str, number: int, key: str) -> int | None:
        """The line of a key in the table, of the table where the key has none, None where that is not known."""
        if not self._trusted:
            return None
        starts = self._starts(section) if section else [0]
        if number >= len(starts):
            return None
        end = next((line for line, _, _ in self._headers if line > starts[number]), len(self._text) + 1)
        assigned = re.compile(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[.=]")
        for line in range(starts[number] + 1, end):
            if key and assigned.match(self._text[line - 1]):
                return line
        below = f"{section}.{key}" if section else key  # [job.env]
        for line, name, _ in self._headers:
            following = starts[number + 1] if number + 1 < len(starts) else len(self._text) + 1
            if name == below and starts[number] < line < following:
                return line
        return starts[number] or None

    def _starts(self, section: str) -> list[int]:
        return [line for line, name, many in self._headers if name == section and many == (section == "job")]
