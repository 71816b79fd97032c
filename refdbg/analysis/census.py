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
    counts: Counter[str] = Counter()
    references: defaultdict[str, int] = defaultdict(int)
    sums: defaultdict[str, int] = defaultdict(int)
    names: dict[int, str] = {}
    for row, (type_, refcount) in enumerate(zip(objects.types, objects.refcounts)):
        label = names.get(type_)
        if label is None:
            label = names[type_] = name(type_)
        counts[label] += 1
        if immortal is None or refcount < immortal:
            references[label] += refcount
        if sizes is not None:
            sums[label] += sizes[row]
    rows = [
        TypeRow(label, number, references[label], None if sizes is None else sums[label])
        for label, number in counts.items()
    ]
    return sorted(rows, key=lambda row: (-row.objects, row.type))
