"""GDB as a Session. The only file that imports gdb; no gdb.Value leaves it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

import gdb
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
    check_running,
    convention,
    printable,
)
from refdbg.errors import NoProcess, NotEvaluated, NotLive, SymbolNotFound
from refdbg.target import (
    Console,
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
from refdbg.target.process import ProcessMemory, is_dying, registers

_ARCHITECTURES = {"i386:x86-64": "x86-64"}  # by gdb's name, where it is another one
_ANONYMOUS = (gdb.TYPE_CODE_STRUCT, gdb.TYPE_CODE_UNION)
_CORE_FILE = re.compile(r"core dump file:\s+`(.+)', file type")
# `info proc mappings`: start, end, size, offset, permissions (from gdb 12 on) and the file's path.
_MAPPING = re.compile(r"\s*0x(\w+)\s+0x(\w+)\s+0x\w+\s+0x(\w+)\s+([r-][w-][x-])[ps]\s*(.*)$")


_KINDS: dict[int, Kind] = {
    gdb.TYPE_CODE_STRUCT: "struct", gdb.TYPE_CODE_UNION: "union", gdb.TYPE_CODE_ARRAY: "array",
    gdb.TYPE_CODE_PTR: "pointer", gdb.TYPE_CODE_INT: "integer", gdb.TYPE_CODE_VOID: "void",
    gdb.TYPE_CODE_FUNC: "function",
}  # fmt: skip


class GdbType:
    """A gdb.Type."""

    def __init__(self, type_: gdb.Type) -> None:
        self._type = type_.strip_typedefs()
        self.alias: str = type_.name or ""
        self.kind: Kind = _KINDS.get(self._type.code, "other")
        self.name = self._type.tag or self.alias if self.kind in ("struct", "union") else self._type.name or self.alias
        self.size: int = self._type.sizeof
        self.signed = self.kind == "integer" and bool(getattr(self._type, "is_signed", False))

    @property
    def count(self) -> int:
        low, high = self._type.range()
        return max(int(high - low + 1), 0)

    def target(self) -> GdbType:
        return GdbType(self._type.target())

    def members(self) -> list[Member]:
        return [
            Member(member.name or "", member.bitpos, member.bitsize, GdbType(member.type))
            for member in self._type.fields()
            if hasattr(member, "bitpos")
        ]


class GdbTarget(Debugged):
    """The selected inferior: a live process through /proc, a core file, anything else through gdb's own reads."""

    def __init__(self, inferior: gdb.Inferior) -> None:
        self._inferior = inferior
        kind, self._connection = _connection(inferior)
        direct: ProcessMemory | CoreMemory | None = None
        if kind == "native":
            direct = ProcessMemory(inferior.pid)
        elif kind == "core":
            direct = CoreMemory(_core_file(), self._read_through)
        version = gdb.VERSION.split()[-1] if " " in gdb.VERSION else gdb.VERSION
        main = inferior.progspace.filename
        build_id = next((o.build_id or "" for o in gdb.objfiles() if o.filename == main), "")
        if isinstance(direct, CoreMemory):
            check_program("gdb", direct, main or "", build_id)
        elif kind == "native" and inferior.pid:
            check_running(inferior.pid, main or "", build_id)
        super().__init__(
            TargetInfo(main or "", inferior.pid or None, kind not in ("core", "none"), f"gdb {version}", build_id),
            direct,
        )
        self._debug_folder: str | None = None  # gdb's own setting, while it is changed

    @cached_property
    def architecture(self) -> str:
        """As `convention` has it."""
        return _architecture()

    def is_of(self, inferior: gdb.Inferior) -> bool:
        """Whether this is still what the inferior is: a process and its core files share a pid."""
        return self.info.pid == inferior.pid and self._connection == _connection(inferior)[1]

    def _read_through(self, address: int, size: int) -> bytes:
        try:
            return bytes(self._inferior.read_memory(address, size))
        except gdb.MemoryError:
            return b""

    def _find_regions(self) -> list[Region]:
        try:
            text = gdb.execute("info proc mappings", to_string=True)
        except gdb.error:
            return []  # a stub without files, an emulator
        regions = []
        for row in filter(None, map(_MAPPING.match, text.splitlines())):
            start, end, offset = (int(number, 16) for number in row.group(1, 2, 3))
            readable, writable, executable = (letter != "-" for letter in row[4])
            regions.append(Region(start, end, readable, writable, executable, row[5], offset))
        return regions

    def _find_address(self, symbol: str) -> int | None:
        # The debug info does not say where a static is that the linker's optimiser has moved; the file's symbols do.
        if symbol == RUNTIME or "::" in symbol:
            return _address_of(symbol)
        own = _own_symbol(symbol)
        found = _place(own) if own is not None else None
        return found or self.images().own_address(symbol) or _address_of(symbol)

    def _find_type(self, struct: str) -> GdbType | None:
        found = _type(struct)
        return None if found is None else GdbType(found)

    def spare_debug_info(self) -> None:
        """Read no library's separate debug info until `load_libraries`: libc's alone takes gdb 0.1 s."""
        self._debug_folder = str(gdb.parameter("debug-file-directory"))
        gdb.execute("set debug-file-directory", to_string=True)

    def load_libraries(self) -> None:
        """Read the symbols of the libraries, which an unattended run has spared itself."""
        if self._debug_folder is not None:
            gdb.execute(f"set debug-file-directory {self._debug_folder}", to_string=True)
            self._debug_folder = None
            gdb.execute("nosharedlibrary", to_string=True)  # those that were read without it are read again
        gdb.execute("sharedlibrary", to_string=True)

    def _selected_thread(self) -> int:
        selected = gdb.selected_thread()
        return int(selected.ptid[1] or selected.ptid[0]) if selected is not None else 0

    def _find_threads(self) -> list[NativeThread]:
        selected = gdb.selected_thread()
        found: list[NativeThread] = []
        try:
            for thread in self._inferior.threads():
                thread.switch()
                row = NativeThread(thread.ptid[1] or thread.ptid[0], _register_or_0("sp"), _register_or_0("fs_base"))
                found.append(row)
        finally:
            if selected is not None and selected.is_valid():
                selected.switch()
        return found

    def native_stack(self, thread: int | None = None, limit: int = 64) -> list[NativeCall]:
        selected = gdb.selected_thread()
        if thread is not None:
            found = next((each for each in self._inferior.threads() if thread == (each.ptid[1] or each.ptid[0])), None)
            if found is None:
                return []
            found.switch()
        try:
            return _stack(limit)
        finally:
            if thread is not None and selected is not None and selected.is_valid():
                selected.switch()


