"""How each CPython links the frames of a thread, and where in a frame what stands."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Protocol

from refdbg.cpython.containers import Containers
from refdbg.cpython.runtime import Runtime
from refdbg.cpython.scalars import Scalars
from refdbg.cpython.stackrefs import are_tagged, pointed
from refdbg.cpython.types import DICT_SUBCLASS, UNICODE_SUBCLASS, Types
from refdbg.errors import DecodeError, LayoutNotFound, MemoryFault
from refdbg.target.layout import StructLayout

STACK_LIMIT = 1 << 20  # frames: a deeper stack is a damaged one
VARIABLE_LIMIT = 1 << 16
TABLE_LIMIT = 1 << 24
_NAME_LIMIT = 1 << 12
CODE_UNIT = 2  # sizeof(_Py_CODEUNIT)
# enum _frameowner (Include/internal/pycore_frame.h): what comes after belongs to C and has no code.
_OWNED_BY_GENERATOR, _OWNED_BY_FRAME_OBJECT = 1, 2
_RESUME_LOCATION, _RESUME_AFTER_YIELD_FROM = 0x3, 2  # of RESUME's argument (Include/internal/pycore_opcode_utils.h)
_YIELD_FROM = 72  # Include/opcode.h, until 3.10
HIDDEN, CELL, FREE = 0x10, 0x40, 0x80  # co_localspluskinds (Include/internal/pycore_code.h)


@dataclass(frozen=True)
class Code:
    """A ``PyCodeObject``, decoded once per stop. *start*: the address of its first instruction (3.11+)."""

    address: int
    function: str
    file: str
    first_line: int
    table: bytes
    optimized: bool
    start: int
    first_traceable: int


class Chain(Protocol):
    """How a CPython links its frames and what a frame is. All addresses are those of frames but where it is said."""

    namespace_alone: bool  # what f_locals of a class's body is: without the cells

    def newest(self, thread: int) -> int: ...
    def unlinked(self, thread: int) -> int | None: ...  # the frame to begin with where that is none yet
    def previous(self, frame: int) -> int: ...
    def code(self, frame: int) -> int: ...  # 0: C's own entry in the chain
    def complete(self, frame: int, code: Code) -> bool: ...
    def instruction(self, frame: int, code: Code) -> int: ...  # offset in bytes
    def place(self, frame: int) -> int: ...  # the same as it stands there
    def is_entry(self, frame: int) -> bool: ...  # C has called the evaluator for it
    def traced_line(self, frame: int) -> int: ...  # 0: none
    def names(self, code: Code) -> Iterator[tuple[str, int]]: ...  # name, kind as in co_localspluskinds
    def slots(self, frame: int) -> int: ...  # PyObject **
    def namespace(self, frame: int) -> int: ...  # f_locals
    def of_object(self, frame_object: int) -> int: ...
    def evaluators(self, thread: int) -> Iterator[int]: ...
    def delegate(self, frame: int) -> int: ...


class _CFrames:
    # 3.10 to 3.12: a _PyCFrame (CFrame) in the C frame of each call of the evaluator, and one in the thread state.
    def __init__(self, runtime: Runtime, thread: StructLayout) -> None:
        self._memory = runtime.memory
        self._newest = thread.offset("cframe")
        self._root = thread.offset("root_cframe")
        try:
            layout = runtime.build.layout("_PyCFrame")
        except LayoutNotFound:
            layout = runtime.build.layout("CFrame")
        self._previous = layout.offset("previous")

    def of(self, thread: int) -> Iterator[int]:
        address = self._memory.u64(thread + self._newest)
        while address not in (0, thread + self._root):
            yield address
            address = self._memory.u64(address + self._previous)


def chain_of(runtime: Runtime, objects: CodeParts) -> Chain:
    """This CPython's. Raises LayoutNotFound where its debug info describes no frames that refdbg knows."""
    try:
        frame = runtime.build.layout("_PyInterpreterFrame")
    except LayoutNotFound:  # until 3.10
        return FrameObjects(runtime, objects)
    are_tagged(runtime.build)
    return _InterpreterFrames(runtime, objects, frame)


