"""`refdbg growth`: what there is more of than at an earlier moment, which a snapshot has kept."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from typing import Any

from refdbg.answers import Growth, GrowthRow
from refdbg.commands.context import Context
from refdbg.commands.inspect import number
from refdbg.cpython.census import by_type
from refdbg.cpython.runtime import RUNTIME, Build
from refdbg.cpython.stop import Stop
from refdbg.errors import CommandError
from refdbg.records import TypeRow
from refdbg.target import snapshot


def add_commands(subcommands: Any) -> None:
    """Add this module's subcommands."""
    command = subcommands.add_parser(
        "growth", help="what there is more of than in an earlier snapshot",
        description="Compares the objects of now with those of an earlier snapshot of the same program, by type: how "
        "many there were and are, and how many were not there then (another address, or another type at it).",
    )
    command.add_argument("before", metavar="BEFORE.refdbg", help="what `refdbg snapshot` wrote then")
    command.add_argument("--limit", type=number, default=20, metavar="N", help="show N types (default 20)")
    command.set_defaults(run=show)


def show(context: Context, arguments: argparse.Namespace) -> Growth:
    """The types by how many more there are. Raises CommandError, BadSnapshot, RefdbgError."""
    now = context.stop
    try:
        then = Stop(Build(snapshot.opened(arguments.before, RUNTIME)))
    except OSError as error:
        raise CommandError(
            f"cannot read {arguments.before}: {error.strerror}", "`refdbg snapshot FILE.refdbg` writes a snapshot."
        ) from error
    if then.runtime.version != now.runtime.version:
        raise CommandError(
            f"{arguments.before} is of Python {then.runtime.version}, this is Python {now.runtime.version}",
            "Compare two moments of one program.",
        )
    before, after = ({row.type: row for row in _by_type(stop)} for stop in (then, now))
    was_there = set(_objects(then))
    new = Counter(name for address, name in _objects(now) if (address, name) not in was_there)
    rows = []
    for name in before.keys() | after.keys():
        old, own = before.get(name, TypeRow(name, 0, 0, 0)), after.get(name, TypeRow(name, 0, 0, 0))
        more = own.references - old.references, (own.bytes or 0) - (old.bytes or 0)
        if old != own or new[name]:
            rows.append(GrowthRow(name, old.objects, own.objects, new[name], *more))
    rows.sort(key=lambda row: (row.before - row.after, -row.bytes, -row.references, row.type))
    notes = then.heap.objects.coverage.notes + now.heap.objects.coverage.notes
    return Growth(
        len(then.heap.objects), len(now.heap.objects), sum(new.values()), len(rows), rows[: arguments.limit], notes
    )


def _by_type(stop: Stop) -> list[TypeRow]:
    sizes = list(map(stop.heap.blocks.sizes.__getitem__, stop.heap.rows))
    return by_type(stop, stop.heap.objects, sizes)


def _objects(stop: Stop) -> Iterator[tuple[int, str]]:
    # (address, name of the type) of each.
    objects = stop.heap.objects
    names = {type_: stop.texts.type_name(type_) for type_ in set(objects.types)}
    return zip(objects.addresses, map(names.__getitem__, objects.types))