def _connection(inferior: gdb.Inferior) -> tuple[str, int]:
    # How gdb is connected to it ("native", "core", "remote", …; "none" where it is not), and the connection's number.
    connection = getattr(inferior, "connection", None)
    return (connection.type, connection.num) if connection is not None else ("none", 0)


def _core_file() -> str:
    match = _CORE_FILE.search(gdb.execute("info files", to_string=True))
    if match is None:
        raise NoProcess("gdb does not say which core file it reads")
    return match[1]


def _file(symtab: gdb.Symtab) -> str:
    # As every debugger has it: the compiler's folder, then the name that it was given.
    return os.path.normpath(str(symtab.fullname()))


def _stack(limit: int) -> list[NativeCall]:
    frames: list[NativeCall] = []
    try:
        frame = gdb.newest_frame()
        while frame is not None and len(frames) < limit:
            frames.append(NativeCall(_frame(frame), frame.pc(), int(frame.read_register("sp"))))
            frame = frame.older()
    except gdb.error:
        pass  # the unwinder gave up: the frames until there are the answer
    return frames


def _frame(frame: gdb.Frame) -> NativeFrame:
    where = frame.find_sal()
    file = _file(where.symtab) if where.symtab else None
    return NativeFrame(frame.name() or "??", file, where.line if file else None)