class _InterpreterFrames:
    # 3.11+: struct _PyInterpreterFrame, in the thread's own stack chunks or in a generator.
    def __init__(self, runtime: Runtime, objects: CodeParts, frame: StructLayout) -> None:
        self._memory = runtime.memory
        self._objects = objects
        thread = runtime.build.layout("PyThreadState")
        if "current_frame" in thread:  # 3.13+
            self._newest: tuple[int, ...] = (thread.offset("current_frame"),)
        else:
            c_frame = runtime.build.layout("_PyCFrame")
            self._newest = thread.offset("cframe"), c_frame.offset("current_frame")
        self._c_frames = _CFrames(runtime, thread) if "cframe" in thread else None
        self._previous = frame.offset("previous")
        self._code = frame.first("f_executable", "f_code").offset
        self._owner = frame.offset("owner")
        # 3.13+ points to the instruction, before that to the code unit before the next instruction.
        self._instruction = frame.first("instr_ptr", "prev_instr").offset
        self._frame_object = frame.offset("frame_obj")
        # 3.12+ has a frame of C's own below each that C has called.
        self._entry = frame.offset("is_entry") if "is_entry" in frame else None
        self._line: int | None = None
        self._build = runtime.build
        self.namespace_alone = "current_frame" in thread
        with suppress(LayoutNotFound):  # a stripped build's is not known
            frame_object = runtime.build.layout("PyFrameObject")
            self._line = frame_object.offset("f_lineno")
            self.namespace_alone = "f_extra_locals" in frame_object  # 3.13+, PEP 667
        self._bytecodes: tuple[int, int, int] | None = None
        if "tlbc_index" in frame:  # 3.14+, free-threaded: each thread runs a copy of its own
            arrays = runtime.build.layout("_PyCodeArray")
            self._bytecodes = (
                frame.offset("tlbc_index"), runtime.build.layout("PyCodeObject").offset("co_tlbc"),
                arrays.offset("entries"),
            )
        self._slots = frame.offset("localsplus")
        self._before = 0 if "instr_ptr" in frame else CODE_UNIT
        self._depth = frame.offset("stacktop") if "stacktop" in frame else None
        self._top = frame.offset("stackpointer") if "stackpointer" in frame else None  # 3.14+
        self._locals = frame.offset("f_locals")
        code = runtime.build.layout("PyCodeObject")
        self._names = code.offset("co_localsplusnames")
        self._kinds = code.offset("co_localspluskinds")

    def newest(self, thread: int) -> int:
        address = thread
        for offset in self._newest:
            address = self._memory.u64(address + offset)
            if not address:
                break
        return address

    def unlinked(self, thread: int) -> int | None:
        # 3.11 and 3.12 link the evaluator's _PyCFrame before it has a frame: until then the word there is any.
        if self._c_frames is None:
            return None
        caller = next(islice(self._c_frames.of(thread), 1, 2), 0)
        if not caller:
            return None
        outer = self._memory.u64(caller + self._newest[1])
        frame = self.newest(thread)
        seen = 0
        with suppress(MemoryFault):
            while frame and seen < STACK_LIMIT and self.code(frame) and not self.is_entry(frame):
                frame = self.previous(frame)
                seen += 1
            if frame and self._entry is None and self.code(frame):
                frame = self.previous(frame)  # C's own
            if frame and self.previous(frame) == outer:
                return None
        return outer

    def previous(self, frame: int) -> int:
        return self._memory.u64(frame + self._previous)

    def code(self, frame: int) -> int:
        if self._memory.integer(frame + self._owner, 1) > _OWNED_BY_FRAME_OBJECT:
            return 0
        return pointed(self._memory.u64(frame + self._code))

    def complete(self, frame: int, code: Code) -> bool:
        if self._memory.integer(frame + self._owner, 1) == _OWNED_BY_GENERATOR:
            return True
        return self.instruction(frame, code) >= code.first_traceable - code.start

    def instruction(self, frame: int, code: Code) -> int:
        return self._memory.u64(frame + self._instruction) - self._first(frame, code)

    def _first(self, frame: int, code: Code) -> int:
        # _PyFrame_GetBytecode: the first copy is the code object's own.
        if self._bytecodes is None:
            return code.start
        index, arrays, entries = self._bytecodes
        number = self._memory.integer(frame + index, 4, signed=True)
        return self._memory.u64(self._memory.u64(code.address + arrays) + entries + 8 * number)

    def place(self, frame: int) -> int:
        return self._memory.u64(frame + self._instruction)

    def is_entry(self, frame: int) -> bool:
        if self._entry is not None:
            return bool(self._memory.integer(frame + self._entry, 1))
        previous = self.previous(frame)
        return not previous or not self.code(previous)

    def traced_line(self, frame: int) -> int:
        # PyFrame_GetLineNumber: a trace function may have set it.
        if self._line is None:
            return 0
        frame_object = self._memory.u64(frame + self._frame_object)
        return self._memory.integer(frame_object + self._line, 4, signed=True) if frame_object else 0

    def names(self, code: Code) -> Iterator[tuple[str, int]]:
        kinds = self._objects.data(self._memory.u64(code.address + self._kinds), VARIABLE_LIMIT)
        names = self._objects.items(self._memory.u64(code.address + self._names), VARIABLE_LIMIT)
        for name, kind in zip(names, kinds):
            yield self._objects.string(name), kind

    def slots(self, frame: int) -> int:
        return frame + self._slots

    def namespace(self, frame: int) -> int:
        return self._memory.u64(frame + self._locals)

    def of_object(self, frame_object: int) -> int:
        return self._memory.u64(frame_object + self._build.layout("PyFrameObject").offset("f_frame"))

    def delegate(self, frame: int) -> int:
        # It stands before a RESUME, whose argument says what it has to go on with: _PyGen_yf, and RESUME in
        # Python/bytecodes.c.
        argument = self._memory.integer(self.place(frame) + self._before + 1, 1)
        if argument & _RESUME_LOCATION < _RESUME_AFTER_YIELD_FROM:
            return 0
        if self._top is not None:
            top = self._memory.u64(frame + self._top)
            return self._awaited(top, frame + self._slots)
        if self._depth is None:
            return 0
        depth = self._memory.integer(frame + self._depth, 4, signed=True)
        return self._memory.u64(frame + self._slots + 8 * (depth - 1)) if 0 < depth < VARIABLE_LIMIT else 0

    def _awaited(self, top: int, slots: int) -> int:
        # 3.15 has something above it that is no object: the index of a list or tuple, or NULL (SEND in bytecodes.c).
        # 3.14 has not, and a function without variables has nothing below it either.
        for place in range(top - 8, max(top - 24, slots - 8), -8):
            found = pointed(self._memory.u64(place))
            if found:
                return found
        return 0

    def evaluators(self, thread: int) -> Iterator[int]:
        if self._c_frames is not None:
            yield from self._c_frames.of(thread)
            return
        address = self.newest(thread)
        while address:
            if self._memory.integer(address + self._owner, 1) > _OWNED_BY_FRAME_OBJECT:
                yield address  # C's own entry
            address = self.previous(address)


