"""LLDB as a Session. The only file that imports lldb; no SBValue leaves it.

lldb finds functions and classes by their dotted names: `Resolver`, `at_breakpoint`, `at_watchpoint` and the classes in
`_Commands` are called by it.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import count

import lldb
from refdbg.debuggers.debugged import (
    DEADLY,
    RUNTIME,
    Debugged,
    DebuggerChange,
    DebuggerHit,
    FunctionWatch,
    Placed,
    Reports,
    WordWatch,
    cannot_attach,
    check_program,
    convention,
    is_own,
    printable,
)
from refdbg.errors import CommandError, MemoryFault, NoProcess, NotEvaluated, NotLive, SymbolNotFound
from refdbg.target import (
    Halt,
    NativeCall,
    NativeFrame,
    NativeThread,
    OnChange,
    OnHit,
    TargetInfo,
    Where,
)
from refdbg.target.core import CoreMemory
from refdbg.target.ctype import Kind, Member
from refdbg.target.memory import Region
from refdbg.target.process import ProcessMemory

if not hasattr(lldb, "SBDebugger"):
    # Debian 12's lldb-14 looks for its own Python module in a folder that is not there.
    raise ImportError("this lldb does not find its own Python module: its packaging is broken (Debian 12's lldb-14 is "
                      "known for it). Use another one: apt-get install lldb-19")

_HERE = "refdbg.debuggers.lldb"
_ARCHITECTURES = {"x86_64": "x86-64"}  # by lldb's name, where it is another one
_KINDS: dict[int, Kind] = {
    lldb.eTypeClassStruct: "struct", lldb.eTypeClassClass: "struct", lldb.eTypeClassUnion: "union",
    lldb.eTypeClassArray: "array", lldb.eTypeClassPointer: "pointer", lldb.eTypeClassFunction: "function",
}  # fmt: skip
_STOPPED = (lldb.eStateStopped, lldb.eStateCrashed, lldb.eStateSuspended)
_UNKNOWN = lldb.LLDB_INVALID_ADDRESS
# What is evaluated without lldb's own expressions: these map memory in the process, by a system call that it must make.
_CASTS = re.compile(r"\(\s*[A-Za-z_][\w ]*[ *]*\)|\s+")
_EXPRESSION = re.compile(r"(?P<prefix>[&*]?)(?P<name>\$?\w+)(?P<path>(?:->\w+|\.\w+|\[\d+\])*)$")
_SIGACTION = 256  # bytes, more than a struct sigaction has
_SAME_NAME = 64  # variables of one name that are looked at


class LldbType:
    """An SBType."""

    def __init__(self, type_: lldb.SBType) -> None:
        self._type = type_.GetCanonicalType().GetUnqualifiedType()
        flags = self._type.GetTypeFlags()
        self.kind: Kind = _KINDS.get(self._type.GetTypeClass(), "other")
        if self.kind == "other" and flags & lldb.eTypeIsInteger:
            self.kind = "integer"
        elif self._type.GetBasicType() == lldb.eBasicTypeVoid:
            self.kind = "void"
        self.alias = _named(type_.GetUnqualifiedType().GetName())
        self.name = _named(self._type.GetName()) or self.alias
        self.size: int = self._type.GetByteSize()
        self.signed = self.kind == "integer" and bool(flags & lldb.eTypeIsSigned)

    @property
    def count(self) -> int:
        size = self.target().size
        return self.size // size if size else 0

    def target(self) -> LldbType:
        if self.kind == "array":
            return LldbType(self._type.GetArrayElementType())
        return LldbType(self._type.GetPointeeType())

    def members(self) -> list[Member]:
        type_ = self._type
        bases = [type_.GetDirectBaseClassAtIndex(row) for row in range(type_.GetNumberOfDirectBaseClasses())]
        fields = [type_.GetFieldAtIndex(row) for row in range(type_.GetNumberOfFields())]
        return [
            Member(
                each.GetName() or "", each.GetOffsetInBits(), each.GetBitfieldSizeInBits(), LldbType(each.GetType())
            )
            for each in bases + fields
        ]


def _named(name: str | None) -> str:
    # "" for "(unnamed struct)", "(anonymous union)".
    return "" if name is None or name.startswith("(") else name


class LldbTarget(Debugged):
    """A process or core file of lldb: a process of this machine through /proc, a core file, the rest through lldb."""

    def __init__(self, target: lldb.SBTarget, process: lldb.SBProcess) -> None:
        self._target = target
        self._process = process
        self.places: dict[int, Sequence[NativeFrame]] = {}  # what functions there are at addresses of stacks
        pid = process.GetProcessID()
        core = process.GetCoreFile().fullpath
        direct: ProcessMemory | CoreMemory | None = None
        if core:
            direct = CoreMemory(core)  # lldb reads no mapped files
        elif not core and is_own(pid):
            direct = ProcessMemory(pid)
        executable = target.GetExecutable()
        build_id = (target.FindModule(executable).GetUUIDString() or "").replace("-", "").lower()
        if isinstance(direct, CoreMemory):
            check_program("lldb", direct, executable.fullpath or "", build_id)
        version = lldb.SBDebugger.GetVersionString().split()[2]
        super().__init__(
            TargetInfo(
                os.path.realpath(executable.fullpath or ""), pid or None, not core, f"lldb {version}", build_id
            ),
            direct,
        )
        self._modules = target.GetNumModules()
        self._first = process.GetUniqueID()
        self._probe = self._an_address()

    def is_of(self, target: lldb.SBTarget, process: lldb.SBProcess) -> bool:
        """Whether this is still what the process is: not after an exec, whose old memory cannot be read any more."""
        if self._target != target or self._first != process.GetUniqueID():
            return False
        if target.GetNumModules() != self._modules:
            self._modules = target.GetNumModules()
            self.look_again()
        return not isinstance(self._direct, ProcessMemory) or bool(self._direct.read_some(self._probe, 1))

    def _an_address(self) -> int:
        if not isinstance(self._direct, ProcessMemory):
            return 0
        return next((region.start for region in self._direct.regions() if region.readable), 0)

    def _read_through(self, address: int, size: int) -> bytes:
        return bytes(self._process.ReadMemory(address, size, lldb.SBError()) or b"")

    def _find_regions(self) -> list[Region]:
        found = self._process.GetMemoryRegions()
        info = lldb.SBMemoryRegionInfo()
        regions = []
        for row in range(found.GetSize()):
            if found.GetMemoryRegionAtIndex(row, info) and info.IsMapped():
                start, end, path = info.GetRegionBase(), info.GetRegionEnd(), info.GetName() or ""
                offset = self._file_offset(start, end) if path.startswith("/") else 0
                readable, writable, executable = info.IsReadable(), info.IsWritable(), info.IsExecutable()
                regions.append(Region(start, end, readable, writable, executable, path, offset))
        return sorted(regions, key=lambda region: region.start)

    def _file_offset(self, start: int, end: int) -> int:
        # A segment may begin inside its first page, and end inside its last one.
        for address in (start, end - 1):
            place = self._target.ResolveLoadAddress(address)
            if place.GetSection().IsValid():
                return int(place.GetSection().GetFileOffset() + place.GetOffset() - (address - start))
        return 0

    def _find_address(self, symbol: str) -> int | None:
        function, _, static = symbol.partition("::")
        modules = list(_modules(self._target))
        if static:
            return next(filter(None, (self._static(module, function, static) for module in modules)), None)
        others = [module for module in modules if not _has_runtime(module)]
        own = self._symbol(modules[: len(modules) - len(others)], symbol)
        if own is None and symbol != RUNTIME:
            # A static that the linker's optimiser has moved has another name in the file than in the source.
            own = self.images().own_address(symbol)
        return own or self._symbol(others, symbol)

    def _symbol(self, modules: Iterable[lldb.SBModule], name: str) -> int | None:
        for module in modules:
            for context in module.FindSymbols(name):
                address = context.GetSymbol().GetStartAddress().GetLoadAddress(self._target)
                if address != _UNKNOWN:
                    return int(address)
        return None

    def _static(self, module: lldb.SBModule, function: str, name: str) -> int | None:
        # A variable inside a function.
        found = _function(module, function)
        for value in found.GetBlock().GetVariables(self._target, False, False, True) if found else ():
            if value.GetName() == name and value.GetLoadAddress() != _UNKNOWN:
                return int(value.GetLoadAddress())
        return None

    def _find_type(self, struct: str) -> LldbType | None:
        for module in _modules(self._target):
            first = module.FindFirstType(struct)
            if not first.IsValid():
                continue
            found = LldbType(first)
            if found.kind in ("struct", "union") and found.members():
                return found
            for type_ in module.FindTypes(struct):  # a typedef of something else has the same name
                found = LldbType(type_)
                if found.kind in ("struct", "union") and found.members():
                    return found
        return None

    def _selected_thread(self) -> int:
        return int(self._process.GetSelectedThread().GetThreadID())

    def _find_threads(self) -> list[NativeThread]:
        found = []
        for thread in self._process:
            frame = thread.GetFrameAtIndex(0)
            found.append(NativeThread(thread.GetThreadID(), frame.GetSP(), _register(frame, "fs_base")))
        return found

    def native_stack(self, thread: int | None = None, limit: int = 64) -> list[NativeCall]:
        found = self._process.GetThreadByID(thread) if thread is not None else self._process.GetSelectedThread()
        return _stack(found, limit)


def _modules(target: lldb.SBTarget) -> Iterator[lldb.SBModule]:
    # The interpreter's own file first: other libraries have a `collect` too.
    modules = list(target.module_iter())
    own = [module for module in modules if _has_runtime(module)]
    yield from own
    yield from (module for module in modules if module not in own)


def _has_runtime(module: lldb.SBModule) -> bool:
    return bool(module.FindSymbol(RUNTIME).IsValid())


def _function(module: lldb.SBModule, name: str) -> lldb.SBFunction | None:
    # The function of that name that has debug info.
    for context in module.FindFunctions(name, lldb.eFunctionNameTypeFull | lldb.eFunctionNameTypeBase):
        function = context.GetFunction()
        if function.IsValid() and function.GetName() == name:
            return function
    return None


def _register(frame: lldb.SBFrame, name: str) -> int:
    return int(frame.FindRegister(name).GetValueAsUnsigned()) if frame.IsValid() else 0


def _stack(thread: lldb.SBThread, limit: int) -> list[NativeCall]:
    return [NativeCall(_native(frame), frame.GetPC(), frame.GetSP()) for frame in _frames(thread, limit)]


def _frames(thread: lldb.SBThread, limit: int) -> Iterator[lldb.SBFrame]:
    for row in range(limit):
        frame = thread.GetFrameAtIndex(row)
        if not frame.IsValid():
            return
        yield frame


def _native(frame: lldb.SBFrame) -> NativeFrame:
    line = frame.GetLineEntry()
    file = line.GetFileSpec().fullpath if line.IsValid() else None
    return NativeFrame(frame.GetFunctionName() or "??", file, line.GetLine() if file else None)


class LldbChange(DebuggerChange):
    """One change of a watched word."""

    def __init__(self, target: LldbTarget, thread: lldb.SBThread) -> None:
        self._stopped = thread
        self._lldb = target
        super().__init__(target, _architecture(thread.GetProcess().GetTarget()))

    @property
    def thread(self) -> int:
        return int(self._stopped.GetThreadID())

    @cached_property
    def _registers(self) -> tuple[int, int, int]:
        frame = self._stopped.GetFrameAtIndex(0)
        return frame.GetPC(), frame.GetSP(), frame.GetFP()

    @property
    def thread_pointer(self) -> int:
        return _register(self._stopped.GetFrameAtIndex(0), "fs_base") if self._architecture == "x86-64" else 0

    def _line_at(self, address: int) -> tuple[str | None, int | None]:
        process = self._stopped.GetProcess()
        line = process.GetTarget().ResolveLoadAddress(address).GetLineEntry()
        return (line.GetFileSpec().fullpath, line.GetLine()) if line.IsValid() else (None, None)

    def places(self, limit: int) -> Mapping[int, Sequence[NativeFrame]]:
        # Not lldb's frames: where a function is inlined, they may lack the one that it is in.
        known = self._lldb.places
        found = {}
        for address in self.calls(limit):
            if address not in known:
                known[address] = self._written(address - 1, self._function_at(address - 1))
            found[address] = known[address]
        return found

    def _function_at(self, address: int) -> str:
        place = self._stopped.GetProcess().GetTarget().ResolveLoadAddress(address)
        context = place.GetSymbolContext(lldb.eSymbolContextFunction | lldb.eSymbolContextSymbol)
        return context.GetFunction().GetName() or context.GetSymbol().GetName() or "??"

    def _walk(self, limit: int) -> Sequence[Placed]:
        return [(frame.GetPC(), [_native(frame)]) for frame in _frames(self._stopped, limit)]


def _architecture(target: lldb.SBTarget) -> str:
    name = str(target.GetTriple().partition("-")[0])
    return _ARCHITECTURES.get(name, name)


class LldbHit(DebuggerHit):
    """One stop at a watched function."""

    def __init__(self, target: LldbTarget, frame: lldb.SBFrame, watch: LldbBreakpoint) -> None:
        self.target = target
        self._frame = frame
        thread = frame.GetThread()
        super().__init__(target, watch, thread.GetThreadID(), _architecture(thread.GetProcess().GetTarget()))

    def _register(self, name: str) -> int:
        if name in ("pc", "sp"):  # no register of that name has a value
            return int(self._frame.GetPC() if name == "pc" else self._frame.GetSP())
        return _register(self._frame, name)

    def callers(self, limit: int) -> Iterator[str]:
        thread = self._frame.GetThread()
        for row in range(limit):
            frame = thread.GetFrameAtIndex(row)
            if not frame.IsValid():
                return
            yield frame.GetFunctionName() or "??"


# lldb calls by name, with a number: what it means. Entries are removed with their breakpoint.
_numbers = count(1)
_breakpoints: dict[int, LldbBreakpoint] = {}
_watchpoints: dict[int, _Watch] = {}


class LldbBreakpoint(FunctionWatch):
    """A function watched at its entry, or at each of its return instructions, in whatever file is loaded next."""

    def __init__(
        self, session: LldbSession, target: lldb.SBTarget, functions: Sequence[str], on_hit: OnHit, where: Where
    ) -> None:
        super().__init__(session, functions, on_hit, where)
        self._lldb = session
        self._target = target
        self._number = next(_numbers)
        _breakpoints[self._number] = self
        told = lldb.SBStructuredData()
        told.SetFromJSON(json.dumps({"watch": self._number}))
        none = lldb.SBFileSpecList()
        self._stop = target.BreakpointCreateFromScript(f"{_HERE}.Resolver", told, none, none)
        self._stop.SetScriptCallbackFunction(f"{_HERE}.at_breakpoint", told)

    def place(self, stop: lldb.SBBreakpoint, module: lldb.SBModule) -> None:
        """Set it in the first of the functions that a newly loaded interpreter has."""
        if not _has_runtime(module):
            return
        for name in self._functions:
            if self._place_copies(stop, module, name):
                return
            function = _function(module, name)
            if function is None:
                continue
            self.function = name
            arguments = function.GetBlock().GetVariables(self._target, True, False, False)
            self.parameters = [value.GetName() for value in arguments]
            for address in [function.GetStartAddress()] if self._where == "entry" else self._returns(function):
                stop.AddLocation(address)
            return

    def _place_copies(self, stop: lldb.SBBreakpoint, module: lldb.SBModule, name: str) -> bool:
        runtime = module.FindSymbol(RUNTIME).GetStartAddress().GetFileAddress()
        if not self.find_copies(module.GetSymbolFileSpec().fullpath or module.GetFileSpec().fullpath, name):
            return False
        self.function = name
        for distance, copy in self.copies.items():
            start = module.ResolveFileAddress(runtime + distance)
            if self._where == "entry":
                stop.AddLocation(start)
            else:
                for address in self._returning(self._target.ReadInstructions(start, (copy.end - copy.place) // 2)):
                    if address.GetFileAddress() < runtime + distance + copy.end - copy.place:
                        stop.AddLocation(address)
        return True

    def _returns(self, function: lldb.SBFunction) -> list[lldb.SBAddress]:
        # The function's return instructions: where its result is known and its work done.
        return self._returning(function.GetInstructions(self._target))

    def _returning(self, instructions: lldb.SBInstructionList) -> list[lldb.SBAddress]:
        returning = convention(_architecture(self._target)).returning
        return [
            instruction.GetAddress()
            for instruction in instructions
            if instruction.GetMnemonic(self._target).startswith(returning)
        ]

    def hit(self, frame: lldb.SBFrame) -> bool:
        """Called by lldb at a stop; True keeps the program stopped."""
        thread = frame.GetThread()
        if self._lldb.seen_before((thread.GetThreadID(), frame.GetPC(), frame.GetSP())):
            return False
        target = self._lldb.at(thread.GetProcess())
        return self.reached(target, lambda: LldbHit(target, frame, self))

    @property
    def placed(self) -> bool:
        """Whether the function was found."""
        return any(place.GetLoadAddress() != _UNKNOWN or place.IsResolved() for place in self._stop) or (
            not self._target.GetProcess().IsValid() and self._stop.GetNumLocations() > 0
        )

    def delete(self) -> None:
        self._target.BreakpointDelete(self._stop.GetID())
        _breakpoints.pop(self._number, None)
        self._lldb.forget(self)


class Resolver:
    """Made by lldb for each breakpoint, and asked for each file that is loaded."""

    def __init__(self, stop: lldb.SBBreakpoint, told: lldb.SBStructuredData, _dict: object) -> None:
        self._stop = stop
        self._watch = _breakpoints.get(_watch_number(told))

    def __get_depth__(self) -> int:
        return int(lldb.eSearchDepthModule)

    def __callback__(self, context: lldb.SBSymbolContext) -> bool:
        if self._watch is not None:
            self._watch.place(self._stop, context.GetModule())
        return True

    def get_short_help(self) -> str:
        """What `breakpoint list` says."""
        return f"refdbg: {self._watch.function}" if self._watch is not None else "refdbg"


def _watch_number(told: lldb.SBStructuredData) -> int:
    return int(told.GetValueForKey("watch").GetUnsignedIntegerValue())


def at_breakpoint(
    frame: lldb.SBFrame, _location: object, told: lldb.SBStructuredData, names: dict[str, object]
) -> bool:
    """Called by lldb at a breakpoint; True keeps the program stopped."""
    watch = _breakpoints.get(_watch_number(told))
    stays = watch is not None and watch.hit(frame)
    _keep(names)
    return stays


def _keep(names: dict[str, object]) -> None:
    # lldb's own function around such a call copies back every name that there is afterwards, and fails (and stops the
    # program) for those that a watchpoint set meanwhile has added.
    for name, value in names.items():
        sys.modules["__main__"].__dict__.setdefault(name, value)


class _Watch:
    # A hardware watchpoint on one word.
    placed = True
    inlined = False

    def __init__(self, session: LldbSession, target: lldb.SBTarget, address: int, on_change: OnChange) -> None:
        self._session = session
        self._target = target
        self._word = WordWatch(session.target(), address, on_change)
        self.function = self._word.function
        error = lldb.SBError()
        self._stop = target.WatchAddress(address, 8, False, True, error)
        if not error.Success() or not self._stop.IsValid():
            raise MemoryFault(address, 8)
        self._number = self._stop.GetID()
        _watchpoints[self._number] = self
        session.execute(f"watchpoint command add -F {_HERE}.at_watchpoint {self._number}")

    def changed(self, frame: lldb.SBFrame) -> None:
        """Called by lldb."""
        thread = frame.GetThread()
        target = self._session.at(thread.GetProcess())
        self._word.changed(self._session, target, lambda: LldbChange(target, thread))
        if self._word.done:
            self._stop.SetEnabled(False)

    def delete(self) -> None:
        self._target.DeleteWatchpoint(self._number)
        _watchpoints.pop(self._number, None)


def at_watchpoint(frame: lldb.SBFrame, stop: lldb.SBWatchpoint, names: dict[str, object]) -> bool:
    """Called by lldb at a watchpoint; False lets the program run on."""
    watch = _watchpoints.get(stop.GetID())
    if watch is not None:
        watch.changed(frame)
    _keep(names)
    return False


class LldbConsole:
    """The answer of a command; between commands lldb's own output."""

    def __init__(self, debugger: lldb.SBDebugger) -> None:
        self.width = debugger.GetTerminalWidth() or 120
        self.colour = bool(debugger.GetUseColor()) and sys.stdout.isatty()
        self.answer: lldb.SBCommandReturnObject | None = None

    def write(self, text: str) -> None:
        print(printable(text), file=self.answer or sys.stdout, flush=True)

    refuse = write


