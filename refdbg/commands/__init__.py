"""The words the user types: `refdbg SUBCOMMAND …`, the same in every debugger."""

from __future__ import annotations

import argparse
import shlex
import sys
import traceback
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from refdbg.commands.context import Context
from refdbg.commands.progress import progress
from refdbg.errors import CommandError, RefdbgError
from refdbg.target import Session

Run = Callable[[Context, argparse.Namespace], Any]


class _Parser(argparse.ArgumentParser):
    # Raises instead of ending the debugger.
    def error(self, message: str) -> NoReturn:
        raise CommandError(message, self.format_usage().strip())

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        raise _Done(message or "")

    def print_help(self, file: Any = None) -> None:
        raise _Done(self.format_help().rstrip())


class _Done(Exception):
    pass


def parser() -> argparse.ArgumentParser:
    """The parser of every subcommand; its `run` default is the function that executes it."""
    # Imported here: each module costs start-up time of every run under the debugger.
    from refdbg.commands import collections, frames, graph, growth, heap, inspect, leaks, snapshot, traverse, watch

    root = _Parser(prog="refdbg", description="What a CPython process collects, finalizes and leaves over – and why.")
    subcommands = root.add_subparsers(dest="command", metavar="COMMAND", required=True)
    help_ = subcommands.add_parser("help", help="list the commands, or explain one")
    help_.add_argument("words", nargs="*", metavar="COMMAND")
    help_.set_defaults(run=lambda _context, arguments: root.parse_args([*arguments.words, "--help"]))
    for module in (leaks, inspect, heap, graph, frames, collections, traverse, growth, snapshot, watch):
        module.add_commands(subcommands)
    for action in _choices(root):  # one sentence is better than none
        for name, subparser in action.choices.items():
            told = next((each.help for each in action._choices_actions if each.dest == name), None)
            subparser.description = subparser.description or (f"{told[0].upper()}{told[1:]}." if told else None)
    for subparser in _all(root):
        subparser.add_argument("--json", action="store_true", help="print the record as JSON")
        subparser.add_argument("--debug", action="store_true", help=argparse.SUPPRESS)
    return root


def help_text(words: list[str]) -> str:
    """What `refdbg help WORDS` says. An unknown word is explained too."""
    try:
        parser().parse_args([*words, "--help"])
    except _Done as done:
        return str(done)
    except CommandError as error:
        return error.text()
    return ""


def complete(session: Session, line: str) -> list[str]:
    """The words that may stand in place of the last one on a line that is being typed after `refdbg`."""
    from refdbg.commands.completion import candidates

    return candidates(Context.of(session), line)


def _choices(root: argparse.ArgumentParser) -> Iterable[argparse._SubParsersAction[argparse.ArgumentParser]]:
    # The subcommands, those of subcommands too.
    for action in root._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield action
            for subparser in action.choices.values():
                yield from _choices(subparser)


def _all(root: argparse.ArgumentParser) -> Iterable[argparse.ArgumentParser]:
    # The parsers without subparsers of their own.
    for action in root._actions:
        if isinstance(action, argparse._SubParsersAction):
            for subparser in action.choices.values():
                inner = list(_all(subparser))
                yield from inner or [subparser]


def run(session: Session, line: str) -> int:
    """Execute the line that follows `refdbg`. Prints the result or one clear error; returns 0 or 2."""
    from refdbg.render import as_json, as_text

    context = Context.of(session)
    debug = "--debug" in line
    try:
        try:
            words = shlex.split(line)
        except ValueError as error:
            raise CommandError(f"cannot split {line!r}: {error}") from error
        arguments = parser().parse_args(words or ["--help"])
        context.refresh()
        with progress():
            record = arguments.run(context, arguments)
        if record is not None:
            console = session.console
            console.write(as_json(record) if arguments.json else as_text(record, console.width, console.colour))
    except _Done as done:
        session.console.write(str(done))
    except RefdbgError as error:
        if debug:
            session.console.write(traceback.format_exc())
        session.console.write(f"refdbg: {error.text()}")
        return 2
    except KeyboardInterrupt:
        session.console.write("refdbg: interrupted; nothing was changed. Run the command again for the whole answer.")
        return 2
    except Exception:  # a defect of ours must not leave the debugger in an unknown state
        session.console.write(
            f"refdbg: internal error (Python {sys.version.split()[0]}): please report it\n{traceback.format_exc()}"
        )
        return 2
    return 0
