"""Writes the options of every command into docs/, from the parsers: python -m tools.document_options

Between `<!-- options of COMMAND -->` and `<!-- end -->` stands what the parser of COMMAND says.
"""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import refdbg.commands
from refdbg.launch import report, run
from refdbg.launch.triage import command as triage

DOCS = Path(__file__).parents[1] / "docs"
_PLACE = re.compile(r"(?<=<!-- options of )([^>]+?)( -->\n).*?(?=<!-- end -->)", re.DOTALL)


def parsers() -> dict[str, argparse.ArgumentParser]:
    """The parser of each command, by the words that call it."""
    found = {"refdbg-run": run.parser(), "refdbg report": report.parser(), "refdbg-triage": triage.parser()}
    for parser in refdbg.commands._all(refdbg.commands.parser()):
        found[parser.prog] = parser
    return found


def options(parser: argparse.ArgumentParser) -> str:
    """What the parser says, as Markdown."""
    return "\n".join(_lines(parser)) + "\n"


def _lines(parser: argparse.ArgumentParser) -> Iterator[str]:
    # Of one's own making: argparse's layout is another one in every second version of Python.
    shown = [action for action in parser._actions if action.help != argparse.SUPPRESS and action.dest != "help"]
    words = [argument(action) for action in shown if not action.option_strings]
    yield ""
    yield f"    {' '.join([parser.prog, '[options]', *words])}"
    yield ""
    described = (parser.description or "").strip()
    if "\n" in described:
        yield from ["```text", *described.splitlines(), "```", ""]
    elif described:
        yield from [*textwrap.wrap(described, 120, break_on_hyphens=False), ""]
    for action in shown:
        if action.help:
            names = [named(option, action) for option in action.option_strings] or [argument(action)]
            text = f"* {', '.join(f'`{name}`' for name in names)}: {action.help}"
            yield from textwrap.wrap(text, 120, subsequent_indent="  ", break_on_hyphens=False)
    if isinstance(parser.formatter_class, type) and issubclass(
        parser.formatter_class, argparse.RawDescriptionHelpFormatter
    ):
        yield from ["", "```text", *(parser.epilog or "").splitlines(), "```"]
    elif parser.epilog:
        yield from ["", *textwrap.wrap(parser.epilog, 120, break_on_hyphens=False)]
    yield ""


def named(option: str, action: argparse.Action) -> str:
    """An option and what it takes."""
    if action.nargs == 0:
        return option
    return f"{option} {action.metavar or '|'.join(map(str, action.choices or ()))}"


def argument(action: argparse.Action) -> str:
    """What a word of the command line stands for."""
    if action.nargs is None:
        return str(action.metavar)
    if action.nargs == "?":
        return f"[{action.metavar}]"
    return f"{action.metavar}…" if action.nargs == "+" else f"[{action.metavar}…]"  # "*", argparse.REMAINDER


def written(page: str, known: dict[str, argparse.ArgumentParser]) -> str:
    """The Markdown *page* with the options as they are. Raises KeyError for a command that there is not."""
    return _PLACE.sub(lambda place: f"{place[1]}{place[2]}{options(known[place[1]])}", page)


def main() -> None:
    """Writes them."""
    known = parsers()
    for path in sorted(DOCS.glob("*.md")):
        path.write_text(written(path.read_text(encoding="utf-8"), known), encoding="utf-8")


if __name__ == "__main__":
    main()
