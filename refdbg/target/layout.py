"""Layouts of C structs, and a cursor that reads fields by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from refdbg.errors import LayoutNotFound
from refdbg.target.memory import Memory


@dataclass(frozen=True)
class Field:
    """One member: byte offset and size in its struct; *count* > 1 for arrays (size is one element's).

    A bit field has *bit_size* > 0 and starts *bit_offset* bits into the *size* bytes at *offset*.
    """

    name: str
    offset: int
    size: int
    signed: bool = False
    count: int = 1
    bit_offset: int = 0
    bit_size: int = 0
    inner: Callable[[], StructLayout] | None = field(default=None, compare=False, repr=False)

    @cached_property
    def struct(self) -> StructLayout:
        """The layout of a struct member (or of an array's element). Raises LayoutNotFound."""
        if self.inner is None:
            raise LayoutNotFound(f"field {self.name!r} is no struct")
        return self.inner()


@dataclass(frozen=True)
class StructLayout:
    """A C struct: its size in bytes and its members by name; *source* says who described it.

    Members of anonymous structs and unions appear as if they were its own.
    """

    name: str
    size: int
    fields: Mapping[str, Field]
    source: str

    def __contains__(self, path: str) -> bool:
        return self._find(path) is not None

    def __getitem__(self, path: str) -> Field:
        """The field at a dotted path, its offset counted from this struct. Raises LayoutNotFound."""
        found = self._find(path)
        if found is None:
            raise LayoutNotFound(f"struct {self.name} has no field {path!r}")
        return found

    def offset(self, path: str) -> int:
        """The byte offset of the field at a dotted path. Raises LayoutNotFound."""
        return self[path].offset

    def first(self, *paths: str) -> Field:
        """The first of the paths that this build has, newest name first. Raises LayoutNotFound."""
        for path in paths:
            found = self._find(path)
            if found is not None:
                return found
        raise LayoutNotFound(f"struct {self.name} has none of the fields {', '.join(paths)}")

    def _find(self, path: str) -> Field | None:
        head, _, rest = path.partition(".")
        member = self.fields.get(head)
        if member is None or not rest:
            return member
        if member.inner is None:
            return None
        inner = member.struct._find(rest)
        if inner is None:
            return None
        return Field(inner.name, member.offset + inner.offset, inner.size, inner.signed, inner.count,
                     inner.bit_offset, inner.bit_size, inner.inner)


class StructView:
    """A struct in memory: reads its fields by (dotted) name."""

    __slots__ = ("address", "layout", "memory")

    def __init__(self, memory: Memory, address: int, layout: StructLayout) -> None:
        self.memory = memory
        self.address = address
        self.layout = layout

    def __getitem__(self, path: str) -> int:
        """The field's value as an integer. Raises LayoutNotFound, MemoryFault."""
        member = self.layout[path]
        value = self.memory.integer(self.address + member.offset, member.size, member.signed and not member.bit_size)
        if member.bit_size:
            value = (value >> member.bit_offset) & ((1 << member.bit_size) - 1)
        return value

    def at(self, path: str) -> int:
        """The field's address. Raises LayoutNotFound."""
        return self.address + self.layout[path].offset
