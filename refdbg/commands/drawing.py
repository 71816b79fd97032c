"""`--dot FILE`, `--svg FILE`: what a command answers, drawn."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from refdbg.answers import Graph
from refdbg.commands.context import Context
from refdbg.errors import CommandError
from refdbg.render import dot


class Drawable(Protocol):
    """A record that can be drawn."""

    @property
    def graph(self) -> Graph:
        """The drawing."""


_Record = TypeVar("_Record", bound=Drawable)


def add_drawing(parser: argparse.ArgumentParser, show: Callable[[Context, argparse.Namespace], _Record]) -> None:
    """The options, and *show* as what the command runs."""
    parser.add_argument("--dot", metavar="FILE", help="draw it: write Graphviz DOT")
    parser.add_argument("--svg", metavar="FILE", help="draw it: write SVG (needs Graphviz)")

    def run(context: Context, arguments: argparse.Namespace) -> _Record:
        record = show(context, arguments)
        text = dot.as_dot(record.graph) if arguments.dot or arguments.svg else ""
        if arguments.dot:
            try:
                Path(arguments.dot).write_text(text, encoding="utf-8")
            except OSError as error:
                raise CommandError(f"cannot write {arguments.dot}: {error.strerror}", "Name another file.") from error
        if arguments.svg:
            dot.write_svg(text, arguments.svg)
        return record

    parser.set_defaults(run=run)
