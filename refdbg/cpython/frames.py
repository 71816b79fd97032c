"""Python's frame stacks, from the thread state: who called whom, at which line, with which local variables."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from typing import NamedTuple, Protocol

from refdbg.cpython import lines
from refdbg.cpython.containers import Containers
from refdbg.cpython.runtime import Runtime, Thread
from refdbg.cpython.scalars import Scalars
from refdbg.cpython.types import DICT_SUBCLASS, UNICODE_SUBCLASS, Types
from refdbg.errors import DecodeError, LayoutNotFound, MemoryFault, TargetError
from refdbg.target.layout import StructLayout

STACK_LIMIT = 1 << 20  # frames: a deeper stack is a damaged one
_VARIABLE_LIMIT = 1 << 16
_TABLE_LIMIT = 1 << 24
_NAME_LIMIT = 1 << 12
_CODE_UNIT = 2  # sizeof(_Py_CODEUNIT)

_CO_OPTIMIZED, _CO_VARARGS, _CO_VARKEYWORDS = 0x1, 0x4, 0x8  # Include/cpython/code.h
# enum _frameowner (Include/internal/pycore_frame.h): what comes after belongs to C and has no code.
_OWNED_BY_GENERATOR, _OWNED_BY_FRAME_OBJECT = 1, 2
_RESUME_LOCATION, _RESUME_AFTER_YIELD_FROM = 0x3, 2  # of RESUME's argument (Include/internal/pycore_opcode_utils.h)
_YIELD_FROM = 72  # Include/opcode.h, until 3.10
_CELL, _FREE = 0x40, 0x80  # co_localspluskinds (Include/internal/pycore_code.h)


@dataclass(frozen=True)
class Frame:
    """One Python frame.

    *address*: ``_PyInterpreterFrame *`` (until 3.10 ``PyFrameObject *``); *code*: ``PyCodeObject *``;
    *function*: its qualified name (until 3.10 its name); *line*: 0 where the instruction has none.
    """

    address: int
    code: int
    function: str
    file: str
    line: int


@dataclass(frozen=True)
class Stack:
    """A thread's frames, innermost first. *note* says why the rest is missing, "" when it is complete.

    *calls*: how many of the frames each call of the evaluator runs, innermost first. Until 3.10 each frame has its own.
    """

    frames: list[Frame]
    note: str
    calls: list[int] = field(default_factory=list)


class Position(NamedTuple):
    """Where one frame is, undecoded. *identity*: of what the code object is made of, which may be freed and reused.

    *entry*: C has called the evaluator for this frame; the next one belongs to another call of it.
    """

    code: int
    identity: int
    instruction: int
    entry: bool


@dataclass(frozen=True)
class _Code:
    # A PyCodeObject, decoded once per stop. start: address of its first instruction (3.11+).
    address: int
    function: str
    file: str
    first_line: int
    table: bytes
    optimized: bool
    start: int
    first_traceable: int


class _Chain(Protocol):
    # How a CPython links its frames and what a frame is.
    def newest(self, thread: int) -> int: ...
    def unlinked(self, thread: int) -> int | None: ...  # the frame to begin with where that is none yet
    def previous(self, frame: int) -> int: ...
    def code(self, frame: int) -> int: ...  # 0: C's own entry in the chain
    def complete(self, frame: int, code: _Code) -> bool: ...
    def instruction(self, frame: int, code: _Code) -> int: ...  # offset in bytes
    def place(self, frame: int) -> int: ...  # the same as it stands there
    def is_entry(self, frame: int) -> bool: ...  # C has called the evaluator for it
    def traced_line(self, frame: int) -> int: ...  # 0: none
    def names(self, code: _Code) -> Iterator[tuple[str, int]]: ...  # name, kind as in co_localspluskinds
    def slots(self, frame: int) -> int: ...  # PyObject **
    def namespace(self, frame: int) -> int: ...  # f_locals
    def of_object(self, frame_object: int) -> int: ...
    def evaluators(self, thread: int) -> Iterator[int]: ...
    def delegate(self, frame: int) -> int: ...


class Frames:
    """The frame stacks of one stop."""

    def __init__(self, runtime: Runtime, types: Types) -> None:
        """Raises LayoutNotFound when the debug info describes no frames that refdbg knows."""
        self._runtime = runtime
        self._memory = runtime.memory
        self._objects = _Objects(runtime, types)
        code = runtime.build.layout("PyCodeObject")
        self._layout = {name: field.offset for name, field in code.fields.items()}
        self._chain = _chain(runtime, self._objects)
        # co_qualname came with 3.11. Each form of the line table has its own field, or its own neighbours.
        self._function = code.first("co_qualname", "co_name").offset
        self._stretches: lines.Stretches
        if "co_code_adaptive" in code:  # 3.11+
            self._table, self._stretches = code.offset("co_linetable"), lines.locations
        elif "co_linetable" in code:  # 3.10
            self._table, self._stretches = code.offset("co_linetable"), lines.line_ranges
        else:
            self._table, self._stretches = code.offset("co_lnotab"), lines.lnotab
        self._start = self._layout.get("co_code_adaptive", 0)
        self._traceable = self._layout.get("_co_firsttraceable")
        self._code_type = runtime.target.address_of("PyCode_Type")
        self._cell_type = runtime.target.address_of("PyCell_Type")
        self._cell_value = runtime.build.layout("PyCellObject").offset("ob_ref")
        self._codes: dict[int, _Code] = {}
        self._lines: dict[tuple[int, int], int] = {}

    def stack(self, thread: Thread, limit: int = STACK_LIMIT) -> list[Frame]:
        """The thread's frames, innermost first, at most *limit*. Ends at damage; raises nothing."""
        return self.walk(thread, limit).frames

    def walk(self, thread: Thread, limit: int = STACK_LIMIT) -> Stack:
        """The thread's frames, innermost first, and why they end early if they do. Raises nothing.

        Frames that Python code does not see are left out, as sys._getframe() leaves them out: those that
        have not reached their first traceable instruction, and C's own entries (_PyFrame_IsIncomplete).
        """
        try:
            outer = self._chain.unlinked(thread.address)
            stack = self.walk_from(self._chain.newest(thread.address) if outer is None else outer, limit)
        except MemoryFault as error:
            return Stack([], f"the chain of frames cannot be found: {error}")
        if outer is None:
            return stack
        notes = ["the newest frame is being made, or damaged: it is left out", *filter(None, [stack.note])]
        return replace(stack, note="; ".join(notes))

    def walk_from(self, frame: int, limit: int = STACK_LIMIT) -> Stack:
        """The same from one frame on, which need not be a running thread's. Raises nothing.

        *frame*: ``_PyInterpreterFrame *`` (until 3.10 ``PyFrameObject *``), see `of_object`; 0: no frames.
        """
        frames: list[Frame] = []
        calls = [0]
        seen: set[int] = set()
        address, note = frame, ""
        try:
            while address and len(frames) < limit and not note:
                seen.add(address)
                found = self._frame(address)
                if found is not None:
                    frames.append(found)
                    calls[-1] += 1
                if self._chain.code(address) and self._chain.is_entry(address):
                    calls.append(0)
                address = self._chain.previous(address)
                if address in seen:
                    note = f"the chain of frames runs in a circle at {address:#x}"
                elif len(seen) >= STACK_LIMIT:
                    note = f"the chain of frames does not end within {STACK_LIMIT}"
        except (MemoryFault, DecodeError) as error:
            note = f"the chain of frames breaks off after {len(frames)}: {error}"
        if not calls[-1]:
            calls.pop()
        return Stack(frames, note or ("more frames follow" if address else ""), calls)

    def delegate(self, frame: int) -> int:
        """What a suspended generator has given control to (``yield from``, ``await``): ``PyObject *``, 0: nothing.

        Raises DecodeError, MemoryFault.
        """
        return self._chain.delegate(frame)

    def state(self, frame: int) -> int:
        """A generator's ``PyFrameObject *`` until 3.10: -2 not started, -1 suspended, 0 running, more: finished.

        Raises MemoryFault.
        """
        assert isinstance(self._chain, _FrameObjects)
        return self._chain.state(frame)

    def evaluators(self, thread: Thread) -> list[int]:
        """An address in the C frame of each call of the evaluator, innermost first; none where that is not known.

        Raises nothing. Since 3.10 each such call has a struct there that is linked to its caller's.
        """
        found: list[int] = []
        with suppress(MemoryFault):
            for address in self._chain.evaluators(thread.address):
                if address in found[-1:] or len(found) >= STACK_LIMIT:
                    break
                found.append(address)
            if self._chain.unlinked(thread.address) is not None:
                del found[:1]  # it has no frame yet
        return found

    def of_object(self, frame_object: int) -> int:
        """The frame of a frame object (``PyFrameObject *``), as `walk_from` takes it. Raises MemoryFault."""
        return self._chain.of_object(frame_object)

    def positions(self, thread: int, limit: int) -> tuple[list[Position], list[int]]:
        """Where the frames of a thread (``PyThreadState *``) are, innermost first, and their addresses. Raises nothing.

        Those that Python code does not see are among them.
        """
        found: list[Position] = []
        frames: list[int] = []
        chain, u64, table = self._chain, self._memory.u64, self._table
        with suppress(MemoryFault):
            frame = chain.newest(thread)
            while frame and len(found) < limit:
                code = chain.code(frame)
                if code:
                    position = Position(code, u64(code + table), chain.place(frame), chain.is_entry(frame))
                    found.append(position)
                    frames.append(frame)
                frame = chain.previous(frame)
        return found, frames

    def decoded(self, frame: int) -> Frame | None:
        """The frame at an address, None for one that Python code does not see, or at damage. The process has run."""
        self._codes.clear()
        self._lines.clear()
        try:
            return self._frame(frame)
        except (MemoryFault, DecodeError):
            return None

    def locals(self, frame: Frame) -> list[tuple[str, int]]:
        """The frame's local variables that are set: (name, ``PyObject *``), in the order of the code object.

        Cells are replaced by what they hold. The names of a module's or class's body come from its namespace.
        Ends at damage; raises nothing. Mirrors _PyFrame_FastToLocalsWithError (Objects/frameobject.c).
        """
        found: list[tuple[str, int]] = []
        with suppress(TargetError, DecodeError):
            found.extend(self._named(frame))  # keeps what came before the fault
        return found

    def arguments(self, frame: Frame) -> list[str]:
        """The names of the function's arguments, ``*`` and ``**`` ones last. Raises nothing."""
        layout, memory = self._layout, self._memory
        found: list[str] = []
        with suppress(TargetError, DecodeError):
            code = self._code(frame.code)
            counts = (memory.integer(code.address + layout[name], 4) for name in ("co_argcount", "co_kwonlyargcount"))
            flags = memory.integer(code.address + layout["co_flags"], 4)
            total = min(sum(counts), _VARIABLE_LIMIT) + bool(flags & _CO_VARARGS) + bool(flags & _CO_VARKEYWORDS)
            # Also those that are cells: co_varnames and co_localsplusnames begin with all of them.
            found.extend(name for name, _ in islice(self._chain.names(code), total))
        return found

    def _named(self, frame: Frame) -> Iterator[tuple[str, int]]:
        code = self._code(frame.code)
        if not code.optimized:
            yield from self._objects.namespace(self._chain.namespace(frame.address))
        slots = self._chain.slots(frame.address)
        for index, (name, kind) in enumerate(self._chain.names(code)):
            value = self._memory.u64(slots + 8 * index)
            if kind & _FREE and not code.optimized:
                continue  # a class body's free variables are not its names
            if value and kind & (_CELL | _FREE):
                value = self._content(value)
            if value:
                yield name, value

    def _content(self, address: int) -> int:
        # What a cell holds. Until MAKE_CELL has run, an argument's own value stands in the cell's place.
        try:
            if self._type_of(address) == self._cell_type:
                return self._memory.u64(address + self._cell_value)
        except MemoryFault:
            pass  # the variable is shown as what it is: unreadable
        return address

    def _type_of(self, address: int) -> int:
        return self._memory.u64(address + self._runtime.build.ob_type)

    def span(self, code: int) -> tuple[str, int, int]:
        """The file of a code object (``PyCodeObject *``), its first line and its last one, with the code inside it.

        Raises DecodeError, MemoryFault.
        """
        found = self._code(code)
        last = lines.last_line(self._stretches, found.table, found.first_line)
        for constant in self._objects.items(self._memory.u64(code + self._layout["co_consts"]), _VARIABLE_LIMIT):
            if self._type_of(constant) == self._code_type:
                last = max(last, self.span(constant)[2])
        return found.file, found.first_line, last

    def _frame(self, address: int) -> Frame | None:
        code_address = self._chain.code(address)
        if not code_address:
            return None
        code = self._code(code_address)
        if not self._chain.complete(address, code):
            return None
        line = self._chain.traced_line(address)
        if line <= 0:
            line = self._line(code, self._chain.instruction(address, code))
        return Frame(address, code_address, code.function, code.file, line)

    def _line(self, code: _Code, instruction: int) -> int:
        key = code.address, instruction
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = lines.line_at(
                self._stretches, code.table, code.first_line, instruction
            ) or 0
        return line

    def _code(self, address: int) -> _Code:
        # Raises DecodeError, MemoryFault.
        known = self._codes.get(address)
        if known is None:
            known = self._codes[address] = self._decode(address)
        return known

    def _decode(self, address: int) -> _Code:
        memory, layout, objects = self._memory, self._layout, self._objects
        if self._type_of(address) != self._code_type:
            raise DecodeError(f"{address:#x} is no code object")
        traceable = memory.integer(address + self._traceable, 4) if self._traceable is not None else 0
        start = address + self._start if self._start else 0
        return _Code(
            address,
            objects.string(memory.u64(address + self._function)),
            objects.string(memory.u64(address + layout["co_filename"])),
            memory.integer(address + layout["co_firstlineno"], 4, signed=True),
            objects.data(memory.u64(address + self._table), _TABLE_LIMIT),
            bool(memory.integer(address + layout["co_flags"], 4) & _CO_OPTIMIZED),
            start,
            start + traceable * _CODE_UNIT,
        )


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


