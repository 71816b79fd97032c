"""Writes the man pages, from the parsers: python -m tools.man_pages FOLDER

They say what --help says, and for `refdbg` what each of its commands says.
"""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

from refdbg import __version__
from refdbg.launch import shell
from tools.document_options import argument, named, parsers

_ABOUT = {
    "refdbg": "explain which objects of a CPython process are collected, finalized or left over, and why",
    "refdbg-run": "run a program and report what is collected, finalized and left over",
    "refdbg-triage": "run many programs on many interpreters and sum up what leaks",
}


def pages() -> dict[str, str]:
    """Each page, by the name of its file."""
    known = parsers()
    return {f"{name}.1": "\n".join(_page(name, known)) + "\n" for name in _ABOUT}


def _page(name: str, known: dict[str, argparse.ArgumentParser]) -> Iterator[str]:
    yield f'.TH {_escaped(name.upper())} 1 "" "refdbg {__version__}" "User Commands"'
    # What is laid out by columns stays so, and names of options are not cut in two.
    yield from [".nh", ".ad l", ".SH NAME", _escaped(f"{name} - {_ABOUT[name]}"), ".SH SYNOPSIS"]
    if name in known:
        yield from _verbatim(_usage(known[name].usage or known[name].prog))
        yield from _parser(known[name], ".SH")
    else:
        yield from _verbatim(_usage(shell.USAGE.removeprefix("usage: ")))
        yield ".SH COMMANDS"
        for words, parser in known.items():
            if parser.prog.startswith(f"{name} "):
                yield f".SS {_escaped(words)}"
                yield from _parser(parser, "")
    yield ".SH SEE ALSO"
    others = [f".BR {_escaped(other)} (1)" for other in _ABOUT if other != name]
    yield from [f"{other} ," for other in others[:-1]]
    yield others[-1]


def _parser(parser: argparse.ArgumentParser, heading: str) -> Iterator[str]:
    # *heading*: of its parts; nothing for one of many commands.
    shown = [action for action in parser._actions if action.help != argparse.SUPPRESS and action.dest != "help"]
    if heading:
        yield f"{heading} DESCRIPTION"
    else:
        yield f".B {_escaped(' '.join([parser.prog, '[options]', *map(argument, _positional(shown))]))}"
        yield ".PP"
    description = (parser.description or "").strip()
    yield from _verbatim(description) if "\n" in description else [_escaped(description)]
    described = [action for action in shown if action.help]
    if heading and described:
        yield f"{heading} OPTIONS"
    for action in described:
        names = [named(option, action) for option in action.option_strings] or [argument(action)]
        yield from [".TP", f".B {_escaped(', '.join(names))}", _escaped(str(action.help))]
    if parser.epilog:
        yield f"{heading} NOTES" if heading else ".PP"
        raw = parser.formatter_class is argparse.RawDescriptionHelpFormatter
        yield from _verbatim(parser.epilog) if raw else [_escaped(parser.epilog)]


def _usage(text: str) -> str:
    return text.replace("\n       ", "\n")  # below "usage: "


def _positional(actions: list[argparse.Action]) -> list[argparse.Action]:
    return [action for action in actions if not action.option_strings]


def _verbatim(text: str) -> Iterator[str]:
    yield ".nf"
    yield from (_escaped(line) or ".sp" for line in textwrap.dedent(text).rstrip().splitlines())
    yield ".fi"


def _escaped(text: str) -> str:
    text = text.replace("\\", "\\e").replace("-", "\\-")
    text = re.sub(r"[^\0-\x7f]", lambda found: f"\\[u{ord(found[0]):04X}]", text)
    return re.sub(r"^(?=[.'])", r"\\&", text)


def main() -> None:
    """Writes them."""
    folder = Path(sys.argv[1])
    folder.mkdir(exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
