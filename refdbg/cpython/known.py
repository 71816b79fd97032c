"""The references that the objects of a heap are known to own, all at once: columns without labels.

What `Owned.references` says of one object, for the kinds that heaps consist of: an object costs two microseconds here
and fifty there.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from mmap import mmap

from refdbg.cpython.heap import resident_stretches
from refdbg.cpython.many import Many, Stretch
from refdbg.cpython.owned import Owned
from refdbg.cpython.stop import Stop
from refdbg.cpython.total import interned_dicts
from refdbg.cpython.types import Type
from refdbg.dependencies import vectors
from refdbg.errors import DecodeError, LayoutNotFound, MemoryFault

_U64 = struct.Struct("<Q")
_NULL = bytes(8)
_DUMMY_HASH = 0xFFFF_FFFF_FFFF_FFFF
_PIECE = 1 << 20  # bytes that are read at once
_MANY = 1000  # objects of a type
_LIMIT = 1 << 26  # words: a container that claims more is damaged

# Appends what an object owns: (the words of its stretch of memory, its place in them, its address).
_Take = Callable[[memoryview, int, int], None]


@dataclass(frozen=True)
class Known:
    """By row of ``heap.objects``: the words that own, and what they refer to (``PyObject *``).

    Those of row n stand at [starts[n], starts[n + 1]) of *places* and *targets*. *others*: rows of which nothing is
    told here, and `Owned` must be asked; *unsure*: rows of types whose C struct may hold more than is known.
    """

    starts: array[int]
    places: array[int]
    targets: array[int]
    others: frozenset[int]
    unsure: frozenset[int]


def known_references(stop: Stop) -> Known:
    """The known references of all objects on the heap; `Stop.known` has them. Raises RefdbgError."""
    return _Reader(stop, Owned(stop.texts)).read()


def _copied(stop: Stop) -> tuple[mmap, list[Stretch]]:
    # The writable memory as far as it can be read, in memory that the kernel gets back at once: of malloc's it would
    # not.
    wanted = [(start, end) for _, start, end in resident_stretches(stop.runtime.target)]
    if stop.copy is not None:
        places = [(start, *stop.copy.place(start, end)) for start, end in wanted]
        return stop.copy.buffer, [Stretch(*place) for place in places]
    copy = mmap(-1, max(sum(end - start for start, end in wanted), 1))
    found, first = [], 0
    with memoryview(copy) as view:
        for start, end in wanted:
            size = 0
            for place in range(start, end, _PIECE):
                more = min(_PIECE, end - place)
                done = stop.runtime.memory.read_into(place, view[first + size : first + size + more])
                size += done
                if done < more:
                    break
            found.append(Stretch(start, first, size))
            first += (end - start + 7) & -8
    return copy, found


@dataclass(frozen=True)
class _Shape:
    # Where an object's references are: in a container's storage, at offsets, and in the dict or the values of an
    # instance of the type *managed*.
    container: str
    offsets: tuple[int, ...]
    managed: Type | None


class _Reader:
    def __init__(self, stop: Stop, owned: Owned) -> None:
        self._stop = stop
        self._owned = owned
        self._memory = stop.runtime.memory
        self._tables = stop.texts.containers.tables
        self._copy, self._stretches = _copied(stop)
        self._bases = [stretch.base for stretch in self._stretches]
        self._here = Stretch(0, 0, 0)
        self._names: dict[int, int] = {}  # how many keys a shared table has
        self._places, self._targets = array("Q"), array("Q")
        layout = stop.runtime.build.layout
        self._size = stop.texts.scalars.ob_size // 8
        self._list_items = layout("PyListObject").offset("ob_item") // 8
        self._tuple_items = layout("PyTupleObject").offset("ob_item")
        self._ma_keys, self._ma_values = (layout("PyDictObject").offset(name) // 8 for name in ("ma_keys", "ma_values"))
        self._set_used, self._set_mask, self._set_table = (
            layout("PySetObject").offset(name) // 8 for name in ("used", "mask", "table")
        )
        self._containers: dict[str, _Take] = {
            "list": self._list, "tuple": self._tuple, "dict": self._dict, "set": self._set,
        }

    def read(self) -> Known:
        objects = self._stop.heap.objects
        shapes = {type_: self._shape(type_) for type_ in set(objects.types)}
        takes = {type_: self._take(shape) if shape else None for type_, shape in shapes.items()}
        other_types = {type_ for type_, take in takes.items() if take is None}
        others = set(objects.of_types(other_types))
        interned = interned_dicts(self._stop)  # their references are not counted
        many = self._many(shapes, interned)
        rows, addresses, row_types = many.rest(objects) if many else (
            range(len(objects)), objects.addresses, objects.types
        )
        starts, targets, places = array("Q", [0]), self._targets, self._places
        first = 0
        for stretch in self._stretches:
            self._here, base = stretch, stretch.base
            words = memoryview(self._copy)[stretch.first : stretch.first + (stretch.size & ~7)].cast("Q")
            behind = bisect_left(addresses, base + stretch.size)
            for row, address, type_ in zip(rows[first:behind], addresses[first:behind], row_types[first:behind]):
                take = takes[type_]
                if take is not None:
                    try:
                        take(words, (address - base) >> 3, address)
                    except (MemoryFault, DecodeError, IndexError):  # damaged, or it begins in another stretch
                        del targets[starts[-1] :], places[starts[-1] :]
                        others.add(row)
                    if address in interned:
                        del targets[starts[-1] :], places[starts[-1] :]
                        others.add(row)
                starts.append(len(targets))
            first = behind
            words.release()
        if many:
            starts, places, targets = many.joined(starts, places, targets)
        del self._copy  # the copy of the memory: what is bound to this object would keep it
        types = self._stop.types
        unsure_types = {type_ for type_ in takes.keys() - other_types if self._owned.may_own_more(types[type_])}
        return Known(starts, places, targets, frozenset(others), frozenset(objects.of_types(unsure_types)))

    def _many(self, shapes: dict[int, _Shape | None], interned: Collection[int]) -> Many | None:
        # The objects of the types that have many, where they can be read without a loop.
        objects = self._stop.heap.objects
        np = vectors(len(objects))
        if np is None:
            return None
        found = Many(np, objects, self._copy, self._stretches, interned)
        storage = {
            "list": [found.elements(8 * self._size, 8 * self._list_items, inline=False)],
            "tuple": [found.elements(8 * self._size, self._tuple_items, inline=True)],
            "dict": [found.entries(self._tables, 8 * self._ma_keys, 8 * self._ma_values)],
            "": [],
        }
        for type_, number in Counter(objects.types).items():
            shape = shapes[type_]
            if shape is None or shape.container not in storage or number < _MANY:
                continue
            parts = storage[shape.container]
            if shape.managed is not None:
                instances = self._stop.texts.instances
                try:
                    keys = instances.cached_keys(shape.managed)
                    names = self._tables.table(keys, self._span)[3] if keys else 0
                except (DecodeError, MemoryFault):
                    continue
                parts = [*parts, found.attributes(instances, self._tables, shape.managed, names)]
            found.add(type_, *parts, found.fixed(shape.offsets))
        return found

    def _shape(self, type_address: int) -> _Shape | None:
        # Where the references of the type's instances are; None where Owned must be asked.
        try:
            type_ = self._stop.types[type_address]
            fixed = self._owned.fixed_words(type_)
            if fixed is None or (type_.dictoffset < 0 and not self._is_managed(type_)):
                return None
        except (DecodeError, MemoryFault, LayoutNotFound):
            return None
        container, offsets = fixed
        if self._is_managed(type_):
            return _Shape(container or "", tuple(offsets), type_)
        if type_.dictoffset:
            offsets = sorted({*offsets, type_.dictoffset})
        return _Shape(container or "", tuple(offsets), None)

    def _take(self, shape: _Shape) -> _Take:
        takes: list[_Take] = [self._containers[shape.container]] if shape.container else []
        if shape.managed is not None:
            takes.append(self._managed(shape.managed))
        if shape.offsets:
            takes.append(self._fixed([offset // 8 for offset in shape.offsets]))
        if len(takes) == 1:
            return takes[0]

        def take(words: memoryview, at: int, address: int) -> None:
            for each in takes:
                each(words, at, address)

        return take

    def _span(self, address: int, size: int) -> bytes:
        # All of the bytes, most often of the stretch at hand. Raises MemoryFault.
        here = self._here
        at = address - here.base
        if not 0 <= at <= here.size - size:
            row = bisect_right(self._bases, address) - 1
            here = self._stretches[row]
            at = address - here.base
            if row < 0 or at > here.size - size:
                return self._memory.read(address, size)
        at += here.first
        return self._copy[at : at + size]

    def _fixed(self, offsets: list[int]) -> _Take:
        add_place, add_target = self._places.append, self._targets.append

        def take(words: memoryview, at: int, address: int) -> None:
            for offset in offsets:
                target = words[at + offset]
                if target:
                    add_place(address + 8 * offset)
                    add_target(target)

        return take

    def _list(self, words: memoryview, at: int, address: int) -> None:
        count = words[at + self._size]
        if count:
            self._words(words[at + self._list_items], count)

    def _tuple(self, words: memoryview, at: int, address: int) -> None:
        count = words[at + self._size]
        if count:
            self._words(address + self._tuple_items, count)

    def _words(self, place: int, count: int) -> None:
        if count > _LIMIT:
            raise DecodeError(f"{count} elements at {place:#x}")
        found = self._span(place, 8 * count)
        self._targets.frombytes(found)
        self._places.extend(range(place, place + 8 * count, 8))
        if _NULL in found:  # or so it seems
            words = self._targets[-count:]
            del self._targets[-count:], self._places[-count:]
            self._targets.extend([word for word in words if word])
            self._places.extend([place + 8 * index for index, word in enumerate(words) if word])

    def _dict(self, words: memoryview, at: int, address: int) -> None:
        keys, values = words[at + self._ma_keys], words[at + self._ma_values]
        if values:
            self._values(keys, values)
            return
        start, key, size, count = self._tables.table(keys, self._span)
        if not count:
            return
        found = array("Q", self._span(start, count * size))
        places = array("Q", range(start, start + count * size, 8))
        if key:  # the hash stands in front of it
            del found[:: size // 8], places[:: size // 8]
        if 0 in found:  # deleted entries, by their values
            pairs = [pair for pair in zip(places[::2], found[::2], places[1::2], found[1::2]) if pair[3]]
            found = array("Q", [word for pair in pairs for word in pair[1::2]])
            places = array("Q", [place for pair in pairs for place in pair[::2]])
        self._targets.extend(found)
        self._places.extend(places)

    def _values(self, keys: int, values: int) -> None:
        # The values of a shared table: its keys are the table's.
        count = self._names.get(keys)
        if count is None:
            count = self._names[keys] = self._tables.table(keys, self._span)[3]
        first, order = self._tables.order(values, count, self._span)
        found = array("Q", self._span(first, 8 * count))
        for index in order:
            if index < count and found[index]:
                self._places.append(first + 8 * index)
                self._targets.append(found[index])

    def _set(self, words: memoryview, at: int, address: int) -> None:
        used = words[at + self._set_used]
        if not used:
            return
        slots = words[at + self._set_mask] + 1
        if slots > _LIMIT:
            raise DecodeError(f"the set at {address:#x} claims {slots} slots")
        table = words[at + self._set_table]
        found = array("Q", self._span(table, 16 * slots))  # (key, hash) each
        for index, key in enumerate(found[::2]):
            if key and found[2 * index + 1] != _DUMMY_HASH:
                self._places.append(table + 16 * index)
                self._targets.append(key)

    # Attributes

    def _is_managed(self, type_: Type) -> bool:
        return self._stop.texts.instances.is_managed(type_)

    def _managed(self, type_: Type) -> _Take:
        # The dict of an instance, or the values that it has without one.
        instances = self._stop.texts.instances
        keys = instances.cached_keys(type_)

        place = instances.dict_place(0, type_)

        def take(words: memoryview, at: int, address: int) -> None:
            if words[at + place // 8]:
                dict_ = instances.dict_of(address, type_, self._word)
                if dict_:
                    self._places.append(address + place)
                    self._targets.append(dict_)
                    return
            values = instances.values_of(address, type_, self._word)
            if values and keys:
                self._values(keys, values)

        return take

    def _word(self, address: int) -> int:
        return int(_U64.unpack(self._span(address, 8))[0])