def _chain(runtime: Runtime, objects: _Objects) -> _Chain:
    try:
        frame = runtime.build.layout("_PyInterpreterFrame")
    except LayoutNotFound:  # until 3.10
        return _FrameObjects(runtime, objects)
    if "f_executable.bits" in frame:
        raise LayoutNotFound("the frames of this CPython hold tagged references (_PyStackRef)",
                             "refdbg 0.1 reads the frames of CPython 3.9 to 3.13.")
    return _InterpreterFrames(runtime, objects, frame)


class _InterpreterFrames:
    # 3.11+: struct _PyInterpreterFrame, in the thread's own stack chunks or in a generator.
    def __init__(self, runtime: Runtime, objects: _Objects, frame: StructLayout) -> None:
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
        frame_object = runtime.build.layout("PyFrameObject")
        self._line = frame_object.offset("f_lineno")
        self._frame = frame_object.offset("f_frame")
        self._slots = frame.offset("localsplus")
        self._before = 0 if "instr_ptr" in frame else _CODE_UNIT
        self._depth = frame.offset("stacktop") if "stacktop" in frame else None
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
        return self._memory.u64(frame + self._code)

    def complete(self, frame: int, code: _Code) -> bool:
        if self._memory.integer(frame + self._owner, 1) == _OWNED_BY_GENERATOR:
            return True
        return self._memory.u64(frame + self._instruction) >= code.first_traceable

    def instruction(self, frame: int, code: _Code) -> int:
        return self._memory.u64(frame + self._instruction) - code.start

    def place(self, frame: int) -> int:
        return self._memory.u64(frame + self._instruction)

    def is_entry(self, frame: int) -> bool:
        if self._entry is not None:
            return bool(self._memory.integer(frame + self._entry, 1))
        previous = self.previous(frame)
        return not previous or not self.code(previous)

    def traced_line(self, frame: int) -> int:
        # PyFrame_GetLineNumber: a trace function may have set it.
        frame_object = self._memory.u64(frame + self._frame_object)
        return self._memory.integer(frame_object + self._line, 4, signed=True) if frame_object else 0

    def names(self, code: _Code) -> Iterator[tuple[str, int]]:
        kinds = self._objects.data(self._memory.u64(code.address + self._kinds), _VARIABLE_LIMIT)
        names = self._objects.items(self._memory.u64(code.address + self._names), _VARIABLE_LIMIT)
        for name, kind in zip(names, kinds):
            yield self._objects.string(name), kind

    def slots(self, frame: int) -> int:
        return frame + self._slots

    def namespace(self, frame: int) -> int:
        return self._memory.u64(frame + self._locals)

    def of_object(self, frame_object: int) -> int:
        return self._memory.u64(frame_object + self._frame)

    def delegate(self, frame: int) -> int:
        # It stands before a RESUME, whose argument says what it has to go on with: _PyGen_yf, and RESUME in
        # Python/bytecodes.c.
        argument = self._memory.integer(self.place(frame) + self._before + 1, 1)
        if self._depth is None or argument & _RESUME_LOCATION < _RESUME_AFTER_YIELD_FROM:
            return 0
        depth = self._memory.integer(frame + self._depth, 4, signed=True)
        return self._memory.u64(frame + self._slots + 8 * (depth - 1)) if 0 < depth < _VARIABLE_LIMIT else 0

    def evaluators(self, thread: int) -> Iterator[int]:
        if self._c_frames is not None:
            yield from self._c_frames.of(thread)
            return
        address = self.newest(thread)
        while address:
            if self._memory.integer(address + self._owner, 1) > _OWNED_BY_FRAME_OBJECT:
                yield address  # C's own entry
            address = self.previous(address)


