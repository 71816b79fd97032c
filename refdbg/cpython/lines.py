"""The line tables of code objects: bytes → line number. Pure functions, one for each form that CPython has had.

Each takes the table and ``co_firstlineno``, and yields for each stretch of instructions the byte offset of its end and
its line, None where it has none; `line_at` mirrors PyCode_Addr2Line (Objects/codeobject.c). They believe no table: a
cut or senseless one yields None or a wrong number, never an exception.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

Stretches = Callable[[bytes, int], Iterator[tuple[int, "int | None"]]]

_CODE_UNIT = 2  # sizeof(_Py_CODEUNIT)
# enum _PyCodeLocationInfoKind (Include/cpython/code.h)
_ONE_LINE0, _ONE_LINE2, _NO_COLUMNS, _LONG, _NO_LOCATION = 10, 12, 13, 14, 15
_END = 1 << 63


def line_at(stretches: Stretches, table: bytes, first: int, offset: int) -> int | None:
    """The line of the instruction at the byte *offset*, None where it has none."""
    if offset < 0:
        return first
    return next((line for end, line in stretches(table, first) if offset < end), None)


def last_line(stretches: Stretches, table: bytes, first: int) -> int:
    """The last line that an instruction has."""
    return max((line for _, line in stretches(table, first) if line is not None), default=first)


def locations(table: bytes, first: int) -> Iterator[tuple[int, int | None]]:
    """``co_linetable`` since 3.11 (Objects/locations.md, InternalDocs/code_objects.md)."""
    line, end, position = first, 0, 0
    while position < len(table):
        head = table[position]
        kind = head >> 3 & 15
        if kind in (_NO_COLUMNS, _LONG):
            line += _signed(table, position + 1)
        elif _ONE_LINE0 <= kind <= _ONE_LINE2:
            line += kind - _ONE_LINE0
        end += ((head & 7) + 1) * _CODE_UNIT
        yield end, None if kind == _NO_LOCATION else line
        position += 1
        while position < len(table) and not table[position] & 0x80:  # only an entry's first byte has bit 7
            position += 1


def _signed(table: bytes, position: int) -> int:
    # scan_signed_varint: six bits a byte, least significant first; the lowest bit of the result is the sign.
    value = shift = 0
    for byte in table[position : position + 12]:
        value |= (byte & 0x3F) << shift
        shift += 6
        if not byte & 0x40:
            break
    return -(value >> 1) if value & 1 else value >> 1


def line_ranges(table: bytes, first: int) -> Iterator[tuple[int, int | None]]:
    """``co_linetable`` of 3.10 (PEP 626, Objects/lnotab_notes.txt): pairs (byte count, line delta; -128: no line)."""
    line, end = first, 0
    for count, byte in zip(table[::2], table[1::2]):
        delta = byte - 256 if byte & 0x80 else byte
        end += count
        if delta != -128:
            line += delta
        yield end, None if delta == -128 else line


def lnotab(table: bytes, first: int) -> Iterator[tuple[int, int | None]]:
    """``co_lnotab`` until 3.9 (Objects/lnotab_notes.txt): pairs (byte increment, line increment)."""
    line, start = first, 0
    for increment, byte in zip(table[::2], table[1::2]):
        start += increment
        yield start, line
        line += byte - 256 if byte & 0x80 else byte
    yield _END, line  # the last line goes on to the end of the code
