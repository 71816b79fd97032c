"""The summary of many runs (refdbg-triage-summary/1) as text and as JUnit XML."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

from refdbg.render.page_tables import shown
from refdbg.render.report import table

_GROUPS = 40
_ROWS = 200
_FEW = 20  # jobs: so many rows are shown even where all is well
_NAMES = 6
_LONGEST = 400  # characters of what an error says
_QUIET = ("clean", "left over")
BAD = ("failed", "not started", "incomplete", "not run")


def triage_text(record: dict[str, Any]) -> str:
    """The whole summary."""
    return "\n".join(shown(line).rstrip() for line in _lines(record)) + "\n"


def headline(record: dict[str, Any]) -> Iterator[str]:
    """How many jobs ended how, and how much is new."""
    number = len(record["rows"])
    shard = f", shard {record['shard'][0]} of {record['shard'][1]}" if record["shard"] else ""
    outcomes = ", ".join(f"{count} {name}" for name, count in record["outcomes"].items())
    yield f"{_counted(number, 'job')} on {_counted(record['interpreters'], 'interpreter')}{shard}: {outcomes}"
    known = sum(group["known"] for group in record["groups"])
    possible = len(record["groups"]) - known - record["new"]
    yield f"{_counted(record['new'], 'new finding')}, {known} known, {possible} only possible" + (
        f"; {_counted(record['unexplained'], 'leak')} that no finding explains" if record["unexplained"] else "")


def where(group: dict[str, Any]) -> str:
    """In how many jobs and builds, of which versions, and where it was seen first."""
    names = ", ".join(group["in"][:_NAMES]) + (" …" if len(group["in"]) > _NAMES else "")
    versions = group["oldest"] if group["oldest"] == group["newest"] else f"{group['oldest']} to {group['newest']}"
    first = group["first_seen"]
    text = f"in {_counted(group['jobs'], 'job')}, {_counted(group['builds'], 'build')}, Python {versions}: {names}"
    if group["jobs"] > 1:
        text += f"; first seen {_time(first['time'])} in {first['job']}"
    return text


def status(group: dict[str, Any]) -> str:
    """New, known, or only possible."""
    return "new" if group["new"] else "known" if group["known"] else "only possible"


def ended(row: dict[str, Any]) -> str:
    """The exit status or the signal of the program."""
    return row["signal"] or ("" if row["exit_status"] is None else str(row["exit_status"]))


def leaked(row: dict[str, Any]) -> str:
    """What each repetition leaks, or what is left over at the end."""
    if row["leaked"]:
        return "; ".join(f"{each['references']} per repetition" for each in row["leaked"][:2])
    return "" if row["left"] is None else f"{row['left']} left over"


def numbers(found: list[int]) -> str:
    """Ascending numbers, those that follow one another as a range."""
    ranges: list[list[int]] = []
    for number in found:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in ranges)


def one_line(text: str) -> str:
    """The beginning and the end of a text of many lines."""
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} … {text[-_LONGEST // 2 :]}"


def reasons(row: dict[str, Any]) -> list[str]:
    """What else is to be said of a job: why it is not whole, what is not explained, that it took two attempts."""
    return [
        *([one_line(row["why"])] if row["why"] else []), *row["unexplained"],
        *(["first attempt: " + one_line(row["failures"][0])] if row["failures"] else []),
    ]  # fmt: skip


def _lines(record: dict[str, Any]) -> Iterator[str]:
    yield from headline(record)
    yield from (f"note: {note}" for note in record["notes"])
    for number, group in enumerate(record["groups"][:_GROUPS], 1):
        yield ""
        yield f"{number}. {status(group)}: {group['verdict']} ({group['confidence']}): {_first(group['message'])}"
        yield f"     {where(group)}"
        yield f"     fix:      {group['fix']}"
        yield f"     signature {group['signature']}"
    if len(record["groups"]) > _GROUPS:
        yield ""
        yield f"… and {len(record['groups']) - _GROUPS} more findings (summary.json has all)"
    rows = record["rows"]
    if len(rows) > _FEW:
        rows = [row for row in rows if row["outcome"] not in _QUIET]
    rows = sorted(rows, key=rank)
    yield ""
    for line, row in zip(_table(rows[:_ROWS]), [None, None, *rows]):
        yield line
        if row is not None:
            yield from (f"      {reason}" for reason in reasons(row))
    if len(rows) > _ROWS:
        yield f"  … and {len(rows) - _ROWS} more (summary.json has all)"
    if len(rows) < len(record["rows"]):
        yield f"  {len(record['rows']) - len(rows)} more without a finding: clean, or only left over"


def _table(rows: list[dict[str, Any]]) -> list[str]:
    return table(
        [[row["key"], row["python"], row["outcome"], ended(row), numbers(row["groups"]),
          leaked(row), "" if row["seconds"] is None else f"{row['seconds']:.1f}"] for row in rows],
        ["job", "Python", "", "exit", "findings", "references", "s"],
        ("left", "left", "left", "right", "left", "left", "right"),
    )  # fmt: skip


def rank(row: dict[str, Any]) -> tuple[int, int]:
    """For an order: what is new first, then what is not known."""
    return (0 if row["new"] else 1 if row["outcome"] in BAD else 2 if row["groups"] else 3), -row["new"]


def triage_junit(record: dict[str, Any]) -> str:
    """The whole document: a suite for each interpreter, a test case for each job.

    A job with something new fails; one that was not watched to its end is an error, a known leak is skipped.
    """
    suites: dict[str, list[ElementTree.Element]] = {}
    for row in record["rows"]:
        suites.setdefault(row["interpreter"], []).append(_case(row, record["groups"]))
    every = [case for cases in suites.values() for case in cases]
    root = ElementTree.Element("testsuites", {"name": "refdbg-triage", **_counts(every)})
    for name, cases in suites.items():
        ElementTree.SubElement(root, "testsuite", {"name": name, **_counts(cases)}).extend(cases)
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _counts(cases: list[ElementTree.Element]) -> dict[str, str]:
    counts = {"tests": str(len(cases))}
    for kind, name in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        counts[name] = str(sum(case.find(kind) is not None for case in cases))
    return counts


def _case(row: dict[str, Any], groups: list[dict[str, Any]]) -> ElementTree.Element:
    job, _, interpreter = row["key"].partition("@")
    case = ElementTree.Element("testcase", {
        "classname": f"refdbg.{interpreter}", "name": job, "time": str(row["seconds"] or 0)})  # fmt: skip
    own = [groups[number - 1] for number in row["groups"]]
    lines = [f"{group['verdict']} ({status(group)}): {group['message']} [{group['signature']}]" for group in own]
    if len(lines) > _FEW:
        lines[_FEW:] = [f"… and {len(lines) - _FEW} more"]
    text = "\n".join(shown(line) for line in [*lines, *row["unexplained"]])
    if row["outcome"] in BAD:
        why = shown(one_line(row["why"] or "it was not run"))
        ElementTree.SubElement(case, "error", {"type": row["outcome"], "message": why}).text = text
    elif row["new"]:
        first = next((group["message"] for group in own if group["new"]), text)
        ElementTree.SubElement(case, "failure", {"type": "leak", "message": shown(_first(first))}).text = text
    elif own:
        ElementTree.SubElement(case, "skipped", {"message": "its findings are known, or only possible"})
    return case


def _first(text: str) -> str:
    return text.split("\n")[0]


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))
