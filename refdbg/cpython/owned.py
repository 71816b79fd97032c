"""The references that an object holds, each with a label that a person understands.

Exact for the built-in types: every word that owns a reference, from the C structs. For other types the words
that the C struct declares as objects, or without debug info all that equal the address of an object: these are
marked, and are at most likely.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice

from refdbg.cpython.containers import Item
from refdbg.cpython.fields import FIELDS, FRAME_FIELDS, HEAP_TYPE_FIELDS, LRU_LINKS, OPAQUE, Struct, Structs, Word
from refdbg.cpython.greenlets import C_STACK, KIND, Greenlets
from refdbg.cpython.heap import SANE_COUNT, HeapObjects
from refdbg.cpython.instances import INLINE_VALUES
from refdbg.cpython.kinds import OBJECT, Kind
from refdbg.cpython.runtime import Runtime
from refdbg.cpython.stackrefs import is_owned, pointed
from refdbg.cpython.text import Texts
from refdbg.cpython.types import Type, Types
from refdbg.errors import DecodeError, LayoutNotFound, MemoryFault
from refdbg.graph.objects import Coverage

MODULE_STATE = "module state"  # what the labels of the members of a module's state begin with
# Kinds whose storage is one of four (`Owned.fixed_words`).
CONTAINERS = {"list": "list", "tuple": "tuple", "dict": "dict", "defaultdict": "dict", "set": "set"}
_GUESSED = ("capsule", "module")  # kinds whose other words are guessed
_KEY_ROOM = 40
_FRAME_CLEARED = 4  # enum _framestate (Include/internal/pycore_frame.h)
_OWNED_BY_FRAME_OBJECT = 2  # enum _frameowner
_STACK_POINTER = "stackpointer"  # _PyInterpreterFrame's, where the numbers of enum _framestate may be others, too
_STATIC_BUILTIN = 1 << 1  # Py_TPFLAGS: since 3.12 such a type's dict is in the interpreter state
_STATE_LIMIT = 1 << 20
_SLOTS_LIMIT = 1 << 16
_GUESSED_BYTES = 1 << 18  # of an object whose C struct is not known
_REFERENCES_LIMIT = 1 << 22


@dataclass(frozen=True)
class Reference:
    """One owned reference. *place*: the address of the word; *target*: ``PyObject *``.

    *offset*: the word's offset in the object, None when it lies in storage that the object points to.
    *exact*: known to own; otherwise a word that equals an object's address. *declared*: C says that this word is an
    object, which may still be borrowed. *running*: a local of a frame that executes, which no traverse function need
    report. *suspended*: it is on the stack that the object has while it is suspended; not *exact*: it may be stale.
    """

    target: int
    label: str
    place: int
    offset: int | None
    exact: bool = True
    declared: bool = False
    running: bool = False
    suspended: bool = False

    @property
    def stale(self) -> bool:
        """Whether most such words are what others have left there: of C stacks, and above a value stack's top."""
        return self.suspended and not self.exact and not self.declared


