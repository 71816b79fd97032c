"""What ``repr()`` of each built-in type says, one function per kind (refdbg.cpython.kinds).

Each takes the Subject and returns a text that may be longer than its room: the caller cuts. They raise
DecodeError, MemoryFault, LayoutNotFound; the caller shows the object as unreadable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

from refdbg.cpython import lines
from refdbg.cpython.kinds import Kind
from refdbg.cpython.stackrefs import pointed
from refdbg.cpython.types import Type
from refdbg.errors import DecodeError, MemoryFault

if TYPE_CHECKING:
    from refdbg.cpython.text import Texts

_NAME_LIMIT = 1 << 10
_ORDERED_LIMIT = 1 << 16
_BITS_PER_CHARACTER = 4  # decimal digits take 3.3: more bits cannot fit
_INT_BITS_LIMIT = 13_000  # the debugger's Python refuses to print more than 4300 digits


@dataclass(frozen=True)
class Subject:
    """The object that is formatted, and how much text it may take. *address*: ``PyObject *``."""

    texts: Texts
    address: int
    type: Type
    kind: Kind
    depth: int
    room: int

    def word(self, struct: str, *paths: str) -> int:
        """The pointer in the first of the fields that this build has."""
        field = self.texts.runtime.build.layout(struct).first(*paths)
        return self.texts.memory.u64(self.address + field.offset)

    def number(self, struct: str, path: str) -> int:
        """An integer field."""
        field = self.texts.runtime.build.layout(struct)[path]
        return self.texts.memory.integer(self.address + field.offset, field.size, field.signed)

    def item(self, address: int, used: int = 0) -> str:
        """The repr of an object inside this one."""
        return self.texts.item(address, self.depth - 1, self.room - used)

    def same(self, address: int) -> str:
        """The repr of an object that this one only wraps: no deeper."""
        return self.texts.item(address, self.depth, self.room)

    def name(self, address: int) -> str:
        """The text of a str that is a name, "?" for anything else."""
        return self.texts.string(address) or "?"

    @property
    def short_type(self) -> str:
        """``_PyType_Name``."""
        return self.type.name.rpartition(".")[2]

    def joined(self, opening: str, parts: Iterable[str], closing: str, recursive: str) -> str:
        """The parts between the brackets, as many as there is room for; "…" stands for the rest."""
        if not self.texts.enter(self.address):
            return recursive
        found: list[str] = []
        used = len(opening) + len(closing)
        try:
            for part in parts:
                if self.depth <= 0 or used > self.room:
                    found.append("…")
                    break
                found.append(part)
                used += len(part) + 2
        except (MemoryFault, DecodeError):
            found.append("<unreadable>")
        finally:
            self.texts.leave(self.address)
        return opening + ", ".join(found) + closing

    def targets(self, address: int) -> list[int]:
        """The elements of a tuple, as many as there can be room for."""
        return [item.target for item in islice(self.texts.containers.tuple_items(address), self.room)]

    def items(self, targets: Iterable[int]) -> Iterator[str]:
        """The reprs of the elements, with less room for each."""
        left = self.room
        for target in targets:
            text = self.texts.item(target, self.depth - 1, left) if self.depth > 0 else "…"
            left -= len(text) + 2
            yield text

    def pairs(self, entries: Iterable[tuple[int, int]], between: str = ": ") -> Iterator[str]:
        """The reprs of the entries."""
        left = self.room
        for key, value in entries:
            if self.depth <= 0:
                yield "…"
                continue
            text = self.texts.item(key, self.depth - 1, left) + between
            text += self.texts.item(value, self.depth - 1, left - len(text))
            left -= len(text) + 2
            yield text


def _int(s: Subject) -> str:
    bits = s.texts.scalars.integer_bits(s.address)
    if bits > max(s.room * _BITS_PER_CHARACTER, 256) or bits > _INT_BITS_LIMIT:
        return f"<int of {bits} bits>"
    return str(s.texts.scalars.integer(s.address))


def _bool(s: Subject) -> str:
    return str(bool(s.texts.scalars.integer(s.address)))


def _float(s: Subject) -> str:
    return repr(s.texts.scalars.float(s.address))


def _complex(s: Subject) -> str:
    return repr(s.texts.scalars.complex(s.address))


def _str(s: Subject) -> str:
    text = s.texts.scalars.text(s.address, s.room)
    return _quoted(text, s.texts.scalars.length(s.address))


def _bytes(s: Subject) -> str:
    return _quoted(s.texts.scalars.bytes(s.address, s.room), s.texts.scalars.size(s.address))


def _bytearray(s: Subject) -> str:
    data = s.texts.scalars.bytearray(s.address, s.room)
    return f"{s.short_type}({_quoted(data, s.texts.scalars.size(s.address))})"


def _quoted(value: str | bytes, length: int) -> str:
    text = repr(value)
    return text if len(value) == length else f"{text[:-1]}…{text[-1]}"


def _list(s: Subject) -> str:
    targets = (item.target for item in s.texts.containers.list_items(s.address))
    return s.joined("[", s.items(targets), "]", "[...]")


def _tuple(s: Subject) -> str:
    targets = (item.target for item in s.texts.containers.tuple_items(s.address))
    closing = ",)" if s.texts.scalars.size(s.address) == 1 else ")"
    return s.joined("(", s.items(targets), closing, "(...)")


def _structseq(s: Subject) -> str:
    names = [member.name for member in s.texts.instances.members(s.type.address)]
    targets = (item.target for item in s.texts.containers.tuple_items(s.address))
    parts = (f"{name}={text}" for name, text in zip(names, s.items(targets)))
    return s.joined(f"{s.type.name}(", parts, ")", "(...)")


def _dict(s: Subject) -> str:
    entries = ((entry.key, entry.value) for entry in s.texts.containers.dict_items(s.address))
    return s.joined("{", s.pairs(entries), "}", "{...}")


def _defaultdict(s: Subject) -> str:
    factory = s.word("defdictobject", "default_factory")
    return f"{s.short_type}({s.item(factory) if factory else 'None'}, {_dict(s)})"


def _odict(s: Subject) -> str:
    containers = s.texts.containers
    if not containers.dict_length(s.address):
        return f"{s.short_type}()"
    values = {entry.key: entry.value for entry in islice(containers.dict_items(s.address), _ORDERED_LIMIT)}
    entries = ((item.target, values.get(item.target, 0)) for item in containers.odict_keys(s.address))
    if s.texts.runtime.traits.immortal:  # the release that brought immortal objects, 3.12, prints a dict
        return s.joined(f"{s.short_type}({{", s.pairs(entries), "})", "...")
    parts = (f"({text})" for text in s.pairs(entries, ", "))
    return s.joined(f"{s.short_type}([", parts, "])", "...")


def _set(s: Subject) -> str:
    plain = s.type.name == "set"  # set_repr leaves the name out for exactly this type
    if not s.texts.containers.set_length(s.address):
        return f"{s.type.name}()"
    targets = (item.target for item in s.texts.containers.set_items(s.address))
    opening, closing = ("{", "}") if plain else (f"{s.type.name}({{", "})")
    return s.joined(opening, s.items(targets), closing, f"{s.type.name}(...)")


def _deque(s: Subject) -> str:
    targets = (item.target for item in s.texts.containers.deque_items(s.address))
    limit = s.texts.containers.deque_maxlen(s.address)
    closing = "])" if limit < 0 else f"], maxlen={limit})"
    return s.joined(f"{s.short_type}([", s.items(targets), closing, "[...]")


def _dict_view(s: Subject) -> str:
    dict_ = s.word("_PyDictViewObject", "dv_dict")
    entries = s.texts.containers.dict_items(dict_)
    what = s.short_type.rpartition("_")[2]
    parts: Iterator[str]
    if what == "items":
        parts = (f"({text})" for text in s.pairs(((entry.key, entry.value) for entry in entries), ", "))
    else:
        parts = s.items(entry.value if what == "values" else entry.key for entry in entries)
    return s.joined(f"{s.short_type}([", parts, "])", "...")


def _range(s: Subject) -> str:
    start, stop, step = (s.item(s.word("rangeobject", field)) for field in ("start", "stop", "step"))
    return f"range({start}, {stop})" if step == "1" else f"range({start}, {stop}, {step})"


def _slice(s: Subject) -> str:
    return f"slice({', '.join(s.item(s.word('PySliceObject', field)) for field in ('start', 'stop', 'step'))})"


def _type(s: Subject) -> str:
    return f"<class '{s.texts.type_name(s.address)}'>"


def _function(s: Subject) -> str:
    return f"<function {s.name(s.word('PyFunctionObject', 'func_qualname'))} at {s.address:#x}>"


def _method(s: Subject) -> str:
    name = callable_name(s.texts, s.word("PyMethodObject", "im_func"), qualified=True) or "?"
    return f"<bound method {name} of {s.same(s.word('PyMethodObject', 'im_self'))}>"


def _builtin(s: Subject) -> str:
    name = callable_name(s.texts, s.address) or "?"
    own = s.word("PyCFunctionObject", "m_self")
    if not own or s.texts.kinds.name(s.texts.type_of(own).address) == "module":
        return f"<built-in function {name}>"
    return f"<built-in method {name} of {s.texts.type_of(own).name} object at {own:#x}>"


def _code(s: Subject) -> str:
    name, file = (s.name(s.word("PyCodeObject", field)) for field in ("co_name", "co_filename"))
    line = s.number("PyCodeObject", "co_firstlineno") or -1
    return f'<code object {name} at {s.address:#x}, file "{file}", line {line}>'


def _frame(s: Subject) -> str:
    build, memory = s.texts.runtime.build, s.texts.memory
    layout, code_layout = build.layout("PyFrameObject"), build.layout("PyCodeObject")
    if "f_frame" in layout:  # 3.11+
        frame = s.word("PyFrameObject", "f_frame")
        inner = build.layout("_PyInterpreterFrame")
        code = pointed(memory.u64(frame + inner.first("f_executable", "f_code").offset))
        instruction = memory.u64(frame + inner.first("instr_ptr", "prev_instr").offset)
        offset = instruction - code - code_layout.offset("co_code_adaptive")
    else:
        code = s.word("PyFrameObject", "f_code")
        # 3.10 counts code units and has f_state, 3.9 counts bytes.
        offset = s.number("PyFrameObject", "f_lasti") * (2 if "f_state" in layout else 1)
    traced = "f_state" in layout or "f_frame" in layout or bool(s.word("PyFrameObject", "f_trace"))
    line = s.number("PyFrameObject", "f_lineno") if traced else 0
    inside = replace(s, address=code)
    if not line:
        table = s.texts.scalars.bytes(inside.word("PyCodeObject", "co_linetable", "co_lnotab"), 1 << 20)
        first = inside.number("PyCodeObject", "co_firstlineno")
        form = lines.locations
        if "co_code_adaptive" not in code_layout:
            form = lines.line_ranges if "co_linetable" in code_layout else lines.lnotab
        line = lines.line_at(form, table, first, offset) or 0
    file, name = (inside.name(inside.word("PyCodeObject", field)) for field in ("co_filename", "co_name"))
    return f"<frame at {s.address:#x}, file {file!r}, line {line}, code {name}>"


def _generator(s: Subject) -> str:
    return f"<{s.kind.name} object {s.name(s.word('PyGenObject', 'gi_qualname'))} at {s.address:#x}>"


def _module(s: Subject) -> str:
    # importlib._bootstrap._module_repr and _module_repr_from_spec
    texts, none = s.texts, _none(s.texts)
    dict_ = s.word("PyModuleObject", "md_dict")
    name = texts.containers.lookup(dict_, "__name__")
    spec = texts.containers.lookup(dict_, "__spec__")
    if spec and spec != none:
        type_ = texts.type_of(spec)
        origin, loader, location, spec_name = (
            texts.instances.attribute(spec, type_, field) for field in ("origin", "loader", "_set_fileattr", "name")
        )
        shown = s.item(spec_name or name)
        if origin and origin != none:
            if location and s.item(location) == "True":
                return f"<module {shown} from {s.item(origin)}>"
            return f"<module {shown} ({s.name(origin)})>"
    else:
        shown = s.item(name) if name else "'?'"
        file = texts.containers.lookup(dict_, "__file__")
        if file:
            return f"<module {shown} from {s.item(file)}>"
        loader = texts.containers.lookup(dict_, "__loader__")
    if not loader or loader == none:
        return f"<module {shown}>"
    return f"<module {shown} ({s.item(loader)})>"


def _cell(s: Subject) -> str:
    target = s.word("PyCellObject", "ob_ref")
    if not target:
        return f"<cell at {s.address:#x}: empty>"
    return f"<cell at {s.address:#x}: {s.texts.type_of(target).name[:80]} object at {target:#x}>"


def _weakref(s: Subject) -> str:
    target = s.word("PyWeakReference", "wr_object")
    if not target or target == _none(s.texts):
        return f"<weakref at {s.address:#x}; dead>"
    name = callable_name(s.texts, target)
    end = f" ({name})>" if name else ">"
    return f"<weakref at {s.address:#x}; to '{_full_name(s.texts, target)}' at {target:#x}{end}"


def _weakproxy(s: Subject) -> str:
    target = s.word("PyWeakReference", "wr_object")
    if not s.texts.full_names:
        return f"<weakproxy at {s.address:#x} to {s.texts.type_of(target).name} at {target:#x}>"
    if target == _none(s.texts):
        return f"<weakproxy at {s.address:#x}; dead>"
    return f"<weakproxy at {s.address:#x}; to '{_full_name(s.texts, target)}' at {target:#x}>"


def _full_name(texts: Texts, address: int) -> str:
    type_ = texts.type_of(address)
    if not texts.full_names:
        return type_.name
    name = texts.type_name(type_.address)
    return name[9:] if name.startswith("__main__.") else name


def callable_name(texts: Texts, address: int, qualified: bool = False) -> str | None:
    """``__name__`` (or ``__qualname__``) of what has one: functions, types, modules, generators."""
    s = Subject(texts, address, texts.type_of(address), texts.kinds.of(texts.type_of(address).address), 1, _NAME_LIMIT)
    kind = s.kind.name
    if kind == "function":
        return texts.string(s.word("PyFunctionObject", "func_qualname" if qualified else "func_name"))
    if kind in ("builtin", "cmethod"):
        layout = texts.runtime.build.layout("PyMethodDef")
        return texts.memory.c_string(texts.memory.u64(s.word("PyCFunctionObject", "m_ml") + layout.offset("ml_name")))
    if kind in ("method descriptor", "slot wrapper", "getset descriptor", "member descriptor"):
        return texts.string(s.word("PyMethodDescrObject", "d_common.d_name"))
    if kind == "type":
        name = texts.type_name(address) if texts.types[address].is_heap else texts.types[address].name
        return name.rpartition(".")[2]
    if kind in ("generator", "coroutine", "async_generator"):
        return texts.string(s.word("PyGenObject", "gi_qualname" if qualified else "gi_name"))
    if texts.full_names:
        return None  # 3.13+ asks the type only
    if kind == "module":
        return texts.string(texts.containers.lookup(s.word("PyModuleObject", "md_dict"), "__name__"))
    if kind == "method":
        return callable_name(texts, s.word("PyMethodObject", "im_func"), qualified)
    own = texts.instances.attribute(address, s.type, "__qualname__" if qualified else "__name__")
    return texts.string(own) if own else None


def _wrapping(struct: str, field: str) -> Callable[[Subject], str]:
    return lambda s: f"<{s.kind.name}({s.same(s.word(struct, field))})>"


def _descriptor(what: str) -> Callable[[Subject], str]:
    def text(s: Subject) -> str:
        owner, runtime = s.word("PyDescrObject", "d_type"), s.texts.runtime
        name = f"{what} '{s.name(s.word('PyDescrObject', 'd_name'))}'"
        # 3.15, since all classes share their descriptor of __dict__ (Objects/descrobject.c, descr_repr)
        shared = "cached_objects.dict_descriptor" in runtime.build.interpreter
        if shared and owner == runtime.target.address_of("PyBaseObject_Type"):
            return f"<{name}>"
        return f"<{name} of '{s.texts.types.name(owner)}' objects>"

    return text


def _method_wrapper(s: Subject) -> str:
    descriptor, own = s.word("wrapperobject", "descr"), s.word("wrapperobject", "self")
    name = callable_name(s.texts, descriptor) or "?"
    return f"<method-wrapper '{name}' of {s.texts.type_of(own).name} object at {own:#x}>"


def _mappingproxy(s: Subject) -> str:
    return f"mappingproxy({s.same(s.word('mappingproxyobject', 'mapping'))})"


def _namespace(s: Subject) -> str:
    name = "namespace" if s.kind.base == s.type.address else s.type.name
    dict_ = s.word("_PyNamespaceObject", "ns_dict")
    entries = s.texts.containers.dict_items(dict_)
    parts = (f"{s.name(entry.key)}={s.item(entry.value)}" for entry in entries)
    return s.joined(f"{name}(", parts, ")", f"{name}(...)")


def _super(s: Subject) -> str:
    owner, type_ = s.word("superobject", "type"), s.word("superobject", "obj_type")
    shown = f"<class '{s.texts.types.name(owner)}'>" if owner else "<class 'NULL'>"
    return f"<super: {shown}, {f'<{s.texts.types.name(type_)} object>' if type_ else 'NULL'}>"


def _memoryview(s: Subject) -> str:
    return f"<memory at {s.address:#x}>"


def _capsule(s: Subject) -> str:
    name = s.word("PyCapsule", "name")
    shown = f'"{s.texts.memory.c_string(name)}"' if name else "NULL"
    return f"<capsule object {shown} at {s.address:#x}>"


def _exception(s: Subject) -> str:
    args = s.word("PyBaseExceptionObject", "args")
    if not args:
        return f"{s.short_type}()"
    targets = (item.target for item in s.texts.containers.tuple_items(args))
    return s.joined(f"{s.short_type}(", s.items(targets), ")", f"{s.short_type}(...)")


def _partial(s: Subject) -> str:
    targets = [s.word("partialobject", "fn")]
    targets += s.targets(s.word("partialobject", "args"))
    keywords = s.texts.containers.dict_items(s.word("partialobject", "kw"))

    def parts() -> Iterator[str]:
        yield from s.items(targets)
        for entry in keywords:
            yield f"{s.name(entry.key)}={s.item(entry.value)}"

    return s.joined(f"{s.texts.type_name(s.type.address)}(", parts(), ")", "...")


def _generic_alias(s: Subject) -> str:
    targets = s.targets(s.word("gaobject", "args"))
    parameters = ", ".join(_parameter(s, target) for target in targets)
    return f"{_parameter(s, s.word('gaobject', 'origin'))}[{parameters or '()'}]"


def _union(s: Subject) -> str:
    return " | ".join(_parameter(s, target) for target in s.targets(s.word("unionobject", "args")))


def _parameter(s: Subject, address: int) -> str:
    # Objects/genericaliasobject.c, ga_repr_item; Objects/unionobject.c, union_repr_item
    kind = s.texts.kinds.name(s.texts.type_of(address).address)
    if kind == "Ellipsis":
        return "..."
    if kind == "type":
        name = s.texts.type_name(address)
        return "None" if s.kind.name == "union" and name == "NoneType" else name
    return s.item(address)


def _lock(s: Subject) -> str:
    # 3.13+: a PyMutex, whose lowest bit says locked
    mutex = "lock._bits" in s.texts.runtime.build.layout("lockobject")
    state = "locked" if s.number("lockobject", "lock._bits" if mutex else "locked") & 1 else "unlocked"
    return f"<{state} {s.type.name} object at {s.address:#x}>"


def _none(texts: Texts) -> int:
    return texts.runtime.target.address_of("_Py_NoneStruct")


FORMATS: dict[str, Callable[[Subject], str]] = {
    "int": _int,
    "bool": _bool,
    "float": _float,
    "complex": _complex,
    "str": _str,
    "bytes": _bytes,
    "bytearray": _bytearray,
    "None": lambda _s: "None",
    "Ellipsis": lambda _s: "Ellipsis",
    "NotImplemented": lambda _s: "NotImplemented",
    "list": _list,
    "tuple": _tuple,
    "structseq": _structseq,
    "dict": _dict,
    "defaultdict": _defaultdict,
    "odict": _odict,
    "set": _set,
    "deque": _deque,
    "dict view": _dict_view,
    "range": _range,
    "slice": _slice,
    "type": _type,
    "function": _function,
    "method": _method,
    "builtin": _builtin,
    "cmethod": _builtin,
    "code": _code,
    "frame": _frame,
    "generator": _generator,
    "coroutine": _generator,
    "async_generator": _generator,
    "module": _module,
    "cell": _cell,
    "weakref": _weakref,
    "weakproxy": _weakproxy,
    "classmethod": _wrapping("classmethod", "cm_callable"),
    "staticmethod": _wrapping("staticmethod", "sm_callable"),
    "method descriptor": _descriptor("method"),
    "member descriptor": _descriptor("member"),
    "getset descriptor": _descriptor("attribute"),
    "slot wrapper": _descriptor("slot wrapper"),
    "method-wrapper": _method_wrapper,
    "mappingproxy": _mappingproxy,
    "namespace": _namespace,
    "super": _super,
    "memoryview": _memoryview,
    "capsule": _capsule,
    "exception": _exception,
    "partial": _partial,
    "generic alias": _generic_alias,
    "union": _union,
    "lock": _lock,
}

# Where a class derives from these with a __repr__ of its own, the built-in value is shown after its name.
VALUES = frozenset(
    ("int", "float", "complex", "str", "bytes", "bytearray", "list", "tuple", "structseq", "dict", "defaultdict",
     "odict", "set", "deque")
)