class LldbSession(Reports):
    """The commands' view of lldb."""

    def __init__(self, debugger: lldb.SBDebugger) -> None:
        super().__init__()
        self._debugger = debugger
        self.console = LldbConsole(debugger)
        self.on_error: Callable[[str], None] = lambda text: print(f"refdbg: {text}", file=sys.stderr, flush=True)
        self._now: LldbTarget | None = None
        self._watches: list[LldbBreakpoint] = []
        # lldb looks names up among what its own scripts have imported.
        debugger.HandleCommand(f"script import {_HERE}")

    def execute(self, command: str) -> str:
        """What a command of lldb's answers."""
        result = lldb.SBCommandReturnObject()
        self._debugger.GetCommandInterpreter().HandleCommand(command, result)
        return str(result.GetOutput() or "")

    def target(self) -> LldbTarget:
        process = self._debugger.GetSelectedTarget().GetProcess()
        if not process.IsValid() or (process.GetState() not in _STOPPED and not (self.busy and process.is_alive)):
            raise NoProcess("no process is stopped here")
        return self.at(process)

    def at(self, process: lldb.SBProcess) -> LldbTarget:
        """The Target of a stopped process."""
        target = process.GetTarget()
        if self._now is None or not self._now.is_of(target, process):
            self._drop()
            self._now = LldbTarget(target, process)
        return self._now

    def _drop(self) -> None:
        if self._now is not None:
            self._now.close()
        self._now = None

    def evaluate(self, expression: str) -> int:
        try:
            return int(expression, 0)
        except ValueError:
            pass
        match = _EXPRESSION.match(_CASTS.sub("", expression))
        if match is None:
            raise CommandError(
                f"cannot evaluate {expression!r}: lldb would run code in the process for it",
                "Give an address, a variable or its member (obj, &PyDict_Type, self->ob_type, *item), or a register "
                "($rdi).",
            )
        value = self._variable(match["name"])
        if value is None and not match["path"]:
            try:
                return self.target().address_of(match["name"])
            except SymbolNotFound:
                pass
        if value is not None and match["path"]:
            value = value.GetValueForExpressionPath(match["path"])
        if value is not None and match["prefix"] == "*":
            value = value.Dereference()
        if value is None or not value.IsValid() or value.GetError().Fail():
            raise NotEvaluated(f"cannot evaluate {expression!r}: there is no such variable here")
        kind = LldbType(value.GetType()).kind
        if match["prefix"] == "&" or kind not in ("integer", "pointer"):
            return int(value.GetLoadAddress())  # `&PyDict_Type` and `PyDict_Type` mean the same object
        return int(value.GetValueAsUnsigned())

    def _variable(self, name: str) -> lldb.SBValue | None:
        # Of the selected frame, then of the program; a register.
        target = self._debugger.GetSelectedTarget()
        frame = target.GetProcess().GetSelectedThread().GetSelectedFrame()
        if name.startswith("$"):
            found = [frame.FindRegister(name[1:]), frame.FindValue(name, lldb.eValueTypeConstResult)]
        else:
            found = [frame.FindVariable(name)]
            for module in _modules(target):
                found += module.FindGlobalVariables(target, name, 1)
        return next((value for value in found if value.IsValid()), None)

    def break_on(self, functions: Sequence[str], on_hit: OnHit, where: Where = "entry") -> LldbBreakpoint:
        target = self._debugger.GetSelectedTarget()
        if not target.IsValid():
            raise NoProcess("no program is loaded here")
        if target.GetProcess().GetCoreFile().IsValid():
            raise NotLive("this is a core file: nothing runs in it, so nothing can be watched")
        watch = LldbBreakpoint(self, target, functions, on_hit, where)
        if not watch.placed and any(map(_has_runtime, target.module_iter())):
            watch.delete()
            raise SymbolNotFound(" / ".join(functions))
        self._watches.append(watch)
        return watch

    def forget(self, watch: LldbBreakpoint) -> None:
        """A breakpoint was deleted."""
        if watch in self._watches:
            self._watches.remove(watch)

    def watch_word(self, address: int, on_change: OnChange) -> _Watch | None:
        try:
            return _Watch(self, self._debugger.GetSelectedTarget(), address, on_change)
        except MemoryFault:
            return None

    def waiting(self) -> list[str]:
        return [watch.function for watch in self._watches if not watch.placed]

    def has_python(self) -> bool:
        return any(map(_has_runtime, self._debugger.GetSelectedTarget().module_iter()))

    def attach(self, pid: int) -> None:
        self._debugger.SetAsync(False)
        for setting in ("symbols.enable-external-lookup false", "target.preload-symbols false"):
            self.execute(f"settings set {setting}")
        error = lldb.SBError()
        target = self._debugger.CreateTarget("")
        process = target.Attach(lldb.SBAttachInfo(pid), error)
        if error.Fail():
            raise cannot_attach("lldb", pid, str(error))
        self._debugger.SetSelectedTarget(target)
        signals = process.GetUnixSignals()
        for row in range(signals.GetNumSignals()):
            number = signals.GetSignalAtIndex(row)
            stops = signals.GetSignalAsCString(number) in DEADLY
            signals.SetShouldStop(number, stops)
            signals.SetShouldNotify(number, stops)
            signals.SetShouldSuppress(number, False)

    def with_libraries(self) -> None:
        pass  # lldb reads each one's when it needs them

    def resume(self) -> Halt:
        process = self._debugger.GetSelectedTarget().GetProcess()
        while True:
            error = process.Continue()
            if error.Fail():
                raise NoProcess(f"lldb cannot let the program run on: {error}")
            if not process.is_alive:
                return Halt(ended=True)
            for thread in process:
                if thread.GetStopReason() == lldb.eStopReasonSignal:
                    number = thread.GetStopReasonDataAtIndex(0)
                    process.SetSelectedThread(thread)
                    name = process.GetUnixSignals().GetSignalAsCString(number)
                    return Halt(False, name, thread.GetThreadID())
                if thread.GetStopReason() == lldb.eStopReasonTrace:  # nothing was stepped
                    self.on_error("the program got a SIGTRAP that lldb cannot pass on: it goes on without. Use gdb")
            # exec: lldb looks for the breakpoints in the new program by itself


