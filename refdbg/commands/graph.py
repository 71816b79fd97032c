"""`refdbg why`, `cycles`, `retained`: the graph of objects."""

from __future__ import annotations

from typing import Any

from refdbg.commands.cycles import show_cycles
from refdbg.commands.drawing import add_drawing
from refdbg.commands.inspect import number
from refdbg.commands.retained import show_retained
from refdbg.commands.why import show_why

_OBJECT = "a debugger expression that is a PyObject *, or an address"


def add_commands(subcommands: Any) -> None:
    """Add this module's subcommands."""
    why = subcommands.add_parser("why", help="why an object is alive: the ways from outside the heap to it")
    why.add_argument("expression", nargs="+", metavar="OBJ", help=_OBJECT)
    why.add_argument("--limit", type=number, default=3, metavar="N", help="show at most N ways (default: 3)")
    add_drawing(why, show_why)

    cycles = subcommands.add_parser(
        "cycles", help="reference cycles: garbage that waits for the collector, or those that contain or hold OBJ"
    )
    cycles.add_argument("expression", nargs="*", metavar="OBJ", help=_OBJECT)
    cycles.add_argument("--limit", type=number, default=5, metavar="N", help="show at most N groups (default: 5)")
    add_drawing(cycles, show_cycles)

    retained = subcommands.add_parser("retained", help="what would go if an object went, largest first (likely)")
    retained.add_argument("expression", nargs="*", metavar="TYPE|OBJ", help=f"a type's name, or {_OBJECT}")
    retained.add_argument("--limit", type=number, default=20, metavar="N", help="show at most N (default: 20)")
    retained.set_defaults(run=show_retained)
