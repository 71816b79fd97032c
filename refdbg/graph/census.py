"""Objects counted by type."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

from refdbg.graph.objects import Objects
from refdbg.records import TypeRow


def by_type(
    objects: Objects, name: Callable[[int], str], sizes: Sequence[int] | None = None, immortal: int | None = None
) -> list[TypeRow]:
    """The objects counted by their types' names, most numerous first.

    *name(type)* is asked once for each type; *sizes* are the objects' bytes, row by row. Types of the same
    name are one row. Counts of *immortal* and above are no counts: they add no references.
    """
    counts = Counter(objects.types)
    references: defaultdict[int, int] = defaultdict(int)
    for type_, count in zip(objects.types, objects.refcounts):
        if immortal is None or count < immortal:
            references[type_] += count
    sums: defaultdict[int, int] = defaultdict(int)
    for type_, size in zip(objects.types, sizes or ()):
        sums[type_] += size
    rows: dict[str, TypeRow] = {}
    for type_, number in counts.items():
        label = name(type_)
        old = rows.get(label, TypeRow(label, 0, 0, 0))
        rows[label] = TypeRow(
            label,
            old.objects + number,
            old.references + references[type_],
            None if sizes is None else (old.bytes or 0) + sums[type_],
        )
    return sorted(rows.values(), key=lambda row: (-row.objects, row.type))