_sessions: dict[int, LldbSession] = {}  # by debugger
Run = Callable[[LldbSession, str], int]


@contextmanager
def _interruptible() -> Iterator[None]:
    # lldb's own handler only takes a note of Ctrl-C: Python's takes its place while a command runs. Python cannot put
    # back a handler that it has not made; sigaction(2) can.
    libc, handler = ctypes.CDLL(None), ctypes.create_string_buffer(_SIGACTION)
    libc.sigaction(signal.SIGINT, None, handler)
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    except ValueError:  # an editor runs the command in a thread of its own
        yield
        return
    try:
        yield
    finally:
        libc.sigaction(signal.SIGINT, handler, None)


class _Commands:
    # The commands' classes, which lldb looks up by their names in here.
    pass


class _Command:
    # One subcommand; lldb makes an instance for each debugger.
    words: str
    help: str
    run: Run
    explain: Callable[[list[str]], str]

    def __init__(self, debugger: lldb.SBDebugger, _dict: object) -> None:
        if debugger.GetID() not in _sessions:
            _sessions[debugger.GetID()] = LldbSession(debugger)
        self._session = _sessions[debugger.GetID()]

    def __call__(self, _debugger: object, line: str, _context: object, result: lldb.SBCommandReturnObject) -> None:
        console = self._session.console
        console.answer = result
        try:
            with _interruptible():
                status = type(self).run(self._session, f"{self.words} {line}")
        finally:
            console.answer = None
        if status:
            result.SetStatus(lldb.eReturnStatusFailed)

    def get_short_help(self) -> str:
        """What `help refdbg` says."""
        return self.help

    def get_long_help(self) -> str:
        """What `help refdbg COMMAND` says."""
        return type(self).explain(self.words.split())


def install(
    debugger: lldb.SBDebugger, run: Run, explain: Callable[[list[str]], str],
    subcommands: Sequence[tuple[tuple[str, ...], str]],
) -> None:
    """Add the command `refdbg`: *run(session, line)* executes a typed line, *explain(words)* is a subcommand's help.

    Each subcommand is a command of lldb's, in a container: only so lldb 19 completes their names.
    """
    debugger.HandleCommand(f"script import {_HERE}")
    groups = [words[: length] for words, _help in subcommands for length in range(len(words))]
    for words in sorted(set(groups), key=len):
        text = "What a CPython process collects, finalizes and leaves over."
        text = next((each for group, each in subcommands if group == words), text)
        name = " ".join(("refdbg", *words))
        debugger.HandleCommand(f'command container add -o -h "{text}" {name}')
    for words, text in subcommands:
        if words not in groups:
            name = "_".join(words)
            members = {
                "words": " ".join(words), "help": text, "run": staticmethod(run), "explain": staticmethod(explain),
            }
            setattr(_Commands, name, type(name, (_Command,), members))
            debugger.HandleCommand(
                f"command script add -o -c {_HERE}._Commands.{name} {' '.join(('refdbg', *words))}"
            )