def _type(name: str) -> gdb.Type | None:
    for spelling in (name, f"struct {name}"):
        try:
            found = gdb.lookup_type(spelling).strip_typedefs()
        except gdb.error:
            continue
        if found.code in _ANONYMOUS and found.fields():
            return found
    return None


def _symbol(name: str) -> gdb.Symbol | None:
    # Statics of the interpreter's own file first: other libraries have a `collect` too.
    return _own_symbol(name) or gdb.lookup_global_symbol(name) or gdb.lookup_static_symbol(name)


def _own_symbol(name: str) -> gdb.Symbol | None:
    runtime = gdb.lookup_global_symbol(RUNTIME)
    if runtime is None:
        return None
    return runtime.symtab.objfile.lookup_global_symbol(name) or runtime.symtab.objfile.lookup_static_symbol(name)


def _place(symbol: gdb.Symbol) -> int | None:
    # Where a variable or function is, None where the debug info does not say.
    try:
        return int(symbol.value().address)
    except (gdb.error, AttributeError, TypeError):
        return None


def _address_of(name: str) -> int | None:
    try:
        symbol = _symbol(name) if "::" not in name else None
        if symbol is not None:
            return _place(symbol)
        return int(gdb.parse_and_eval(f"(unsigned long)&{name}"))
    except (gdb.error, AttributeError, TypeError):
        return None


class GdbHit(DebuggerHit):
    """One stop at a watched function."""

    def __init__(self, target: GdbTarget, watch: GdbBreakpoint) -> None:
        self.target = target
        ptid = gdb.selected_thread().ptid
        super().__init__(target, watch, int(ptid[1] or ptid[0]), _architecture())

    def _register(self, name: str) -> int:
        return _register(name)

    def callers(self, limit: int) -> Iterator[str]:
        try:
            frame = gdb.newest_frame()
            while frame is not None and limit > 0:
                yield frame.name() or "??"
                frame = frame.older()
                limit -= 1
        except gdb.error:
            pass  # the unwinder gave up


def _architecture() -> str:
    name = str(gdb.selected_inferior().architecture().name())
    return _ARCHITECTURES.get(name, name)


def _register_or_0(name: str) -> int:
    # 0 where it cannot be known: there is none of that name, the thread runs or has ended.
    try:
        return _register(name)
    except (gdb.error, ValueError):
        return 0


def _register(name: str) -> int:
    return int(gdb.newest_frame().read_register(name)) & 0xFFFF_FFFF_FFFF_FFFF


class _Stop(gdb.Breakpoint):  # type: ignore[misc]
    def __init__(self, watch: GdbBreakpoint, location: str) -> None:
        self._watch = watch
        super().__init__(location, internal=True)
        self.silent = True

    def stop(self) -> bool:
        return self._watch.hit()


class _Watch(gdb.Breakpoint):  # type: ignore[misc]
    # A hardware watchpoint on one word.
    placed = True
    inlined = False

    def __init__(self, session: GdbSession, address: int, on_change: OnChange) -> None:
        self._session = session
        self._word = WordWatch(session.target(), address, on_change)
        self.function = self._word.function
        super().__init__(f"*(unsigned long *) {address:#x}", gdb.BP_WATCHPOINT, gdb.WP_WRITE, internal=True)
        self.silent = True

    def stop(self) -> bool:
        target = self._session.target()
        self._word.changed(self._session, target, lambda: GdbChange(target))
        if self._word.done:
            self.enabled = False  # it costs the program no more time
        return False


