"""Where a process keeps what its users typed: the contents of strings, and text in the memory of C code.

Names are kept, without them nothing could be explained: interned strings, and what code objects and types are called.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

from refdbg.cpython.scalars import Scalars
from refdbg.cpython.stop import Stop
from refdbg.cpython.types import BYTES_SUBCLASS, DICT_SUBCLASS, HEAPTYPE, TYPE_SUBCLASS, UNICODE_SUBCLASS
from refdbg.errors import DecodeError, MemoryFault

# Text of one, two or four bytes a character. A pointer has two zero bytes, so that eight bytes of text are none.
_TEXT = re.compile(rb"[\t\n\r\x20-\x7e]{8,}|(?:[\t\n\r\x20-\x7e]\0){4,}|(?:[\t\n\r\x20-\x7e]\0\0\0){3,}")
# Text in UTF-8: so may be any number, so only whole words are taken. The allocator's marks (0xCD, 0xDD, 0xFD) are none.
_UTF8 = re.compile(rb"[\t\n\r\x20-\x7e\x80-\xcc\xce-\xdc\xde-\xf4]{8,}")
_HEADER = 128  # more than the struct of a string has
_NAME_LENGTH = 256  # of a type's C string
# Type → (C struct, its fields that are names, or tables of a program).
_NAMES = {
    "PyCode_Type": ("PyCodeObject", ("co_filename", "co_name", "co_qualname", "co_linetable", "co_lnotab",
                                     "co_exceptiontable", "co_code")),
    "PyFunction_Type": ("PyFunctionObject", ("func_name", "func_qualname", "func_module")),
    "PyModule_Type": ("PyModuleObject", ("md_name",)),
}  # fmt: skip
_HEAP_TYPE = ("PyHeapTypeObject", ("ht_name", "ht_qualname"))


class Values:
    """What to leave out of a copy of the process's memory, so that it tells no values."""

    def __init__(self, stop: Stop) -> None:
        """Raises RefdbgError where the objects cannot be walked."""
        self._stop = stop
        self._memory = stop.runtime.memory
        self._scalars = Scalars(stop.runtime)
        self._contents: list[tuple[int, int]] = []  # start, end
        self._kept: list[tuple[int, int]] = []
        regions = stop.runtime.target.regions()
        self._mapped, self._mapped_ends = [r.start for r in regions], [r.end for r in regions]
        self._find()

    def _find(self) -> None:
        heap = self._stop.heap
        names = set(self._names())
        bytearray_ = self._stop.runtime.target.address_of("PyByteArray_Type")
        for address, type_ in zip(heap.objects.addresses, heap.objects.types):
            flags = self._stop.types[type_].flags
            try:
                if type_ == bytearray_:
                    span, keep = self._scalars.bytearray_span(address), False
                elif flags & UNICODE_SUBCLASS:
                    span = self._scalars.text_span(address)
                    keep = address in names or bool(self._scalars.interned(address))
                elif flags & BYTES_SUBCLASS:
                    span, keep = self._scalars.bytes_span(address), address in names
                else:
                    if flags & (DICT_SUBCLASS | TYPE_SUBCLASS):
                        self._kept += self._tables(address, flags)
                    continue
            except (DecodeError, MemoryFault):
                continue
            (self._kept if keep else self._contents).append(span)
            self._kept.append((address, min(max(span[0], address), address + _HEADER)))  # a hash may look like text
        self._kept.sort()
        self._contents.sort()

    def _names(self) -> Iterator[int]:
        # Strings and tables that say what the program is made of (``PyObject *``).
        stop, target = self._stop, self._stop.runtime.target
        named = {target.address_of(symbol): self._offsets(*fields) for symbol, fields in _NAMES.items()}
        of_types = self._offsets(*_HEAP_TYPE)
        for address, type_ in zip(stop.heap.objects.addresses, stop.heap.objects.types):
            is_type = bool(stop.types[type_].flags & TYPE_SUBCLASS)
            try:
                for offset in of_types if is_type else named.get(type_, ()):
                    yield self._memory.u64(address + offset)
                if is_type:
                    yield stop.texts.containers.lookup(stop.types[address].dict, "__module__")
            except (DecodeError, MemoryFault):
                continue

    def _offsets(self, struct: str, fields: Iterable[str]) -> list[int]:
        layout = self._stop.runtime.build.layout(struct)
        return [layout.offset(field) for field in fields if field in layout]

    def _tables(self, address: int, flags: int) -> Iterator[tuple[int, int]]:
        # A dict's table has indices, which can look like text; a type's name may be in a block of its own.
        build, heap = self._stop.runtime.build, self._stop.heap
        if flags & DICT_SUBCLASS:
            tables = [self._memory.u64(address + build.layout("PyDictObject").offset("ma_keys"))]
        else:
            name = self._memory.u64(address + build.type.offset("tp_name"))
            yield name, name + _NAME_LENGTH
            own = self._memory.u64(address + build.type.offset("tp_flags")) & HEAPTYPE
            cached = build.layout("PyHeapTypeObject").offset("ht_cached_keys")
            tables = [self._memory.u64(address + cached)] if own else []
        for table in tables:
            block = heap.blocks.row_of(table)
            if block is not None:
                yield table, table + heap.blocks.sizes[block]

    def within(self, start: int, end: int) -> list[tuple[int, int]]:
        """The (address, size) of what to leave out of the memory [start, end)."""
        found = list(_overlapping(self._contents, start, end))
        kept = _overlapping(self._kept, start, end)
        edges = [start, *(edge for span in kept for edge in span), end]
        for low, high in zip(edges[::2], edges[1::2]):
            if low < high:
                try:
                    data = self._memory.read(low, high - low)
                except MemoryFault:
                    continue
                found += [(low + match.start(), self._end(low + match.end())) for match in _TEXT.finditer(data)]
                found += [(low + match.start() + 7 & -8, low + match.end() & -8) for match in _UTF8.finditer(data)]
        return [(low, high - low) for low, high in found if low < high]


    def _end(self, end: int) -> int:
        # Where a text ends: before the word that it seems to end in, if that is an address.
        try:
            word = self._memory.u64(end & -8)
        except MemoryFault:
            return end
        row = bisect_right(self._mapped, word) - 1
        return end & -8 if row >= 0 and word < self._mapped_ends[row] else end


def _overlapping(spans: list[tuple[int, int]], start: int, end: int) -> list[tuple[int, int]]:
    # Of sorted spans; one that begins before *start* may be long.
    first = bisect_right(spans, (start, 0))
    last = bisect_left(spans, (end, 0))
    before = [span for span in spans[max(first - 64, 0) : first] if span[1] > start]
    return before + spans[first:last]
