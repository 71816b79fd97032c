"""A stop's objects counted by type."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from refdbg.cpython.stop import Stop
from refdbg.graph import census
from refdbg.graph.objects import Objects
from refdbg.records import Moment, TypeRow


def by_type(stop: Stop, objects: Objects, sizes: Sequence[int] | None = None) -> list[TypeRow]:
    """The objects counted by their types' names, most numerous first; immortal ones add no references."""
    return census.by_type(objects, stop.texts.type_name, sizes, stop.runtime.immortal_count)


def kinds(stop: Stop, objects: Objects, rows: Iterable[int]) -> dict[int, str]:
    """By row, what each object is: the name of its type, and of a type its own name, too."""
    names: dict[int, str] = {}
    found = {}
    for row in rows:
        address, type_ = objects.addresses[row], objects.types[row]
        if type_ not in names:
            names[type_] = stop.texts.type_name(type_)
        found[row] = names[type_]
        if stop.types.is_type(address):
            found[row] += f" {stop.texts.type_name(address)}"
    return found


def sorts(stop: Stop, objects: Objects, rows: Sequence[int]) -> dict[int, str]:
    """By row, what each of these objects is apart from names: of a type, or an instance of one, that is among them
    itself, its metatype's name; of others the name of their type.
    """
    mine = {objects.addresses[row] for row in rows}
    found = {}
    for row in rows:
        type_ = objects.types[row]
        if stop.types.is_type(objects.addresses[row]) or type_ not in mine:
            found[row] = stop.texts.type_name(type_)
        else:
            found[row] = f"an instance of a new {stop.texts.type_name(stop.texts.type_of(type_).address)}"
    return found


def by_kind(objects: Objects, rows: Iterable[int], named: Mapping[int, str]) -> list[TypeRow]:
    """The *rows* counted by what `kinds` has *named* them; those with most references first."""
    found: dict[str, TypeRow] = {}
    for row in rows:
        was = found.get(named[row], TypeRow(named[row], 0, 0))
        found[was.type] = replace(was, objects=was.objects + 1, references=was.references + objects.refcounts[row])
    return sorted(found.values(), key=lambda row: (-row.references, row.type))


def moment(stop: Stop, function: str, what: str, objects: Objects, sizes: Sequence[int] | None = None) -> Moment:
    """The objects as a moment of a report."""
    rows = by_type(stop, objects, sizes)
    return Moment(
        function, what, len(objects), sum(row.references for row in rows), sum(sizes) if sizes is not None else None,
        rows,
    )
