"""Who holds an object: every word of the process that equals its address, with the name of what it belongs to."""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import compress

from refdbg.cpython.greenlets import C_STACK
from refdbg.cpython.heap import HeapObjects, copied_data, resident_data
from refdbg.cpython.kinds import OBJECT
from refdbg.cpython.known import Known
from refdbg.cpython.owned import Owned, Reference
from refdbg.cpython.places import Places
from refdbg.cpython.stop import Stop
from refdbg.cpython.total import interned_dicts, is_interned
from refdbg.cpython.types import DICT_SUBCLASS
from refdbg.dependencies import vectors
from refdbg.errors import DecodeError, MemoryFault, RefdbgError
from refdbg.graph.objects import Coverage
from refdbg.graph.rows import NO_ROW

_PIECE = 1 << 20  # bytes that are read at once: they stay in the processor's cache
_WORDS = 256  # that are searched at once
_PARTS = 1 << 20  # their table stays in the processor's cache
_POINTERS = 40  # words from a block's start that an owner may point to: the values of a split dict begin inside
_LEVELS = 3  # blocks that point to blocks: the nodes of an OrderedDict hang on its node table
_LINKED = ("deque", "odict")  # kinds with storage of several blocks
_KNOWN_STORAGE = ("dict", "defaultdict", "list", "set", "type")
_ORDER = (
    "object", "frame", "abandoned frame", "interpreter", "thread", "runtime", "static", "block", "stack", "memory",
    "borrowed",
)


@dataclass(frozen=True)
class Holder:
    """A word that equals the object's address. *exact*: known to own a reference; *declared*: the debug info says
    that a reference stands there.

    *kind*: "object", "borrowed" (no reference: a weak one, a cache's, what is left of a freed object), "static",
    "runtime", "interpreter", "thread", "frame", "abandoned frame", "stack", "block",
    "memory". *owner*: ``PyObject *``, 0 when it is no
    object; it may be a static one. *offset*: of a state's field, or in the C variable. *suspended*: it is on the
    stack of a suspended object.
    """

    kind: str
    place: int
    owner: int
    label: str
    exact: bool
    declared: bool = False
    offset: int = 0
    suspended: bool = False


