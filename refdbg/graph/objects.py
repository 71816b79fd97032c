"""A set of objects as columns of integers."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field


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

    def pick(self, rows: Iterable[int]) -> Objects:
        """The chosen rows in their order, with the same coverage."""
        rows = array("Q", rows)
        addresses, types, counts = (
            array(column.typecode, map(column.__getitem__, rows))
            for column in (self.addresses, self.types, self.refcounts)
        )
        return Objects(addresses, types, counts, self.coverage)

    def extend(self, other: Objects) -> None:
        """Append another set's rows and faults."""
        self.addresses.extend(other.addresses)
        self.types.extend(other.types)
        self.refcounts.extend(other.refcounts)
        self.coverage.add(other.coverage)
