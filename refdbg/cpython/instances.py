"""What an instance keeps beside its C struct: ``__dict__``, inline values, slots, weak reference list."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

from refdbg.cpython.containers import Containers, Entry
from refdbg.cpython.runtime import Runtime
from refdbg.cpython.scalars import Scalars
from refdbg.cpython.types import MANAGED_DICT, MANAGED_WEAKREF, Type, Types
from refdbg.errors import DecodeError, LayoutNotFound, MemoryFault

# Since 3.13 (Include/cpython/object.h: Py_TPFLAGS_INLINE_VALUES); before, the bit meant nothing.
INLINE_VALUES = 1 << 2

# Include/structmember.h: members that hold a reference.
_T_OBJECT = 6
_T_OBJECT_EX = 16
_MEMBERS_LIMIT = 1 << 12
Word = Callable[[int], int]  # the unsigned word at an address; raises MemoryFault
_NAME_LIMIT = 1 << 10


@dataclass(frozen=True)
class Member:
    """A word of the instance that ``tp_members`` names and says to be an object, NULL or not.

    *slot*: of ``__slots__``, which owns its reference; what a C type declares may be borrowed.
    """

    name: str
    offset: int
    slot: bool


class Instances:
    """Finds the attributes of instances."""

    def __init__(self, runtime: Runtime, types: Types, scalars: Scalars, containers: Containers) -> None:
        """Raises LayoutNotFound."""
        build = runtime.build
        self._memory = runtime.memory
        self._types = types
        self._scalars = scalars
        self._containers = containers
        self._ob_type = build.ob_type
        self._type_type = runtime.target.address_of("PyType_Type")
        self._tp_members = build.type.offset("tp_members")
        self._member = build.layout("PyMemberDef")
        # Include/internal/pycore_object.h, MANAGED_DICT_OFFSET and MANAGED_WEAKREF_OFFSET: in front of the GC head.
        self.managed_dict = -build.gc_head_size - 8
        self.managed_first = -build.gc_head_size - 16
        heap_type = build.layout("PyHeapTypeObject")
        self._cached_keys = heap_type.offset("ht_cached_keys") if "ht_cached_keys" in heap_type else None
        self._slots = heap_type.offset("ht_slots")
        self.inline = containers.tables.valid is not None  # 3.13+
        self.tagged = _has(runtime, "PyDictOrValues")  # 3.12
        self._members: dict[int, tuple[Member, ...]] = {}

    def is_managed(self, type_: Type) -> bool:
        """Whether the instances' attributes stand in front of their GC head, or inline (3.11+)."""
        return self._types.has_preheader and bool(type_.flags & MANAGED_DICT)

    def has_inline(self, type_: Type) -> bool:
        """Whether instances have room for values behind their struct (3.13+)."""
        return self.inline and bool(type_.flags & INLINE_VALUES)

    def dict_place(self, address: int, type_: Type) -> int:
        """Where the instance's ``__dict__`` pointer is, 0 when it has none (Objects/object.c, _PyObject_GetDictPtr).

        Raises MemoryFault.
        """
        if self.is_managed(type_):
            return address + self.managed_dict
        offset = type_.dictoffset
        if offset < 0:  # from the end of a variable-sized object
            size = abs(self._scalars.size(address))
            offset += (type_.basicsize + size * type_.itemsize + 7) & ~7
        if offset <= 0 or address == 0:
            return 0
        return address + offset

    def dict_of(self, address: int, type_: Type, word: Word | None = None) -> int:
        """The instance's dict object, 0 when it has none (yet). *word*: what reads one. Raises MemoryFault."""
        place = self.dict_place(address, type_)
        if not place:
            return 0
        found = (word or self._memory.u64)(place)
        if self.tagged and type_.flags & MANAGED_DICT and found & 1:
            return 0  # 3.12: the word is the tagged address of the values
        return found

    def values_of(self, address: int, type_: Type, word: Word | None = None) -> int:
        """The values of an instance without a dict of its own (``PyDictValues *``), 0 when there are none.

        *word*: what reads one. Raises MemoryFault.
        """
        if not self.is_managed(type_):
            return 0
        word = word or self._memory.u64
        if self.inline:  # 3.13+: behind the struct
            values = address + type_.basicsize
            return values if self.has_inline(type_) and self._containers.tables.are_valid(values) else 0
        if self.tagged:  # 3.12: dict and values share a word, whose lowest bit says values
            found = word(address + self.managed_dict)
            return found + 1 if found & 1 else 0
        return word(address + self.managed_first)  # 3.11: two words

    def inline_entries(self, address: int, type_: Type) -> Iterator[Entry]:
        """The attributes that the instance keeps without a dict. Raises DecodeError, MemoryFault."""
        values = self.values_of(address, type_)
        if values and self._cached_keys is not None:
            keys = self._memory.u64(type_.address + self._cached_keys)
            if keys:
                yield from self._containers.tables.split(keys, values)

    def cached_keys(self, type_: Type) -> int:
        """The table of the keys that the type's instances share (``PyDictKeysObject *``), 0 when there is none."""
        if self._cached_keys is None or not type_.is_heap:
            return 0
        return self._memory.u64(type_.address + self._cached_keys)

    def attributes(self, address: int, type_: Type) -> Iterator[Entry]:
        """The entries of the instance's ``__dict__``, wherever they are. Raises DecodeError, MemoryFault."""
        dict_ = self.dict_of(address, type_)
        if dict_:
            yield from self._containers.dict_items(dict_)
        else:
            yield from self.inline_entries(address, type_)

    def attribute(self, address: int, type_: Type, name: str) -> int:
        """An attribute of the instance's own (``__dict__`` or slot), 0 when there is none.

        Raises DecodeError, MemoryFault.
        """
        dict_ = self.dict_of(address, type_)
        if dict_:
            found = self._containers.lookup(dict_, name)
        else:
            entries = self.inline_entries(address, type_)
            found = next((entry.value for entry in entries if self._containers.is_text(entry.key, name)), 0)
        if not found:
            for member in self.members(type_.address):
                if member.name == name:
                    return self._memory.u64(address + member.offset)
        return found

    def borrowed(self, type_: Type) -> list[int]:
        """The offsets of words that are no references: the weak reference list. Negative ones lie in front."""
        found = [type_.weaklistoffset] if type_.weaklistoffset else []
        if self._types.has_preheader and type_.flags & MANAGED_WEAKREF:
            found.append(self.managed_first)
        return found

    def members(self, type_: int) -> tuple[Member, ...]:
        """The members of the type and its bases that hold objects: slots, and C fields with a name.

        *type_*: ``PyTypeObject *``. Raises nothing: what cannot be read is left out.
        """
        known = self._members.get(type_)
        if known is None:
            found: dict[int, Member] = {}
            for base in self._types.mro(type_):
                try:
                    for member in self._own_members(base):
                        found.setdefault(member.offset, member)
                except (DecodeError, MemoryFault):
                    continue
            known = self._members[type_] = tuple(sorted(found.values(), key=lambda member: member.offset))
        return known

    def _own_members(self, type_: int) -> Iterator[Member]:
        layout, memory = self._member, self._memory
        position = memory.u64(type_ + self._tp_members)
        slots = self._slot_names(type_)
        for _ in range(_MEMBERS_LIMIT if position else 0):
            name = memory.u64(position + layout.offset("name"))
            if not name:
                return
            kind = memory.integer(position + layout.offset("type"), layout["type"].size)
            offset = memory.integer(position + layout.offset("offset"), 8, signed=True)
            if kind in (_T_OBJECT, _T_OBJECT_EX) and offset > 0 and not offset & 7:
                text = memory.c_string(name, _NAME_LIMIT)
                yield Member(text, offset, any(self._containers.is_text(slot, text) for slot in slots))
            position += layout.size

    def _slot_names(self, type_: int) -> list[int]:
        # Only a class statement sets ht_slots (Objects/typeobject.c, type_new); PyType_FromSpec leaves it NULL.
        slots = self._memory.u64(type_ + self._slots) if self._types[type_].is_heap else 0
        return [item.target for item in islice(self._containers.tuple_items(slots), _MEMBERS_LIMIT)] if slots else []


def _has(runtime: Runtime, struct: str) -> bool:
    try:
        runtime.build.layout(struct)
    except LayoutNotFound:
        return False
    return True