class _FrameObjects:
    # Until 3.10: each frame is a PyFrameObject.
    def __init__(self, runtime: Runtime, objects: _Objects) -> None:
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
        self._unit = _CODE_UNIT if "f_state" in frame else 1
        self._line = frame.offset("f_lineno")
        # Until 3.9 f_lineno holds a line only while the frame is traced; 3.10 keeps it 0 otherwise.
        self._trace = None if "f_state" in frame else frame.offset("f_trace")
        self._slots = frame.offset("f_localsplus")
        self._state = frame.offset("f_state") if "f_state" in frame else None
        self._top = frame.first("f_valuestack" if "f_state" in frame else "f_stacktop").offset
        self._depth = frame.offset("f_stackdepth") if "f_state" in frame else 0
        self._locals = frame.offset("f_locals")
        code = runtime.build.layout("PyCodeObject")
        self._bytecode = code.offset("co_code")
        self._variables = [(code.offset("co_varnames"), 0), (code.offset("co_cellvars"), _CELL),
                           (code.offset("co_freevars"), _FREE)]

    def newest(self, thread: int) -> int:
        return self._memory.u64(thread + self._newest)

    def unlinked(self, thread: int) -> int | None:
        return None

    def previous(self, frame: int) -> int:
        return self._memory.u64(frame + self._previous)

    def code(self, frame: int) -> int:
        return self._memory.u64(frame + self._code)

    def complete(self, frame: int, code: _Code) -> bool:
        return True

    def instruction(self, frame: int, code: _Code) -> int:
        return self.place(frame) * self._unit

    def place(self, frame: int) -> int:
        return self._memory.integer(frame + self._lasti, 4, signed=True)

    def is_entry(self, frame: int) -> bool:
        return True

    def traced_line(self, frame: int) -> int:
        if self._trace is not None and not self._memory.u64(frame + self._trace):
            return 0
        return self._memory.integer(frame + self._line, 4, signed=True)

    def names(self, code: _Code) -> Iterator[tuple[str, int]]:
        for offset, kind in self._variables:
            for name in self._objects.items(self._memory.u64(code.address + offset), _VARIABLE_LIMIT):
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
        codes = self._objects.data(self._memory.u64(self.code(frame) + self._bytecode), _TABLE_LIMIT)
        following = self.place(frame) * self._unit + _CODE_UNIT
        if not 0 <= following < len(codes) or codes[following] != _YIELD_FROM:
            return 0
        if self._state is None:
            return self._memory.u64(self._memory.u64(frame + self._top) - 8)
        depth = self._memory.integer(frame + self._depth, 4, signed=True)
        return self._memory.u64(self._memory.u64(frame + self._top) + 8 * (depth - 1)) if depth > 0 else 0

    def evaluators(self, thread: int) -> Iterator[int]:
        return self._c_frames.of(thread) if self._c_frames is not None else iter(())


class _Objects:
    # What frames and code objects are made of.
    def __init__(self, runtime: Runtime, types: Types) -> None:
        self._runtime = runtime
        self._types = types
        self._memory = runtime.memory
        self._ob_type = runtime.build.ob_type
        self._scalars = Scalars(runtime)
        self._items = runtime.build.layout("PyTupleObject").offset("ob_item")

    def string(self, address: int) -> str:
        return self._scalars.text(address, _NAME_LIMIT)

    def data(self, address: int, limit: int) -> bytes:
        size = self._scalars.size(address)
        if not 0 <= size <= limit:
            raise DecodeError(f"the bytes at {address:#x} claim the size {size}")
        return self._scalars.bytes(address, size)

    def items(self, address: int, limit: int) -> array[int]:
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
