"""The members of C structs that own a reference, with the label that a person understands.

CPython's own are listed here, read beside Include/ and each type's tp_dealloc: what it decrements. A build that lacks
a member leaves it out, so that one table serves all releases. An extension's are looked for in its debug info.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from refdbg.cpython.runtime import Runtime
from refdbg.cpython.types import Types
from refdbg.errors import DecodeError, MemoryFault
from refdbg.target import PointedStruct

Fields = dict[str, str]

_GENERATOR: Fields = {
    "gi_frame": "gi_frame",  # until 3.10
    "gi_code": "gi_code",  # until 3.11
    "gi_name": "__name__",
    "gi_qualname": "__qualname__",
    "gi_exc_state.exc_type": "exception type",  # until 3.10
    "gi_exc_state.exc_value": "exception",
    "gi_exc_state.exc_traceback": "exception traceback",  # until 3.10
}
_BUILTIN: Fields = {"m_self": "__self__", "m_module": "__module__"}
_DESCRIPTOR: Fields = {"d_type": "__objclass__", "d_name": "__name__", "d_qualname": "__qualname__"}

# Unvisited on purpose, and only on the way to weak references (Objects/typeobject.c, type_traverse).
CARRIERS = frozenset({"tp_subclasses"})

# Of a frame: what it runs in, at module level its module's namespace, and has not made itself.
SURROUNDINGS = frozenset({"f_func", "f_funcobj", "f_executable", "f_code", "f_locals", "f_globals", "f_builtins"})

# Kind → (struct, its members).
FIELDS: dict[str, tuple[tuple[str, Fields], ...]] = {
    "function": (
        (
            "PyFunctionObject",
            {
                "func_globals": "__globals__",
                "func_builtins": "__builtins__",
                "func_name": "__name__",
                "func_qualname": "__qualname__",
                "func_code": "__code__",
                "func_defaults": "__defaults__",
                "func_kwdefaults": "__kwdefaults__",
                "func_closure": "__closure__",
                "func_doc": "__doc__",
                "func_dict": "__dict__",
                "func_module": "__module__",
                "func_annotations": "__annotations__",
                "func_annotate": "__annotate__",
                "func_typeparams": "__type_params__",
            },
        ),
    ),
    "method": (("PyMethodObject", {"im_func": "__func__", "im_self": "__self__"}),),
    "builtin": (("PyCFunctionObject", _BUILTIN),),
    "cmethod": (("PyCFunctionObject", _BUILTIN), ("PyCMethodObject", {"mm_class": "class"})),
    "module": (("PyModuleObject", {"md_dict": "__dict__", "md_name": "md_name"}),),
    "cell": (("PyCellObject", {"ob_ref": "cell_contents"}),),
    "property": (
        (
            "propertyobject",
            {
                "prop_get": "fget",
                "prop_set": "fset",
                "prop_del": "fdel",
                "prop_doc": "__doc__",
                "prop_name": "__name__",
            },
        ),
    ),
    "classmethod": (("classmethod", {"cm_callable": "__func__", "cm_dict": "__dict__"}),),
    "staticmethod": (("staticmethod", {"sm_callable": "__func__", "sm_dict": "__dict__"}),),
    "method descriptor": (("PyDescrObject", _DESCRIPTOR),),
    "member descriptor": (("PyDescrObject", _DESCRIPTOR),),
    "getset descriptor": (("PyDescrObject", _DESCRIPTOR),),
    "slot wrapper": (("PyDescrObject", _DESCRIPTOR),),
    "method-wrapper": (("wrapperobject", {"descr": "descr", "self": "__self__"}),),
    "mappingproxy": (("mappingproxyobject", {"mapping": "mapping"}),),
    "weakref": (("PyWeakReference", {"wr_callback": "__callback__"}),),
    "weakproxy": (("PyWeakReference", {"wr_callback": "__callback__"}),),
    "slice": (("PySliceObject", {"start": "start", "stop": "stop", "step": "step"}),),
    "bytearray": (("PyByteArrayObject", {"ob_bytes_object": "contents"}),),  # 3.15+
    "range": (("rangeobject", {"start": "start", "stop": "stop", "step": "step", "length": "length"}),),
    "generator": (("PyGenObject", _GENERATOR),),
    # Until 3.10 and since 3.11. A plain generator has the second word too, and never sets it.
    "coroutine": (
        ("PyGenObject", _GENERATOR),
        ("PyCoroObject", {"cr_origin": "cr_origin", "cr_origin_or_finalizer": "cr_origin"}),
    ),
    "async_generator": (
        ("PyGenObject", _GENERATOR),
        ("PyAsyncGenObject", {"ag_finalizer": "finalizer", "ag_origin_or_finalizer": "finalizer"}),
    ),
    "traceback": (("PyTracebackObject", {"tb_next": "tb_next", "tb_frame": "tb_frame"}),),
    "namespace": (("_PyNamespaceObject", {"ns_dict": "__dict__"}),),
    "super": (("superobject", {"type": "__thisclass__", "obj": "__self__", "obj_type": "__self_class__"}),),
    "memoryview": (("PyMemoryViewObject", {"mbuf": "managed buffer"}),),
    "dict view": (("_PyDictViewObject", {"dv_dict": "mapping"}),),
    "generic alias": (("gaobject", {"origin": "__origin__", "args": "__args__", "parameters": "__parameters__"}),),
    "union": (
        (
            "unionobject",
            {
                "args": "__args__",
                "hashable_args": "hashable __args__",  # 3.14+
                "unhashable_args": "unhashable __args__",  # 3.14+
                "parameters": "__parameters__",
            },
        ),
    ),
    "partial": (("partialobject", {"fn": "func", "args": "args", "kw": "keywords", "dict": "__dict__"}),),
    # Besides, the list owns its entries: see LRU_LINKS.
    "lru cache": (
        (
            "lru_cache_object",
            {
                "func": "__wrapped__",
                "cache": "cache",
                "kwd_mark": "kwd_mark",
                "lru_list_elem_type": "lru_list_elem_type",
                "cache_info_type": "cache_info_type",
                "dict": "__dict__",
            },
        ),
    ),
    "lru entry": (("lru_list_elem", {"key": "key", "result": "result"}),),
    "defaultdict": (("defdictobject", {"default_factory": "default_factory"}),),
    "odict": (("PyODictObject", {"od_inst_dict": "__dict__"}),),
    "exception": (
        (
            "PyBaseExceptionObject",
            {
                "dict": "__dict__",
                "args": "args",
                "notes": "__notes__",
                "traceback": "__traceback__",
                "context": "__context__",
                "cause": "__cause__",
            },
        ),
    ),
    "frame": (
        (
            "PyFrameObject",
            {
                "f_back": "f_back",
                "f_trace": "f_trace",
                "f_extra_locals": "extra locals",
                "f_locals_cache": "locals cache",
                "f_overwritten_fast_locals": "overwritten locals",
                "f_code": "f_code",
                "f_builtins": "f_builtins",
                "f_globals": "f_globals",
                "f_locals": "f_locals",
            },
        ),
    ),
    "code": (
        (
            "PyCodeObject",
            {
                name: name
                for name in (
                    "co_consts",
                    "co_names",
                    "co_exceptiontable",
                    "co_localsplusnames",
                    "co_localspluskinds",
                    "co_code",
                    "co_varnames",
                    "co_freevars",
                    "co_cellvars",
                    "co_filename",
                    "co_name",
                    "co_qualname",
                    "co_linetable",
                    "co_lnotab",
                    "_co_code",
                )
            },
        ),
    ),
}

# An lru_cache's list of entries owns each of them once, and begins and ends at the cache: the links forward stand for
# these references, those back are borrowed (Modules/_functoolsmodule.c, bounded_lru_cache_wrapper).
LRU_LINKS = {"lru cache": ("lru_cache_object", "root.next"), "lru entry": ("lru_list_elem", "next")}

# Words that own an object or point to anything else, as somebody's code has it (Objects/capsule.c).
OPAQUE: dict[str, tuple[str, Fields]] = {"capsule": ("PyCapsule", {"pointer": "pointer", "context": "context"})}

# PyHeapTypeObject, beside the members of PyTypeObject.
HEAP_TYPE_FIELDS = ("ht_name", "ht_slots", "ht_qualname", "ht_module")

# _PyInterpreterFrame: globals and builtins are borrowed from the function.
FRAME_FIELDS = ("f_func", "f_funcobj", "f_executable", "f_code", "f_locals", "frame_obj")

_OBJECT = "_object"  # the struct that every object begins with (Include/object.h)
_HEADS = (_OBJECT, "PyVarObject")
_TYPE_SLOTS = ("tp_traverse", "tp_clear", "tp_dealloc", "tp_repr")
_MODULE_SLOTS = ("m_traverse", "m_clear", "m_free")


@dataclass(frozen=True)
class Word:
    """A word of a C struct that may be a ``PyObject *``. *declared*: its C type says so; else it is a ``void *``."""

    label: str
    declared: bool


@dataclass(frozen=True)
class Struct:
    """The words of a C struct that may be a ``PyObject *``, by offset. Nothing else in it can be one."""

    size: int
    words: Mapping[int, Word]


class Structs:
    """The C structs of extension types and module states: what the functions in their slots have a pointer to."""

    def __init__(self, runtime: Runtime, types: Types) -> None:
        self._runtime = runtime
        self._types = types
        self._type = runtime.build.type
        self._known: dict[int, Struct | None] = {}

    def of_type(self, type_: int) -> Struct | None:
        """The struct that the instances of *type_* (``PyTypeObject *``) begin with, None when it is not known."""
        for base in self._types.mro(type_):
            if base not in self._known:
                self._known[base] = self._of_instances(base)
            struct = self._known[base]
            if struct is not None:
                return struct
        return None

    def of_module(self, definition: int, size: int) -> Struct | None:
        """The struct of a module's state, None when it is not known. *definition*: ``PyModuleDef *``."""
        if definition not in self._known:
            layout = self._runtime.build.layout("PyModuleDef")
            found = self._pointed(definition, [layout.offset(slot) for slot in _MODULE_SLOTS], size)
            self._known[definition] = next((_struct(each) for each in found if _OBJECT not in each.heads), None)
        return self._known[definition]

    def _of_instances(self, type_: int) -> Struct | None:
        try:
            size = self._types[type_].basicsize
        except (DecodeError, MemoryFault):
            return None
        found = self._pointed(type_, [self._type.offset(slot) for slot in _TYPE_SLOTS], size)
        return next(
            (_struct(each) for each in found if _OBJECT in each.heads and each.heads[0] not in _HEADS), None
        )

    def _pointed(self, address: int, slots: Sequence[int], size: int) -> Iterator[PointedStruct]:
        # A struct of another size is another one: a helper's, or a newer release's.
        for slot in slots:
            function = self._runtime.memory.u64(address + slot)
            if function:
                yield from (each for each in self._runtime.target.structs_of(function) if each.size == size)


def _struct(pointed: PointedStruct) -> Struct:
    words = {
        offset: Word(pointer.path, _OBJECT in pointer.heads)
        for offset, pointer in pointed.pointers().items()
        if not pointer.heads or _OBJECT in pointer.heads
    }
    return Struct(pointed.size, words)
