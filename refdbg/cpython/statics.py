"""What lies in the writable data of the loaded libraries: static objects, and C variables that hold objects."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import compress

from refdbg.cpython.counts import IMMORTAL_COUNT, SplitCounts
from refdbg.cpython.runtime import Runtime
from refdbg.cpython.types import TYPE_SUBCLASS, Types
from refdbg.errors import LayoutNotFound, MemoryFault, SymbolNotFound
from refdbg.graph.objects import Coverage
from refdbg.target import Symbol
from refdbg.target.elf import DataSegment, Library

_CACHES = ("interned",)  # Objects/unicodeobject.c (until 3.11; part of the runtime's state since)
_METHOD_CACHE = "method_cache"  # Objects/typeobject.c (until 3.9; part of the interpreter's state since)
_PARSERS = 1 << 16
_LARGEST_STATIC_COUNT = 1 << 31
_LOWEST_POINTER = 1 << 16
# Include/internal/pycore_object.h (_PyObject_IMMORTAL_REFCNT, 3.11): counts around it are no pointers.
_NEVER_FREED = 999_999_999
_NEVER_FREED_ROOM = 1 << 20


@dataclass(frozen=True)
class StaticObject:
    """An object in a library's data. *added*: its count now, less what the file gave it."""

    address: int
    type: int
    refcount: int
    added: int
    size: int


@dataclass(frozen=True)
class StaticWord:
    """A word in a library's data: the C variable that it is in, and where.

    *cache*: it is part of a table that CPython keeps on purpose; *borrowed*: it is known to own no reference.
    """

    address: int
    symbol: str
    offset: int
    library: str
    cache: bool
    borrowed: bool

    @property
    def c_symbol(self) -> Symbol:
        """The variable that it is in."""
        return Symbol(self.symbol, self.offset, self.library, self.address - self.offset)


