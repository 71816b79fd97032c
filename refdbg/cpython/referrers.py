"""Who holds an object: every word of the process that equals its address, with the name of what it belongs to."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from refdbg.cpython.heap import HeapObjects, resident_data
from refdbg.cpython.owned import Owned, Reference
from refdbg.cpython.runtime import Runtime
from refdbg.cpython.stop import Stop
from refdbg.cpython.threads import pthread
from refdbg.errors import DecodeError, LayoutNotFound, MemoryFault
from refdbg.graph.objects import Coverage
from refdbg.target.layout import StructLayout
from refdbg.target.memory import Region

_POINTERS = 40  # words from a block's start that an owner may point to: the values of a split dict begin inside
_LEVELS = 3  # blocks that point to blocks: the nodes of an OrderedDict hang on its node table


@dataclass(frozen=True)
class Holder:
    """A word that equals the object's address. *exact*: known to own a reference.

    *kind*: "object", "borrowed" (inside an object, or what is left of one, but no reference), "static",
    "interpreter", "thread", "frame", "stack", "block", "memory". *owner*: ``PyObject *``, 0 when it is no object.
    """

    kind: str
    place: int
    owner: int
    label: str
    exact: bool


class Referrers:
    """Searches the memory of one stop."""

    def __init__(self, stop: Stop, owned: Owned) -> None:
        self._stop = stop
        self._owned = owned
        self._runtime = stop.runtime
        self._heap: HeapObjects = stop.heap
        self._object_in = dict(zip(self._heap.rows, self._heap.objects.addresses))
        self._places = _Places(stop, owned)
        self.coverage = Coverage()

    def of(self, address: int) -> list[Holder]:
        """The words that equal *address* (``PyObject *``), objects first. Raises RefdbgError."""
        blocks = self._heap.blocks
        found: list[Holder] = []
        storage: defaultdict[int, list[int]] = defaultdict(list)
        for place in self._search(address):
            row = blocks.row_of(place)
            if row is None:
                found.append(self._places.name(place))
            elif row in self._object_in:
                found.append(self._in_object(self._object_in[row], place))
            else:
                storage[row].append(place)
        owners = self._owners(set(storage))
        for row, places in storage.items():
            found += (self._in_storage(row, place, owners.get(row, [])) for place in places)
        order = ("object", "frame", "interpreter", "thread", "static", "block", "stack", "memory", "borrowed")
        return sorted(found, key=lambda holder: (order.index(holder.kind), holder.place))

    def _search(self, address: int) -> Iterator[int]:
        pattern = address.to_bytes(8, "little")
        for start, data in resident_data(self._runtime, self.coverage):
            position = data.find(pattern)
            while position >= 0:
                if not (start + position) & 7:
                    yield start + position
                position = data.find(pattern, position + 1)

    def _in_object(self, owner: int, place: int) -> Holder:
        reference = self._reference(owner, place)
        if reference is None:
            return Holder("borrowed", place, owner, f"{place - owner:+#x}", False)
        return Holder("object", place, owner, reference.label, reference.exact)

    def _reference(self, owner: int, place: int) -> Reference | None:
        try:
            return next((each for each in self._owned.references(owner) if each.place == place), None)
        except (DecodeError, MemoryFault):
            return None

    def _in_storage(self, row: int, place: int, owners: list[int]) -> Holder:
        for owner in owners:
            reference = self._reference(owner, place)
            if reference is not None:
                return Holder("object", place, owner, reference.label, reference.exact)
        named = self._places.state(place)
        if named is not None:
            return named
        start, size = self._heap.blocks.starts[row], self._heap.blocks.sizes[row]
        free = self._on_free_list(start)
        if free is not None:
            return Holder("borrowed", place, 0, f"{free} on a free list", False)
        label = f"block of {size} bytes at {start:#x}{place - start:+#x}"
        return Holder("block", place, owners[0] if owners else 0, label, False)

    def _on_free_list(self, start: int) -> str | None:
        # The type's name when the block holds an object with no references: kept for reuse, its words are stale.
        build, memory, types = self._runtime.build, self._runtime.memory, self._stop.types
        head = build.gc_head.size
        for prefix in (0, head, head + 16, 16):
            try:
                type_ = memory.u64(start + prefix + build.ob_type)
                if types.is_type(type_) and types[type_].prefix == prefix:
                    count = memory.u64(start + prefix + build.ob_refcnt)
                    return self._stop.texts.type_name(type_) if count == 0 else None
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
                for word in range(min(_POINTERS, blocks.sizes[row] // 8 + 1))
            }
            for place, word in self._words(pointers):
                holder = blocks.row_of(place)
                leads_to = above[pointers[word]]
                if holder is None:
                    continue
                if holder in self._object_in:
                    for row in leads_to:
                        if self._object_in[holder] not in found[row]:
                            found[row].append(self._object_in[holder])
                elif holder not in searched:
                    above.setdefault(holder, set()).update(leads_to)
            unresolved = {row for row in wanted if not found[row]}
            if not unresolved:
                break
        return found

    def _words(self, pointers: dict[int, int]) -> Iterator[tuple[int, int]]:
        wanted = frozenset(pointers)
        for start, data in resident_data(self._runtime, self.coverage):
            words = array("Q", data[: len(data) & ~7])
            if wanted.isdisjoint(words):
                continue
            for index, word in enumerate(words):
                if word in wanted:
                    yield start + 8 * index, word


class _Places:
    # Names for the words outside of the allocator's blocks.
    def __init__(self, stop: Stop, owned: Owned) -> None:
        self._stop = stop
        self._runtime = stop.runtime
        self._regions = list(self._runtime.target.regions())
        self._starts = [region.start for region in self._regions]
        self._structs: list[tuple[int, StructLayout, str, str]] = []  # address, layout, name, kind
        self._stacks: dict[int, str] = {}  # start of a region → its name
        self._frames: dict[int, tuple[str, bool]] = {}
        runtime = self._runtime
        for interpreter in runtime.interpreters():
            layout = runtime.build.interpreter
            self._structs.append((interpreter.address, layout, f"interpreter {interpreter.number}", "interpreter"))
            for number, thread in enumerate(runtime.threads(interpreter)):
                name = f"thread {number} of interpreter {interpreter.number}"
                self._structs.append((thread.address, runtime.build.layout("PyThreadState"), name, "thread"))
                try:
                    region = self._region(pthread(runtime, thread))
                    if region is not None:
                        self._stacks[region.start] = f"C stack of {name}"
                except (MemoryFault, LayoutNotFound):
                    pass
                for frame in stop.frames.stack(thread, 1000):
                    self._add_frame(owned, frame.address, f"{frame.function}() in {name}")

    def _add_frame(self, owned: Owned, address: int, name: str) -> None:
        try:
            for reference in owned.frame_words(address):
                self._frames[reference.place] = f"{reference.label} of {name}", reference.exact
        except (LayoutNotFound, DecodeError, MemoryFault):
            pass  # until 3.10 a frame is an object

    def _region(self, address: int) -> Region | None:
        index = bisect_right(self._starts, address) - 1
        if index >= 0 and address < self._regions[index].end:
            return self._regions[index]
        return None

    def state(self, place: int) -> Holder | None:
        """The field of an interpreter or thread state that *place* is."""
        for address, layout, name, kind in self._structs:
            if address <= place < address + layout.size:
                return Holder(kind, place, 0, f"{layout.name}.{field_path(layout, place - address)} of {name}", False)
        return None

    def name(self, place: int) -> Holder:
        """What *place* belongs to."""
        frame = self._frames.get(place)
        if frame is not None:
            return Holder("frame", place, 0, *frame)
        state = self.state(place)
        if state is not None:
            return state
        symbol = self._runtime.target.symbol_at(place)
        if symbol is not None:
            return Holder("static", place, 0, self._static(symbol.name, place, symbol.offset), False)
        region = self._region(place)
        if region is None:
            return Holder("memory", place, 0, "memory that is not mapped", False)
        if region.path == "[stack]" and region.start not in self._stacks:
            return Holder("stack", place, 0, "C stack", False)
        if region.start in self._stacks:
            return Holder("stack", place, 0, self._stacks[region.start], False)
        return Holder("memory", place, 0, f"memory of no known block ({region.path or 'anonymous'})", False)

    def _static(self, name: str, place: int, offset: int) -> str:
        build = self._runtime.build
        layout: StructLayout | None = None
        if place - offset == build.runtime_address:
            layout = self._runtime.state.layout
        elif self._stop.types.is_type(place - offset):
            layout = build.type
        if layout is not None and offset < layout.size:
            return f"{name}.{field_path(layout, offset)}"
        return f"{name}+{offset:#x}" if offset else name


def field_path(layout: StructLayout, offset: int) -> str:
    """The dotted path of the innermost field at *offset*, "+0x10" where there is none."""
    best = None
    for field in layout.fields.values():
        if field.offset <= offset < field.offset + field.size * max(field.count, 1):
            best = field
            break
    if best is None:
        return f"+{offset:#x}"
    inside = offset - best.offset
    index = f"[{inside // best.size}]" if best.count > 1 else ""
    inside %= best.size
    if best.inner is not None:
        return f"{best.name}{index}.{field_path(best.struct, inside)}"
    return f"{best.name}{index}" + (f"+{inside:#x}" if inside else "")


def runtime_name(runtime: Runtime, address: int) -> str | None:
    """The C symbol at *address*, with the offset when it is not its start; None when there is none."""
    symbol = runtime.target.symbol_at(address)
    if symbol is None:
        return None
    return f"{symbol.name}+{symbol.offset:#x}" if symbol.offset else symbol.name
