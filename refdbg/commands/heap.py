"""`refdbg census` and `refdbg status`: the whole heap, the whole process."""

from __future__ import annotations

import argparse
from typing import Any

from refdbg.answers import Census
from refdbg.commands.context import Context
from refdbg.commands.inspect import number
from refdbg.cpython import describe
from refdbg.cpython.census import by_type


def add_commands(subcommands: Any) -> None:
    """Add this module's subcommands."""
    census = subcommands.add_parser("census", help="count the objects by type")
    which = census.add_mutually_exclusive_group()
    which.add_argument("--tracked", action="store_true", help="only what the collector tracks")
    which.add_argument("--all", action="store_true", help="every object, tracked or not (the default)")
    census.add_argument("--limit", type=number, default=30, metavar="N", help="show at most N types")
    census.set_defaults(run=show_census)

    status = subcommands.add_parser("status", help="the process, its build, interpreters, threads and collector")
    status.set_defaults(run=lambda context, _arguments: describe.status(context.stop))


def show_census(context: Context, arguments: argparse.Namespace) -> Census:
    """The objects by type. Raises RefdbgError: --all needs debug info."""
    stop = context.stop
    if arguments.all:
        stop.heap  # noqa: B018  raises with the reason in a stripped build
    objects, scope = describe.objects_in_scope(stop, arguments.tracked)
    sizes = None
    if scope == describe.ALL_OBJECTS:
        sizes = list(map(stop.heap.blocks.sizes.__getitem__, stop.heap.rows))
    rows = by_type(stop, objects, sizes)
    return Census(
        scope, len(objects), sum(row.references for row in rows), sum(sizes) if sizes is not None else None, len(rows),
        rows[: arguments.limit], objects.coverage.notes, describe.kinds_of_counts(stop, objects),
    )


