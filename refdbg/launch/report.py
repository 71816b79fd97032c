"""`refdbg report FILE.json`: a report that a run has left, in other formats, without the program and anywhere."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any, NoReturn

from refdbg.errors import CommandError, RefdbgError
from refdbg.launch import outputs
from refdbg.render.dot import write_svg
from refdbg.render.finding_drawing import finding_dot

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
    root.add_argument("--dot", metavar="FILE", help="draw a finding: write Graphviz DOT")
    root.add_argument("--svg", metavar="FILE", help="draw a finding: write SVG (needs Graphviz)")
    root.add_argument("--finding", metavar="N", type=int, default=1, help="the finding to draw (default: the first)")
    return root


def report(words: Sequence[str]) -> int:
    """The exit status. Raises CommandError, MissingDependency and OSError."""
    orders = parser().parse_args(words)
    files = outputs.files_of(orders)
    drawings = {name: path for name in ("dot", "svg") if (path := getattr(orders, name)) is not None}
    if (why_not := outputs.refusal({**files, **drawings})) is not None:
        raise CommandError(why_not)
    record = read(orders.file)
    try:
        outputs.write(record, files)
        if drawings:
            _draw(record, orders.finding, drawings)
        if not files and not drawings:
            print(outputs.rendered(record, "text"), end="")
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise CommandError(
            f"{orders.file} is damaged, or of another refdbg: {type(error).__name__}: {error}",
            "Its schema is refdbg/render/report.schema.json.",
        ) from error
    except OSError as error:
        raise CommandError(f"the report cannot be written: {error}") from error
    return 0


def _draw(record: dict[str, Any], number: int, drawings: dict[str, str]) -> None:
    findings = record.get("findings", [])
    if not 0 < number <= len(findings):
        raise CommandError(f"there is no finding {number}: the report has {len(findings)}")
    if not findings[number - 1].get("graph"):
        raise CommandError(f"finding {number} has no graph")
    text = finding_dot(findings[number - 1])
    if "dot" in drawings:
        with open(drawings["dot"], "w", encoding="utf-8") as file:
            file.write(text)
    if "svg" in drawings:
        write_svg(text, drawings["svg"])


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
