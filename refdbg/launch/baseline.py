"""Known leaks: a text file with the signature of one in each line, and what a run adds to them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from refdbg.errors import RefdbgError

_SIGNATURE = re.compile(r"[a-z-]+:[0-9a-f]{12}(-\d+)?")
_HEAD = "# Known leaks, one signature a line (refdbg-run --baseline FILE). What follows a # is a comment.\n"


class BadBaseline(RefdbgError):
    """A baseline file that cannot be used."""


def is_signature(text: str) -> bool:
    """Whether it looks like what a finding prints as its signature."""
    return _SIGNATURE.fullmatch(text) is not None


def read(path: str) -> frozenset[str]:
    """The signatures in the file. Raises BadBaseline."""
    found = set()
    try:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                text = line.partition("#")[0].strip()
                if text and not is_signature(text):
                    raise BadBaseline(
                        f"{path}, line {number}: {text[:60]!r} is no signature",
                        "A line is what a finding prints as its signature (missing-visit:0a3d1a5dcbd1), then a # and "
                        "any comment.",
                    )
                found.add(text)
    except FileNotFoundError as error:
        raise BadBaseline(f"there is no baseline {path}", "Make it with --update-baseline.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise BadBaseline(f"the baseline {path} cannot be read: {error}", "It is a text file in UTF-8.") from error
    return frozenset(found - {""})


def new_leaks(report: Mapping[str, Any], known: frozenset[str]) -> list[dict[str, Any]]:
    """The findings that are not *known*, but for those that are only possible: a guess must not fail a build."""
    return [
        finding for finding in report.get("findings", ())
        if finding["signature"] not in known and finding["confidence"] != "possible"
    ]


def update(path: str, report: Mapping[str, Any]) -> int:
    """Add the findings of a report to the file, which is made where it is missing; what stands there stays.

    Returns how many were added. Raises BadBaseline.
    """
    exists = os.path.exists(path)
    added = new_leaks(report, read(path) if exists else frozenset())
    lines = [f"{finding['signature']}  # {' '.join(finding['message'].split())}\n" for finding in added]
    try:
        old = ""
        if exists:
            with open(path, encoding="utf-8") as file:
                old = file.read()
            old += "" if old.endswith("\n") or not old else "\n"
        with open(f"{path}.new", "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write((old or _HEAD) + "".join(lines))
        os.replace(f"{path}.new", path)
    except OSError as error:
        raise BadBaseline(f"the baseline {path} cannot be written: {error.strerror}", "Is the folder there?") from error
    return len(added)
