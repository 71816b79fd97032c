"""Python's frame stacks, from the thread state: who called whom, at which line, with which local variables."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import NamedTuple

from refdbg.cpython import lines
from refdbg.cpython.frame_chains import (
    CELL,
    CODE_UNIT,
    FREE,
    HIDDEN,
    STACK_LIMIT,
    TABLE_LIMIT,
    VARIABLE_LIMIT,
    Code,
    CodeParts,
    FrameObjects,
    chain_of,
)
from refdbg.cpython.runtime import Runtime, Thread
from refdbg.cpython.stackrefs import are_tagged, is_deferred, pointed
from refdbg.cpython.types import Types
from refdbg.errors import DecodeError, MemoryFault, TargetError

_CO_OPTIMIZED, _CO_VARARGS, _CO_VARKEYWORDS = 0x1, 0x4, 0x8  # Include/cpython/code.h


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


class Frames:
    """The frame stacks of one stop."""

    def __init__(self, runtime: Runtime, types: Types) -> None:
        """Raises LayoutNotFound when the debug info describes no frames that refdbg knows."""
        self._runtime = runtime
        self._memory = runtime.memory
        self._objects = CodeParts(runtime, types)
        code = runtime.build.layout("PyCodeObject")
        self._layout = {name: field.offset for name, field in code.fields.items()}
        self._chain = chain_of(runtime, self._objects)
        self._tagged = runtime.traits.free_threaded and are_tagged(runtime.build)
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
        self._codes: dict[int, Code] = {}
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
        assert isinstance(self._chain, FrameObjects)
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
        """The frame of a frame object (``PyFrameObject *``), as `walk_from` takes it.

        Raises MemoryFault, LayoutNotFound.
        """
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
        """The names of the function's arguments, ``*`` and ``**`` ones last. Raises nothing.

        None of a stripped build: there code objects do not tell how many they are.
        """
        layout, memory = self._layout, self._memory
        found: list[str] = []
        if "co_argcount" not in layout:
            return found
        with suppress(TargetError, DecodeError):
            code = self._code(frame.code)
            counts = (memory.integer(code.address + layout[name], 4) for name in ("co_argcount", "co_kwonlyargcount"))
            flags = memory.integer(code.address + layout["co_flags"], 4)
            total = min(sum(counts), VARIABLE_LIMIT) + bool(flags & _CO_VARARGS) + bool(flags & _CO_VARKEYWORDS)
            # Also those that are cells: co_varnames and co_localsplusnames begin with all of them.
            found.extend(name for name, _ in islice(self._chain.names(code), total))
        return found

    def deferred(self, frame: Frame) -> list[str]:
        """The names of those local variables whose references are in no count: the collector looks for them on the
        stacks of threads. Raises nothing.

        None but in free-threaded builds: elsewhere only what is immortal, or held by another word, is not counted.
        """
        found: list[str] = []
        if not self._tagged:
            return found
        with suppress(TargetError, DecodeError):
            slots = self._chain.slots(frame.address)
            for index, (name, _) in enumerate(self._chain.names(self._code(frame.code))):
                word = self._memory.u64(slots + 8 * index)
                if is_deferred(word) and not self._runtime.is_immortal(self._runtime.count(pointed(word))):
                    found.append(name)
        return found

    def _named(self, frame: Frame) -> Iterator[tuple[str, int]]:
        code = self._code(frame.code)
        if not code.optimized:
            yield from self._objects.namespace(self._chain.namespace(frame.address))
        slots = self._chain.slots(frame.address)
        for index, (name, kind) in enumerate(self._chain.names(code)):
            value = pointed(self._memory.u64(slots + 8 * index))
            if kind & FREE and not code.optimized:
                continue  # a class body's free variables are not its names
            if kind & CELL and not (kind & HIDDEN or code.optimized) and self._chain.namespace_alone:
                continue  # __classdict__; hidden: a comprehension's
            if value and kind & (CELL | FREE):
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
        for constant in self._objects.items(self._memory.u64(code + self._layout["co_consts"]), VARIABLE_LIMIT):
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

    def _line(self, code: Code, instruction: int) -> int:
        key = code.address, instruction
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = lines.line_at(
                self._stretches, code.table, code.first_line, instruction
            ) or 0
        return line

    def _code(self, address: int) -> Code:
        # Raises DecodeError, MemoryFault.
        known = self._codes.get(address)
        if known is None:
            known = self._codes[address] = self._decode(address)
        return known

    def _decode(self, address: int) -> Code:
        memory, layout, objects = self._memory, self._layout, self._objects
        if self._type_of(address) != self._code_type:
            raise DecodeError(f"{address:#x} is no code object")
        traceable = memory.integer(address + self._traceable, 4) if self._traceable is not None else 0
        start = address + self._start if self._start else 0
        return Code(
            address,
            objects.string(memory.u64(address + self._function)),
            objects.string(memory.u64(address + layout["co_filename"])),
            memory.integer(address + layout["co_firstlineno"], 4, signed=True),
            objects.data(memory.u64(address + self._table), TABLE_LIMIT),
            bool(memory.integer(address + layout["co_flags"], 4) & _CO_OPTIMIZED),
            start,
            start + traceable * CODE_UNIT,
        )
