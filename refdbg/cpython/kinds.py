"""Which built-in type a type derives from: decides how its instances are decoded."""

from __future__ import annotations

from dataclasses import dataclass

from refdbg.cpython.runtime import Runtime
from refdbg.cpython.types import Types
from refdbg.errors import DecodeError, MemoryFault, SymbolNotFound

# Kind → the static types that have it, whatever release; those that a build lacks are left out.
STATIC_TYPES: dict[str, tuple[str, ...]] = {
    "type": ("PyType_Type",),
    "int": ("PyLong_Type",),
    "bool": ("PyBool_Type",),
    "float": ("PyFloat_Type",),
    "complex": ("PyComplex_Type",),
    "str": ("PyUnicode_Type",),
    "bytes": ("PyBytes_Type",),
    "bytearray": ("PyByteArray_Type",),
    "None": ("_PyNone_Type",),
    "Ellipsis": ("PyEllipsis_Type",),
    "NotImplemented": ("_PyNotImplemented_Type",),
    "list": ("PyList_Type",),
    "tuple": ("PyTuple_Type",),
    "dict": ("PyDict_Type",),
    "defaultdict": ("defdict_type",),
    "odict": ("PyODict_Type",),
    "set": ("PySet_Type", "PyFrozenSet_Type"),
    "deque": ("deque_type",),
    "dict view": ("PyDictKeys_Type", "PyDictValues_Type", "PyDictItems_Type"),
    "range": ("PyRange_Type",),
    "slice": ("PySlice_Type",),
    "function": ("PyFunction_Type",),
    "method": ("PyMethod_Type",),
    "builtin": ("PyCFunction_Type",),
    "cmethod": ("PyCMethod_Type",),
    "code": ("PyCode_Type",),
    "frame": ("PyFrame_Type",),
    "traceback": ("PyTraceBack_Type",),
    "generator": ("PyGen_Type",),
    "coroutine": ("PyCoro_Type",),
    "async_generator": ("PyAsyncGen_Type",),
    "module": ("PyModule_Type",),
    "cell": ("PyCell_Type",),
    "weakref": ("_PyWeakref_RefType",),
    "weakproxy": ("_PyWeakref_ProxyType", "_PyWeakref_CallableProxyType"),
    "property": ("PyProperty_Type",),
    "classmethod": ("PyClassMethod_Type",),
    "staticmethod": ("PyStaticMethod_Type",),
    "method descriptor": ("PyMethodDescr_Type", "PyClassMethodDescr_Type"),
    "member descriptor": ("PyMemberDescr_Type",),
    "getset descriptor": ("PyGetSetDescr_Type",),
    "slot wrapper": ("PyWrapperDescr_Type",),
    "method-wrapper": ("_PyMethodWrapper_Type",),
    "mappingproxy": ("PyDictProxy_Type",),
    "namespace": ("_PyNamespace_Type",),
    "super": ("PySuper_Type",),
    "memoryview": ("PyMemoryView_Type",),
    "capsule": ("PyCapsule_Type",),
    "exception": ("_PyExc_BaseException",),
    "partial": ("partial_type",),
    "generic alias": ("Py_GenericAliasType",),
    "union": ("_PyUnion_Type",),
}

# Types made at run time from a PyType_Spec have no symbol; the functions in their slots have one: (slot, function).
SLOT_FUNCTIONS: dict[str, tuple[str, str]] = {
    "deque": ("tp_repr", "deque_repr"),  # 3.12+
    "defaultdict": ("tp_repr", "defdict_repr"),
    "partial": ("tp_repr", "partial_repr"),  # 3.10+
    "structseq": ("tp_repr", "structseq_repr"),
    "lock": ("tp_repr", "lock_repr"),
    "lru cache": ("tp_dealloc", "lru_cache_dealloc"),
    "lru entry": ("tp_dealloc", "lru_list_elem_dealloc"),
}

# Static types of extensions, whose symbols a stripped library lacks, by the name that they give themselves.
NAMED_TYPES = {"greenlet.greenlet": "greenlet"}

OBJECT = "object"
ATOMIC = ("str", "bytes", "int", "float", "bool", "None")  # refer to nothing, so that no cycle leads through them


@dataclass(frozen=True)
class Kind:
    """How the instances of a type are decoded.

    *base*: the built-in ``PyTypeObject *`` that decides it (0: none but ``object``). *own_repr*: tp_repr is
    the base's; *plain_repr*: tp_repr is that of ``object``.
    """

    name: str
    base: int
    own_repr: bool
    plain_repr: bool


class Kinds:
    """The kind of each type, by the address of its nearest built-in base."""

    def __init__(self, runtime: Runtime, types: Types) -> None:
        self._memory = runtime.memory
        self._types = types
        self._tp_repr = runtime.build.type.offset("tp_repr")
        self.static: dict[int, str] = {}
        for kind, symbols in STATIC_TYPES.items():
            for symbol in symbols:
                address = address_of(runtime, symbol)
                if address:
                    self.static[address] = kind
        self._by_slot = {
            (runtime.build.type.offset(slot), function): kind
            for kind, (slot, symbol) in SLOT_FUNCTIONS.items()
            if (function := address_of(runtime, symbol))
        }
        self._slots = sorted({offset for offset, _ in self._by_slot})
        self._object = runtime.target.address_of("PyBaseObject_Type")
        self._known: dict[int, Kind] = {}

    def of(self, type_: int) -> Kind:
        """The kind of the instances of *type_* (``PyTypeObject *``). Raises DecodeError, MemoryFault."""
        kind = self._known.get(type_)
        if kind is None:
            kind = self._known[type_] = self._find(type_)
        return kind

    def _find(self, type_: int) -> Kind:
        if not self._types.is_type(type_):
            raise DecodeError(f"{type_:#x} is no type object")
        repr_ = self._memory.u64(type_ + self._tp_repr)
        plain = repr_ == self._memory.u64(self._object + self._tp_repr)
        for base in self._types.mro(type_):
            name = self.static.get(base) or self._by_functions(base) or self._by_name(base)
            if name is not None:
                base_repr = self._memory.u64(base + self._tp_repr)
                return Kind(name, base, repr_ == base_repr and not plain, plain)
        return Kind(OBJECT, 0, False, plain)

    def _by_functions(self, type_: int) -> str | None:
        for offset in self._slots:
            name = self._by_slot.get((offset, self._memory.u64(type_ + offset)))
            if name is not None:
                return name
        return None

    def _by_name(self, type_: int) -> str | None:
        found = self._types[type_]
        return None if found.is_heap else NAMED_TYPES.get(found.name)

    def is_atomic(self, type_: int) -> bool:
        """Whether *type_* (``PyTypeObject *``) is str, int or the like, itself and no subclass. Raises nothing."""
        return self.static.get(type_) in ATOMIC

    def name(self, type_: int) -> str:
        """The kind's name, OBJECT when the type cannot be read. Raises nothing."""
        try:
            return self.of(type_).name
        except (DecodeError, MemoryFault):
            return OBJECT


def address_of(runtime: Runtime, symbol: str) -> int:
    """The address of a symbol, an extension module's, too; 0 when this process has none of that name."""
    try:
        return runtime.target.address_of(symbol)
    except SymbolNotFound:
        return 0