class FrameObjects:
    # Until 3.10: each frame is a PyFrameObject.
    def __init__(self, runtime: Runtime, objects: CodeParts) -> None:
        self._memory = runtime.memory
        self._objects = objects
        thread = runtime.build.layout("PyThreadState")
        self._newest = thread.offset("frame")
        self._c_frames = _CFrames(runtime, thread) if "cframe" in thread else None
        frame = runtime.build.layout("PyFrameObject")
        self._previous = frame.offset("f_back")
        self._code = frame.offset("f_code")
        self._lasti = frame.offset("f_lasti")
        # 3.10 counts code units and has f_state, 3.9 counts bytes.
        self._unit = CODE_UNIT if "f_state" in frame else 1
        self._line = frame.offset("f_lineno")
        # Until 3.9 f_lineno holds a line only while the frame is traced; 3.10 keeps it 0 otherwise.
        self._trace = None if "f_state" in frame else frame.offset("f_trace")
        self._slots = frame.offset("f_localsplus")
        self._state = frame.offset("f_state") if "f_state" in frame else None
        self._top = frame.first("f_valuestack" if "f_state" in frame else "f_stacktop").offset
        self._depth = frame.offset("f_stackdepth") if "f_state" in frame else 0
        self._locals = frame.offset("f_locals")
        self.namespace_alone = False
        code = runtime.build.layout("PyCodeObject")
        self._bytecode = code.offset("co_code")
        self._variables = [(code.offset("co_varnames"), 0), (code.offset("co_cellvars"), CELL),
                           (code.offset("co_freevars"), FREE)]

    def newest(self, thread: int) -> int:
        return self._memory.u64(thread + self._newest)

    def unlinked(self, thread: int) -> int | None:
        return None

    def previous(self, frame: int) -> int:
        return self._memory.u64(frame + self._previous)

    def code(self, frame: int) -> int:
        return self._memory.u64(frame + self._code)

    def complete(self, frame: int, code: Code) -> bool:
        return True

    def instruction(self, frame: int, code: Code) -> int:
        return self.place(frame) * self._unit

    def place(self, frame: int) -> int:
        return self._memory.integer(frame + self._lasti, 4, signed=True)

    def is_entry(self, frame: int) -> bool:
        return True

    def traced_line(self, frame: int) -> int:
        if self._trace is not None and not self._memory.u64(frame + self._trace):
            return 0
        return self._memory.integer(frame + self._line, 4, signed=True)

    def names(self, code: Code) -> Iterator[tuple[str, int]]:
        for offset, kind in self._variables:
            for name in self._objects.items(self._memory.u64(code.address + offset), VARIABLE_LIMIT):
                yield self._objects.string(name), kind

    def slots(self, frame: int) -> int:
        return frame + self._slots

    def namespace(self, frame: int) -> int:
        return self._memory.u64(frame + self._locals)

    def of_object(self, frame_object: int) -> int:
        return frame_object

    def state(self, frame: int) -> int:
        if self._state is not None:
            return self._memory.integer(frame + self._state, 1, signed=True)
        if self.place(frame) < 0:
            return -2
        return -1 if self._memory.u64(frame + self._top) else 0  # the stack's top is in a register while it runs

    def delegate(self, frame: int) -> int:
        codes = self._objects.data(self._memory.u64(self.code(frame) + self._bytecode), TABLE_LIMIT)
        following = self.place(frame) * self._unit + CODE_UNIT
        if not 0 <= following < len(codes) or codes[following] != _YIELD_FROM:
            return 0
        if self._state is None:
            return self._memory.u64(self._memory.u64(frame + self._top) - 8)
        depth = self._memory.integer(frame + self._depth, 4, signed=True)
        return self._memory.u64(self._memory.u64(frame + self._top) + 8 * (depth - 1)) if depth > 0 else 0

    def evaluators(self, thread: int) -> Iterator[int]:
        return self._c_frames.of(thread) if self._c_frames is not None else iter(())


