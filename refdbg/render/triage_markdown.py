"""The summary of many runs (refdbg-triage-summary/1) as Markdown for a comment on GitHub."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from refdbg.render.markdown import folded, plain_text
from refdbg.render.triage import BAD, ended, headline, leaked, numbers, rank, reasons, status, where

_GROUPS = 10
_MORE = 40  # folded
_ROWS = 60  # a comment has at most 65,536 characters


def triage_markdown(record: dict[str, Any]) -> str:
    """The whole text: what is new first, what is known or only possible folded; nothing in it has an effect."""
    return "\n".join(_lines(record)) + "\n"


def _lines(record: dict[str, Any]) -> Iterator[str]:
    first, *rest = headline(record)
    yield f"### refdbg-triage: {plain_text(first)}"
    yield ""
    yield f"**{plain_text('; '.join(rest))}**"
    for note in record["notes"]:
        yield ""
        yield f"Note: {plain_text(note)}"
    groups = [*enumerate(record["groups"], 1)]
    new = [each for each in groups if each[1]["new"]]
    for each in new[:_GROUPS]:
        yield ""
        yield from _group(*each)
    others = [*new[_GROUPS:], *(each for each in groups if not each[1]["new"])]
    if others:
        lines = [line for each in others[:_MORE] for line in [*_group(*each), ""]]
        if len(others) > _MORE:
            lines.append(f"… and {len(others) - _MORE} more (summary.json has all)")
        known = f", {len(groups) - len(new)} known or only possible" if len(new) < len(groups) else ""
        yield from folded(f"{len(others)} more findings{known}", lines)
    rows = sorted(record["rows"], key=rank)
    bad = [row for row in rows if row["outcome"] in BAD or row["unexplained"]]
    if bad:
        yield ""
        yield from (f"- **{plain_text(row['key'])}** {row['outcome']}: {plain_text('; '.join(reasons(row)))}"
                    for row in bad[:_GROUPS])  # fmt: skip
        if len(bad) > _GROUPS:
            yield f"- … and {len(bad) - _GROUPS} more"
    title = f"{_ROWS} of {len(rows)} jobs" if len(rows) > _ROWS else "All jobs"
    yield from folded(title, [*_table(rows)])


def _group(number: int, group: dict[str, Any]) -> Iterator[str]:
    text = plain_text(group["message"].split("\n")[0])
    yield f"**{number}. {group['verdict']}** ({status(group)}, {group['confidence']}): {text}"
    yield ""
    yield plain_text(where(group)[:1].upper() + where(group)[1:])
    yield ""
    yield f"**Fix:** {plain_text(group['fix'])} `{group['signature']}`"


def _table(rows: list[dict[str, Any]]) -> Iterator[str]:
    yield "| job | Python | outcome | exit | findings | references | s |"
    yield "|---|---|---|---|---|---|--:|"
    for row in rows[:_ROWS]:
        seconds = "" if row["seconds"] is None else f"{row['seconds']:.1f}"
        cells = [row["key"], row["python"], row["outcome"], ended(row), numbers(row["groups"]), leaked(row), seconds]
        yield "| " + " | ".join(plain_text(cell).replace("|", "\\|") for cell in cells) + " |"
