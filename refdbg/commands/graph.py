"""`refdbg why`, `cycles`, `retained`: the graph of objects."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from refdbg.answers import Cycles, Why
from refdbg.commands.context import Context
from refdbg.commands.cycles import show_cycles
from refdbg.commands.inspect import number
from refdbg.commands.retained import show_retained
from refdbg.commands.why import show_why
from refdbg.errors import CommandError
from refdbg.render import dot

_OBJECT = "a debugger expression that is a PyObject *, or an address"


def add_commands(subcommands: Any) -> None:
    """Add this module's subcommands."""
    why = subcommands.add_parser("why", help="why an object is alive: the ways from outside the heap to it")
    why.add_argument("expression", nargs="+", metavar="OBJ", help=_OBJECT)
    why.add_argument("--limit", type=number, default=3, metavar="N", help="show at most N ways (default: 3)")
    _add_drawing(why, show_why)

    cycles = subcommands.add_parser(
        "cycles", help="reference cycles: garbage that waits for the collector, or those that contain or hold OBJ"
    )
    cycles.add_argument("expression", nargs="*", metavar="OBJ", help=_OBJECT)
    cycles.add_argument("--limit", type=number, default=5, metavar="N", help="show at most N groups (default: 5)")
    _add_drawing(cycles, show_cycles)

    retained = subcommands.add_parser("retained", help="what would go if an object went, largest first (likely)")
    retained.add_argument("expression", nargs="*", metavar="TYPE|OBJ", help=f"a type's name, or {_OBJECT}")
    retained.add_argument("--limit", type=number, default=20, metavar="N", help="show at most N (default: 20)")
    retained.set_defaults(run=show_retained)


def _add_drawing(parser: argparse.ArgumentParser, show: Callable[[Context, argparse.Namespace], Why | Cycles]) -> None:
    parser.add_argument("--dot", metavar="FILE", help="draw it: write Graphviz DOT")
    parser.add_argument("--svg", metavar="FILE", help="draw it: write SVG (needs Graphviz)")

    def run(context: Context, arguments: argparse.Namespace) -> Why | Cycles:
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