class CodeParts:
    """What frames and code objects are made of."""

    def __init__(self, runtime: Runtime, types: Types) -> None:
        self._runtime = runtime
        self._types = types
        self._memory = runtime.memory
        self._ob_type = runtime.build.ob_type
        self._scalars = Scalars(runtime)
        self._items = runtime.build.layout("PyTupleObject").offset("ob_item")

    def string(self, address: int) -> str:
        """The text (``PyUnicodeObject *``). Raises DecodeError, MemoryFault."""
        return self._scalars.text(address, _NAME_LIMIT)

    def data(self, address: int, limit: int) -> bytes:
        """The contents (``PyBytesObject *``). Raises DecodeError, MemoryFault."""
        size = self._scalars.size(address)
        if not 0 <= size <= limit:
            raise DecodeError(f"the bytes at {address:#x} claim the size {size}")
        return self._scalars.bytes(address, size)

    def items(self, address: int, limit: int) -> array[int]:
        """The items (``PyTupleObject *``). Raises DecodeError, MemoryFault."""
        size = self._scalars.size(address)
        if not 0 <= size <= limit:
            raise DecodeError(f"the tuple at {address:#x} claims {size} items")
        return array("Q", self._memory.read(address + self._items, 8 * size))

    @cached_property
    def _containers(self) -> Containers:
        return Containers(self._runtime, self._scalars)

    def namespace(self, address: int) -> Iterator[tuple[str, int]]:
        """The names and values of a dict that a module's or class's body runs in; of another mapping: none."""
        if not address or not self._types[self._memory.u64(address + self._ob_type)].flags & DICT_SUBCLASS:
            return
        for entry in self._containers.dict_items(address):
            if self._types[self._memory.u64(entry.key + self._ob_type)].flags & UNICODE_SUBCLASS:
                yield self.string(entry.key), entry.value
