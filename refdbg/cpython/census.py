"""Columns of objects counted by type name."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from refdbg.cpython.stop import Stop
from refdbg.graph.objects import Objects
from refdbg.records import Moment, TypeRow


def by_type(stop: Stop, objects: Objects, sizes: Sequence[int] | None = None) -> list[TypeRow]:
    """The objects counted by their types' names, most numerous first."""
    counts = Counter(objects.types)
    references: defaultdict[int, int] = defaultdict(int)
    for type_, count in zip(objects.types, objects.refcounts):
        references[type_] += count
    sums: defaultdict[int, int] = defaultdict(int)
    for type_, size in zip(objects.types, sizes or ()):
        sums[type_] += size
    rows: dict[str, TypeRow] = {}
    for type_, number in counts.items():
        name = stop.texts.type_name(type_)
        old = rows.get(name, TypeRow(name, 0, 0, 0))
        rows[name] = TypeRow(
            name,
            old.objects + number,
            old.references + references[type_],
            (old.bytes or 0) + sums[type_] if sizes is not None else None,
        )
    return sorted(rows.values(), key=lambda row: (-row.objects, row.type))


def moment(stop: Stop, function: str, what: str, objects: Objects, sizes: Sequence[int] | None = None) -> Moment:
    """The objects as a moment of a report."""
    return Moment(
        function, what, len(objects), sum(objects.refcounts), sum(sizes) if sizes is not None else None,
        by_type(stop, objects, sizes),
    )
