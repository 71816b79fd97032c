"""C types as a debugger or debug info describes them, and what refdbg asks of them: layouts, pointers, member paths."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal, Protocol

from refdbg.target import PointedStruct, Pointer
from refdbg.target.layout import Field, StructLayout

Kind = Literal["struct", "union", "array", "pointer", "integer", "void", "function", "other"]
_STRUCTS = ("struct", "union")
_POINTER_NUMBERS = ("uintptr_t", "intptr_t")
_POINTERS_LIMIT = 1 << 16


class CType(Protocol):
    """A C type behind its typedefs and qualifiers."""

    @property
    def kind(self) -> Kind:
        """What it is."""
        ...

    @property
    def name(self) -> str:
        """A struct's tag, or the name of the typedef that it was reached by; "" without any."""
        ...

    @property
    def alias(self) -> str:
        """The name of the typedef that it was reached by, else its own."""
        ...

    @property
    def size(self) -> int:
        """In bytes; 0 where it is not known."""
        ...

    @property
    def signed(self) -> bool:
        """Whether it is a signed integer."""
        ...

    @property
    def count(self) -> int:
        """The elements of an array."""
        ...

    def target(self) -> CType:
        """What a pointer points to, or an array's element."""
        ...

    def members(self) -> Sequence[Member]:
        """The members of a struct or union; none where only its name is known."""
        ...


@dataclass(frozen=True)
class Member:
    """A member: bits from the start of its struct; *bit_size* 0 for no bit field; *name* "" for an anonymous one."""

    name: str
    bit_position: int
    bit_size: int
    type: CType


def layout_of(name: str, type_: CType) -> StructLayout:
    """The layout of a struct or union."""
    fields: dict[str, Field] = {}

    def add(struct: CType, base: int) -> None:
        for member in struct.members():
            kind = member.type
            offset = base + member.bit_position // 8
            if not member.name and kind.kind in _STRUCTS:
                add(kind, offset)
                continue
            count = 1
            while kind.kind == "array":
                count *= kind.count
                kind = kind.target()
            bit_offset = 0
            if member.bit_size:
                offset = base + member.bit_position // 8 // kind.size * kind.size
                bit_offset = member.bit_position - (offset - base) * 8
            inner = _later(kind) if kind.kind in _STRUCTS else None
            field = Field(member.name, offset, kind.size, kind.signed, count, bit_offset, member.bit_size, inner)
            fields.setdefault(member.name, field)

    add(type_, 0)
    return StructLayout(name, type_.size, fields, "debug info")


def _later(type_: CType) -> Callable[[], StructLayout]:
    return lambda: layout_of(type_.name or "(anonymous)", type_)


def pointed_struct(type_: CType) -> PointedStruct | None:
    """The struct that a pointer points to; None for another type, or where nothing is known of the struct."""
    if type_.kind != "pointer":
        return None
    struct = type_.target()
    names = heads(struct)
    return PointedStruct(struct.size, names, lambda: _pointers_in(struct)) if names else None


def heads(type_: CType) -> tuple[str, ...]:
    """The names of a struct and of those that it begins with; none for what is no struct, or not known inside."""
    names: list[str] = []
    while type_.kind == "struct":
        members = type_.members()
        if not members:
            break
        names.append(type_.name)
        type_ = members[0].type
    return tuple(names)


def _pointers_in(struct: CType) -> dict[int, Pointer]:
    found: dict[int, Pointer] = {}
    for offset, pointer in islice(_pointers(struct, 0, ""), _POINTERS_LIMIT):
        known = found.get(offset)  # of a union's members the best known one
        if known is None or len(pointer.heads) > len(known.heads):
            found[offset] = pointer
    return found


def _pointers(type_: CType, offset: int, path: str) -> Iterator[tuple[int, Pointer]]:
    if type_.kind == "array":
        element = type_.target()
        inner = list(_pointers(element, 0, ""))
        for index in range(type_.count if inner else 0):
            for start, pointer in inner:
                yield offset + index * element.size + start, Pointer(f"{path}[{index}]{pointer.path}", pointer.heads)
    elif type_.kind in _STRUCTS:
        for member in type_.members():
            if not member.bit_size:
                name = f".{member.name}" if member.name else ""
                yield from _pointers(member.type, offset + member.bit_position // 8, path + name)
    elif type_.kind == "pointer":
        target = type_.target()
        if target.kind in ("void", *_STRUCTS):
            yield offset, Pointer(path, heads(target))
    elif type_.alias in _POINTER_NUMBERS:
        yield offset, Pointer(path, ())


def member_path(type_: CType, offset: int) -> str:
    """The path of the member at a byte offset of a variable: ``[2].func``, or ``+6`` where there is none."""
    if type_.kind == "array":
        element = type_.target()
        index = offset // max(element.size, 1)
        return f"[{index}]" + member_path(element, offset - index * element.size)
    if type_.kind in _STRUCTS:
        for member in type_.members():
            start = member.bit_position // 8
            if start <= offset < start + member.type.size:
                name = f".{member.name}" if member.name else ""
                return name + member_path(member.type, offset - start)
    return f"+{offset}" if offset else ""
