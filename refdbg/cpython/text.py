"""Bounded texts of objects: repr, type name, string. Nothing here runs code of the process, or raises."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import cached_property

from refdbg.cpython import formats
from refdbg.cpython.containers import Containers
from refdbg.cpython.instances import Instances
from refdbg.cpython.kinds import Kinds
from refdbg.cpython.runtime import Runtime
from refdbg.cpython.scalars import Scalars
from refdbg.cpython.types import UNICODE_SUBCLASS, Type, Types
from refdbg.errors import DecodeError, LayoutNotFound, RefdbgError, SymbolNotFound

_STRING_LIMIT = 1 << 20
_DAMAGE = (RefdbgError, ValueError, OverflowError, struct.error, RecursionError)
_DEPTH_LIMIT = 100  # nested containers: Python's own stack must hold them


class Texts:
    """The texts of one stop."""

    def __init__(self, runtime: Runtime, types: Types) -> None:
        """Raises LayoutNotFound when the debug info lacks the structs of the built-in types."""
        self.runtime = runtime
        self.memory = runtime.memory
        self.types = types
        self.scalars = Scalars(runtime)
        self.containers = Containers(runtime, self.scalars)
        self.kinds = Kinds(runtime, types)
        self.instances = Instances(runtime, types, self.scalars, self.containers)
        self._ob_type = runtime.build.ob_type
        self._qualname = runtime.build.layout("PyHeapTypeObject").offset("ht_qualname")
        self._names: dict[int, str] = {}
        self.earlier: Mapping[int, str] = {}  # type names read at an earlier stop: they may be freed before their type
        self._open: set[int] = set()  # the containers that a repr is inside of
        self._left = 0  # how many objects it may still take: damaged ones can refer to themselves many times

    def repr(self, address: int, depth: int = 2, limit: int = 80) -> str:
        """What ``repr()`` would say, as far as it can be known without running code (``PyObject *``).

        At most *limit* characters and *depth* nested containers; "…" stands for what was left out, as
        Python's "..." does for a container inside itself. Where a class has its own ``__repr__``, its name
        and the built-in value it derives from are shown. Raises nothing.
        """
        self._open.clear()
        self._left = 2 * limit + 100  # each object that is shown takes a character at least
        text = self.item(address, min(depth, _DEPTH_LIMIT), limit)
        return text if len(text) <= limit else text[: max(limit - 1, 0)] + "…"

    def type_name(self, type_address: int) -> str:
        """``module.qualname`` without ``builtins.``, a stand-in when unreadable (``PyTypeObject *``)."""
        name = self._names.get(type_address)
        if name is None:
            try:
                name = self._type_name(self.types[type_address])
            except _DAMAGE:
                name = self.earlier.get(type_address) or self.types.name(type_address)
            self._names[type_address] = name
        return name

    def string(self, address: int) -> str | None:
        """The value of a str, None when there is none at *address*. Raises nothing."""
        try:
            if self.types[self.memory.u64(address + self._ob_type)].flags & UNICODE_SUBCLASS:
                return self.scalars.text(address, _STRING_LIMIT)
        except _DAMAGE:
            pass
        return None

    def is_text(self, address: int) -> bool:
        """Whether a str lies at *address*. Raises nothing."""
        try:
            return bool(self.types[self.memory.u64(address + self._ob_type)].flags & UNICODE_SUBCLASS)
        except _DAMAGE:
            return False

    # For refdbg.cpython.formats

    @cached_property
    def full_names(self) -> bool:
        """Whether messages name types by PyType_GetFullyQualifiedName (3.13+)."""
        return self.runtime.build.has_symbol("PyType_GetFullyQualifiedName")

    def type_of(self, address: int) -> Type:
        """The type of the object. Raises DecodeError, MemoryFault."""
        return self.types[self.memory.u64(address + self._ob_type)]

    def item(self, address: int, depth: int, room: int) -> str:
        """The repr of an object inside another one's, in about *room* characters. Raises nothing."""
        self._left -= 1
        if self._left < 0:
            return "…"
        try:
            return self._format(address, depth, max(room, 1))
        except (LayoutNotFound, SymbolNotFound):  # stripped: its struct is not known
            return f"<{self.type_name(self.memory.u64(address + self._ob_type))} object at {address:#x}>"
        except _DAMAGE:
            return f"<unreadable {address:#x}>"

    def plain(self, address: int, type_: Type) -> str:
        """As ``object.__repr__`` (Objects/typeobject.c, object_repr)."""
        return f"<{self.type_name(type_.address)} object at {address:#x}>"

    def enter(self, address: int) -> bool:
        """Go into a container; False when the text is inside of it already (Py_ReprEnter)."""
        if address in self._open:
            return False
        self._open.add(address)
        return True

    def leave(self, address: int) -> None:
        """Py_ReprLeave."""
        self._open.discard(address)

    def _format(self, address: int, depth: int, room: int) -> str:
        type_ = self.type_of(address)
        kind = self.kinds.of(type_.address)
        format_ = formats.FORMATS.get(kind.name)
        if kind.plain_repr or format_ is None:
            return self.plain(address, type_)
        text = format_(formats.Subject(self, address, type_, kind, depth, room))
        if not kind.own_repr and kind.name in formats.VALUES:
            return f"{self.type_name(type_.address)}({text})"
        return text

    def _type_name(self, type_: Type) -> str:
        if type_.is_heap:
            qualname = self.string(self.memory.u64(type_.address + self._qualname))
            module_ = self.containers.lookup(type_.dict, "__module__") if type_.dict else 0
            module = self.string(module_) if module_ else None
            if qualname is None:
                raise DecodeError(f"the type at {type_.address:#x} has no name")
            if module is not None and module != "builtins":
                return f"{module}.{qualname}"
            return qualname if module else type_.name
        return type_.name[9:] if type_.name.startswith("builtins.") else type_.name
