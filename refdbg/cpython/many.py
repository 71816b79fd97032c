"""The references of objects of the commonest shapes, all of a type at once: for heaps of many, outside of debuggers."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from mmap import mmap
from typing import Any

from refdbg.graph.objects import Objects


@dataclass(frozen=True)
class Stretch:
    """*size* bytes of the process from address *base* on, which a copy has from its byte *first* on (aligned to 8)."""

    base: int
    first: int
    size: int


class Many:
    """Columns of (row of an object, word that owns, what it refers to), type by type, as numpy arrays."""

    def __init__(self, np: Any, objects: Objects, copy: mmap, stretches: Sequence[Stretch]) -> None:
        """*stretches*: of the memory that *copy* has, ascending."""
        self._np = np
        self._addresses = np.frombuffer(objects.addresses, "u8")
        self._types = np.frombuffer(objects.types, "u8")
        self._words = np.frombuffer(copy, "<u8", len(copy) // 8)
        self._bases, self._firsts, self._sizes = (
            np.array([getattr(stretch, name) for stretch in stretches], "u8") for name in ("base", "first", "size")
        )
        self._done = np.zeros(len(objects), bool)
        self._found: list[tuple[Any, Any, Any]] = []
        self._rows: Any = None

    def add(
        self, type_: int, offsets: Sequence[int], size: int = 0, items: int = 0, most: int = 0, inline: bool = False
    ) -> None:
        """The objects of a type (``PyTypeObject *``): the words at *offsets*, and the elements of a container.

        *size*: the offset of how many elements there are, 0 without any; *items*: of the pointer to them, or, *inline*,
        of the first one. An object that has more than *most*, or whose words cannot be read, is left to the `rest`.
        """
        np = self._np
        rows = np.flatnonzero(self._types == type_)
        addresses = self._addresses[rows]
        parts = []
        good = np.ones(len(rows), bool)
        if size:
            number, sure = self._read(addresses + size)
            first, also = (addresses + items, sure) if inline else self._read(addresses + items)
            good &= sure & also & (number <= most)
            number = np.where(good, number, 0).astype("i8")
            which = np.repeat(np.arange(len(rows)), number)
            within = np.arange(len(which)) - np.repeat(np.cumsum(number) - number, number)
            parts.append((which, first[which] + 8 * within.astype("u8")))
        parts += [(np.arange(len(rows)), addresses + offset) for offset in offsets]
        read = [(which, places, *self._read(places)) for which, places in parts]
        for which, _, _, sure in read:
            good[which[~sure]] = False
        for which, places, targets, _ in read:
            keep = good[which] & (targets != 0)
            self._found.append((rows[which[keep]], places[keep], targets[keep]))
        self._done[rows[good]] = True

    def _read(self, places: Any) -> tuple[Any, Any]:
        # The words, and whether they could be read.
        np = self._np
        stretch = np.searchsorted(self._bases, places, "right") - 1
        within = places - self._bases[stretch]
        sure = (stretch >= 0) & (within + 8 <= self._sizes[stretch]) & (places & 7 == 0)
        return self._words[np.where(sure, (self._firsts[stretch] + within) >> 3, 0)], sure

    def rest(self, objects: Objects) -> tuple[array[int], array[int], array[int]]:
        """The rows of the objects that are left over, their addresses and types."""
        self._rows = rows = self._np.flatnonzero(~self._done)
        return (
            array("q", rows.tobytes()), array("Q", self._addresses[rows].tobytes()),
            array("Q", self._types[rows].tobytes()),
        )

    def joined(
        self, starts: array[int], places: array[int], targets: array[int]
    ) -> tuple[array[int], array[int], array[int]]:
        """The references of all objects, by row, where *starts*, *places* and *targets* are those of the `rest`."""
        np = self._np
        number = np.diff(np.frombuffer(starts, "u8").astype("i8"))
        self._found.append((
            np.repeat(self._rows[: len(number)], number), np.frombuffer(places, "u8"), np.frombuffer(targets, "u8"),
        ))
        rows, *columns = (np.concatenate(column) for column in zip(*self._found))
        order = np.argsort(rows, kind="stable")
        ends = np.cumsum(np.bincount(rows, minlength=len(self._addresses)))
        all_places, all_targets = (array("Q", column[order].tobytes()) for column in columns)
        return array("Q", np.concatenate([[0], ends]).astype("u8").tobytes()), all_places, all_targets
