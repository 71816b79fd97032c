"""`refdbg visits`, `refdbg gc again`: what the collector sees, by running the real tp_traverse in an emulator."""

from __future__ import annotations

import argparse
from typing import Any

from refdbg.analysis import audit
from refdbg.analysis.collector import replay
from refdbg.commands.context import Context
from refdbg.commands.inspect import number, object_address, type_address
from refdbg.cpython import describe
from refdbg.cpython.census import by_type
from refdbg.cpython.collection import object_rows
from refdbg.cpython.owned import Owned
from refdbg.cpython.stop import Stop
from refdbg.cpython.traverse import Traverse
from refdbg.errors import CommandError
from refdbg.graph.objects import Objects
from refdbg.records import FieldVisits, GcAgain, Visits, VisitsOfType


def add_commands(subcommands: Any) -> None:
    """Add this module's subcommands."""
    visits = subcommands.add_parser(
        "visits", help="audit a tp_traverse: each reference that an object owns, visited or not"
    )
    visits.add_argument("expression", nargs="+", metavar="OBJ|TYPE",
                        help="an object, or with --type a type's name: all its instances together")
    visits.add_argument("--type", action="store_true", help="audit all objects of the type")
    visits.add_argument("--limit", type=number, default=10_000, metavar="N", help="audit at most N objects of a type")
    visits.set_defaults(run=show_visits)


def add_gc_actions(actions: Any) -> None:
    """Add this module's actions below `gc`."""
    again = actions.add_parser("again", help="what a full collection would free now (nothing runs in the process)")
    again.add_argument("--objects", type=number, default=20, metavar="N", help="list the first N objects")
    again.set_defaults(run=collect_again)


def show_visits(context: Context, arguments: argparse.Namespace) -> object:
    """The audit of one object, or of a type's objects."""
    if arguments.type:
        return _type_visits(context, arguments)
    address = object_address(context, arguments.expression)
    stop = context.stop
    type_ = stop.texts.type_of(address)
    visited = Traverse(stop).visits([address], [type_.address])
    if 0 in visited.undecided:
        raise CommandError(f"the tp_traverse of {type_.name} cannot be emulated: {visited.undecided[0]}",
                           "What it visits is undecided; `refdbg referents` shows what the object owns.")
    found = audit.audit(_owned(context, address), visited.of(0))
    return Visits(
        describe.row(stop, address), _traverse_name(stop, type_.traverse),
        [
            FieldVisits(match.owned.label, 1, int(match.visited), match.owned.exact,
                        stop.texts.repr(match.owned.target))
            for match in found.matched
        ],
        [describe.row(stop, target) for target in found.extra],
    )


def _type_visits(context: Context, arguments: argparse.Namespace) -> VisitsOfType:
    type_address_ = type_address(context, arguments.expression)
    stop = context.stop
    type_ = stop.types[type_address_]
    objects, _scope = describe.objects_in_scope(stop, False)
    chosen = [address for address, kind, _ in objects.rows() if kind == type_address_][: arguments.limit]
    visited = Traverse(stop).visits(chosen, [type_address_] * len(chosen))
    audits = [
        audit.audit(_owned(context, address), visited.of(row))
        for row, address in enumerate(chosen) if row not in visited.undecided
    ]
    fields, extra = audit.by_field(audits)
    return VisitsOfType(
        stop.texts.type_name(type_address_), _traverse_name(stop, type_.traverse), type_.is_gc, type_.is_heap,
        len(audits), sorted(set(visited.undecided.values())),
        [FieldVisits(row.label, row.owned, row.visited, row.exact, None) for row in fields], extra,
    )


def _owned(context: Context, address: int) -> list[audit.Owned]:
    stop = context.stop
    owned = Owned(stop.texts, lambda: describe.known_heap(stop))
    return [
        audit.Owned(reference.label, reference.target, reference.exact) for reference in owned.references(address)
    ]


def _traverse_name(stop: Stop, traverse: int) -> str:
    if not traverse:
        return ""
    symbol = stop.runtime.target.symbol_at(traverse)
    return symbol.name if symbol else f"{traverse:#x}"


def collect_again(context: Context, arguments: argparse.Namespace) -> GcAgain:
    """The collector replayed on everything that is tracked now, all interpreters apart."""
    stop = context.stop
    traverse = Traverse(stop)
    unreachable = Objects()
    examined, undecided = 0, 0
    notes: list[str] = []
    for interpreter in stop.runtime.interpreters():
        tracked = Objects()
        for generation in stop.lists.generations(interpreter):
            if generation.name != "permanent":
                tracked.extend(stop.lists.walk(generation.head))
        visited = traverse.visits(tracked.addresses, tracked.types)
        decision = replay(
            tracked.refcounts, visited.edges(tracked.addresses), range(len(tracked)), stop.runtime.immortal_count
        )
        unreachable.extend(tracked.pick(decision.unreachable))
        examined += len(tracked)
        undecided += len(visited.undecided)
        if decision.negative:
            notes.append(f"{len(decision.negative)} objects are visited more often than their count allows")
        for name in traverse.undecided_types(visited, tracked.types):
            notes.append(f"what {name} objects visit is undecided: whatever only they refer to looks kept")
        notes += tracked.coverage.notes
    return GcAgain(
        examined, len(unreachable), by_type(stop, unreachable), object_rows(stop, unreachable, arguments.objects),
        undecided, notes,
    )