class GdbChange(DebuggerChange):
    """One change of a watched word."""

    def __init__(self, target: GdbTarget) -> None:
        super().__init__(target, target.architecture)

    @property
    def thread(self) -> int:
        ptid = gdb.selected_thread().ptid
        return int(ptid[1] or ptid[0])

    @cached_property
    def _newest(self) -> gdb.Frame:
        return gdb.newest_frame()

    @cached_property
    def _registers(self) -> tuple[int, int, int]:
        if self._architecture == "x86-64" and self._target.is_local:
            known = registers(self.thread)
            if known is not None:
                return known
        frame = self._newest
        frame_pointer = int(frame.read_register("rbp")) if self._architecture == "x86-64" else 0
        return frame.pc(), int(frame.read_register("sp")), frame_pointer

    @property
    def thread_pointer(self) -> int:
        return _register_or_0("fs_base") if self._architecture == "x86-64" else 0

    def _line_at(self, address: int) -> tuple[str | None, int | None]:
        where = gdb.find_pc_line(address)
        return (_file(where.symtab), where.line) if where.symtab else (None, None)

    def _walk(self, limit: int) -> Sequence[Placed]:
        placed: list[Placed] = []
        try:
            frame = self._newest
            inner: list[NativeFrame] = []
            while frame is not None and len(placed) < limit:
                inner.append(_frame(frame))
                if frame.type() != gdb.INLINE_FRAME:
                    placed.append((frame.pc(), inner))
                    inner = []
                frame = frame.older()
        except gdb.error:
            pass  # the unwinder gave up
        return placed


class GdbBreakpoint(FunctionWatch):
    """A function watched at its entry, or at each of its return instructions."""

    def __init__(self, session: GdbSession, functions: Sequence[str], on_hit: OnHit, where: Where) -> None:
        super().__init__(session, functions, on_hit, where)
        self._gdb = session
        self._stops: list[_Stop] = []
        self.place()

    def place(self) -> bool:
        """Set the breakpoint in the first function that exists; False when there is none (yet)."""
        for name in self._functions:
            if self._place_copies(name):
                return True
            symbol = _symbol(name)
            if symbol is None or not symbol.is_function:
                continue
            start = int(symbol.value().address)
            block = gdb.block_for_pc(start)
            while block.function is None and block.superblock is not None:
                block = block.superblock
            self.function = name
            self.parameters = [argument.name for argument in block if argument.is_argument]
            # An expression, not a number: gdb computes it again when the program is relocated.
            base = f"(char *) '{symbol.symtab.filename}'::{name}"
            offsets = [0] if self._where == "entry" else _returns(start, block.end)
            self._stops = [_Stop(self, f"*({base} + {offset})") for offset in offsets]
            return True
        return False

    def _place_copies(self, name: str) -> bool:
        runtime = gdb.lookup_global_symbol(RUNTIME)
        if runtime is None or not self.find_copies(runtime.symtab.objfile.filename, name):
            return False
        self.function = name
        base = f"(char *) &{RUNTIME}"
        for distance, copy in self.copies.items():
            if self._where == "entry":
                self._stops.append(_Stop(self, f"*({base} + {distance})"))
            else:
                start = int(runtime.value().address) + distance
                self._stops += [
                    _Stop(self, f"*({base} + {distance + offset})")
                    for offset in _returns(start, start + copy.end - copy.place)
                ]
        return True

    def hit(self) -> bool:
        """Called by gdb at a stop; True keeps the program stopped."""
        frame = gdb.newest_frame()
        if self._gdb.seen_before((gdb.selected_thread().ptid, frame.pc(), int(frame.read_register("sp")))):
            return False
        target = self._gdb.target()
        return self.reached(target, lambda: GdbHit(target, self))

    def remove(self) -> None:
        """Take the breakpoints out; `place` sets them again."""
        for stop in self._stops:
            if stop.is_valid():
                stop.delete()
        self._stops = []

    @property
    def placed(self) -> bool:
        """Whether the function was found."""
        return bool(self._stops)

    def delete(self) -> None:
        self.remove()
        self._gdb.forget(self)


def _returns(start: int, end: int) -> list[int]:
    # Offsets of the function's return instructions: where its result is known and its work done.
    code = gdb.selected_inferior().architecture().disassemble(start, end - 1)
    mnemonic = convention(_architecture()).returning
    return [int(line["addr"]) - start for line in code if line["asm"].split()[0].startswith(mnemonic)]


