"""The files that a report is written to: one record, a file for each format that is asked for."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from typing import Any

from refdbg.errors import MissingDependency

# Option → what it writes.
FORMATS = {
    "json": "JSON",
    "text": "text",
    "html": "one HTML page that needs no other file",
    "markdown": "Markdown for a bug report",
    "junit": "JUnit XML: each new leak is a failure",
    "sarif": "SARIF 2.1.0: each finding at its line of C",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """An option FILE for each format."""
    for name, what in FORMATS.items():
        parser.add_argument(f"--{name}", metavar="FILE", help=f"write the report to FILE as {what}")


def files_of(orders: argparse.Namespace) -> dict[str, str]:
    """The files that are asked for, by format."""
    return {name: path for name in FORMATS if (path := getattr(orders, name)) is not None}


def refusal(files: Mapping[str, str]) -> str | None:
    """Why one of the files, by option, cannot be written, as far as can be told without writing it; or None."""
    taken: dict[str, str] = {}
    for name, path in files.items():
        folder = os.path.dirname(os.path.abspath(path))
        if path in ("", "-"):
            return f"--{name} {path!r}: name a file; standard output is the program's"
        if os.path.isdir(path):
            return f"cannot write {path}: it is a folder; name a file in it"
        if os.path.exists(path) and not os.access(path, os.W_OK):
            return f"cannot write {path}: it may not be written"
        if not os.path.exists(path) and not (os.path.isdir(folder) and os.access(folder, os.W_OK)):
            return f"cannot write {path}: {folder} is not a writable folder"
        other = taken.setdefault(os.path.realpath(path), name)
        if other != name and not (os.path.exists(path) and not os.path.isfile(path)):
            return f"--{other} and --{name} name the same file, {path}: each needs its own"
    return None


def write(report: dict[str, Any], files: Mapping[str, str]) -> None:
    """Write the report to all files. Raises OSError, MissingDependency; the other files are written anyway."""
    failed: OSError | MissingDependency | None = None
    for name, path in files.items():
        try:
            text = rendered(report, name)
            # A path or an argument that is not UTF-8 is shown by its bytes.
            with open(path, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
        except (OSError, MissingDependency) as error:
            failed = failed or error
    if failed:
        raise failed


def rendered(report: dict[str, Any], name: str) -> str:
    """The report in one of the formats. Raises MissingDependency."""
    # Each is imported only when it is asked for: the report of a short program must not wait for the others.
    if name == "json":
        return json.dumps(report, indent=1, ensure_ascii=False) + "\n"
    if name == "html":
        from refdbg.render.html import html_text

        return html_text(report)
    if name == "markdown":
        from refdbg.render.markdown import markdown_text

        return markdown_text(report)
    if name == "junit":
        from refdbg.render.junit import junit_text

        return junit_text(report)
    if name == "sarif":
        from refdbg.render.sarif import sarif_text

        return sarif_text(report)
    from refdbg.render.report import report_text

    return report_text(report, 120) + "\n"