class Referrers:
    """Searches the memory of one stop."""

    def __init__(self, stop: Stop, owned: Owned, known: Known | None = None) -> None:
        """*known*: references of which an owner need not be asked; their holders have no label."""
        self._known = known
        self._stop = stop
        self._owned = owned
        self._heap: HeapObjects = stop.heap
        self._object_in = self._heap.object_in
        self._places = Places(stop, owned)
        self._interned = interned_dicts(stop)
        self._references: dict[int, dict[int, Reference]] = {}  # by owner, by place
        self.coverage = Coverage()

    def of(self, address: int) -> list[Holder]:
        """The words that equal *address* (``PyObject *``), objects first. Raises RefdbgError."""
        return self.of_many([address])[address]

    def of_many(self, addresses: Collection[int]) -> dict[int, list[Holder]]:
        """The same for many objects, in one pass over the memory. Raises RefdbgError."""
        if not self._stop.runtime.target.regions():  # nobody found would look like lost references
            raise RefdbgError(
                "the process's memory regions are not known: its memory cannot be searched",
                "A remote stub must serve files (`info proc mappings`): gdbserver does.",
            )
        blocks = self._heap.blocks
        found: dict[int, list[Holder]] = {address: [] for address in addresses}
        storage: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
        known = self._known_words(addresses)
        for place, (owner, target) in known.items():
            found[target].append(Holder("object", place, owner, "", True))
        for place, target in self._search(addresses):
            if place in known:
                continue
            row = blocks.row_of(place)
            suspended, part = self._stop.suspended.owner_at(place)
            if suspended:
                found[target].append(self._suspended(suspended, part, place, target))
            elif row is None:
                found[target].append(self._outside(place, target))
            elif self._object_in[row]:
                found[target].append(self._in_object(self._object_in[row], place, target))
            else:
                storage[row].append((place, target))
        owners = self._owners(set(storage))
        for row, words in storage.items():
            for place, target in words:
                found[target].append(self._in_storage(row, place, target, owners.get(row, [])))
        for holders in found.values():
            # A member of a C struct may be a copy of what a variable of its own owns (Modules/socketmodule.h).
            holders.sort(key=lambda holder: (
                _ORDER.index(holder.kind), holder.kind == "static" and holder.offset > 0, holder.place
            ))
        return found

    def references(self, owner: int) -> Collection[Reference]:
        """What the object (``PyObject *``) owns, as `Owned.references` knows it; nothing where it is none."""
        self._reference(owner, 0)
        return self._references[owner].values()

    def _known_words(self, addresses: Collection[int]) -> dict[int, tuple[int, int]]:
        # place → (owner, which of the addresses stands there), of the words that are known to own.
        known = self._known
        if known is None:
            return {}
        wanted = frozenset(addresses)
        chosen = list(compress(range(len(known.targets)), map(wanted.__contains__, known.targets)))
        owners = self._heap.objects.addresses
        words = {
            known.places[index]: (owners[bisect_right(known.starts, index) - 1], known.targets[index])
            for index in chosen
        }
        for owner in self._linked:
            words.update(
                (each.place, (owner, each.target)) for each in self.references(owner)
                if each.exact and not each.suspended and each.target in wanted
            )
        return words

    @cached_property
    def _linked(self) -> list[int]:
        # Objects whose blocks are linked to each other: who owns one is not told by who points to it.
        objects, kinds = self._heap.objects, self._stop.texts.kinds
        types = {type_ for type_ in set(objects.types) if kinds.name(type_) in _LINKED}
        others = self._known.others if self._known is not None else ()
        return [objects.addresses[row] for row in others if objects.types[row] in types]

    def _search(self, addresses: Collection[int]) -> Iterator[tuple[int, int]]:
        # (place, word) of each aligned word that equals one of the addresses, or is known to refer to it.
        for place, target in self._heap.deferred.items():
            if target in addresses:
                yield place, target
        if len(addresses) > 1:
            yield from self._words(frozenset(addresses))
            return
        for address in addresses:
            pattern = address.to_bytes(8, "little")
            for start, data in resident_data(self._stop.runtime, self.coverage, _PIECE):
                position = data.find(pattern)
                while position >= 0:
                    if not (start + position) & 7:
                        yield start + position, address
                    position = data.find(pattern, position + 1)

    def _suspended(self, owner: int, part: str, place: int, target: int) -> Holder:
        if part == C_STACK and self._stop.suspended.all[owner].main:
            return Holder("stack", place, 0, "C stack of a thread", False)
        return self._in_object(owner, place, target)

    def _outside(self, place: int, target: int) -> Holder:
        traces = self._stop.traces
        if traces.tracing:
            if traces.is_key(place, target):
                return Holder("borrowed", place, 0, "tracemalloc: the key of a trace", False)
            if place in traces.filenames:
                return Holder("runtime", place, 0, "tracemalloc: a file name", True)
        named = self._places.state(place)
        if named is None:
            inside = self._stop.statics.object_at(place)
            if inside is not None:
                return self._in_object(inside.address, place, target)
            named = self._places.place(place)
        if named.owns is False:
            return Holder("borrowed", place, 0, named.label, False)
        return Holder(named.kind, place, 0, named.label, named.owns is True, offset=named.offset)

    def _in_object(self, owner: int, place: int, target: int) -> Holder:
        reference = self._reference(owner, place)
        if reference is None:
            # 3.13+: an instance's dict owns the values that lie in the instance (Objects/dictobject.c).
            for own in self._references[owner].values():
                inner = self._reference(own.target, place) if own.label == "__dict__" else None
                if inner is not None:
                    return self._owning(own.target, inner, target)
            return Holder("borrowed", place, owner, f"{place - owner:+#x}", False)
        return self._owning(owner, reference, target)

    def _owning(self, owner: int, reference: Reference, target: int) -> Holder:
        # The dict of interned strings owns its strings without counting (Objects/unicodeobject.c).
        row = self._heap.index.get(target) if owner in self._interned else NO_ROW
        if row != NO_ROW and is_interned(self._stop, target, self._heap.objects.types[row]):
            return Holder("borrowed", reference.place, owner, f"{reference.label} (interned)", False)
        return Holder("object", reference.place, owner, reference.label, reference.exact, reference.declared,
                      suspended=reference.suspended)

    def _reference(self, owner: int, place: int) -> Reference | None:
        known = self._references.get(owner)
        if known is None:
            try:
                known = {each.place: each for each in self._owned.references(owner)}
            except (DecodeError, MemoryFault):
                known = {}
            self._references[owner] = known
        return known.get(place)

    def _in_storage(self, row: int, place: int, target: int, owners: list[int]) -> Holder:
        for owner in owners:
            reference = self._reference(owner, place)
            if reference is not None:
                return self._owning(owner, reference, target)
        named = self._places.state(place)
        if named is not None:
            if named.owns is False:
                return Holder("borrowed", place, 0, named.label, False)
            return Holder(named.kind, place, 0, named.label, named.owns is True, offset=named.offset)
        start, size = self._heap.blocks.starts[row], self._heap.blocks.sizes[row]
        free = self._on_free_list(start)
        if free is not None:
            name = self._stop.texts.type_name(free[1])
            if place == free[0] + self._stop.runtime.build.ob_type and self._stop.types[target].is_heap:
                # Whoever put it there may have kept its reference to the type.
                return Holder("block", place, 0, f"ob_type of a freed {name} on a free list", False)
            return Holder("borrowed", place, 0, f"{name} on a free list", False)
        label = f"block of {size} bytes at {start:#x}{place - start:+#x}"
        for owner in owners:
            if self._is_shared_key(owner, place):
                return Holder("object", place, owner, "shared key", True)
            if self._kind(owner) in _KNOWN_STORAGE:  # all that it owns is known: this is a hash or a stale entry
                return Holder("borrowed", place, owner, label, False)
        return Holder("block", place, owners[0] if owners else 0, label, False)

    def _is_shared_key(self, owner: int, place: int) -> bool:
        # A key of a table that several dicts share, and that no type has (any more).
        if not self._stop.types[self._stop.texts.type_of(owner).address].flags & DICT_SUBCLASS:
            return False
        try:
            return any(each.key_place == place for each in self._stop.texts.containers.dict_items(owner))
        except (DecodeError, MemoryFault):
            return False

    def _kind(self, owner: int) -> str:
        try:
            return self._stop.texts.kinds.of(self._stop.texts.type_of(owner).address).name
        except (DecodeError, MemoryFault):
            return OBJECT

    def _on_free_list(self, start: int) -> tuple[int, int] | None:
        # The object and its type when the block holds one with no references: kept for reuse, its words are stale.
        build, memory, types = self._stop.runtime.build, self._stop.runtime.memory, self._stop.types
        head = build.gc_head_size
        for prefix in (0, head, head + 16, 16):
            try:
                type_ = memory.u64(start + prefix + build.ob_type)
                if types.is_type(type_) and types[type_].prefix == prefix:
                    count = self._stop.runtime.count(start + prefix)
                    return (start + prefix, type_) if count == 0 else None
            except (DecodeError, MemoryFault):
                continue
        return None

    def _owners(self, wanted: set[int]) -> dict[int, list[int]]:
        # The objects that point to each of the blocks (rows), directly or through other blocks.
        blocks = self._heap.blocks
        above: dict[int, set[int]] = {row: {row} for row in wanted}  # block → the wanted ones it leads to
        found: defaultdict[int, list[int]] = defaultdict(list)
        searched: set[int] = set()
        for _ in range(_LEVELS):
            rows = [row for row in above if row not in searched]
            if not rows:
                break
            searched.update(rows)
            pointers = {
                blocks.starts[row] + 8 * word: row
                for row in rows
                for word in range(min(_POINTERS, max(blocks.sizes[row] // 8, 1)))  # not of the next block
            }
            for place, word in self._words(frozenset(pointers)):
                holder = self._object_at(place)
                leads_to = above[pointers[word]]
                if holder is not None:
                    for row in leads_to:
                        if holder not in found[row]:
                            found[row].append(holder)
                    continue
                block = blocks.row_of(place)
                if block is not None and block not in searched:
                    above.setdefault(block, set()).update(leads_to)
            if all(found[row] for row in wanted):
                break
        return found

    def _object_at(self, place: int) -> int | None:
        # The object, on the heap or static, that the word at *place* is a part of.
        row = self._heap.blocks.row_of(place)
        if row is not None:
            return self._object_in[row] or None
        inside = self._stop.statics.object_at(place)
        return inside.address if inside is not None else None

    def _words(self, wanted: frozenset[int]) -> Iterator[tuple[int, int]]:
        copy = self._stop.copy
        if copy is not None:
            np = vectors(sys.maxsize)
            seem = np.zeros(_PARTS, bool)  # by a part of a word, whether it may be one of them
            seem[np.array(list(wanted), "u8") >> 3 & (_PARTS - 1)] = True
            for start, copied in copied_data(self._stop.runtime, self.coverage, copy, _PIECE):
                column = np.frombuffer(copied, "<u8", len(copied) // 8)
                for index in np.flatnonzero(seem[column >> 3 & (_PARTS - 1)]).tolist():
                    word = int(column[index])
                    if word in wanted:
                        yield start + 8 * index, word
            return
        for start, data in resident_data(self._stop.runtime, self.coverage, _PIECE):
            words = array("Q", data[: len(data) & ~7])
            # Most pages have none: one call for each decides that.
            for first in range(0, len(words), _WORDS):
                part = words[first : first + _WORDS]
                if not wanted.isdisjoint(part):
                    place = start + 8 * first
                    yield from ((place + 8 * index, word) for index, word in enumerate(part) if word in wanted)
