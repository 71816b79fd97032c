"""CPython without debug info: what it says of itself (``_Py_DebugOffsets``), and structure that was found and checked.

Since 3.13 ``_PyRuntime`` begins with the offsets that profilers need (Include/internal/pycore_debug_offsets.h). They
know no GC lists, no tp_traverse and no reference count. What is missing is deduced from what does not move (public
structs: Include/cpython/*.h) and from the shape of the collector's lists, and each deduction is tried on the objects of
the process before anything is answered. What fails is refused.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cached_property, partial
from typing import Any, cast

from refdbg.errors import LayoutNotFound, MemoryFault, NotPython, SymbolNotFound
from refdbg.target import Target
from refdbg.target.layout import Field, StructLayout
from refdbg.target.memory import Memory

_COOKIE = b"xdebugpy"
_SOURCE = "_Py_DebugOffsets and checked structure (stripped)"
HINT = (
    "Of a stripped Python `refdbg status`, `census`, `type`, `objects`, `frames` and `gc again` are answered; for more "
    "install its debug info, or build it with -g."
)
# Behind the cookie, the version and a word that says whether the build is free-threaded: 64-bit words, by version.
_WORDS = {
    (3, 13): """
        runtime_state: size finalizing interpreters_head
        interpreter_state: size id next threads_head gc imports_modules sysdict builtins ceval_gil gil_runtime_state
            gil_runtime_state_enabled gil_runtime_state_locked gil_runtime_state_holder
        thread_state: size prev next interp current_frame thread_id native_thread_id datastack_chunk status
        interpreter_frame: size previous executable instr_ptr localsplus owner
        code_object: size filename name qualname linetable firstlineno argcount localsplusnames localspluskinds
            co_code_adaptive
        pyobject: size ob_type
        type_object: size tp_name tp_repr tp_flags
        tuple_object: size ob_item ob_size
        list_object: size ob_item ob_size
        dict_object: size ma_keys ma_values
        float_object: size ob_fval
        long_object: size lv_tag ob_digit
        bytes_object: size ob_size ob_sval
        unicode_object: size state length asciiobject_size
        gc: size collecting
    """,
    (3, 14): """
        runtime_state: size finalizing interpreters_head
        interpreter_state: size id next threads_head threads_main gc imports_modules sysdict builtins ceval_gil
            gil_runtime_state gil_runtime_state_enabled gil_runtime_state_locked gil_runtime_state_holder
            code_object_generation tlbc_generation
        thread_state: size prev next interp current_frame thread_id native_thread_id datastack_chunk status
        interpreter_frame: size previous executable instr_ptr localsplus owner stackpointer tlbc_index
        code_object: size filename name qualname linetable firstlineno argcount localsplusnames localspluskinds
            co_code_adaptive co_tlbc
        pyobject: size ob_type
        type_object: size tp_name tp_repr tp_flags
        tuple_object: size ob_item ob_size
        list_object: size ob_item ob_size
        set_object: size used table mask
        dict_object: size ma_keys ma_values
        float_object: size ob_fval
        long_object: size lv_tag ob_digit
        bytes_object: size ob_size ob_sval
        unicode_object: size state length asciiobject_size
        gc: size collecting
    """,
    (3, 15): """
        runtime_state: size finalizing interpreters_head
        interpreter_state: size id next threads_head threads_main gc imports_modules sysdict builtins ceval_gil
            gil_runtime_state gil_runtime_state_enabled gil_runtime_state_locked gil_runtime_state_holder
            code_object_generation tlbc_generation
        thread_state: size prev next interp current_frame base_frame last_profiled_frame last_profiled_frame_seq
            thread_id native_thread_id datastack_chunk status holds_gil gil_requested current_exception exc_state
        err_stackitem: exc_value
        interpreter_frame: size previous executable instr_ptr localsplus owner stackpointer tlbc_index
        code_object: size filename name qualname linetable firstlineno argcount localsplusnames localspluskinds
            co_code_adaptive co_tlbc
        pyobject: size ob_type
        type_object: size tp_name tp_repr tp_flags tp_basicsize tp_dictoffset
        heap_type_object: size ht_cached_keys
        tuple_object: size ob_item ob_size
        list_object: size ob_item ob_size
        set_object: size used table mask
        dict_object: size ma_keys ma_values
        float_object: size ob_fval
        long_object: size lv_tag ob_digit
        bytes_object: size ob_size ob_sval
        unicode_object: size state length asciiobject_size compactunicodeobject_size
        gc: size collecting frame generation_stats_size generation_stats
    """,
}
_FIRST_WORD = 24
_CANDIDATE = 0xC  # PY_RELEASE_LEVEL_GAMMA
# An extension module's debug info may have some of them, never all.
_NEEDED = ("PyInterpreterState", "_PyRuntimeState", "PyThreadState", "PyCodeObject", "PyComplexObject")
_LARGEST = 1 << 24  # no struct is larger: other words are no offsets
# Include/cpython/object.h: the words of PyTypeObject from tp_name on, in their order since 3.8.
_TYPE_FIELDS = (
    "tp_name", "tp_basicsize", "tp_itemsize", "tp_dealloc", "tp_vectorcall_offset", "tp_getattr", "tp_setattr",
    "tp_as_async", "tp_repr", "tp_as_number", "tp_as_sequence", "tp_as_mapping", "tp_hash", "tp_call", "tp_str",
    "tp_getattro", "tp_setattro", "tp_as_buffer", "tp_flags", "tp_doc", "tp_traverse", "tp_clear", "tp_richcompare",
    "tp_weaklistoffset", "tp_iter", "tp_iternext", "tp_methods", "tp_members", "tp_getset", "tp_base", "tp_dict",
    "tp_descr_get", "tp_descr_set", "tp_dictoffset", "tp_init", "tp_alloc", "tp_new", "tp_free", "tp_is_gc", "tp_bases",
    "tp_mro", "tp_cache", "tp_subclasses", "tp_weaklist", "tp_del", "tp_version_tag", "tp_finalize", "tp_vectorcall",
)  # fmt: skip
_HEAP_TYPE_WORDS = 4 + 36 + 3 + 10 + 2  # of the PyAsyncMethods … PyBufferProcs between a type and its ht_name
_GENERATION = 24  # sizeof(struct gc_generation), and until 3.14 of gc_generation_stats
_GENERATIONS = 3
# Include/internal/pycore_interp_structs.h (3.13: pycore_gc.h), struct _gc_runtime_state: the bytes between the three
# generations and the permanent one, where 3.13 points to the first, and those from there to `collecting`: each
# generation's counts, or since 3.15 a pointer to them.
_COLLECTORS = ((8, _GENERATIONS * 24), (0, _GENERATIONS * 24), (0, 8))
# 3.15: struct gc_stats has rings of gc_generation_stats.
_STATS, _YOUNG, _OLD = 64, 11, 3
_HEAPTYPE = 1 << 9
_UNICODE = 1  # DICT_KEYS_UNICODE
_KNOWN_TYPES = 20  # of the 27 and the exceptions
_TRIED = 64  # objects on which a deduction is tried
_LINKS = ~3 & 0xFFFF_FFFF_FFFF_FFFF  # what of a word is an address: the low bits of links and of frames' are flags
# Types that are found by their name where no symbol is: builtins, and what frames and lists are full of.
_TYPES = {
    "type": "PyType_Type", "object": "PyBaseObject_Type", "str": "PyUnicode_Type", "int": "PyLong_Type",
    "bool": "PyBool_Type", "float": "PyFloat_Type", "complex": "PyComplex_Type", "bytes": "PyBytes_Type",
    "bytearray": "PyByteArray_Type", "list": "PyList_Type", "tuple": "PyTuple_Type", "dict": "PyDict_Type",
    "set": "PySet_Type", "frozenset": "PyFrozenSet_Type", "range": "PyRange_Type", "slice": "PySlice_Type",
    "property": "PyProperty_Type", "classmethod": "PyClassMethod_Type", "staticmethod": "PyStaticMethod_Type",
    "super": "PySuper_Type", "memoryview": "PyMemoryView_Type", "function": "PyFunction_Type", "code": "PyCode_Type",
    "cell": "PyCell_Type", "module": "PyModule_Type", "method": "PyMethod_Type",
    "builtin_function_or_method": "PyCFunction_Type", "weakref.ReferenceType": "_PyWeakref_RefType",
    "generator": "PyGen_Type", "coroutine": "PyCoro_Type", "NoneType": "_PyNone_Type",
}  # fmt: skip


# Public structs, by the type whose tp_basicsize is their size.
_OF_TYPES = {
    "PyCellObject": "PyCell_Type", "PyComplexObject": "PyComplex_Type", "PyByteArrayObject": "PyByteArray_Type",
    "PySetObject": "PySet_Type", "PyWeakReference": "_PyWeakref_RefType", "PyDictObject": "PyDict_Type",
    "PyListObject": "PyList_Type", "PyFloatObject": "PyFloat_Type",
}  # fmt: skip


def described(target: Target, runtime: str) -> Target:
    """*target*, with the layouts and symbols that a stripped CPython lacks; itself where there is debug info, or none
    of these. *runtime*: the symbol ``_PyRuntime``.

    Raises NotPython for a build that cannot be read without debug info, or whose structure is another one.
    """
    try:
        for struct in _NEEDED:
            target.layout(struct)
        return target
    except LayoutNotFound:
        pass
    for address in _places(target, runtime):
        try:
            if target.memory.read(address, len(_COOKIE)) == _COOKIE:
                return cast(Target, _Stripped(target, runtime, address))
        except MemoryFault:
            continue
    return target


def _places(target: Target, runtime: str) -> Iterator[int]:
    # Where _PyRuntime may be: by its symbol, else by the cookie in the writable data of a file.
    try:
        yield target.address_of(runtime)
        return
    except SymbolNotFound:
        pass
    for library in target.images().loaded():
        for segment in library.segments:
            place = segment.initial.find(_COOKIE)
            while place >= 0:
                if not place & 7:
                    yield segment.start + place
                place = segment.initial.find(_COOKIE, place + 1)


class _Offsets:
    # The words of _Py_DebugOffsets by name ("gc.collecting").
    def __init__(self, memory: Memory, address: int) -> None:
        number = memory.u64(address + 8)
        self.version = f"{number >> 24}.{number >> 16 & 255}.{number >> 8 & 255}"
        words = _WORDS.get((number >> 24, number >> 16 & 255))
        if words is None:
            known = ", ".join(f"{major}.{minor}" for major, minor in _WORDS)
            raise NotPython(
                f"this Python {self.version} has no debug info, and what it tells of itself (_Py_DebugOffsets) refdbg "
                f"knows of {known} only", "Install its debug info, or build it with -g.",
            )
        if number >> 4 & 15 < _CANDIDATE:
            raise NotPython(
                f"this Python {self.version} is an alpha or beta without debug info: what it tells of itself "
                "(_Py_DebugOffsets) may change until the release candidates",
                "Install its debug info, or build it with -g.",
            )
        if memory.u64(address + 16):
            raise NotPython(
                "this is a free-threaded build (--disable-gil) without debug info: refdbg cannot read its objects",
                "Install its debug info, or build it with -g.",
            )
        self._known: dict[str, int] = {}
        struct = ""
        place = address + _FIRST_WORD
        for word in words.split():
            if word.endswith(":"):
                struct = word[:-1]
                continue
            self._known[f"{struct}.{word}"] = memory.u64(place)
            place += 8
        if any(value >= _LARGEST for value in self._known.values()):
            raise _unfit("_Py_DebugOffsets")

    def __getitem__(self, name: str) -> int:
        return self._known[name]

    def __contains__(self, name: str) -> bool:
        return name in self._known

    def get(self, name: str, otherwise: int) -> int:
        """The word, or what it is in the releases that do not tell it."""
        return self._known.get(name, otherwise)


def _unfit(what: str) -> NotPython:
    return NotPython(
        f"this Python has no debug info, and {what} does not look as in the releases that refdbg knows",
        "Has it started? Else install its debug info, or build it with -g.",
    )


def _struct(name: str, size: int, fields: Mapping[str, Field]) -> StructLayout:
    return StructLayout(name, size, fields, _SOURCE)


def _words(*offsets: tuple[str, int]) -> dict[str, Field]:
    return {name: Field(name, offset, 8) for name, offset in offsets}


def _nested(name: str, offset: int, layout: StructLayout, count: int = 1) -> Field:
    return Field(name, offset, layout.size, count=count, inner=lambda: layout)


class _Stripped:
    # A Target that knows the layouts; everything else is the target's own.
    def __init__(self, target: Target, runtime: str, address: int) -> None:
        self._target = target
        self._memory = target.memory
        self._name, self._address = runtime, address
        self._offsets = _Offsets(target.memory, address)
        self._layouts: dict[str, StructLayout] = {}
        self._makers: dict[str, Callable[[], StructLayout]] = {
            "PyInterpreterState": self._interpreter_state, "PyHeapTypeObject": self._heap_type, **self._fixed(),
        }
        self._check_offsets()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)

    def layout(self, struct: str) -> StructLayout:
        """As Target has it: never of another file's debug info."""
        found = self._layouts.get(struct)
        if found is None:
            make = self._makers.get(struct)
            if make is None:
                raise LayoutNotFound(f"this Python is stripped: nothing is known of its struct {struct}", HINT)
            found = make()
            if struct in _OF_TYPES and not self._has_size(_OF_TYPES[struct], found.size):
                raise _unfit(f"its struct {struct}")
            self._layouts[struct] = found
        return found

    def _has_size(self, symbol: str, size: int) -> bool:
        # Whether instances of a built-in type have it; where the type is not found, it is not met either.
        try:
            type_ = self.address_of(symbol)
        except SymbolNotFound:
            return True
        return self._memory.u64(type_ + self.layout("PyTypeObject").offset("tp_basicsize")) == size

    def address_of(self, symbol: str) -> int:
        """As Target has it; built-in types also by their names."""
        if symbol == self._name:
            return self._address
        if symbol == "Py_Version":
            return self._address + len(_COOKIE)
        try:
            return self._target.address_of(symbol)
        except SymbolNotFound:
            found = self._types.get(symbol)
            if found is None:
                raise
            return found

    # What is told

    def _check_offsets(self) -> None:
        at = self._offsets
        if (
            at["pyobject.ob_type"] != 8 or at["tuple_object.ob_size"] != 16 or at["bytes_object.ob_size"] != 16
            or at["type_object.tp_repr"] - at["type_object.tp_name"] != 8 * _TYPE_FIELDS.index("tp_repr")
            or at["type_object.tp_flags"] - at["type_object.tp_name"] != 8 * _TYPE_FIELDS.index("tp_flags")
            or at["dict_object.ma_keys"] != 32 or at["code_object.argcount"] != 24 + 3 * 8 + 4
            or at["interpreter_frame.instr_ptr"] - at["interpreter_frame.previous"] != 6 * 8
            or at["unicode_object.asciiobject_size"] - at["unicode_object.state"] != 8
            or at.get("gc.generation_stats_size", _stats().size) != _stats().size
        ):
            raise _unfit("_Py_DebugOffsets")

    def _fixed(self) -> dict[str, Callable[[], StructLayout]]:
        at = self._offsets
        ascii_ = at["unicode_object.asciiobject_size"]
        frame, code, thread = "interpreter_frame.", "code_object.", "thread_state."
        tagged = frame + "stackpointer" in at  # 3.14+: _PyStackRef, and flags beside the count of 32 bits
        word = _struct("_PyStackRef", 8, _words(("bits", 0)))
        # Include/cpython/unicodeobject.h
        state = _struct("state", 4, {
            name: Field(name, 0, 4, bit_offset=first, bit_size=bits)
            for name, first, bits in (("interned", 0, 2), ("kind", 2, 3), ("compact", 5, 1), ("ascii", 6, 1))
        })
        digits = _struct("_PyLongValue", 16, {
            **_words(("lv_tag", at["long_object.lv_tag"] - at["pyobject.size"])),
            "ob_digit": Field("ob_digit", at["long_object.ob_digit"] - at["pyobject.size"], 4),
        })
        instruction = at[frame + "instr_ptr"]
        head = at["runtime_state.interpreters_head"]
        interpreters = _struct("pyinterpreters", 24, _words(("head", 0), ("main", 8)))
        first_name = at["type_object.tp_name"]
        layouts = [
            _struct("_PyRuntimeState", at["runtime_state.size"], {
                "_finalizing": Field("_finalizing", at["runtime_state.finalizing"], 8),
                "interpreters": _nested("interpreters", head, interpreters),
            }),
            _struct("PyThreadState", at[thread + "size"], _words(*(
                (name, at[thread + name])
                for name in ("prev", "next", "interp", "current_frame", "thread_id", "native_thread_id")
            ))),
            _struct("_PyInterpreterFrame", at[frame + "size"], {
                **_words(
                    ("previous", at[frame + "previous"]), ("f_executable", at[frame + "executable"]),
                    ("f_locals", instruction - 16), ("frame_obj", instruction - 8), ("instr_ptr", instruction),
                    ("localsplus", at[frame + "localsplus"]),
                ),
                **({
                    "f_executable": _nested("f_executable", at[frame + "executable"], word),
                    "localsplus": _nested("localsplus", at[frame + "localsplus"], word),
                    **_words(("stackpointer", at[frame + "stackpointer"])),
                } if tagged else {}),
                "owner": Field("owner", at[frame + "owner"], 1),
            }),
            _struct("PyCodeObject", at[code + "size"], {
                **_words(
                    ("co_consts", 24), ("co_filename", at[code + "filename"]), ("co_name", at[code + "name"]),
                    ("co_qualname", at[code + "qualname"]), ("co_linetable", at[code + "linetable"]),
                    ("co_localsplusnames", at[code + "localsplusnames"]),
                    ("co_localspluskinds", at[code + "localspluskinds"]),
                ),
                "co_flags": Field("co_flags", at[code + "argcount"] - 4, 4),
                "co_firstlineno": Field("co_firstlineno", at[code + "firstlineno"], 4, signed=True),
                "co_code_adaptive": Field("co_code_adaptive", at[code + "co_code_adaptive"], 1),
            }),
            # The count is what stands before the type; all of these releases have immortal objects.
            _struct("PyObject", at["pyobject.size"], {
                "ob_refcnt": Field("ob_refcnt", 0, 4), "ob_overflow": Field("ob_overflow", 4, 2),
                "ob_flags": Field("ob_flags", 6, 2), **_words(("ob_type", 8)),
            } if tagged else _words(("ob_refcnt", 0), ("ob_refcnt_split", 0), ("ob_type", 8))),
            _struct("PyVarObject", 24, _words(("ob_size", at["tuple_object.ob_size"]))),
            _struct("PyGC_Head", 16, _words(("_gc_next", 0), ("_gc_prev", 8))),
            _struct("PyTypeObject", at["type_object.size"], _words(
                *((name, first_name + 8 * index) for index, name in enumerate(_TYPE_FIELDS))
            )),
            _struct("PyFloatObject", at["float_object.size"], _words(("ob_fval", at["float_object.ob_fval"]))),
            _struct("PyLongObject", at["long_object.size"], {
                "long_value": _nested("long_value", at["pyobject.size"], digits)
            }),
            _struct("PyBytesObject", at["bytes_object.size"], _words(("ob_sval", at["bytes_object.ob_sval"]))),
            _struct("PyTupleObject", at["tuple_object.size"], _words(("ob_item", at["tuple_object.ob_item"]))),
            _struct("PyListObject", at["list_object.size"], _words(("ob_item", at["list_object.ob_item"]))),
            _struct("PyDictObject", at["dict_object.size"], _words(
                ("ma_used", 16), ("ma_keys", at["dict_object.ma_keys"]), ("ma_values", at["dict_object.ma_values"])
            )),
            _struct("PyASCIIObject", ascii_, {
                "length": Field("length", at["unicode_object.length"], 8),
                "state": _nested("state", at["unicode_object.state"], state),
            }),
            _struct("PyCompactUnicodeObject", ascii_ + 16, {}),
            _struct("PyUnicodeObject", at["unicode_object.size"], _words(("data", ascii_ + 16))),
            # Public, or checked on a dict below.
            _struct("PyWeakReference", 64, _words(
                ("wr_object", 16), ("wr_callback", 24), ("wr_prev", 40), ("wr_next", 48)
            )),
            _struct("PyCellObject", 24, _words(("ob_ref", 16))),
            _struct("PyComplexObject", 32, _words(("cval", 16))),
            _struct("PyByteArrayObject", 64 if "gc.generation_stats" in at else 56, _words(("ob_start", 40))),
            _struct("PySetObject", 200, _words(*(
                (name, at.get(f"set_object.{name}", otherwise))
                for name, otherwise in (("used", 24), ("mask", 32), ("table", 40))
            ))),
            _struct("setentry", 16, _words(("key", 0), ("hash", 8))),
            _struct("PyMemberDef", 40, {
                **_words(("name", 0), ("offset", 16)), "type": Field("type", 8, 4, signed=True),
            }),
            _struct("PyDictKeyEntry", 24, _words(("me_hash", 0), ("me_key", 8), ("me_value", 16))),
            _struct("PyDictUnicodeEntry", 16, _words(("me_key", 0), ("me_value", 8))),
            _struct("PyDictKeysObject", 32, {
                **{name: Field(name, offset, 1) for name, offset in (
                    ("dk_log2_size", 8), ("dk_log2_index_bytes", 9), ("dk_kind", 10), ("dk_indices", 32)
                )},
                **_words(("dk_refcnt", 0), ("dk_nentries", 24)),
            }),
            _struct("PyDictValues", 16, {
                **{name: Field(name, offset, 1) for name, offset in (
                    ("capacity", 0), ("size", 1), ("embedded", 2), ("valid", 3)
                )},
                "values": Field("values", 8, 8),
            }),
        ]
        if "gc.generation_stats" in at:
            layouts += [_stats(), _of_a_generation(_STATS, 16)]
        return {layout.name: partial(_itself, layout) for layout in layouts}

    # What is found, and tried

    @property
    def _interpreter(self) -> int:
        found = self._memory.u64(self._address + self._offsets["runtime_state.interpreters_head"])
        if not found:
            raise NotPython(
                "this Python is stripped and has no interpreter (yet, or any more): its structure cannot be checked",
                HINT,
            )
        return found

    def _interpreter_state(self) -> StructLayout:
        at = self._offsets
        state = "interpreter_state."
        base = self._interpreter + at[state + "gc"]
        lists, permanent = self._lists(base)
        self._check_types()
        self._check_dicts()
        fields = {
            **_words(
                ("id", at[state + "id"]), ("next", at[state + "next"]), ("tstate_head", at[state + "threads_head"])
            ),
            "gc": _nested("gc", at[state + "gc"], self._gc(base, lists, permanent)),
        }
        return _struct("PyInterpreterState", at[state + "size"], fields)

    def _lists(self, base: int) -> tuple[int, int]:
        # Where in struct _gc_runtime_state the generations are, and the permanent one: lists that run in circles, and a
        # pointer back to them, behind them or since 3.14 at the struct's end.
        size, collecting = self._offsets["gc.size"], self._offsets["gc.collecting"]
        for between, behind in _COLLECTORS:
            permanent = collecting - behind - _GENERATION
            first = permanent - between - _GENERATIONS * _GENERATION
            if first < 0:
                continue
            pointer = permanent - between if between else size - 8
            heads = [*range(first, first + _GENERATIONS * _GENERATION, _GENERATION), permanent]
            if self._memory.u64(base + pointer) == base + first and all(self._is_head(base + head) for head in heads):
                return first, permanent
        raise _unfit("the state of its collector")

    def _is_head(self, head: int) -> bool:
        u64 = self._memory.u64
        try:
            following, previous = u64(head) & _LINKS, u64(head + 8) & _LINKS
            return bool(following and previous) and u64(following + 8) & _LINKS == head == u64(previous) & _LINKS
        except MemoryFault:
            return False

    def _gc(self, base: int, lists: int, permanent: int) -> StructLayout:
        integer = partial(Field, size=4, signed=True)
        at = self._offsets
        generation = _struct("gc_generation", _GENERATION, {
            "head": Field("head", 0, 16), "threshold": integer("threshold", 16), "count": integer("count", 20),
        })
        collecting = at["gc.collecting"]
        fields = {
            "generations": _nested("generations", lists, generation, _GENERATIONS),
            "permanent_generation": _nested("permanent_generation", permanent, generation),
            "generation_stats": (
                Field("generation_stats", at["gc.generation_stats"], 8) if "gc.generation_stats" in at
                else _nested("generation_stats", permanent + _GENERATION, _of_a_generation(24, 0), _GENERATIONS)
            ),
            "collecting": integer("collecting", collecting),
            **_words(("garbage", at.get("gc.frame", collecting) + 8)),
        }
        enabled = max(lists - 12, 0)  # 3.15 begins with it, before that four bytes of padding are behind it and `debug`
        if self._memory.integer(base + enabled, 4) in (0, 1):
            fields["enabled"] = integer("enabled", enabled)
            fields["debug"] = integer("debug", enabled + 4)
        return _struct("_gc_runtime_state", at["gc.size"], fields)

    def _objects(self) -> Iterator[int]:
        # Some objects that the collector tracks (``PyObject *``), of the oldest generations first.
        at = self._offsets
        base = self._interpreter + at["interpreter_state.gc"]
        lists, _ = self._lists(base)
        for number in reversed(range(_GENERATIONS)):
            head = base + lists + _GENERATION * number
            position = self._memory.u64(head) & _LINKS
            seen = 0
            while position != head and seen < 1 << 16:
                yield position + 16
                seen += 1
                position = self._memory.u64(position) & _LINKS

    def _type_type(self) -> int:
        # The type that is its own: each object's type leads to it.
        try:
            return self._target.address_of("PyType_Type")
        except SymbolNotFound:
            pass
        u64 = self._memory.u64
        for address in self._objects():
            for _ in range(8):
                type_ = u64(address + 8)
                if type_ == address:
                    return address
                address = type_
            break
        raise _unfit("the type of its objects")

    def _check_types(self) -> None:
        # The slots of PyType_Type have values that only they can have.
        memory, slots = self._memory, self.layout("PyTypeObject")
        type_ = self._type_type()

        def slot(name: str) -> int:
            return memory.u64(type_ + slots.offset(name))

        base = slot("tp_base")
        try:
            mro = memory.read(slot("tp_mro") + self._offsets["tuple_object.ob_item"], 16)
            fits = (
                memory.u64(type_ + 8) == type_ and memory.c_string(slot("tp_name"), 8) == "type"
                and memory.c_string(memory.u64(base + slots.offset("tp_name")), 8) == "object"
                and slot("tp_itemsize") == self.layout("PyMemberDef").size
                and slot("tp_basicsize") > slots.size + 8 * _HEAP_TYPE_WORDS
                and slot("tp_dictoffset") == slots.offset("tp_dict")
                and slot("tp_weaklistoffset") == slots.offset("tp_weaklist")
                and mro == type_.to_bytes(8, "little") + base.to_bytes(8, "little")
                and self._is_code(slot("tp_traverse")) and self._is_code(slot("tp_clear"))
            )
        except MemoryFault:
            fits = False
        if not fits:
            raise _unfit("its PyType_Type")

    def _is_code(self, address: int) -> bool:
        regions = self._target.regions()
        return bool(address) and (not regions or any(
            region.executable and region.start <= address < region.end for region in regions
        ))

    def _heap_type(self) -> StructLayout:
        # The names of classes stand where their tp_name says that they do.
        memory, slots = self._memory, self.layout("PyTypeObject")
        name = slots.size + 8 * _HEAP_TYPE_WORDS
        type_ = self._type_type()
        tried = 0
        for address in self._objects():
            if memory.u64(address + 8) != type_ or not memory.u64(address + slots.offset("tp_flags")) & _HEAPTYPE:
                continue
            tail = memory.c_string(memory.u64(address + slots.offset("tp_name"))).rpartition(".")[2]
            text = memory.u64(address + name) + self._offsets["unicode_object.asciiobject_size"]
            if tail.isascii() and memory.read(text, len(tail) + 1) != tail.encode() + b"\0":
                raise _unfit("the struct of its classes")
            tried += 1
            if tried == _TRIED:
                break
        if not tried:
            raise _unfit("the struct of its classes")
        size = memory.u64(type_ + slots.offset("tp_basicsize"))
        return _struct("PyHeapTypeObject", size, _words(
            ("ht_name", name), ("ht_slots", name + 8), ("ht_qualname", name + 16), ("ht_cached_keys", name + 24)
        ))

    @cached_property
    def _types(self) -> dict[str, int]:
        # Types by the symbol that they have in a build with symbols.
        u64, slots = self._memory.u64, self.layout("PyTypeObject")
        found: dict[str, int] = {}
        todo = [self._type_type()]
        todo.append(u64(todo[0] + slots.offset("tp_base")))
        seen: set[int] = set()
        for address in self._objects():
            todo.append(u64(address + 8))
            if todo[-1] == todo[0]:
                todo.append(address)
        todo += [value for _, value in self._builtins() if u64(value + 8) == todo[0]]
        with suppress(MemoryFault):
            todo += [u64(code + 8) for code in self._running()]
        for type_ in todo:
            if type_ in seen:
                continue
            seen.add(type_)
            try:
                name = self._memory.c_string(u64(type_ + slots.offset("tp_name")))
                if name in _TYPES and not u64(type_ + slots.offset("tp_flags")) & _HEAPTYPE:
                    found.setdefault(_TYPES[name], type_)
            except MemoryFault:
                continue
        return found

    def _builtins(self) -> Iterator[tuple[int, int]]:
        # The names and values in the dict of the builtins (``PyObject *``). Raises MemoryFault.
        u64, keys = self._memory.u64, self.layout("PyDictKeysObject")
        namespace = u64(self._interpreter + self._offsets["interpreter_state.builtins"])
        table = u64(namespace + self._offsets["dict_object.ma_keys"])
        kind, index = (
            self._memory.read(table + keys.offset(name), 1)[0] for name in ("dk_kind", "dk_log2_index_bytes")
        )
        count = u64(table + keys.offset("dk_nentries"))
        if kind != _UNICODE or index > 16 or not 0 < count <= 1 << 16:
            raise _unfit("the dict of its builtins")
        pairs = array("Q", self._memory.read(table + keys.size + (1 << index), 16 * count))
        yield from ((name, value) for name, value in zip(pairs[::2], pairs[1::2]) if name and value)

    def _running(self) -> Iterator[int]:
        # The code objects that the first thread runs. Raises MemoryFault.
        u64, at = self._memory.u64, self._offsets
        thread = u64(self._interpreter + at["interpreter_state.threads_head"])
        frame = u64(thread + at["thread_state.current_frame"]) if thread else 0
        for _ in range(_TRIED):
            if not frame:
                return
            yield u64(frame + at["interpreter_frame.executable"]) & _LINKS
            frame = u64(frame + at["interpreter_frame.previous"])

    def _check_dicts(self) -> None:
        # Most builtin types have their own name there.
        u64, slots, type_ = self._memory.u64, self.layout("PyTypeObject"), self._type_type()
        text = self._offsets["unicode_object.asciiobject_size"]
        known = 0
        try:
            for name, value in self._builtins():
                if u64(value + 8) == type_:
                    own = self._memory.c_string(u64(value + slots.offset("tp_name"))).encode()
                    known += self._memory.read(name + text, len(own) + 1) == own + b"\0"
        except MemoryFault:
            known = 0
        if known < _KNOWN_TYPES:
            raise _unfit("the dict of its builtins")


def _of_a_generation(size: int, first: int) -> StructLayout:
    names = ("collections", "collected", "uncollectable")
    return _struct("gc_generation_stats", size, _words(*((name, first + 8 * row) for row, name in enumerate(names))))


def _stats() -> StructLayout:
    # 3.15: struct gc_stats, Include/internal/pycore_interp_structs.h
    def ring(name: str, items: int) -> StructLayout:
        return _struct(name, items * _STATS + 8, {
            "items": _nested("items", 0, _of_a_generation(_STATS, 16), items),
            "index": Field("index", items * _STATS, 1, signed=True),
        })

    young, old = ring("gc_young_stats_buffer", _YOUNG), ring("gc_old_stats_buffer", _OLD)
    return _struct("gc_stats", young.size + 2 * old.size + 8, {
        "young": _nested("young", 0, young), "old": _nested("old", young.size, old, 2),
    })


def _itself(layout: StructLayout) -> StructLayout:
    return layout