class Statics:
    """The libraries' data of one stop."""

    def __init__(self, runtime: Runtime, types: Types) -> None:
        self._runtime = runtime
        self._types = types
        self.coverage = Coverage()
        regions = runtime.target.regions()
        self._mapped = [region.start for region in regions]
        self._ends = [region.end for region in regions]
        images = runtime.target.images()
        self.libraries = [library for library in images.loaded() if library.segments]
        self.coverage.notes += images.unreadable
        self.coverage.unreadable += len(images.unreadable)
        self._words: list[tuple[Library, DataSegment, int, Sequence[int]]] = []
        for library in self.libraries:
            for segment in library.segments:
                start = (segment.start + 7) & ~7
                data = runtime.memory.read_some(start, segment.end - start)
                self._words.append((library, segment, start, array("Q", data[: len(data) & ~7])))
        self.objects = list(self._static_objects())
        self._addresses = [found.address for found in self.objects]

    def _static_objects(self) -> Iterator[StaticObject]:
        # A static object's type is static too: its address lies in some library's data.
        types = self._types
        spans = [(segment.start, segment.end) for _, segment, _, _ in self._words]
        lowest, highest = min(s for s, _ in spans), max(e for _, e in spans)
        near = sorted(word for word in set().union(*(words for *_, words in self._words)) if lowest <= word < highest)
        static_types = {
            word for start, end in spans for word in near[bisect_left(near, start) : bisect_left(near, end)]
            if types.is_type(word) and not types[word].is_heap
        }
        build = self._runtime.build
        immortal, mask = build.traits.immortal, build.count_mask
        type_index, count_index = build.ob_type // 8, build.ob_refcnt // 8
        counts = build.counts if isinstance(build.counts, SplitCounts) else None
        table = self._static_type_table()
        for library, segment, start, words in self._words:
            taken = 0  # a word inside a static type is a field of it
            for index in compress(range(len(words)), map(static_types.__contains__, words)):
                if index < type_index:
                    continue
                word = words[index]
                address = start + 8 * (index - type_index)
                if address < taken or start + 8 * index in table:
                    continue
                if counts is None:
                    count = words[index - type_index + count_index] & mask
                else:
                    count = counts.in_bytes(array("Q", words[index - type_index : index + 1]).tobytes())
                    if not 0 <= count <= IMMORTAL_COUNT or not counts.is_sane(words[index - type_index + count_index]):
                        continue  # the fourth word of something else
                never_counted = immortal and count >> 31 == 1
                if never_counted:
                    pass
                elif count >= _LARGEST_STATIC_COUNT or (count > _LOWEST_POINTER and self._is_mapped(count)):
                    continue  # a pointer: a C struct whose second word is a type
                if never_counted:
                    initial = count
                elif counts is None:
                    initial = segment.initial_word(address + build.ob_refcnt) & mask
                else:
                    first = [segment.initial_word(address + 8 * each) for each in range(type_index + 1)]
                    initial = counts.in_bytes(array("Q", first).tobytes())
                if not never_counted and immortal and initial >> 31 == 1:
                    initial = 0  # it stopped being immortal: what it had is in no total
                size = max(types[word].basicsize, 16)
                if types[word].flags & TYPE_SUBCLASS:
                    size = build.type.size
                    if types.is_type(address):
                        taken = address + size
                    else:  # one that was cleared, or the second word of something else
                        symbol = library.symbol_at(address)
                        if symbol is None or symbol.offset:
                            continue
                room = library.room_at(address)
                if room is not None and room < build.object.size:
                    continue  # it would reach into another variable
                yield StaticObject(address, word, count, count - initial, size)

    def _static_type_table(self) -> range:
        # 3.13+: pointers to the static types, with a number before each (_types_runtime_state.managed_static).
        state, path = self._runtime.state, "types.managed_static"
        if path not in state.layout:
            return range(0)
        start = state.address + state.layout.offset(path)
        return range(start, start + state.layout[path].size)

    def _is_mapped(self, address: int) -> bool:
        # In a program that is linked to fixed addresses a pointer can be as small as a count.
        if abs(address - _NEVER_FREED) < _NEVER_FREED_ROOM:
            return False
        row = bisect_right(self._mapped, address) - 1
        return row >= 0 and address < self._ends[row]

    def object_at(self, address: int) -> StaticObject | None:
        """The static object that contains *address*, or None."""
        row = bisect_right(self._addresses, address) - 1
        if row >= 0 and address < self.objects[row].address + self.objects[row].size:
            return self.objects[row]
        return None

    def word_at(self, address: int) -> StaticWord | None:
        """The C variable that the word at *address* belongs to, or None."""
        for library, segment, _start, _words in self._words:
            if segment.start <= address < segment.end:
                return self._word(library, address)
        return None

    def _word(self, library: Library, address: int) -> StaticWord:
        symbol = library.symbol_at(address)
        name, offset = (symbol.name, symbol.offset) if symbol else ("", 0)
        in_method_cache = name == _METHOD_CACHE
        return StaticWord(
            address, name, offset, library.name,
            cache=in_method_cache or address in self._caches,
            borrowed=in_method_cache and offset % self._entry[1] == self._entry[0],
        )

    @cached_property
    def _entry(self) -> tuple[int, int]:
        # (offset of the borrowed value, size) of an entry of the method cache.
        layout = self._runtime.build.layout("method_cache_entry")
        return layout.offset("value"), layout.size

    @cached_property
    def _caches(self) -> frozenset[int]:
        runtime = self._runtime
        found = set(self._keyword_names())
        for name in _CACHES:
            with suppress(SymbolNotFound):
                found.add(runtime.build.static(name))
        return frozenset(found)

    def _keyword_names(self) -> Iterator[int]:
        # The tuples that argument parsers make when they are first used (Python/getargs.c, parser_init).
        runtime = self._runtime
        try:
            parser = runtime.build.layout("_PyArg_Parser")
            if "getargs.static_parsers" in runtime.state.layout:  # 3.12+
                address = runtime.state["getargs.static_parsers"]
            else:
                address = runtime.memory.u64(runtime.build.static("static_arg_parsers"))
            for _ in range(_PARSERS):
                if not address:
                    return
                yield address + parser.offset("kwtuple")
                address = runtime.memory.u64(address + parser.offset("next"))
        except (LayoutNotFound, SymbolNotFound, MemoryFault):
            return
