"""The report as Markdown for a bug report: short, details folded, what comes from the process without any effect."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterator
from html import escape
from typing import Any

from refdbg.render.page_tables import shown
from refdbg.render.repetitions import repetition_lines
from refdbg.render.report import by_type_table, frame_line, headline, is_clean, options_of, unseen

_FINDINGS = 8
_TYPES = 15
_STACK = 20
_LINE = 700  # characters: an issue can have 65,536
_CODE = re.compile(r"`([^`]+)`")
_SPECIAL = re.compile(r"[\\`*_\[\]~$]")
# What GitHub makes something of although it is no Markdown: @name, #1, addresses of the web, :smile:.
_ALIVE = re.compile(r"@|#|://|www\.|:(?=\w+:)")
_LIST = re.compile(r"^([-+=]|\d+(?=[.)]))")


def markdown_text(report: dict[str, Any]) -> str:
    """The whole text; *report* as in the JSON."""
    if "error" in report:
        return "\n".join(["### refdbg could not watch the program", "", *_block(report["error"])]) + "\n"
    return "\n".join(_lines(report)) + "\n"


def _lines(report: dict[str, Any]) -> Iterator[str]:
    target = report["target"]
    suspects = [finding for finding in report["findings"] if finding["explains"]["references"]]
    count = len(suspects)
    known = sum(finding.get("known", False) for finding in suspects)
    yield f"### refdbg: {count or 'no'} leak suspect{'' if count == 1 else 's'}" + (f", {known} known" if known else "")
    yield ""
    yield from _block(shlex.join(target["argv"]))
    yield ""
    traits = ", ".join(name.replace("_", " ") for name, value in target["traits"].items() if value) or "release"
    seen = f"Python {target['python']} ({traits})" if target["python"] else "No CPython was seen"
    ended = f"ended by {target['signal']}" if target["signal"] else f"exit status {target['exit_status']}"
    yield plain_text(f"{seen}, {ended}; {target['debugger']}, refdbg {report['refdbg']}")
    why = unseen(report)
    if why is not None:
        yield ""
        yield f"**Not seen to its end:** {plain_text(why)}"
    yield from _summary(report)
    met: Counter[str] = Counter()
    for number, finding in enumerate(suspects[:_FINDINGS], 1):
        # The advice is the same for each of a kind.
        yield from _finding(number, finding, again=met[finding["verdict"]] > 0)
        met[finding["verdict"]] += 1
    if count > _FINDINGS:
        rest = sum(finding["explains"]["references"] for finding in suspects[_FINDINGS:])
        yield ""
        yield f"… and {count - _FINDINGS} more findings that explain {rest} references."
    if is_clean(report):
        yield ""
        yield "Nothing is left over."
    for end in report["interpreters"]:
        if end["left_over"] and end["left_over"]["objects"]:
            left = end["left_over"]
            title = f"Interpreter {end['id']}: {left['objects']} objects, {left['references']} references are left over"
            yield from folded(title, _block("\n".join(by_type_table(left["by_type"], _TYPES))))
    crash = target["crash"]
    if crash:
        stacks = [frame_line(frame) for frame in crash["python"][:_STACK]] or ["(no Python frame)"]
        stacks += [
            "",
            *(
                f"{frame['function']} ({frame['file'] or '?'}:{frame['line'] or '?'})"
                for frame in crash["native"][:_STACK]
            ),
        ]
        yield from folded(f"{crash['signal']}: Python and C stack", _block("\n".join(stacks)))
    again = shlex.join(["refdbg-run", *options_of(report), *target["argv"]])
    facts = f"{again}\n\nexecutable: {target['executable']}\nbuild id:   {target['build_id'] or 'not known'}"
    yield from folded("How to reproduce", _block(facts))


def _summary(report: dict[str, Any]) -> Iterator[str]:
    for each in report.get("repetitions", ()):
        first, *rest = [line.strip() for line in repetition_lines(each, report["findings"]) if line.strip()]
        yield ""
        yield f"**{plain_text(first)}**"
        yield ""
        yield from (f"- {plain_text(line)}" for line in rest[:8])
    lines = [line.strip() for line in headline(report)]
    if lines:
        yield ""
        yield f"**{plain_text(lines[0])}**"
        yield ""
        yield from (f"- {plain_text(line)}" for line in lines[1:])
    remaining = ((report.get("blame") or {}).get("result") or {}).get("balance", {}).get("remaining", [])
    if remaining:
        yield ""
        yield f"**Who took the reference:** {plain_text(report['blame']['why'])}"
        yield ""
        for each in remaining[:5]:
            site = each["site"]
            where = f"{site['file']}:{site['line'] or '?'}" if site["file"] else site["library"] or "no debug info"
            yield f"- {each['references']:+} in {plain_text(site['function'])} ({plain_text(where)})"


def _finding(number: int, finding: dict[str, Any], again: bool) -> Iterator[str]:
    # *again*: one of this kind was shown; its advice is folded.
    fix = f"**Fix:** {plain_text(finding['fix'])}"
    known = "known, " if finding.get("known") else ""
    yield ""
    yield f"**{number}. {finding['verdict']}** ({known}{finding['confidence']}): {plain_text(finding['message'])}"
    if not again:
        yield ""
        yield fix
    if finding["repetitions"] > 1:
        yield ""
        yield f"In {finding['repetitions']} interpreters, here the numbers of interpreter {finding['interpreter']}."
    yield from folded(
        f"Evidence, and what to look at next ({finding['signature']})",
        [
            *([fix, ""] if again else []),
            *(f"- {plain_text(each['text'])}" for each in finding["evidence"]),
            "",
            *_block(finding["next"]),
        ],
    )


def plain_text(text: str) -> str:
    """Text as Markdown that shows just that, on one line: no markup, no HTML, no mention, no link to an issue.

    What stands between backticks is code.
    """
    text = " ".join(shown(text).split())
    text = text if len(text) <= _LINE else f"{text[: _LINE - 1]}…"
    parts = _CODE.split(text)
    return "".join(f"`{part}`" if number % 2 else _escaped(part) for number, part in enumerate(parts))


def _escaped(text: str) -> str:
    text = _SPECIAL.sub(r"\\\g<0>", escape(text, quote=False))
    return _ALIVE.sub(r"\g<0><!-- -->", _LIST.sub(r"\1<!-- -->", text))


def _block(text: str) -> list[str]:
    # A fence that is longer than any run of backticks inside.
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(longest + 1, 3)
    return [f"{fence}text", *(shown(line) for line in text.split("\n")), fence]


def folded(title: str, lines: list[str]) -> Iterator[str]:
    """Lines of Markdown that show when their title is clicked."""
    yield ""
    yield f"<details><summary>{escape(title)}</summary>"
    yield ""
    yield from lines
    yield ""
    yield "</details>"
