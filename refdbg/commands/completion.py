"""What may follow on a line that is being typed: subcommands, options, their values, type names."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence

from refdbg.commands.context import Context
from refdbg.cpython import describe
from refdbg.errors import RefdbgError


def candidates(context: Context, line: str) -> list[str]:
    """The words that may stand in place of the last one, which ends at the cursor. *line*: what follows `refdbg`."""
    from refdbg.commands import parser

    *before, start = line.split() if line and not line[-1].isspace() else [*line.split(), ""]
    reached, rest = _reached(parser(), before)
    return sorted(word for word in _following(context, reached, rest, start) if word.startswith(start))


def _reached(parser: argparse.ArgumentParser, words: Sequence[str]) -> tuple[argparse.ArgumentParser, list[str]]:
    # The parser of the subcommand that the words name, and the words that are its arguments.
    rest = list(words)
    while rest:
        inner = _subparsers(parser).get(rest[0])
        if inner is None:
            break
        parser = inner
        del rest[0]
    return parser, rest


def _subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    return {
        name: inner for action in parser._actions if isinstance(action, argparse._SubParsersAction)
        for name, inner in action.choices.items()
    }  # fmt: skip


def _following(context: Context, parser: argparse.ArgumentParser, rest: list[str], start: str) -> Iterable[str]:
    from refdbg.commands import parser as root

    if start.startswith("-"):
        shown = [action for action in parser._actions if action.help is not argparse.SUPPRESS]
        return [option for action in shown for option in action.option_strings if option.startswith("--")]
    options = {option: action for action in parser._actions for option in action.option_strings}
    last = options.get(rest[-1]) if rest else None
    if last is not None and last.nargs != 0:
        return _values(context, last)
    if not rest and _subparsers(parser):
        return _subparsers(parser)
    if parser.prog.endswith(" help"):
        return _subparsers(_reached(root(), rest)[0])
    return [word for action in parser._actions if not action.option_strings for word in _values(context, action)]


def _values(context: Context, action: argparse.Action) -> Iterable[str]:
    if action.choices is not None:
        return [str(choice) for choice in action.choices]
    metavar = action.metavar if isinstance(action.metavar, str) else ""
    return _types(context) if action.dest == "type" or metavar.startswith("TYPE") else ()


def _types(context: Context) -> list[str]:
    # By the subclass lists alone: no walk over the heap while somebody types.
    try:
        stop = context.stop
        known = context.state.get("completion")
        if isinstance(known, tuple) and known[0] is stop:
            return list(known[1])
        base = stop.runtime.target.address_of("PyBaseObject_Type")
        names = [stop.texts.type_name(type_) for type_ in (base, *describe.subclasses(stop, base))]
    except RefdbgError:
        return []  # no process, no Python
    context.state["completion"] = (stop, names)
    return names


def subcommands() -> list[tuple[tuple[str, ...], str]]:
    """Every subcommand (its words) and what it does in a line; of a group itself, too."""
    from refdbg.commands import parser

    found: list[tuple[tuple[str, ...], str]] = []

    def add(parser: argparse.ArgumentParser, words: tuple[str, ...]) -> None:
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                helps = {each.dest: each.help or "" for each in action._choices_actions}
                for name, inner in action.choices.items():
                    found.append(((*words, name), helps.get(name, "")))
                    add(inner, (*words, name))

    add(parser(), ())
    return found
