"""A set of objects as columns of integers."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

from refdbg.dependencies import vectors
from refdbg.graph.rows import among


@dataclass
class Coverage:
    """What a walk could not read, or left out: never silent."""

    unreadable: int = 0
    truncated: bool = False
    notes: list[str] = field(default_factory=list)

    def add(self, other: Coverage) -> None:
        """Count another walk's faults here."""
        self.unreadable += other.unreadable
        self.truncated |= other.truncated
        self.notes += [note for note in other.notes if note not in self.notes]

    @property
    def complete(self) -> bool:
        """Whether nothing was left out."""
        return not (self.unreadable or self.truncated)


@dataclass
class Objects:
    """Columns, one row per object: address, type address, reference count."""

    addresses: array[int] = field(default_factory=lambda: array("Q"))
    types: array[int] = field(default_factory=lambda: array("Q"))
    refcounts: array[int] = field(default_factory=lambda: array("q"))
    coverage: Coverage = field(default_factory=Coverage)

    def __len__(self) -> int:
        return len(self.addresses)

    def rows(self) -> Iterator[tuple[int, int, int]]:
        """(address, type, reference count) of each object."""
        return zip(self.addresses, self.types, self.refcounts)

    def of_types(self, types: Collection[int]) -> array[int]:
        """The rows of the objects whose types are among these, ascending."""
        np = vectors(len(self.types))
        if np is None:
            return array("q", [row for row, type_ in enumerate(self.types) if type_ in types] if types else [])
        wanted = np.array(sorted(types), "u8")
        return array("q", np.flatnonzero(among(np, np.frombuffer(self.types, "u8"), wanted)).tobytes())

    def pick(self, rows: Iterable[int]) -> Objects:
        """The chosen rows in their order, with the same coverage."""
        rows = array("Q", rows)
        columns = (self.addresses, self.types, self.refcounts)
        np = vectors(len(rows))
        if np is None:
            addresses, types, counts = (array(each.typecode, map(each.__getitem__, rows)) for each in columns)
        else:
            chosen = np.frombuffer(rows, "u8")
            addresses, types, counts = (
                array(each.typecode, np.frombuffer(each, "u8")[chosen].tobytes()) for each in columns
            )
        return Objects(addresses, types, counts, self.coverage)

    def extend(self, other: Objects) -> None:
        """Append another set's rows and faults."""
        self.addresses.extend(other.addresses)
        self.types.extend(other.types)
        self.refcounts.extend(other.refcounts)
        self.coverage.add(other.coverage)
