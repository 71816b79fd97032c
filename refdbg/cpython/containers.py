"""The storage of dict, list, tuple, set, deque and OrderedDict. *place* is always the address of the word read."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from refdbg.cpython.runtime import Runtime
from refdbg.cpython.scalars import Scalars
from refdbg.errors import DecodeError, LayoutNotFound
from refdbg.target.layout import StructLayout

LIMIT = 1 << 26  # elements: a container that claims more is damaged
_SHARED_LIMIT = 1 << 16
_CHUNK = 512
_WORD = struct.Struct("<Q")
Read = Callable[[int, int], bytes]  # the bytes at an address, all of them; raises MemoryFault


class Item(NamedTuple):
    """One element: the address of the word that refers to it, and its own (``PyObject *``)."""

    place: int
    target: int


class Entry(NamedTuple):
    """One entry of a dict. The keys of a shared table belong to the table: *shared*."""

    key_place: int
    key: int
    value_place: int
    value: int
    shared: bool = False


class Containers:
    """Walks the elements of the built-in containers. Each iterator ends with DecodeError or MemoryFault at damage."""

    def __init__(self, runtime: Runtime, scalars: Scalars) -> None:
        """Raises LayoutNotFound."""
        build = runtime.build
        self._runtime = runtime
        self._memory = runtime.memory
        self._scalars = scalars
        self._ob_type = build.ob_type
        self._str = runtime.target.address_of("PyUnicode_Type")
        self._list_items = build.layout("PyListObject").offset("ob_item")
        self._tuple_items = build.layout("PyTupleObject").offset("ob_item")
        dict_ = build.layout("PyDictObject")
        self._used, self._keys, self._values = (dict_.offset(name) for name in ("ma_used", "ma_keys", "ma_values"))
        self._dict_size = dict_.size
        self.tables = KeyTables(runtime)
        set_ = build.layout("PySetObject")
        self._set_used, self._set_mask, self._set_table = (set_.offset(name) for name in ("used", "mask", "table"))
        entry = build.layout("setentry")
        self._set_entry = entry.size
        self._set_key, self._set_hash = entry.offset("key"), entry.offset("hash")

    def words(self, address: int, count: int) -> Iterator[Item]:
        """The *count* words from *address* that are not NULL. Raises DecodeError, MemoryFault."""
        if not 0 <= count <= LIMIT:
            raise DecodeError(f"{count} elements at {address:#x}")
        for start in range(0, count, _CHUNK):
            place = address + 8 * start
            data = self._memory.read(place, 8 * min(_CHUNK, count - start))
            for index, (word,) in enumerate(_WORD.iter_unpack(data)):
                if word:
                    yield Item(place + 8 * index, word)

    def list_items(self, address: int) -> Iterator[Item]:
        """*address*: ``PyListObject *``."""
        size = self._scalars.size(address)
        return self.words(self._memory.u64(address + self._list_items), size)

    def list_start(self, address: int) -> int:
        """``ob_item`` of a list: where element 0 is."""
        return self._memory.u64(address + self._list_items)

    def tuple_start(self, address: int) -> int:
        """Where element 0 of a tuple is."""
        return address + self._tuple_items

    def tuple_items(self, address: int) -> Iterator[Item]:
        """*address*: ``PyTupleObject *``."""
        return self.words(address + self._tuple_items, self._scalars.size(address))

    def set_length(self, address: int) -> int:
        """*address*: ``PySetObject *``."""
        return self._memory.u64(address + self._set_used)

    def set_items(self, address: int) -> Iterator[Item]:
        """*address*: ``PySetObject *`` (set or frozenset). Dummies have the hash -1, which no element has."""
        slots = self._memory.u64(address + self._set_mask) + 1
        if not 0 < slots <= LIMIT:
            raise DecodeError(f"the set at {address:#x} claims {slots} slots")
        table = self._memory.u64(address + self._set_table)
        size = self._set_entry
        left = self.set_length(address)
        for start in range(0, slots, _CHUNK):
            data = self._memory.read(table + start * size, min(_CHUNK, slots - start) * size)
            for offset in range(0, len(data), size):
                if left <= 0:
                    return
                (key,) = _WORD.unpack_from(data, offset + self._set_key)
                if key and _WORD.unpack_from(data, offset + self._set_hash)[0] != 0xFFFF_FFFF_FFFF_FFFF:
                    left -= 1
                    yield Item(table + start * size + offset + self._set_key, key)

    def dict_length(self, address: int) -> int:
        """``ma_used``. *address*: ``PyDictObject *``."""
        return self._memory.u64(address + self._used)

    def dict_items(self, address: int) -> Iterator[Entry]:
        """The entries in insertion order. *address*: ``PyDictObject *``."""
        keys = self._memory.u64(address + self._keys)
        values = self._memory.u64(address + self._values)
        return self.tables.split(keys, values) if values else self.tables.combined(keys)

    def lookup(self, address: int, name: str) -> int:
        """The value of the str key *name*, 0 when there is none. *address*: ``PyDictObject *``."""
        for entry in self.dict_items(address):
            if self.is_text(entry.key, name):
                return entry.value
        return 0

    def is_text(self, address: int, text: str) -> bool:
        """Whether the object is exactly the str *text*. Raises DecodeError, MemoryFault."""
        scalars = self._scalars
        return (
            self._memory.u64(address + self._ob_type) == self._str
            and scalars.length(address) == len(text)
            and scalars.text(address, len(text)) == text
        )

    def deque_items(self, address: int) -> Iterator[Item]:
        """*address*: ``dequeobject *`` (Modules/_collectionsmodule.c)."""
        deque = self._runtime.build.layout("dequeobject")
        block = self._runtime.build.layout("BLOCK")  # its tag: the typedef `block` is also pyarena.c's
        data, capacity, right = block.offset("data"), block["data"].count, block.offset("rightlink")
        left = self._scalars.size(address)
        if left > LIMIT:
            raise DecodeError(f"the deque at {address:#x} claims {left} elements")
        position = self._memory.u64(address + deque.offset("leftblock"))
        index = self._memory.u64(address + deque.offset("leftindex"))
        while left > 0:
            count = min(left, capacity - index)
            if count <= 0:
                raise DecodeError(f"the deque at {address:#x} starts at {index} of a block")
            yield from self.words(position + data + 8 * index, count)
            left -= count
            index = 0
            if left:
                position = self._memory.u64(position + right)

    def deque_maxlen(self, address: int) -> int:
        """-1 when there is none. *address*: ``dequeobject *``."""
        field = self._runtime.build.layout("dequeobject")["maxlen"]
        return self._memory.integer(address + field.offset, 8, signed=True)

    def odict_keys(self, address: int) -> Iterator[Item]:
        """The keys in order, by the nodes that own a reference each. *address*: ``PyODictObject *``."""
        build = self._runtime.build
        odict, node = build.layout("PyODictObject"), build.layout("_odictnode")
        key, following = node.offset("key"), node.offset("next")
        position = self._memory.u64(address + odict.offset("od_first"))
        left = min(self.dict_length(address), LIMIT)
        while position and left > 0:  # as many as the dict has entries: a loop ends
            yield Item(position + key, self._memory.u64(position + key))
            position = self._memory.u64(position + following)
            left -= 1


class KeyTables:
    """``PyDictKeysObject`` and the value tables of split dicts (Objects/dictobject.c)."""

    def __init__(self, runtime: Runtime) -> None:
        """Raises LayoutNotFound."""
        build = runtime.build
        self._memory = runtime.memory
        keys = self._layout = build.layout("PyDictKeysObject")
        self.indices, self.nentries = keys.offset("dk_indices"), keys.offset("dk_nentries")
        self.entry = self.unicode_entry = _entry(build.layout("PyDictKeyEntry"))  # (offset of the key, size)
        # 3.11+: the table's size as a logarithm, and entries without hash when all keys are str.
        self.log2 = keys.offset("dk_log2_size") if "dk_log2_size" in keys else None
        self.index_log2 = keys.offset("dk_log2_index_bytes") if "dk_log2_index_bytes" in keys else None
        self.kind = keys.offset("dk_kind") if "dk_kind" in keys else None
        self.size = keys.offset("dk_size") if "dk_size" in keys else None
        if self.kind is not None:
            self.unicode_entry = _entry(build.layout("PyDictUnicodeEntry"))
        self.values = self._values_layout(runtime)
        self.first_value = self.values.offset("values") if self.values is not None else 0
        self.sizes: tuple[int, int] | None = None
        if self.values is not None and "capacity" in self.values:
            self.sizes = self.values.offset("capacity"), self.values.offset("size")
        self.valid = self.values.offset("valid") if self.values is not None and "valid" in self.values else None

    @staticmethod
    def _values_layout(runtime: Runtime) -> StructLayout | None:
        # 3.11+; before, ma_values pointed to the first value.
        for name in ("PyDictValues", "_dictvalues"):
            try:
                return runtime.build.layout(name)
            except LayoutNotFound:
                continue
        return None

    def table(self, keys: int, read: Read) -> tuple[int, int, int, int]:
        """(address of the entries, where the key is in one, its size, how many are used). The value follows the key.

        *keys*: ``PyDictKeysObject *``.

        Raises DecodeError, MemoryFault.
        """
        header = read(keys, self.indices)
        (count,) = _WORD.unpack_from(header, self.nentries)
        if self.log2 is not None and self.index_log2 is not None:
            slots, index = header[self.log2], header[self.index_log2]
            if slots > 48 or index > 52:
                raise DecodeError(f"the dict keys at {keys:#x} claim 2**{slots} slots")
            size, index_bytes = 1 << slots, 1 << index
        else:
            size = _WORD.unpack_from(header, self.size)[0] if self.size is not None else 0
            width = 1 if size <= 0xFF else 2 if size <= 0xFFFF else 4 if size <= 0xFFFF_FFFF else 8
            index_bytes = size * width
        if count > size or count > LIMIT:
            raise DecodeError(f"the dict keys at {keys:#x} claim {count} entries in {size} slots")
        general = self.kind is None or header[self.kind] == 0  # DICT_KEYS_GENERAL
        key, entry = self.entry if general else self.unicode_entry
        return keys + self.indices + index_bytes, key, entry, count

    def combined(self, keys: int) -> Iterator[Entry]:
        """The entries of a table that has its own values. *keys*: ``PyDictKeysObject *``."""
        start, key, size, count = self.table(keys, self._memory.read)
        record = struct.Struct(f"<{key}xQQ{size - key - 16}x")
        for first in range(0, count, _CHUNK):
            place = start + first * size
            for pair in record.iter_unpack(self._memory.read(place, size * min(_CHUNK, count - first))):
                if pair[1]:
                    yield Entry(place + key, pair[0], place + key + 8, pair[1])
                place += size

    def names(self, keys: int) -> list[Item]:
        """The keys of a shared table by index."""
        start, key, size, count = self.table(keys, self._memory.read)
        if count > _SHARED_LIMIT:
            raise DecodeError(f"the shared dict keys at {keys:#x} claim {count} entries")
        places = [start + index * size + key for index in range(count)]
        return [Item(place, self._memory.u64(place)) for place in places]

    def split(self, keys: int, values: int) -> Iterator[Entry]:
        """The entries of a shared table with these values, in insertion order.

        *keys*: ``PyDictKeysObject *``; *values*: ``PyDictValues *`` (3.11+) or ``PyObject **``.
        """
        names = self.names(keys)
        first, order = self.order(values, len(names), self._memory.read)
        for index in order:
            if index < len(names):
                place = first + 8 * index
                value = self._memory.u64(place)
                if value:
                    yield Entry(*names[index], place, value, shared=True)

    def order(self, values: int, count: int, read: Read) -> tuple[int, range | bytes]:
        """(address of value 0, the indices of the *count* values that are in use, in insertion order).

        *values*: as in `split`. Raises MemoryFault.
        """
        if self.values is None:
            return values, range(count)
        first = values + self.first_value
        if self.sizes is not None:  # 3.13+: sizes in front, the order behind the values
            capacity, size = (read(values + offset, 1)[0] for offset in self.sizes)
            return first, read(first + 8 * capacity, min(size, capacity))
        # 3.11, 3.12: [-1] prefix size, [-2] used size, [-3 - n] the order
        size = read(first - 2, 1)[0]
        return first, read(first - 2 - size, size)[::-1]

    def are_valid(self, values: int) -> bool:
        """Whether inline values are in use (3.13+). *values*: ``PyDictValues *``."""
        return self.valid is not None and bool(self._memory.integer(values + self.valid, 1))


def _entry(layout: StructLayout) -> tuple[int, int]:
    # (where the key is in an entry of a dict, the entry's size). Raises LayoutNotFound.
    key = layout.offset("me_key")
    if layout.offset("me_value") != key + 8:
        raise LayoutNotFound("the dict entry's value does not follow its key")
    return key, layout.size
