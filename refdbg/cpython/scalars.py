"""int, float, complex, str, bytes: the values that hold no references."""

from __future__ import annotations

import struct
from array import array

from refdbg.cpython.runtime import Build, Runtime
from refdbg.errors import DecodeError, LayoutNotFound
from refdbg.target.layout import Field, StructLayout

# Include/cpython/longintrepr.h, since 3.12: lv_tag = (digits << 3) | sign, sign 0 positive, 1 zero, 2 negative.
_LONG_DIGITS_SHIFT = 3
_LONG_SIGN_MASK = 3
_LONG_NEGATIVE = 2
DIGITS_LIMIT = 1 << 20

# Include/cpython/unicodeobject.h: bytes per character of each kind; kind 0 is wchar_t (until 3.11).
_ARRAY_CODES = {1: "B", 2: "H", 4: "I"}
_DOUBLE = struct.Struct("<d")


class Bits:
    """A bit field, or any small field, read without a StructView."""

    __slots__ = ("mask", "offset", "shift", "size")

    def __init__(self, field: Field) -> None:
        self.offset = field.offset
        self.size = field.size
        self.shift = field.bit_offset
        self.mask = (1 << (field.bit_size or 8 * field.size)) - 1

    def of(self, word: int) -> int:
        """The field's value in the integer that holds it."""
        return word >> self.shift & self.mask


