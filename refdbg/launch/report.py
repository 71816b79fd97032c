"""`refdbg report FILE.json`: a report that a run has left, in other formats, without the program and anywhere."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any, NoReturn

from refdbg.errors import CommandError, RefdbgError
from refdbg.launch import outputs

_SCHEMA = "refdbg-report/1"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise CommandError(message, "`refdbg report --help` shows the usage.")


def parser() -> argparse.ArgumentParser:
    """The command line of `refdbg report`."""
    root = _Parser(
        prog="refdbg report",
        description="Write the report of an earlier run in other formats. FILE.json is what `refdbg-run --json` has "
        "written, on this machine or another; without an option the report is printed as text.",
    )
    root.add_argument("file", metavar="FILE.json")
    outputs.add_options(root)
    return root


def report(words: Sequence[str]) -> int:
    """The exit status. Raises CommandError, MissingDependency and OSError."""
    orders = parser().parse_args(words)
    files = outputs.files_of(orders)
    if (why_not := outputs.refusal(files)) is not None:
        raise CommandError(why_not)
    record = read(orders.file)
    try:
        if files:
            outputs.write(record, files)
        else:
            print(outputs.rendered(record, "text"), end="")
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise CommandError(
            f"{orders.file} is damaged, or of another refdbg: {type(error).__name__}: {error}",
            "Its schema is refdbg/render/report.schema.json.",
        ) from error
    except OSError as error:
        raise CommandError(f"the report cannot be written: {error}") from error
    return 0


def read(path: str) -> dict[str, Any]:
    """The report in a file. Raises CommandError where there is none."""
    try:
        with open(path, encoding="utf-8") as file:
            record = json.load(file)
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise _no_report(path, f"it is no JSON ({error})") from error
    if not isinstance(record, dict) or (record.get("schema") != _SCHEMA and not isinstance(record.get("error"), str)):
        found = record.get("schema") if isinstance(record, dict) else None
        raise _no_report(path, f"it says {found!r}, not {_SCHEMA!r}" if found else f"it does not say {_SCHEMA!r}")
    return record


def _no_report(path: str, why: str) -> RefdbgError:
    return CommandError(f"{path} is no report of refdbg: {why}", "Such a file is what `refdbg-run --json FILE` writes.")
