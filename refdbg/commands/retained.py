"""`refdbg retained`: what would go with an object, by the dominators of the object graph."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from refdbg.analysis.retention import Retention, retained_together, retention
from refdbg.answers import Retained, RetainedRow
from refdbg.commands.context import Context
from refdbg.commands.inspect import object_address, type_address
from refdbg.cpython import describe
from refdbg.cpython.census import by_type
from refdbg.cpython.stop import Stop
from refdbg.cpython.storage import edges_and_sizes
from refdbg.errors import CommandError, RefdbgError, SeveralTypes
from refdbg.graph.dominators import ROOT, UNREACHED
from refdbg.graph.edges import Edges
from refdbg.records import ObjectRow, TypeRow

_TYPES = 12


def show_retained(context: Context, arguments: argparse.Namespace) -> Retained:
    """The objects without which most would go. Raises RefdbgError.

    The references are found conservatively (words that equal an object's address), and everything that has more
    references than were found counts as held from outside for good. So the answer is likely, not certain: what C code
    holds in ways that look like an object's storage, or what only a stale word holds, is attributed wrongly.
    """
    stop = context.stop
    what, chosen = _subject(context, arguments.expression)
    heap = stop.heap
    edges, sizes = edges_and_sizes(stop, heap)
    immortal = stop.runtime.immortal_count
    outside = len(edges.targets) + 1  # more than all references that there are: an immortal object is always held
    counts = [outside if immortal is not None and count >= immortal else count for count in heap.objects.refcounts]
    found = retention(edges, counts, sizes)
    notes = []
    garbage = {row for row, parent in enumerate(found.tree.parent) if parent == UNREACHED}
    rows: Sequence[int] = range(len(heap.objects)) if chosen is None else chosen
    if chosen is not None and not garbage.isdisjoint(chosen):  # as if each of these were held for itself
        found = retention(edges, counts, sizes, sorted(garbage.intersection(chosen)))
    if garbage:
        notes.append(f"{len(garbage)} objects are held by nothing outside: garbage, see `refdbg cycles`")
    top = sorted(rows, key=lambda row: (-found.bytes[row], -found.objects[row], row))
    together, types = _together(stop, edges, found, sizes, chosen, what)
    return Retained(
        what, "likely", len(heap.objects), sum(sizes), len(found.roots), len(garbage), len(rows),
        [_row(stop, found, row, row in garbage) for row in top[: arguments.limit]], together, types[:_TYPES], notes,
    )


def _subject(context: Context, words: list[str]) -> tuple[str, list[int] | None]:
    # The rows that the words mean, and how they are called: a type's objects by its name, or one object.
    if not words:
        return "", None
    stop = context.stop
    try:
        type_ = type_address(context, words)
    except SeveralTypes:
        raise
    except RefdbgError as no_type:
        try:
            address = object_address(context, words)
        except CommandError as error:
            raise CommandError(f"{' '.join(words)!r} is no type's name and no object: {error}", no_type.hint) from error
        return _one(stop, address)
    if words[0][0].isdigit():  # the address of a type means that object
        return _one(stop, type_)
    rows = [row for row, each in enumerate(stop.heap.objects.types) if each == type_]
    name = stop.texts.type_name(type_)
    if not rows:
        raise CommandError(
            f"there are no objects of the type {name}", "`refdbg census` lists the types of the objects."
        )
    return f"type {name}", rows


def _one(stop: Stop, address: int) -> tuple[str, list[int]]:
    try:
        row = stop.heap.objects.addresses.index(address)
    except ValueError:
        raise CommandError(
            f"the object at {address:#x} is a static one: it never goes", "Ask for an object on the heap."
        ) from None
    found = describe.row(stop, address)
    return f"{found.type} {found.repr}", [row]


def _together(
    stop: Stop, edges: Edges, found: Retention, sizes: Sequence[int], chosen: Sequence[int] | None, what: str
) -> tuple[TypeRow | None, list[TypeRow]]:
    if chosen is None:
        return None, []
    objects = stop.heap.objects
    also = [row for row in chosen if found.tree.parent[row] == ROOT]
    gone = sorted(retained_together(edges, [*found.roots, *also], chosen))
    picked = objects.pick(gone)
    references = sum(count for count in picked.refcounts if not stop.runtime.is_immortal(count))
    row = TypeRow(what, len(gone), references, sum(sizes[each] for each in gone))
    return row, by_type(stop, picked, [sizes[each] for each in gone])


def _row(stop: Stop, found: Retention, row: int, garbage: bool) -> RetainedRow:
    objects = stop.heap.objects
    parent = found.tree.parent[row]
    dominator: ObjectRow | None = describe.row(stop, objects.addresses[parent]) if parent >= 0 else None
    own = describe.row(stop, objects.addresses[row])
    return RetainedRow(own, found.objects[row], found.bytes[row], dominator, garbage)