class Scalars:
    """Decodes the atomic built-in values at an address."""

    def __init__(self, runtime: Runtime) -> None:
        """Raises LayoutNotFound."""
        build = runtime.build
        self._memory = runtime.memory
        self.ob_size = build.layout("PyVarObject").offset("ob_size")
        self._float = build.layout("PyFloatObject").offset("ob_fval")
        self._complex = build.layout("PyComplexObject").offset("cval")
        self._bytes = build.layout("PyBytesObject").offset("ob_sval")
        bytearray_ = build.layout("PyByteArrayObject")
        self._bytearray_start = bytearray_.offset("ob_start")
        self._long_tag, self._long_digits = _long_fields(build)
        self._digit_size = self._long_digits.size
        self._digit_bits = 30 if self._digit_size == 4 else 15
        self._ascii = build.layout("PyASCIIObject")
        self._ascii_size = self._ascii.size
        self._compact_size = build.layout("PyCompactUnicodeObject").size
        self._any = build.layout("PyUnicodeObject").offset("data")
        self._length = self._ascii.offset("length")
        state: StructLayout = self._ascii["state"].struct
        self._state = self._ascii.offset("state")
        self._kind, self._is_compact, self._is_ascii = (Bits(state[name]) for name in ("kind", "compact", "ascii"))
        # Until 3.11 a string may be kept as wchar_t only, which kind 0 says.
        self._wstr = self._ascii.offset("wstr") if "wstr" in self._ascii else None
        self._interned = Bits(state["interned"])

    def size(self, address: int) -> int:
        """``Py_SIZE``. *address*: ``PyVarObject *``. Raises MemoryFault."""
        return self._memory.integer(address + self.ob_size, 8, signed=True)

    def digits(self, address: int) -> tuple[int, bool]:
        """(number of digits, negative) of an int. *address*: ``PyLongObject *``. Raises MemoryFault."""
        if self._long_tag is not None:
            tag = self._memory.u64(address + self._long_tag)
            return tag >> _LONG_DIGITS_SHIFT, tag & _LONG_SIGN_MASK == _LONG_NEGATIVE
        size = self.size(address)
        return abs(size), size < 0

    def integer(self, address: int) -> int:
        """The value of an int of any size (Objects/longobject.c). Raises DecodeError, MemoryFault."""
        count, negative = self.digits(address)
        if count > DIGITS_LIMIT:
            raise DecodeError(f"the int at {address:#x} claims {count} digits")
        data = self._memory.read(address + self._long_digits.offset, count * self._digit_size)
        value = 0
        for digit in reversed(array("I" if self._digit_size == 4 else "H", data)):
            value = value << self._digit_bits | digit
        return -value if negative else value

    def integer_bits(self, address: int) -> int:
        """About how many bits an int has, without reading its digits. Raises MemoryFault."""
        return self.digits(address)[0] * self._digit_bits

    def float(self, address: int) -> float:
        """``PyFloatObject *``. Raises MemoryFault."""
        return float(_DOUBLE.unpack(self._memory.read(address + self._float, 8))[0])

    def complex(self, address: int) -> complex:
        """``PyComplexObject *``. Raises MemoryFault."""
        return complex(*struct.unpack("<dd", self._memory.read(address + self._complex, 16)))

    def bytearray(self, address: int, limit: int) -> bytes:
        """The first *limit* bytes. *address*: ``PyByteArrayObject *``. Raises DecodeError, MemoryFault."""
        size = self._checked(address, limit)
        return self._memory.read(self._memory.u64(address + self._bytearray_start), size) if size else b""

    def bytes(self, address: int, limit: int) -> bytes:
        """The first *limit* bytes. *address*: ``PyBytesObject *``. Raises DecodeError, MemoryFault."""
        return self._memory.read(address + self._bytes, self._checked(address, limit))

    def _checked(self, address: int, limit: int) -> int:
        size = self.size(address)
        if size < 0:
            raise DecodeError(f"the object at {address:#x} claims the size {size}")
        return min(size, limit)

    def length(self, address: int) -> int:
        """How many characters a str has. *address*: ``PyUnicodeObject *``. Raises MemoryFault."""
        return self._memory.u64(address + self._length)

    def text(self, address: int, limit: int) -> str:
        """The first *limit* characters of a str (PEP 393). *address*: ``PyUnicodeObject *``.

        Raises DecodeError, MemoryFault.
        """
        data, kind, length = self._characters(address)
        raw = self._memory.read(data, min(length, limit) * kind) if data else b""
        if kind == 1:
            return raw.decode("latin-1")
        if kind not in _ARRAY_CODES:
            raise DecodeError(f"the str at {address:#x} claims {kind} bytes a character")
        # Not decoded as UTF-16/32: lone surrogates are legal in a str.
        return "".join([chr(code) if code < 0x110000 else "\ufffd" for code in array(_ARRAY_CODES[kind], raw)])

    def _characters(self, address: int) -> tuple[int, int, int]:
        # (address, bytes a character, characters) of a str's contents.
        length = self.length(address)
        if length >> 63:
            raise DecodeError(f"the str at {address:#x} claims the length {length}")
        state = self._memory.integer(address + self._state, 4)
        kind = self._kind.of(state)
        if not kind and self._wstr is not None:  # PyUnicode_WCHAR_KIND: 4 bytes each on Linux
            return self._memory.u64(address + self._wstr), 4, length
        if self._is_compact.of(state):
            return address + (self._ascii_size if self._is_ascii.of(state) else self._compact_size), kind, length
        return self._memory.u64(address + self._any), kind, length

    def text_span(self, address: int) -> tuple[int, int]:
        """Start and end of the contents of a str. Raises DecodeError, MemoryFault."""
        data, kind, length = self._characters(address)
        return data, data + kind * length

    def bytes_span(self, address: int) -> tuple[int, int]:
        """Start and end of the contents of a bytes object. Raises DecodeError, MemoryFault."""
        size = self.size(address)
        return address + self._bytes, address + self._bytes + self._checked(address, size)

    def bytearray_span(self, address: int) -> tuple[int, int]:
        """Start and end of the contents of a bytearray. Raises DecodeError, MemoryFault."""
        size = self.size(address)
        start = self._memory.u64(address + self._bytearray_start)
        return start, start + self._checked(address, size)

    def interned(self, address: int) -> int:
        """The interned state of a str: 0 no, 1 mortal, above immortal. Raises MemoryFault."""
        return self._interned.of(self._memory.integer(address + self._state, self._interned.size))


def _long_fields(build: Build) -> tuple[int | None, Field]:
    try:
        layout = build.layout("PyLongObject")
    except LayoutNotFound:
        layout = build.layout("_longobject")
    if "long_value.lv_tag" in layout:  # 3.12+
        return layout.offset("long_value.lv_tag"), layout["long_value.ob_digit"]
    return None, layout["ob_digit"]