class GdbConsole:
    """gdb's own output."""

    def __init__(self) -> None:
        self.width = int(gdb.parameter("width") or 0) or 120
        self.colour = bool(gdb.parameter("style enabled")) and sys.stdout.isatty()

    def write(self, text: str) -> None:
        gdb.write(printable(text) + "\n")

    refuse = write


class GdbSession(Reports):
    """The commands' view of gdb."""

    def __init__(self) -> None:
        super().__init__()
        self.console: Console = GdbConsole()
        self.on_error: Callable[[str], None] = lambda text: gdb.write(f"refdbg: {text}\n", gdb.STDERR)
        self._target: GdbTarget | None = None
        self._breakpoints: list[GdbBreakpoint] = []
        self._waiting: list[GdbBreakpoint] = []
        self._signal: str | None = None
        self._reads_libraries = True
        gdb.events.new_objfile.connect(self._new_file)
        gdb.events.clear_objfiles.connect(self._another_program)
        gdb.events.exited.connect(lambda _event: self._drop())

    def target(self) -> GdbTarget:
        inferior = gdb.selected_inferior()
        if not inferior.pid or not inferior.threads():
            raise NoProcess("no process is stopped here")
        if self._target is None or not self._target.is_of(inferior):
            self._drop()
            self._target = GdbTarget(inferior)
        return self._target

    def evaluate(self, expression: str) -> int:
        try:
            return int(expression, 0)
        except ValueError:
            pass
        try:
            value = gdb.parse_and_eval(expression)
            if value.type.strip_typedefs().code in (*_ANONYMOUS, gdb.TYPE_CODE_FUNC):
                value = value.address  # `&PyDict_Type` and `PyDict_Type` mean the same object
            return int(value)
        except (gdb.error, TypeError) as error:
            raise NotEvaluated(f"cannot evaluate {expression!r}: {error}") from error

    def break_on(self, functions: Sequence[str], on_hit: OnHit, where: Where = "entry") -> GdbBreakpoint:
        if _connection(gdb.selected_inferior())[0] == "core":
            raise NotLive("this is a core file: nothing runs in it, so nothing can be watched")
        watch = GdbBreakpoint(self, functions, on_hit, where)
        if not watch.placed:
            if gdb.lookup_global_symbol(RUNTIME) is not None:
                raise SymbolNotFound(" / ".join(functions))
            self._waiting.append(watch)  # libpython is not loaded yet
        self._breakpoints.append(watch)
        return watch

    def forget(self, watch: GdbBreakpoint) -> None:
        """A breakpoint was deleted."""
        for watches in (self._breakpoints, self._waiting):
            if watch in watches:
                watches.remove(watch)

    def watch_word(self, address: int, on_change: OnChange) -> _Watch | None:
        try:
            watch = _Watch(self, address, on_change)
        except (gdb.error, RuntimeError):
            return None
        if watch.type != gdb.BP_HARDWARE_WATCHPOINT:
            watch.delete()
            return None
        return watch

    def waiting(self) -> list[str]:
        return [watch.function for watch in self._waiting]

    def has_python(self) -> bool:
        try:  # the linker's symbol is enough: a Python without debug info must not look like no Python
            gdb.parse_and_eval(f"(unsigned long)&{RUNTIME}")
        except gdb.error:
            return False
        return True

    def attach(self, pid: int) -> None:
        for setting in (
            "confirm off", "pagination off", "auto-load no", "auto-solib-add off", "debuginfod enabled off",
            "print thread-events off", "print inferior-events off", "exec-file-mismatch off", "width 0",
        ):
            gdb.execute(f"set {setting}", to_string=True)
        gdb.execute("handle all nostop noprint pass", to_string=True)
        gdb.execute("handle SIGINT nostop noprint pass", to_string=True)
        gdb.execute(f"handle {' '.join(DEADLY)} stop print pass", to_string=True)
        try:
            gdb.execute(f"attach {pid}", to_string=True)
        except gdb.error as error:
            raise cannot_attach("gdb", pid, str(error)) from error
        self._reads_libraries = False
        if self.has_python():
            self.target().spare_debug_info()
        else:
            # A shared-library build, or a program that will exec Python: look at each library as it comes.
            self._read_libraries()

    def with_libraries(self) -> None:
        self.target().load_libraries()
        self._read_libraries()

    def _read_libraries(self) -> None:
        if not self._reads_libraries:
            gdb.execute("set auto-solib-add on", to_string=True)
            self._reads_libraries = True

    def resume(self) -> Halt:
        stops: list[gdb.StopEvent] = []
        keep = stops.append  # one object: gdb disconnects by identity
        gdb.events.stop.connect(keep)
        try:
            # Never `handle SIGTRAP pass`: gdb would deliver its own breakpoints' traps.
            gdb.execute("signal SIGTRAP" if self._signal == "SIGTRAP" else "continue", to_string=True)
        except gdb.error as error:
            # A thread that it lets run may end all of them before it comes to the next one: `No such process`.
            if not is_dying(gdb.selected_inferior().pid):
                raise NoProcess(f"gdb cannot let the program run on: {error}") from error
            return Halt(ended=True)
        finally:
            gdb.events.stop.disconnect(keep)
        self._signal = None
        if not gdb.selected_inferior().pid:
            return Halt(ended=True)
        if stops and not isinstance(stops[-1], gdb.BreakpointEvent):
            # A SIGTRAP that is none of gdb's own comes as a bare StopEvent.
            self._signal = getattr(stops[-1], "stop_signal", "SIGTRAP")
            if self._signal != "SIGTRAP":
                self.target().load_libraries()  # the C stack needs every library's symbols
        ptid = gdb.selected_thread().ptid
        return Halt(False, self._signal, ptid[1] or ptid[0])

    def _drop(self) -> None:
        if self._target is not None:
            self._target.close()
        self._target = None

    def _another_program(self, _event: gdb.ClearObjFilesEvent) -> None:
        # exec: instruction offsets of the old program would damage the new one, whose CPython may be a library.
        self._drop()
        self._read_libraries()
        for watch in self._breakpoints:
            watch.remove()
        self._waiting = list(self._breakpoints)

    def _new_file(self, _event: gdb.NewObjFileEvent) -> None:
        if self._target is not None:
            self._target.look_again()
        if self._waiting and gdb.lookup_global_symbol(RUNTIME) is not None:
            self._waiting = [watch for watch in self._waiting if not watch.place()]


class _Command(gdb.Command):  # type: ignore[misc]
    """What a CPython process collects, finalizes and leaves over – and why. `refdbg help` lists the commands."""

    def __init__(self, session: GdbSession, run: Run, complete: Complete) -> None:
        self._session = session
        self._run = run
        self._candidates = complete
        super().__init__("refdbg", gdb.COMMAND_USER)

    def invoke(self, line: str, _from_tty: bool) -> None:
        self.dont_repeat()
        self._run(self._session, line)

    def complete(self, line: str, word: str | None) -> object:
        """Called by gdb; *word* is what gdb takes for the last word: it may begin inside ours."""
        found = self._candidates(self._session, line)
        if not found:
            return gdb.COMPLETE_EXPRESSION
        own = "" if line[-1:].isspace() else line.split()[-1] if line else ""
        return [each[len(own) - len(own if word is None else word) :] for each in found]


Run = Callable[[GdbSession, str], int]
Complete = Callable[[GdbSession, str], "list[str]"]


def install(run: Run, complete: Complete) -> GdbSession:
    """Add the command `refdbg`: *run(session, line)* executes a typed line, *complete* has what may follow in one."""
    session = GdbSession()
    _Command(session, run, complete)
    return session
