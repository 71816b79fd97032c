"""PyTypeObject, decoded once per type and stop."""

from __future__ import annotations

from dataclasses import dataclass

from refdbg.cpython.runtime import Runtime
from refdbg.errors import DecodeError, LayoutNotFound, MemoryFault

# Include/object.h: the same bits from 3.9 to 3.15.
HEAPTYPE = 1 << 9
HAVE_GC = 1 << 14
LONG_SUBCLASS = 1 << 24
LIST_SUBCLASS = 1 << 25
TUPLE_SUBCLASS = 1 << 26
BYTES_SUBCLASS = 1 << 27
UNICODE_SUBCLASS = 1 << 28
DICT_SUBCLASS = 1 << 29
BASE_EXC_SUBCLASS = 1 << 30
TYPE_SUBCLASS = 1 << 31
# Since 3.11 (Py_TPFLAGS_MANAGED_DICT) and 3.12 (Py_TPFLAGS_MANAGED_WEAKREF); the bits meant nothing before.
MANAGED_DICT = 1 << 4
MANAGED_WEAKREF = 1 << 3

_LARGEST_FINALIZED = 1 << 12  # bytes of an instance
_METATYPE_DEPTH = 8
LOWEST_ADDRESS = 1 << 12
HIGHEST_ADDRESS = 1 << 47


@dataclass(frozen=True)
class Type:
    """A type object. *address*, *base*, *dict*: ``PyObject *``; the slots are code addresses, 0 when empty."""

    address: int
    name: str
    flags: int
    basicsize: int
    itemsize: int
    dictoffset: int
    weaklistoffset: int
    base: int
    dict: int
    finalize: int
    legacy_del: int
    traverse: int
    clear: int
    prefix: int

    @property
    def is_heap(self) -> bool:
        """A heap type: its instances own a reference to it."""
        return bool(self.flags & HEAPTYPE)

    @property
    def is_gc(self) -> bool:
        """Its instances can be tracked by the collector."""
        return bool(self.flags & HAVE_GC)


class Types:
    """The types of one stop by address; tells whether an address is a type."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._memory = runtime.memory
        build = runtime.build
        self._type_type = runtime.target.address_of("PyType_Type")
        self._ob_type = build.ob_type
        self._offset = {name: field.offset for name, field in build.type.fields.items()}
        # The word in front of the GC head that holds the managed dict and the weakref list (3.11+).
        self.has_preheader = _has_preheader(runtime)
        self._known: dict[int, Type | None] = {}
        self._is_type: dict[int, bool] = {0: False, self._type_type: True}

    def is_type(self, address: int) -> bool:
        """Whether a type object lies at *address*: its metatype leads to ``type`` and its name is readable."""
        known = self._is_type.get(address)
        if known is None:
            known = self._is_type[address] = self._check(address, 0)
        return known

    def _check(self, address: int, depth: int) -> bool:
        if address & 7 or not LOWEST_ADDRESS < address < HIGHEST_ADDRESS or depth > _METATYPE_DEPTH:
            return False
        try:
            metatype = self._memory.u64(address + self._ob_type)
            if metatype != self._type_type:
                if metatype == address or not (self._is_type.get(metatype) or self._check(metatype, depth + 1)):
                    return False
                if not self._memory.u64(metatype + self._offset["tp_flags"]) & TYPE_SUBCLASS:
                    return False
            name = self._memory.u64(address + self._offset["tp_name"])
            if name and self._memory.read_some(name, 1):
                return True
            # A static type of the interpreter's that was finalized (_PyStructSequence_FiniBuiltin), or a class whose
            # name was freed before it, with its memory (3.12+: _PyUnicode_ClearInterned).
            heap_type = self._memory.u64(address + self._offset["tp_flags"]) & HEAPTYPE
            sized = 0 < self._memory.u64(address + self._offset["tp_basicsize"]) < _LARGEST_FINALIZED
            return sized and (not name or bool(heap_type))
        except MemoryFault:
            return False

    def __getitem__(self, address: int) -> Type:
        """The type at *address* (``PyTypeObject *``). Raises DecodeError, MemoryFault."""
        found = self._known.get(address)
        if found is None:
            if not self.is_type(address):
                raise DecodeError(f"{address:#x} is no type object")
            found = self._known[address] = self._decode(address)
        return found

    def _decode(self, address: int) -> Type:
        def word(field: str) -> int:
            return self._memory.u64(address + self._offset[field])

        def signed(field: str) -> int:
            value = word(field)
            return value - (1 << 64) if value >> 63 else value

        flags = word("tp_flags")
        try:
            name = self._memory.c_string(word("tp_name"))
        except MemoryFault:
            symbol = self._runtime.target.symbol_at(address)
            name = symbol.name if symbol is not None and not symbol.offset else "<type, its name is gone>"
        prefix = self._runtime.build.gc_head_size if flags & HAVE_GC else 0
        if self.has_preheader and flags & (MANAGED_DICT | MANAGED_WEAKREF):
            prefix += 16
        return Type(
            address, name, flags, signed("tp_basicsize"), signed("tp_itemsize"), signed("tp_dictoffset"),
            signed("tp_weaklistoffset"), word("tp_base"), word("tp_dict"), word("tp_finalize"), word("tp_del"),
            word("tp_traverse"), word("tp_clear"), prefix,
        )

    def name(self, address: int) -> str:
        """The type's tp_name, or a stand-in when it cannot be read. Raises nothing."""
        try:
            return self[address].name
        except (DecodeError, MemoryFault):
            return f"<no type {address:#x}>"

    def mro(self, address: int) -> list[int]:
        """The type and its bases along tp_base (the whole of the inheritance that C knows)."""
        chain: list[int] = []
        while address and address not in chain and self.is_type(address):
            chain.append(address)
            address = self[address].base
        return chain


def _has_preheader(runtime: Runtime) -> bool:
    # 3.11 introduced the words before the GC head together with _PyInterpreterFrame.
    try:
        runtime.build.layout("_PyInterpreterFrame")
    except LayoutNotFound:
        return False
    return True