class Owned:
    """The references of one stop's objects.

    *find_heap* is asked when a word must be guessed: it must then equal the address of an object of that heap,
    or of one outside of the allocator's blocks.
    """

    def __init__(self, texts: Texts, find_heap: Callable[[], HeapObjects | None] = lambda: None) -> None:
        self._texts = texts
        self._memory = texts.memory
        self._build = texts.runtime.build
        self._find_heap = find_heap
        self._structs = Structs(texts.runtime, texts.types)
        self._greenlets = Greenlets(texts.runtime)
        self.coverage = Coverage()
        self._walkers: dict[str, Callable[[int, Type], Iterator[Reference]]] = {
            "list": self._list,
            "tuple": self._tuple,
            "structseq": self._structseq,
            "dict": self._dict,
            "defaultdict": self._dict,
            "odict": self._odict,
            "set": self._set,
            "deque": self._deque,
            "type": self._type,
            "module": self._module,
            "generator": self._generator,
            "coroutine": self._generator,
            "async_generator": self._generator,
            "frame": self._frame,
            "code": self._code,
            "lru cache": self._lru_link,
            "lru entry": self._lru_link,
            "capsule": self._opaque,
            KIND: self._greenlet,
        }

    def references(self, address: int) -> list[Reference]:
        """The references that the object at *address* (``PyObject *``) owns, in the order of its fields.

        What cannot be read is counted in the coverage. Raises DecodeError, MemoryFault for no object at all.
        """
        type_ = self._texts.type_of(address)
        kind = self._texts.kinds.of(type_.address)
        found: dict[int, Reference] = {}
        for part in self._parts(address, type_, kind, found):
            try:
                for reference in part:
                    if reference.target:
                        found.setdefault(reference.place, reference)
                    if len(found) >= _REFERENCES_LIMIT:
                        self.coverage.truncated = True
                        return list(found.values())
            except (MemoryFault, DecodeError, LayoutNotFound) as error:
                self.coverage.unreadable += 1
                self.coverage.notes.append(f"object {address:#x}: {error}")
        return list(found.values())

    def fixed_words(self, type_: Type) -> tuple[str, list[int]] | None:
        """(what container each instance of the type is, "" for none; the offsets of the other words that own).

        Attributes that an instance has beside its struct are not among them. None where that differs between
        instances, or the storage is a rarer one. Raises DecodeError, MemoryFault, LayoutNotFound.
        """
        kind = self._texts.kinds.of(type_.address)
        if kind.name in self._walkers and kind.name not in CONTAINERS:
            return None
        offsets = [self._build.ob_type] if type_.is_heap else []
        for struct, fields in FIELDS.get(kind.name, ()):
            layout = self._build.layout(struct)
            offsets += [layout.offset(path) for path in fields if path in layout]
        start = self._known_size(type_, kind)
        offsets += [
            member.offset for member in self._texts.instances.members(type_.address)
            if member.slot and start <= member.offset < type_.basicsize
        ]
        return CONTAINERS.get(kind.name, ""), sorted(set(offsets))

    def may_own_more(self, type_: Type) -> bool:
        """Whether instances of the type have words that only a guess is made of. Raises DecodeError, MemoryFault."""
        kind = self._texts.kinds.of(type_.address)
        start = self._known_size(type_, kind)
        return kind.name in _GUESSED or (start > 0 and (start < type_.basicsize or type_.itemsize > 0))

    def _parts(
        self, address: int, type_: Type, kind: Kind, found: dict[int, Reference]
    ) -> Iterator[Iterable[Reference]]:
        yield self._own_type(address, type_)
        yield self._fields(address, kind)
        walker = self._walkers.get(kind.name)
        if walker is not None:
            yield walker(address, type_)
        yield self._attributes(address, type_)
        start, end = self._unknown(address, type_, kind)
        yield self._members(address, type_, start)
        yield self._conservative(address, type_, start, end, found)

    # What every object has

    def _own_type(self, address: int, type_: Type) -> Iterator[Reference]:
        if type_.is_heap:
            yield self._at(address, self._build.ob_type, "ob_type")

    def _attributes(self, address: int, type_: Type) -> Iterator[Reference]:
        instances = self._texts.instances
        place, dict_ = instances.dict_place(address, type_), instances.dict_of(address, type_)
        if dict_:
            yield Reference(dict_, "__dict__", place, place - address)
            return  # 3.13+: the dict owns the inline values too (Objects/dictobject.c, PyObject_VisitManagedDict)
        for entry in instances.inline_entries(address, type_):
            yield Reference(entry.value, f"__dict__[{self._key(entry.key)}]", entry.value_place, None)

    def _members(self, address: int, type_: Type, start: int) -> Iterator[Reference]:
        for member in self._texts.instances.members(type_.address):
            if start <= member.offset < type_.basicsize:
                found = self._at(address, member.offset, f".{member.name}")
                if member.slot:
                    yield found
                elif found.target and self.is_object(found.target):
                    yield replace(found, exact=False, declared=True)

    def _known_size(self, type_: Type, kind: Kind) -> int:
        # How much of the object the kind knows.
        if kind.name == OBJECT or kind.base == 0 or kind.name == "lock":
            return self._build.layout("PyVarObject").size if type_.itemsize else self._build.object.size
        base = self._texts.types[kind.base]
        # Behind a base of variable size nothing can follow; the members of a metaclass follow all that a type has.
        return 0 if base.itemsize and kind.name != "type" else base.basicsize

    def _unknown(self, address: int, type_: Type, kind: Kind) -> tuple[int, int]:
        # The part of the object that the kind says nothing of: [start, end) from its address.
        start = self._known_size(type_, kind)
        if kind.name == "type":
            return start, type_.basicsize
        if not start:
            return 0, 0
        end = type_.basicsize
        if type_.itemsize and not type_.flags & INLINE_VALUES:
            end += type_.itemsize * min(abs(self._texts.scalars.size(address)), _SLOTS_LIMIT)
        if start < end and self._heap is not None:
            row = self._heap.blocks.row_of(address)
            if row is not None:
                end = min(end, self._heap.blocks.starts[row] + self._heap.blocks.sizes[row] - address)
        return start, min(end, start + _GUESSED_BYTES)

    def _conservative(
        self, address: int, type_: Type, start: int, end: int, found: dict[int, Reference]
    ) -> Iterator[Reference]:
        borrowed = set(self._texts.instances.borrowed(type_))
        struct = self._structs.of_type(type_.address) if start < end else None
        for offset in range(start + 7 & ~7, end - 7, 8):
            if offset not in borrowed and address + offset not in found:
                reference = self._guess(struct, address, offset)
                if reference is not None:
                    yield reference

    def _guess(self, struct: Struct | None, start: int, offset: int) -> Reference | None:
        # The word at an offset of the struct, when it equals an object's address and C says nothing against it.
        if struct is None or offset >= struct.size:
            word = Word(f"+{offset:#x}", False)
        elif offset in struct.words:
            word = struct.words[offset]
        else:
            return None
        target = self._memory.u64(start + offset)
        if not target or not self.is_object(target):
            return None
        return Reference(target, word.label, start + offset, offset, exact=False, declared=word.declared)

    def is_object(self, address: int) -> bool:
        """Whether a live object lies at *address*, as far as can be told. Raises nothing."""
        if address & 7 or address < 4096 or address >> 47:
            return False
        if self._heap is not None and self._heap.blocks.row_of(address) is not None:
            return address in self._heap.index
        try:
            count = self._texts.runtime.count(address)
            return 0 < count < SANE_COUNT and self._texts.types.is_type(self._memory.u64(address + self._build.ob_type))
        except MemoryFault:
            return False

    @cached_property
    def _heap(self) -> HeapObjects | None:
        return self._find_heap()

    def _at(self, address: int, offset: int, label: str) -> Reference:
        return Reference(self._memory.u64(address + offset), label, address + offset, offset)

    def _key(self, address: int) -> str:
        return self._texts.repr(address, 1, _KEY_ROOM)

    def _fields(self, address: int, kind: Kind) -> Iterator[Reference]:
        for struct, fields in FIELDS.get(kind.name, ()):
            layout = self._build.layout(struct)
            for path, label in fields.items():
                if path in layout:
                    yield self._at(address, layout.offset(path), label)

    # Containers

    def _items(self, items: Iterable[Item], start: int, address: int | None = None) -> Iterator[Reference]:
        for place, target in items:
            offset = place - address if address is not None else None
            yield Reference(target, f"[{(place - start) // 8}]", place, offset)

    def _list(self, address: int, _type: Type) -> Iterator[Reference]:
        containers = self._texts.containers
        return self._items(containers.list_items(address), containers.list_start(address))

    def _tuple(self, address: int, _type: Type) -> Iterator[Reference]:
        containers = self._texts.containers
        return self._items(containers.tuple_items(address), containers.tuple_start(address), address)

    def _structseq(self, address: int, type_: Type) -> Iterator[Reference]:
        # Fields beyond the visible length are owned too (Objects/structseq.c, structseq_traverse).
        containers = self._texts.containers
        number = 0
        with suppress(DecodeError, MemoryFault):  # a static type that was finalized has no dict
            number = containers.lookup(self.type_dict(type_), "n_fields")
        count = self._texts.scalars.integer(number) if number else self._texts.scalars.size(address)
        start = containers.tuple_start(address)
        return self._items(containers.words(start, count), start, address)

    def _dict(self, address: int, _type: Type) -> Iterator[Reference]:
        for entry in self._texts.containers.dict_items(address):
            key = self._key(entry.key)
            if not entry.shared:
                yield Reference(entry.key, f"key {key}", entry.key_place, None)
            yield Reference(entry.value, f"[{key}]", entry.value_place, None)

    def _odict(self, address: int, type_: Type) -> Iterator[Reference]:
        yield from self._dict(address, type_)
        for item in self._texts.containers.odict_keys(address):
            yield Reference(item.target, f"order {self._key(item.target)}", item.place, None)

    def _set(self, address: int, _type: Type) -> Iterator[Reference]:
        for item in self._texts.containers.set_items(address):
            offset = item.place - address
            inside = 0 <= offset < self._build.layout("PySetObject").size
            yield Reference(item.target, f"element {self._key(item.target)}", item.place, offset if inside else None)

    def _deque(self, address: int, _type: Type) -> Iterator[Reference]:
        for index, item in enumerate(self._texts.containers.deque_items(address)):
            yield Reference(item.target, f"[{index}]", item.place, None)

    def _lru_link(self, address: int, type_: Type) -> Iterator[Reference]:
        kind = self._texts.kinds.of(type_.address).name
        struct, path = LRU_LINKS[kind]
        link = self._at(address, self._build.layout(struct).offset(path), "next entry")
        if link.target and self._texts.kinds.of(self._texts.type_of(link.target).address).name == "lru entry":
            yield link

    def _opaque(self, address: int, type_: Type) -> Iterator[Reference]:
        struct, fields = OPAQUE[self._texts.kinds.of(type_.address).name]
        layout = self._build.layout(struct)
        for name, label in fields.items():
            reference = self._at(address, layout.offset(name), label)
            if reference.target and self.is_object(reference.target):
                yield replace(reference, exact=False)

    # Types and modules

    def type_dict(self, type_: Type) -> int:
        """The type's ``__dict__`` (``PyObject *``), 0 when there is none (Objects/typeobject.c, lookup_tp_dict)."""
        place = self._type_dict_place(type_)
        return self._memory.u64(place) if place else type_.dict

    def type_module(self, type_: Type) -> str | None:
        """``__module__``, None where there is none (Objects/typeobject.c, type_module).

        Raises DecodeError, MemoryFault.
        """
        if not type_.is_heap:
            return type_.name.rpartition(".")[0] or "builtins"
        found = self._texts.containers.lookup(type_.dict, "__module__") if type_.dict else 0
        return self._texts.string(found) if found else None

    def subclasses(self, type_: Type) -> list[int]:
        """The type's direct subclasses that are alive (``PyTypeObject *``), by the weak references in tp_subclasses.

        Raises DecodeError, MemoryFault.
        """
        place = self._state_place(type_, "tp_subclasses")
        dict_ = self._memory.u64(place or type_.address + self._build.type.offset("tp_subclasses"))
        if not dict_:
            return []
        target = self._build.layout("PyWeakReference").offset("wr_object")
        found = [self._memory.u64(entry.value + target) for entry in self._texts.containers.dict_items(dict_)]
        return [address for address in found if self._texts.types.is_type(address)]

    def _type_dict_place(self, type_: Type) -> int:
        return self._state_place(type_, "tp_dict")

    def _state_place(self, type_: Type, field: str) -> int:
        # 0: in the type itself. Since 3.12 static builtin types keep theirs in each interpreter.
        layout = self._build.interpreter
        if not type_.flags & _STATIC_BUILTIN or type_.is_heap or "types.builtins" not in layout:
            return 0
        rows = layout.first("types.builtins.initialized", "types.builtins")  # 3.13, 3.12
        index = self._memory.u64(type_.address + self._build.type.offset("tp_subclasses")) - 1
        for interpreter in self._texts.runtime.interpreters():
            if 0 <= index < rows.count:
                return interpreter.address + rows.offset + index * rows.size + rows.struct.offset(field)
        return 0

    def _type(self, address: int, _metatype: Type) -> Iterator[Reference]:
        type_ = self._texts.types[address]
        place = self._type_dict_place(type_)
        if place:
            yield Reference(self._memory.u64(place), "tp_dict", place, None)
        elif not type_.flags & _STATIC_BUILTIN or type_.is_heap or type_.dict:
            yield self._at(address, self._build.type.offset("tp_dict"), "tp_dict")
        for name in ("tp_base", "tp_bases", "tp_mro", "tp_cache", "tp_subclasses"):
            reference = self._at(address, self._build.type.offset(name), name)
            if reference.target >= 4096:  # 3.12+: tp_subclasses of a static builtin type is an index
                yield reference
        if not type_.is_heap:
            return
        layout = self._build.layout("PyHeapTypeObject")
        for name in HEAP_TYPE_FIELDS:
            if name in layout:
                yield self._at(address, layout.offset(name), name)
        keys = self._texts.instances.cached_keys(type_)
        if keys:
            for item in self._texts.containers.tables.names(keys):
                if item.target:
                    yield Reference(item.target, f"shared key {self._key(item.target)}", item.place, None)

    def _module(self, address: int, _type: Type) -> Iterator[Reference]:
        # The module's state is a block of the extension's own: nobody says what it owns.
        view = self._texts.runtime.view(address, "PyModuleObject")
        state, definition = view["md_state"], view["md_def"]
        if not state or not definition:
            return
        size = self._texts.runtime.view(definition, "PyModuleDef")["m_size"]
        struct = self._structs.of_module(definition, size)
        for offset in range(0, min(size, _STATE_LIMIT) - 7 if size < 1 << 63 else 0, 8):
            reference = self._guess(struct, state, offset)
            if reference is not None:
                yield replace(reference, label=f"{MODULE_STATE}{reference.label}", offset=None)

    # Code and frames

    def _code(self, address: int, _type: Type) -> Iterator[Reference]:
        layout = self._build.layout("PyCodeObject")
        if "_co_cached" in layout:  # 3.12+
            block = self._memory.u64(address + layout.offset("_co_cached"))
            if block:
                for name, field in self._build.layout("_PyCoCached").fields.items():
                    if field.size == 8:
                        yield replace(self._at(block, field.offset, name), offset=None)

    def _generator(self, address: int, _type: Type) -> Iterator[Reference]:
        layout = self._build.layout("PyGenObject")
        if "gi_iframe" not in layout:
            return  # until 3.10: the frame is an object
        frame = address + layout.offset("gi_iframe")
        state = layout["gi_frame_state"]
        # 3.14+: what a cleared frame does not own any more is not on its stack, and its words are empty.
        if (
            _STACK_POINTER in self._build.layout("_PyInterpreterFrame")
            or self._memory.integer(address + state.offset, 1, signed=True) < _FRAME_CLEARED
        ):
            for reference in self.frame_words(frame, deferred=True):
                yield replace(reference, offset=reference.place - address)
        elif "gi_code" not in layout:  # 3.12+: the frame's code goes last (Objects/genobject.c, gen_dealloc)
            field = self._build.layout("_PyInterpreterFrame").first("f_executable", "f_code")
            yield self._at(address, layout.offset("gi_iframe") + field.offset, field.name)

    def _frame(self, address: int, _type: Type) -> Iterator[Reference]:
        layout = self._build.layout("PyFrameObject")
        if "f_frame" not in layout:
            yield from self._old_frame(address)
            return
        frame = self._memory.u64(address + layout.offset("f_frame"))
        owner = self._memory.integer(frame + self._build.layout("_PyInterpreterFrame").offset("owner"), 1)
        if owner == _OWNED_BY_FRAME_OBJECT:
            for reference in self.frame_words(frame, deferred=True):
                yield replace(reference, offset=reference.place - address)

    def _greenlet(self, address: int, _type: Type) -> Iterator[Reference]:
        found = self._greenlets.of(address)
        if found is None:
            return
        for label, place in self._greenlets.fields(found):
            yield Reference(self._memory.u64(place), label, place, None)
        for frame in self._greenlets.owned_frames(found):
            yield from self.suspended_words(frame)
        if found.main:
            return  # its C stack is its thread's
        running = self._generators_of(found.frames)
        is_object = self._heap.index.__contains__ if self._heap is not None else self.is_object
        for start, end in found.stack:
            for place, target in self._texts.containers.words(start + 7 & ~7, (end - start) // 8):
                if is_object(target):
                    yield Reference(target, C_STACK, place, None, False, target in running, suspended=True)
                    running.discard(target)

    def _generators_of(self, frames: Iterable[int]) -> set[int]:
        # The generators and coroutines that run in these frames: whoever has called them, on that stack, holds them.
        layout = self._build.layout("PyGenObject")
        if "gi_iframe" not in layout:
            return set()
        return {frame - layout.offset("gi_iframe") for frame in frames}

    def suspended_words(self, frame: int) -> Iterator[Reference]:
        """The references of a frame that no thread runs: its owner's traverse need report them.

        *frame*: ``_PyInterpreterFrame *`` (until 3.10 ``PyFrameObject *``). Raises DecodeError, MemoryFault.
        """
        if "f_frame" in self._build.layout("PyFrameObject"):  # 3.11+
            layout = self._build.layout("_PyInterpreterFrame")
            code = self._memory.u64(frame + layout.first("f_executable", "f_code").offset)
            words: Iterable[Reference] = self.frame_words(frame)
        else:
            code = self._texts.runtime.view(frame, "PyFrameObject")["f_code"]
            words = self.references(frame)
        name = self._build.layout("PyCodeObject").first("co_qualname", "co_name").offset
        function = self._texts.string(self._memory.u64(code + name)) or "?"
        for each in words:
            yield replace(each, label=f"{each.label} of {function}()", offset=None, running=False, suspended=True)

    def frame_words(self, frame: int, deferred: bool = False) -> Iterator[Reference]:
        """The references that a frame owns (3.11+). *frame*: ``_PyInterpreterFrame *``.

        *deferred*: with those that it has without counting, of a frame that the collector knows (`count_deferred`).
        Python/frame.c, _PyFrame_Traverse. Raises DecodeError, MemoryFault, LayoutNotFound.
        """
        layout = self._build.layout("_PyInterpreterFrame")
        for name in FRAME_FIELDS:
            if name in layout:
                place = frame + layout.offset(name)
                yield Reference(self._counted(self._memory.u64(place), deferred), name, place, None)
        code = pointed(self._memory.u64(frame + layout.first("f_executable", "f_code").offset))
        if self._texts.kinds.of(self._texts.type_of(code).address).name != "code":
            return  # 3.12+: None in C's own entry
        view = self._texts.runtime.view(code, "PyCodeObject")
        names = self._names(view["co_localsplusnames"])
        start = frame + layout.offset("localsplus")
        if _STACK_POINTER in layout:  # 3.14+
            pointer = self._memory.u64(frame + layout.offset(_STACK_POINTER))
            top = (pointer - start) // 8 if pointer else -1
        else:
            top = self._memory.integer(frame + layout.offset("stacktop"), 4, signed=True)
        yield from self._slots(start, names, top, view["co_stacksize"], deferred)

    def _counted(self, word: int, deferred: bool = False) -> int:
        # The object that a frame's word holds; 0 for one that is borrowed, for who owns it is elsewhere. What is
        # immortal is always borrowed there (3.14+), and nobody counts who owns it.
        target = pointed(word)
        runtime = self._texts.runtime
        if deferred and runtime.traits.free_threaded:
            return target
        if target and not is_owned(word):
            return target if runtime.is_immortal(runtime.count(target)) else 0
        return target

    def _names(self, address: int) -> list[int]:
        return [item.target for item in islice(self._texts.containers.tuple_items(address), _SLOTS_LIMIT)]

    def _slots(
        self, start: int, names: list[int], top: int, stack: int, deferred: bool = False
    ) -> Iterator[Reference]:
        # *top*: how many of the slots are in use; -1 while the frame executes, when nobody but C's stack knows.
        known = len(names) if top < 0 else min(top, _SLOTS_LIMIT)
        for place, word in self._texts.containers.words(start, known):
            target = self._counted(word, deferred)
            if not target:
                continue
            index = (place - start) // 8
            name = self._texts.string(names[index]) if index < len(names) else None
            label = f"local {name}" if name else f"stack[{index - len(names)}]"
            yield Reference(target, label, place, None, running=top < 0)
        if top < 0:
            for place, target in self._texts.containers.words(start + 8 * known, min(stack, _SLOTS_LIMIT)):
                if self.is_object(target):
                    label = f"stack[{(place - start) // 8 - known}]"
                    yield Reference(target, label, place, None, exact=False, running=True)

    def _old_frame(self, address: int) -> Iterator[Reference]:
        # Until 3.10 (Objects/frameobject.c, frame_traverse).
        view = self._texts.runtime.view(address, "PyFrameObject")
        code = self._texts.runtime.view(view["f_code"], "PyCodeObject")
        names = []
        for field in ("co_varnames", "co_cellvars", "co_freevars"):
            names += self._names(code[field])
        if "f_stackdepth" in view.layout:  # 3.10
            depth = self._memory.integer(view.at("f_stackdepth"), 4, signed=True)
            top = -1 if depth < 0 else len(names) + depth
        else:
            stack = view["f_stacktop"]
            top = len(names) + (stack - view["f_valuestack"]) // 8 if stack else -1
            if not stack and not view["f_executing"]:
                top = len(names)  # it has ended: what stands on its stack was consumed
        for reference in self._slots(view.at("f_localsplus"), names, top, code["co_stacksize"]):
            yield replace(reference, offset=reference.place - address)


def check_object(runtime: Runtime, types: Types, address: int) -> None:
    """Raises DecodeError, saying why, when no object lies at *address*."""
    build = runtime.build
    if address & 7:
        raise DecodeError(f"{address:#x} is no Python object: it is not aligned to 8 bytes")
    try:
        type_ = runtime.memory.u64(address + build.ob_type)
    except MemoryFault as error:
        raise DecodeError(f"{address:#x} is no Python object: {error}", MemoryFault.hint) from error
    if not types.is_type(type_):
        raise DecodeError(f"{address:#x} is no Python object: its type word {type_:#x} is no type")
