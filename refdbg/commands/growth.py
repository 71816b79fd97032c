"""`refdbg growth`: what there is more of than at an earlier moment, which a snapshot has kept."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Container, Sequence
from typing import Any

from refdbg.analysis.repetitions import change, surviving
from refdbg.answers import Growth, GrowthRow
from refdbg.commands.context import Context
from refdbg.commands.grown import explain_growth
from refdbg.commands.inspect import number
from refdbg.commands.leaks import asked_here
from refdbg.cpython.census import by_kind, by_type, kinds, sorts
from refdbg.cpython.heap import stats
from refdbg.cpython.runtime import RUNTIME, Build
from refdbg.cpython.stop import Stop
from refdbg.errors import CommandError
from refdbg.records import Finding, TypeRow
from refdbg.target import snapshot


def add_commands(subcommands: Any) -> None:
    """Add this module's subcommands."""
    command = subcommands.add_parser(
        "growth", help="what there is more of than in an earlier snapshot, and who keeps it",
        description="Compares the objects of now with those of an earlier snapshot of the same program, by type: how "
        "many there were and are, and how many were not there then (another address, or another type at it); and says "
        "who keeps what is new. With two earlier snapshots or more it says what each of the last two steps has added.",
    )
    command.add_argument(
        "before", metavar="BEFORE.refdbg", nargs="+", help="what `refdbg snapshot` wrote earlier, the oldest first"
    )
    command.add_argument("--limit", type=number, default=20, metavar="N", help="show N types (default 20)")
    command.add_argument("--objects", type=number, default=5, metavar="N", help="list N objects of each finding")
    command.set_defaults(run=show)


def show(context: Context, arguments: argparse.Namespace) -> Growth:
    """The types by how many more there are. Raises CommandError, BadSnapshot, RefdbgError."""
    now = context.stop
    earlier = [_opened(path, now) for path in arguments.before]
    _check_order(arguments.before, [*map(_collections, earlier), _collections(now)])
    then = earlier[-1]
    before, after = ({row.type: row for row in _by_type(stop)} for stop in (then, now))
    objects = now.heap.objects
    new = change(then.heap.objects, objects).new
    counted = Counter(now.texts.type_name(objects.types[row]) for row in new)
    rows = []
    for name in before.keys() | after.keys():
        old, own = before.get(name, TypeRow(name, 0, 0, 0)), after.get(name, TypeRow(name, 0, 0, 0))
        more = own.references - old.references, (own.bytes or 0) - (old.bytes or 0)
        if old != own or counted[name]:
            rows.append(GrowthRow(name, old.objects, own.objects, counted[name], *more))
    rows.sort(key=lambda row: (row.before - row.after, -row.bytes, -row.references, row.type))
    kept, recurring = new, []
    if len(earlier) > 1:
        kept = _stayed(earlier[-2], then, now, set(sorts(now, objects, new).values()))
        recurring = by_kind(objects, kept, kinds(now, objects, kept))
    notes = then.heap.objects.coverage.notes + objects.coverage.notes
    findings: list[Finding] = []
    if kept:
        findings, more_notes = explain_growth(now, objects.pick(kept), max(arguments.objects, 1))
        findings = sorted(map(asked_here, findings), key=lambda finding: -finding.explains.references)
        notes = notes + more_notes
    return Growth(
        len(then.heap.objects), len(objects), len(new), len(rows), rows[: arguments.limit],
        recurring[: arguments.limit], findings, notes,
    )


def _opened(path: str, now: Stop) -> Stop:
    try:
        then = Stop(Build(snapshot.opened(path, RUNTIME)))
    except OSError as error:
        raise CommandError(
            f"cannot read {path}: {error.strerror}", "`refdbg snapshot FILE.refdbg` writes a snapshot."
        ) from error
    if then.runtime.version != now.runtime.version:
        raise CommandError(
            f"{path} is of Python {then.runtime.version}, this is Python {now.runtime.version}",
            "Compare two moments of one program.",
        )
    return then


def _collections(stop: Stop) -> int:
    # How many there have been: what only grows while a program runs.
    main = next((each for each in stop.runtime.interpreters() if each.main), None)
    return sum(number for number, _, _ in stats(stop.runtime, main)) if main is not None else 0


def _check_order(paths: Sequence[str], collections: Sequence[int]) -> None:
    # *collections*: at each of the moments in *paths*, and now.
    for path, then, later in zip(paths, collections, collections[1:]):
        if then > later:
            raise CommandError(
                f"{path} is of a later moment than what comes after it: after {then} collections, that after {later}",
                "The oldest snapshot comes first: refdbg growth BEFORE.refdbg AFTER.refdbg.",
            )


def _stayed(first: Stop, then: Stop, now: Stop, made_again: Container[str]) -> list[int]:
    # The rows of now that were made between first and then, and of a sort that was made again since.
    middle = then.heap.objects
    made = surviving(middle, change(first.heap.objects, middle).new, now.heap.objects)
    alive = now.heap.index
    rows = [alive[middle.addresses[row]] for row in made]
    return [row for row, sort in sorts(now, now.heap.objects, rows).items() if sort in made_again]


def _by_type(stop: Stop) -> list[TypeRow]:
    sizes = list(map(stop.heap.blocks.sizes.__getitem__, stop.heap.rows))
    return by_type(stop, stop.heap.objects, sizes)
