"""A stop's objects counted by type."""

from __future__ import annotations

from collections.abc import Sequence

from refdbg.cpython.stop import Stop
from refdbg.graph import census
from refdbg.graph.objects import Objects
from refdbg.records import Moment, TypeRow


def by_type(stop: Stop, objects: Objects, sizes: Sequence[int] | None = None) -> list[TypeRow]:
    """The objects counted by their types' names, most numerous first; immortal ones add no references."""
    return census.by_type(objects, stop.texts.type_name, sizes, stop.runtime.immortal_count)


def moment(stop: Stop, function: str, what: str, objects: Objects, sizes: Sequence[int] | None = None) -> Moment:
    """The objects as a moment of a report."""
    rows = by_type(stop, objects, sizes)
    return Moment(
        function, what, len(objects), sum(row.references for row in rows), sum(sizes) if sizes is not None else None,
        rows,
    )
