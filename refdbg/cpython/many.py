"""The references of objects of the commonest shapes, all of a type at once: for heaps of many, outside of debuggers."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from mmap import mmap
from typing import Any

from refdbg.cpython.containers import LIMIT, KeyTables
from refdbg.cpython.instances import Instances
from refdbg.cpython.types import Type
from refdbg.graph.objects import Objects
from refdbg.graph.rows import among

_AT_ONCE = 1 << 16  # objects: what is told of them stays in the processor's cache


@dataclass(frozen=True)
class Stretch:
    """*size* bytes of the process from address *base* on, which a copy has from its byte *first* on (aligned to 8)."""

    base: int
    first: int
    size: int


@dataclass(frozen=True)
class Chosen:
    """The objects of one type, as numpy arrays. *good*: of which all could be read, which a Part takes back."""

    rows: Any
    addresses: Any
    good: Any


# Columns of (which of the chosen, the word that may own).
Part = Callable[[Chosen], Iterator[tuple[Any, Any]]]


class Many:
    """Columns of (row of an object, word that owns, what it refers to), type by type, as numpy arrays."""

    def __init__(
        self, np: Any, objects: Objects, copy: mmap, stretches: Sequence[Stretch], apart: Collection[int]
    ) -> None:
        """*stretches*: of the memory that *copy* has, ascending; *apart*: objects that are left to the `rest`."""
        self._np = np
        self._addresses = np.frombuffer(objects.addresses, "u8")
        self._types = np.frombuffer(objects.types, "u8")
        self._words = np.frombuffer(copy, "<u8", len(copy) // 8)
        self._bytes = np.frombuffer(copy, "u1")
        self._bases, self._firsts, self._sizes = (
            np.array([getattr(stretch, name) for stretch in stretches], "u8") for name in ("base", "first", "size")
        )
        self._apart = np.array(sorted(apart), "u8")
        self._done = np.zeros(len(objects), bool)
        self._found: list[tuple[Any, Any, Any]] = []
        self._rows: Any = None

    def add(self, type_: int, *parts: Part) -> None:
        """The objects of a type (``PyTypeObject *``), by their parts.

        An object whose words cannot all be read, or that claims more than there can be, is left to the `rest`.
        """
        np = self._np
        every = np.flatnonzero(self._types == type_)
        for first in range(0, len(every), _AT_ONCE):
            self._add(every[first : first + _AT_ONCE], parts)

    def _add(self, rows: Any, parts: Sequence[Part]) -> None:
        np = self._np
        chosen = Chosen(rows, self._addresses[rows], ~among(np, self._addresses[rows], self._apart))
        read = []
        for part in parts:
            for which, places in part(chosen):
                targets, sure = self._read(places)
                chosen.good[which[~sure]] = False
                read.append((which, places, targets))
        for which, places, targets in read:
            keep = chosen.good[which] & (targets != 0)
            self._found.append((rows[which[keep]].astype("i4"), places[keep], targets[keep]))
        self._done[rows[chosen.good]] = True

    def fixed(self, offsets: Sequence[int]) -> Part:
        """The words at these offsets."""
        def part(chosen: Chosen) -> Iterator[tuple[Any, Any]]:
            for offset in offsets:
                yield self._np.arange(len(chosen.rows)), chosen.addresses + offset

        return part

    def elements(self, size: int, items: int, inline: bool) -> Part:
        """A container's. *size*: the offset of their number; *items*: of the pointer to them, or, *inline*, of the
        first one."""
        def part(chosen: Chosen) -> Iterator[tuple[Any, Any]]:
            number, sure = self._read(chosen.addresses + size)
            first, also = (chosen.addresses + items, sure) if inline else self._read(chosen.addresses + items)
            chosen.good[:] &= sure & also & (number <= LIMIT)
            which, within = self._spread(self._np.where(chosen.good, number, 0))
            yield which, first[which] + 8 * within

        return part

    def entries(self, tables: KeyTables, ma_keys: int, ma_values: int) -> Part:
        """A dict's, of a table of its own or of one that dicts share."""
        np = self._np

        def part(chosen: Chosen) -> Iterator[tuple[Any, Any]]:
            (keys, sure), (values, also) = (self._read(chosen.addresses + offset) for offset in (ma_keys, ma_values))
            number, counted = self._read(keys + tables.nentries)
            if tables.log2 is not None and tables.index_log2 is not None:
                slots, index = self._read_bytes(keys + tables.log2), self._read_bytes(keys + tables.index_log2)
                sane = (slots <= 48) & (index <= 52)
                size, indices = (1 << np.where(sane, each, 0).astype("u8") for each in (slots, index))
            else:
                size, sane = self._read(keys + tables.size)
                indices = size * np.select([size <= 0xFF, size <= 0xFFFF, size <= 0xFFFF_FFFF], [1, 2, 4], 8)
            chosen.good[:] &= sure & also & counted & sane & (number <= size) & (number <= LIMIT)
            rows = np.flatnonzero(chosen.good & (values != 0))
            which, places = self._in_order(tables, values[rows], number[rows], rows, chosen.good)
            yield rows[which], places
            general = np.ones(len(keys), bool) if tables.kind is None else self._read_bytes(keys + tables.kind) == 0
            key, width = (np.where(general, *pair).astype("u8") for pair in zip(tables.entry, tables.unicode_entry))
            which, within = self._spread(np.where(chosen.good & (values == 0), number, 0))
            places = (keys + tables.indices + indices.astype("u8") + key)[which] + within * width[which]
            value, sure = self._read(places + 8)
            chosen.good[which[~sure]] = False
            used = value != 0  # else it was deleted
            yield np.repeat(which[used], 2), np.stack([places[used], places[used] + 8], axis=1).ravel()

        return part

    def attributes(self, instances: Instances, tables: KeyTables, type_: Type, names: int) -> Part:
        """What stands for ``__dict__`` in front of an instance's GC head: the dict, or values without one (3.11+).

        *names*: how many keys the instances of the type share.
        """
        np = self._np

        def part(chosen: Chosen) -> Iterator[tuple[Any, Any]]:
            place = chosen.addresses + np.int64(instances.managed_dict).astype("u8")
            word, sure = self._read(place)
            chosen.good[:] &= sure
            dicts = word != 0
            if instances.inline:
                values = chosen.addresses + type_.basicsize
                without = ~dicts & instances.has_inline(type_) & (self._read_bytes(values + (tables.valid or 0)) != 0)
            elif instances.tagged:
                without = word & 1 != 0
                dicts &= ~without
                values = word + 1
            else:
                values, sure = self._read(chosen.addresses + np.int64(instances.managed_first).astype("u8"))
                chosen.good[:] &= sure
                without = ~dicts & (values != 0)
            yield np.flatnonzero(dicts), place[dicts]
            if names:
                rows = np.flatnonzero(without & chosen.good)
                number = np.full(len(rows), names, "u8")
                which, places = self._in_order(tables, values[rows], number, rows, chosen.good)
                yield rows[which], places

        return part

    def _in_order(self, tables: KeyTables, values: Any, names: Any, rows: Any, good: Any) -> tuple[Any, Any]:
        # The values that are in use, of as many as there are *names*, in insertion order (see KeyTables.order): which
        # of *values*, and the places.
        np = self._np
        first = values + tables.first_value
        good[rows[(names != 0) & ~self._read(first + 8 * (names - 1))[1]]] = False
        if tables.values is None:
            which, index = self._spread(names)
        elif tables.sizes is not None:
            capacity, size = (self._read_bytes(values + offset).astype("u8") for offset in tables.sizes)
            which, within = self._spread(np.minimum(size, capacity))
            index = self._read_bytes(first[which] + 8 * capacity[which] + within)
        else:
            which, within = self._spread(self._read_bytes(first - 2))
            index = self._read_bytes(first[which] - 3 - within)
        used = index < names[which]
        return which[used], first[which[used]] + 8 * index[used].astype("u8")

    def _spread(self, number: Any) -> tuple[Any, Any]:
        # For *number* elements of each: whose each element is, and its number there.
        np = self._np
        number = number.astype("i8")
        which = np.repeat(np.arange(len(number)), number)
        return which, (np.arange(len(which)) - np.repeat(np.cumsum(number) - number, number)).astype("u8")

    def _within(self, places: Any, size: int) -> tuple[Any, Any]:
        # Where they are in the copy, and whether it has that many bytes there.
        np = self._np
        stretch = np.searchsorted(self._bases, places, "right") - 1
        within = places - self._bases[stretch]
        return self._firsts[stretch] + within, (stretch >= 0) & (within + size <= self._sizes[stretch])

    def _read(self, places: Any) -> tuple[Any, Any]:
        # The words, and whether they could be read.
        at, sure = self._within(places, 8)
        sure &= places & 7 == 0
        return self._words[self._np.where(sure, at >> 3, 0)], sure

    def _read_bytes(self, places: Any) -> Any:
        # Next to words that can be read; 0 where they cannot.
        at, sure = self._within(places, 1)
        return self._np.where(sure, self._bytes[self._np.where(sure, at, 0)], 0)

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
        ends = np.zeros(len(self._addresses) + 1, "i8")
        for rows, _, _ in self._found:
            first, number = self._runs(rows)
            ends[1 + rows[first]] += number
        np.cumsum(ends, out=ends)
        following = ends[:-1].copy()  # where the next reference of each row goes
        columns = [array("Q", [0]) * int(ends[-1]) for _ in range(2)]
        for rows, *found in self._found:
            first, number = self._runs(rows)
            at = np.repeat(following[rows[first]] - first, number) + np.arange(len(rows))
            for column, values in zip(columns, found):
                np.frombuffer(column, "u8")[at] = values
            following[rows[first]] += number
        self._found.clear()
        return array("Q", ends.tobytes()), columns[0], columns[1]

    def _runs(self, rows: Any) -> tuple[Any, Any]:
        # Where each row begins among ascending *rows*, and how often it is there.
        first = self._np.flatnonzero(self._np.diff(rows, prepend=-1))
        return first, self._np.diff(first, append=len(rows))
