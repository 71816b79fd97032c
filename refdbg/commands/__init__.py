"""The words the user types: `refdbg SUBCOMMAND …`, the same in every debugger."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import shlex
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from refdbg.commands.beside import answered_beside
from refdbg.commands.context import Context
from refdbg.commands.progress import progress
from refdbg.errors import CommandError, RefdbgError
from refdbg.target import Session

Run = Callable[[Context, argparse.Namespace], Any]


class _Parser(argparse.ArgumentParser):
    # Raises instead of ending the debugger.
    def error(self, message: str) -> NoReturn:
        raise CommandError(message, self.format_usage().strip())

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if isinstance(action, argparse._SubParsersAction) and value not in action.choices:
            words = self.prog.split()[1:]
            raise CommandError(
                f"there is no command {' '.join([*words, str(value)])!r}{nearest(str(value), action.choices, words)}",
                f"`{' '.join(['refdbg', 'help', *words])}` lists the commands.",
            )
        super()._check_value(action, value)

    def refuse(self, words: list[str]) -> NoReturn:
        """Raises CommandError for words that this command does not take."""
        options = [option for action in self._actions for option in action.option_strings]
        near = nearest(words[0], options) if words[0].startswith("-") else ""
        self.error(f"{self.prog.partition(' ')[2]} takes no {words[0]!r}{near}")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        raise _Done(message or "")

    def print_help(self, file: Any = None) -> None:
        raise _Done(self.format_help().rstrip())


class _Done(Exception):
    pass


def nearest(word: str, known: Iterable[str], before: Sequence[str] = ()) -> str:
    """A question after the one of the *known* words that *word* may be meant to be, "" for none."""
    found = difflib.get_close_matches(word, known, 1)
    return f": did you mean {' '.join([*before, *found])!r}?" if found else ""


def parser() -> argparse.ArgumentParser:
    """The parser of every subcommand; its `run` default is the function that executes it."""
    # Imported here: each module costs start-up time of every run under the debugger.
    from refdbg.commands import collections, frames, graph, growth, heap, inspect, leaks, snapshot, traverse, watch

    root = _Parser(
        prog="refdbg", description="What a CPython process collects, finalizes and leaves over – and why.",
        epilog="In a shell: `refdbg --help` lists what is asked without a debugger; `refdbg gdbinit` and `refdbg "
        "lldbinit` print the line that loads refdbg into every gdb or lldb.",
    )
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
        subparser.set_defaults(parser=subparser, beside=subparser.get_default("beside") or False)
        subparser.add_argument("--json", action="store_true", help="print the record as JSON")
        subparser.add_argument("--debug", action="store_true", help=argparse.SUPPRESS)
    return root


def help_text(words: list[str]) -> str:
    """What `refdbg help WORDS` says. Raises CommandError for an unknown word."""
    try:
        parser().parse_args([*words, "--help"])
    except _Done as done:
        return str(done)
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


def _noted(context: Context, record: Any) -> Any:
    # Every answer says which files of the process could not be read.
    if hasattr(record, "notes"):
        new = [note for note in context.unreadable() if note not in record.notes]
        return dataclasses.replace(record, notes=[*record.notes, *new])
    for note in context.unreadable() if record is not None else ():
        context.session.on_error(note)
    return record


def _parsed(words: Sequence[str]) -> argparse.Namespace:
    arguments, rest = parser().parse_known_args(words or ["--help"])
    if rest:
        arguments.parser.refuse(rest)
    return arguments


def answer(session: Session, words: Sequence[str]) -> Any:
    """The record that answers the command. Raises RefdbgError."""
    context, arguments = Context.of(session), _parsed(words)
    context.refresh()
    with progress():
        return _noted(context, arguments.run(context, arguments))


def run(session: Session, line: str) -> int:
    """Execute the line that follows `refdbg`. Prints the result or one clear error; returns 0 or 2."""
    from refdbg.render import as_json, as_text

    debug = "--debug" in line
    try:
        try:
            words = shlex.split(line)
        except ValueError as error:
            raise CommandError(f"cannot split {line!r}: {error}") from error
        arguments = _parsed(words)
        record = answered_beside(session, words) if arguments.beside else None
        if record is None:
            record = answer(session, words)
        if record is not None:
            console = session.console
            console.write(as_json(record) if arguments.json else as_text(record, console.width, console.colour))
    except _Done as done:
        session.console.write(str(done))
    except RefdbgError as error:
        if debug:
            session.console.refuse(traceback.format_exc())
        session.console.refuse(f"refdbg: {error.text()}")
        return 2
    except KeyboardInterrupt:
        session.console.refuse("refdbg: interrupted; nothing was changed. Run the command again for the whole answer.")
        return 2
    except BrokenPipeError:  # the reader of a shell's output has gone
        raise
    except Exception:  # a defect of ours must not leave the debugger in an unknown state
        session.console.refuse(
            f"refdbg: internal error (Python {sys.version.split()[0]}): please report it\n{traceback.format_exc()}"
        )
        return 2
    return 0
