"""GDB as a Session. The only file that imports gdb; no gdb.Value leaves it."""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import gdb
from refdbg.errors import CommandError, LayoutNotFound, NoProcess, NotLive, RefdbgError, SymbolNotFound
from refdbg.target import (
    Console,
    Halt,
    NativeFrame,
    OnChange,
    OnHit,
    PointedStruct,
    Pointer,
    Symbol,
    TargetInfo,
    Variable,
    Where,
)
from refdbg.target.layout import Field, StructLayout
from refdbg.target.memory import Memory, Region
from refdbg.target.process import CoreMemory, ProcessMemory

# The integer argument registers and the result register, by the architecture's name in gdb
# (System V psABI; Procedure Call Standard for the Arm 64-bit Architecture).
_REGISTERS = {
    "i386:x86-64": (("rdi", "rsi", "rdx", "rcx", "r8", "r9"), "rax", "ret"),
    "aarch64": (("x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7"), "x0", "ret"),
}
_DEADLY = ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGFPE", "SIGILL", "SIGSYS")
_ANONYMOUS = (gdb.TYPE_CODE_STRUCT, gdb.TYPE_CODE_UNION)
_NUMBERED = re.compile(r"(?P<name>.+)\.\d+$")  # how compilers keep the statics of functions of one name apart
_POINTER_NUMBERS = ("uintptr_t", "intptr_t")
_POINTERS_LIMIT = 1 << 16
_CHANGE_FRAMES = 14  # of the C stack that has changed a word: freeing alone takes half a dozen
_CORE_FILE = re.compile(r"core dump file:\s+`(.+)', file type")
_SYMBOL_TEXT = re.compile(r"(?P<name>.+?)(?: \+ (?P<offset>\d+))? in section \S+(?: of (?P<file>.+))?$")


def _layout_of(name: str, type_: gdb.Type) -> StructLayout:
    fields: dict[str, Field] = {}

    def add(struct: gdb.Type, base: int) -> None:
        for member in struct.fields():
            if not hasattr(member, "bitpos"):
                continue
            kind = member.type.strip_typedefs()
            offset = base + member.bitpos // 8
            if not member.name and kind.code in _ANONYMOUS:
                add(kind, offset)
                continue
            count = 1
            while kind.code == gdb.TYPE_CODE_ARRAY:
                low, high = kind.range()
                count *= max(high - low + 1, 0)
                kind = kind.target().strip_typedefs()
            bit_offset = 0
            if member.bitsize:
                offset = base + member.bitpos // 8 // kind.sizeof * kind.sizeof
                bit_offset = member.bitpos - (offset - base) * 8
            inner: Callable[[], StructLayout] | None = None
            if kind.code in _ANONYMOUS:
                inner = _later(kind)
            signed = kind.code == gdb.TYPE_CODE_INT and bool(getattr(kind, "is_signed", False))
            fields.setdefault(
                member.name,
                Field(member.name, offset, kind.sizeof, signed, count, bit_offset, member.bitsize, inner),
            )

    add(type_, 0)
    return StructLayout(name, type_.sizeof, fields, "debug info")


def _later(kind: gdb.Type) -> Callable[[], StructLayout]:
    return lambda: _layout_of(kind.name or "(anonymous)", kind)


class GdbTarget:
    """The selected inferior: a live process through /proc, a core file, anything else through gdb's own reads."""

    def __init__(self, inferior: gdb.Inferior) -> None:
        self._inferior = inferior
        kind, self._connection = _connection(inferior)
        self._process = ProcessMemory(inferior.pid) if kind == "native" else None
        self._core = CoreMemory(_core_file(), self._read_through_gdb) if kind == "core" else None
        direct = self._process or self._core
        self.info = TargetInfo(
            inferior.progspace.filename or "", inferior.pid or None, kind not in ("core", "none"),
            f"gdb {gdb.VERSION.split()[-1] if ' ' in gdb.VERSION else gdb.VERSION}",
            next((o.build_id or "" for o in gdb.objfiles() if o.filename == inferior.progspace.filename), ""),
        )
        self.memory = Memory(direct.read_some if direct else self._read_through_gdb)
        self._layouts: dict[str, StructLayout | None] = {}  # None: asked for and not there
        self._addresses: dict[str, int | None] = {}
        self._structs: dict[int, tuple[PointedStruct, ...]] = {}
        self._debug_folder: str | None = None  # gdb's own setting, while it is changed

    def is_of(self, inferior: gdb.Inferior) -> bool:
        """Whether this is still what the inferior is: a process and its core files share a pid."""
        return self.info.pid == inferior.pid and self._connection == _connection(inferior)[1]

    def look_again(self) -> None:
        """A file was loaded: what was not found before may be in it."""
        self._layouts = {name: layout for name, layout in self._layouts.items() if layout is not None}
        self._addresses = {name: address for name, address in self._addresses.items() if address is not None}

    def close(self) -> None:
        """The process is gone."""
        direct = self._process or self._core
        if direct is not None:
            direct.close()

    def _read_through_gdb(self, address: int, size: int) -> bytes:
        try:
            return bytes(self._inferior.read_memory(address, size))
        except gdb.MemoryError:
            return b""

    def regions(self) -> list[Region]:
        direct = self._process or self._core
        return direct.regions() if direct else []

    def resident(self, start: int, end: int) -> list[tuple[int, int]]:
        """The parts of [start, end) that reading does not fault in."""
        return list(self._process.resident(start, end)) if self._process else [(start, end)]

    def address_of(self, symbol: str) -> int:
        if symbol not in self._addresses:
            self._addresses[symbol] = _address_of(symbol)
        address = self._addresses[symbol]
        if address is None:
            raise SymbolNotFound(symbol)
        return address

    def layout(self, struct: str) -> StructLayout:
        if struct not in self._layouts:
            found = _type(struct)
            self._layouts[struct] = None if found is None else _layout_of(struct, found)
        layout = self._layouts[struct]
        if layout is None:
            raise LayoutNotFound(f"no debug info describes the struct {struct}")
        return layout

    def symbol_at(self, address: int) -> Symbol | None:
        match = _SYMBOL_TEXT.match(gdb.execute(f"info symbol {address:#x}", to_string=True).strip())
        if match is None:
            return None
        return Symbol(match["name"], int(match["offset"] or 0), match["file"] or self.info.executable)

    def variable(self, symbol: Symbol) -> Variable | None:
        for objfile in self._objfiles(symbol.library):
            found = objfile.lookup_static_symbol(symbol.name) or objfile.lookup_global_symbol(symbol.name)
            if found is not None and found.symtab is not None:
                return Variable(symbol.name + _member(found.type, symbol.offset), found.symtab.filename, found.line)
            inner = _function_static(objfile, symbol.name, symbol.start)
            if inner is not None:
                found, function = inner
                path = found.name + _member(found.type, symbol.offset)
                return Variable(path, found.symtab.filename, found.line, function)
        return None

    def structs_of(self, function: int) -> tuple[PointedStruct, ...]:
        found = self._structs.get(function)
        if found is None:
            if gdb.block_for_pc(function) is None:
                self._load_library_at(function)
            try:
                found = _structs_of(function)
            except gdb.error:  # debug info that gdb cannot read
                found = ()
            self._structs[function] = found
        return found

    def _load_library_at(self, address: int) -> None:
        # An unattended run does not load the symbols of each library.
        for region in self.regions():
            if region.start <= address < region.end and region.path.startswith("/"):
                self._objfiles(region.path.rsplit("/", 1)[-1])

    def _objfiles(self, library: str) -> list[gdb.Objfile]:
        def loaded() -> list[gdb.Objfile]:
            return [o for o in gdb.objfiles() if o.filename and o.filename.rsplit("/", 1)[-1] == library]

        if not loaded():  # an unattended run does not load the symbols of each library
            self.load_libraries(re.escape(library))
        return loaded()

    def spare_debug_info(self) -> None:
        """Read no library's separate debug info until `load_libraries`: libc's alone takes gdb 0.1 s."""
        self._debug_folder = str(gdb.parameter("debug-file-directory"))
        gdb.execute("set debug-file-directory", to_string=True)

    def load_libraries(self, pattern: str = "") -> None:
        """Read the symbols of the libraries that match, which an unattended run has spared itself."""
        if self._debug_folder is not None:
            gdb.execute(f"set debug-file-directory {self._debug_folder}", to_string=True)
            self._debug_folder = None
            if not pattern:  # those that were read without it are read again
                gdb.execute("nosharedlibrary", to_string=True)
        gdb.execute(f"sharedlibrary {pattern}", to_string=True)

    def native_threads(self) -> list[int]:
        return sorted(thread.ptid[1] or thread.ptid[0] for thread in self._inferior.threads())

    def thread_pointer(self) -> int:
        try:
            return _register("fs_base")
        except (gdb.error, ValueError):
            return 0

    def stack_pointers(self) -> list[int]:
        selected = gdb.selected_thread()
        found = []
        try:
            for thread in self._inferior.threads():
                thread.switch()
                found.append(_register("sp"))
        except (gdb.error, ValueError):
            return []
        finally:
            if selected is not None and selected.is_valid():
                selected.switch()
        return found

    def cpu_seconds(self, thread: int) -> float | None:
        return self._process.cpu_seconds(thread) if self._process else None

    def native_frames(self, thread: int | None = None, limit: int = 64) -> list[NativeFrame]:
        selected = gdb.selected_thread()
        if thread is not None:
            for candidate in self._inferior.threads():
                if thread in candidate.ptid[:2]:
                    candidate.switch()
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


def _member(type_: gdb.Type, offset: int) -> str:
    # The path of the member at a byte offset: "[2].func".
    type_ = type_.strip_typedefs()
    if type_.code == gdb.TYPE_CODE_ARRAY:
        element = type_.target().strip_typedefs()
        index = offset // max(element.sizeof, 1)
        return f"[{index}]" + _member(element, offset - index * element.sizeof)
    if type_.code in _ANONYMOUS:
        for member in type_.fields():
            start = getattr(member, "bitpos", -1) // 8
            if 0 <= start <= offset < start + member.type.strip_typedefs().sizeof:
                name = f".{member.name}" if member.name else ""
                return name + _member(member.type, offset - start)
    return f"+{offset}" if offset else ""


def _structs_of(function: int) -> tuple[PointedStruct, ...]:
    block = gdb.block_for_pc(function)
    while block is not None and block.function is None:
        block = block.superblock
    found = []
    for symbol in sorted(block or (), key=lambda symbol: not symbol.is_argument):
        if not (symbol.is_argument or symbol.is_variable):
            continue
        type_ = symbol.type.strip_typedefs()
        if type_.code == gdb.TYPE_CODE_PTR:
            heads = _heads(type_.target())
            struct = type_.target().strip_typedefs()
            if heads:
                found.append(PointedStruct(struct.sizeof, heads, _later_pointers(struct)))
    return tuple(found)


def _heads(type_: gdb.Type) -> tuple[str, ...]:
    # The names of a struct and of those that it begins with; none for what is no struct, or not known inside.
    names: list[str] = []
    while True:
        struct = type_.strip_typedefs()
        if struct.code != gdb.TYPE_CODE_STRUCT or not struct.fields():
            return tuple(names)
        names.append(struct.tag or type_.name or "")
        type_ = struct.fields()[0].type


def _later_pointers(struct: gdb.Type) -> Callable[[], dict[int, Pointer]]:
    def pointers() -> dict[int, Pointer]:
        found: dict[int, Pointer] = {}
        for offset, pointer in islice(_pointers(struct, 0, ""), _POINTERS_LIMIT):
            known = found.get(offset)  # of a union's members the best known one
            if known is None or len(pointer.heads) > len(known.heads):
                found[offset] = pointer
        return found

    return pointers


def _pointers(type_: gdb.Type, offset: int, path: str) -> Iterator[tuple[int, Pointer]]:
    kind = type_.strip_typedefs()
    if kind.code == gdb.TYPE_CODE_ARRAY:
        element = kind.target()
        inner = list(_pointers(element, 0, ""))
        low, high = kind.range() if inner else (0, -1)
        for index in range(high - low + 1):
            for start, pointer in inner:
                path_ = f"{path}[{index}]{pointer.path}"
                yield offset + index * element.sizeof + start, Pointer(path_, pointer.heads)
    elif kind.code in _ANONYMOUS:
        for member in kind.fields():
            if hasattr(member, "bitpos") and not member.bitsize:
                name = f".{member.name}" if member.name else ""
                yield from _pointers(member.type, offset + member.bitpos // 8, path + name)
    elif kind.code == gdb.TYPE_CODE_PTR:
        target = kind.target().strip_typedefs()
        if target.code in (gdb.TYPE_CODE_VOID, *_ANONYMOUS):
            yield offset, Pointer(path, _heads(kind.target()))
    elif type_.name in _POINTER_NUMBERS:
        yield offset, Pointer(path, ())


def _stack(limit: int) -> list[NativeFrame]:
    frames: list[NativeFrame] = []
    try:
        frame = gdb.newest_frame()
        while frame is not None and len(frames) < limit:
            where = frame.find_sal()
            file = where.symtab.filename if where.symtab else None
            frames.append(NativeFrame(frame.name() or "??", file, where.line if file else None))
            frame = frame.older()
    except gdb.error:
        pass  # the unwinder gave up: the frames until there are the answer
    return frames


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
    runtime = gdb.lookup_global_symbol("_PyRuntime")
    if runtime is not None:
        found = runtime.symtab.objfile.lookup_global_symbol(name) or runtime.symtab.objfile.lookup_static_symbol(name)
        if found is not None:
            return found
    return gdb.lookup_global_symbol(name) or gdb.lookup_static_symbol(name)


def _address_of(name: str) -> int | None:
    try:
        symbol = _symbol(name) if "::" not in name else None
        if symbol is not None:
            return int(symbol.value().address)
        return int(gdb.parse_and_eval(f"(unsigned long)&{name}"))
    except (gdb.error, AttributeError, TypeError):
        return None


class GdbHit:
    """One stop at a watched function."""

    def __init__(self, target: GdbTarget, function: str, parameters: Sequence[str]) -> None:
        self.target = target
        self.function = function
        self.parameters = parameters
        ptid = gdb.selected_thread().ptid
        self.thread = int(ptid[1] or ptid[0])

    def argument(self, name: str) -> int:
        registers, _, _ = _convention()
        if name not in self.parameters or self.parameters.index(name) >= len(registers):
            raise LayoutNotFound(f"{self.function} has no parameter {name!r}")
        return _register(registers[self.parameters.index(name)])

    def callers(self, limit: int) -> Iterator[str]:
        try:
            frame = gdb.newest_frame()
            while frame is not None and limit > 0:
                yield frame.name() or "??"
                frame = frame.older()
                limit -= 1
        except gdb.error:
            pass  # the unwinder gave up

    def result(self) -> int:
        value = _register(_convention()[1])
        return value - (1 << 64) if value >> 63 else value


def _convention() -> tuple[tuple[str, ...], str, str]:
    name = gdb.selected_inferior().architecture().name()
    if name not in _REGISTERS:
        raise RefdbgError(f"refdbg does not know the calling convention of {name}", "x86-64 and AArch64 are supported.")
    return _REGISTERS[name]


def _register(name: str) -> int:
    return int(gdb.newest_frame().read_register(name)) & 0xFFFF_FFFF_FFFF_FFFF


def _function_static(objfile: gdb.Objfile, symbol: str, address: int) -> tuple[gdb.Symbol, str] | None:
    """The variable that starts at *address*, which the linker calls *symbol*, and the function that it is in."""
    numbered = _NUMBERED.match(symbol)
    if numbered is None:
        return None
    for file in _files(objfile, symbol):
        try:
            places = gdb.decode_line(f"'{file}':1")[1] or ()
        except gdb.error:  # no debug info
            continue
        for place in places:
            if place.symtab is None or place.symtab.objfile.filename != objfile.filename:
                continue
            for found, function in _statics(place.symtab, numbered["name"]):
                if int(found.value().address) == address:
                    return found, function
    return None


def _files(objfile: gdb.Objfile, symbol: str) -> list[str]:
    # The source files with such a symbol: the linker's own table tells, where gdb's does not go into functions.
    text = gdb.execute(f"maintenance print msymbols -objfile {objfile.filename}", to_string=True)
    return list(dict.fromkeys(re.findall(rf" {re.escape(symbol)} section \S+ .*?(\S+)$", text, re.MULTILINE)))


def _statics(symtab: gdb.Symtab, name: str) -> Iterator[tuple[gdb.Symbol, str]]:
    # Those of the name in the functions of one file, and in the blocks in these.
    seen = set()
    for entry in symtab.linetable():
        block = gdb.block_for_pc(entry.pc)
        while block is not None and not block.is_static and not block.is_global:
            if (block.start, block.end) in seen:
                break
            seen.add((block.start, block.end))
            for found in block:
                if found.name == name and found.addr_class == gdb.SYMBOL_LOC_STATIC:
                    yield found, _function(block)
            block = block.superblock


def _function(block: gdb.Block) -> str:
    while block is not None and block.function is None:
        block = block.superblock
    return str(block.function.name) if block is not None else ""


class _Stop(gdb.Breakpoint):  # type: ignore[misc]
    def __init__(self, watch: GdbBreakpoint, location: str) -> None:
        self._watch = watch
        super().__init__(location, internal=True)
        self.silent = True

    def stop(self) -> bool:
        return self._watch.hit()


class _Watch(gdb.Breakpoint):  # type: ignore[misc]
    # A hardware watchpoint on one word; silent from the change on whose report asks for no more.
    def __init__(self, session: GdbSession, address: int, on_change: OnChange) -> None:
        self._session = session
        self._on_change = on_change
        self._address = address
        self._done = False
        self._old = session.target().memory.integer(address, 8)
        self.function = f"*{address:#x}"
        super().__init__(f"*(unsigned long *) {address:#x}", gdb.BP_WATCHPOINT, gdb.WP_WRITE, internal=True)
        self.silent = True

    def stop(self) -> bool:
        target = self._session.target()
        target.memory.forget()
        try:
            word = target.memory.u64(self._address)
            if not self._done and word != self._old:
                self._old = word
                self._done = not self._on_change(target.native_frames(limit=_CHANGE_FRAMES))
        except (gdb.error, RefdbgError) as error:
            self._session.on_error(f"at a watchpoint: {error}")
        return False


class GdbBreakpoint:
    """A function watched at its entry, or at each of its return instructions."""

    def __init__(self, session: GdbSession, functions: Sequence[str], on_hit: OnHit, where: Where) -> None:
        self._session = session
        self._functions = functions
        self._on_hit = on_hit
        self._where = where
        self._stops: list[_Stop] = []
        self.parameters: list[str] = []
        self.function = functions[0]
        self.place()

    def place(self) -> bool:
        """Set the breakpoint in the first function that exists; False when there is none (yet)."""
        for name in self._functions:
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

    def hit(self) -> bool:
        """Called by gdb at a stop; True keeps the program stopped."""
        if self._session.seen_before():
            return False
        self._session.busy = True
        try:
            target = self._session.target()
            target.memory.forget()
            return self._on_hit(GdbHit(target, self.function, self.parameters))
        except KeyboardInterrupt:
            self._session.on_error(f"interrupted at {self.function}")
        except RefdbgError as error:
            self._session.on_error(f"at {self.function}: {error.text()}")
        except Exception:  # a defect of ours: say so, never disturb the program
            self._session.on_error(f"refdbg failed at {self.function}:\n{traceback.format_exc()}")
        finally:
            self._session.busy = False
        return False

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
        self._session.forget(self)


def _returns(start: int, end: int) -> list[int]:
    # Offsets of the function's return instructions: where its result is known and its work done.
    code = gdb.selected_inferior().architecture().disassemble(start, end - 1)
    mnemonic = _convention()[2]
    return [int(line["addr"]) - start for line in code if line["asm"].split()[0].startswith(mnemonic)]


class GdbConsole:
    """gdb's own output."""

    def __init__(self) -> None:
        self.width = int(gdb.parameter("width") or 0) or 120
        self.colour = bool(gdb.parameter("style enabled")) and sys.stdout.isatty()

    def write(self, text: str) -> None:
        # gdb.write refuses NUL and lone surrogates; names in freed memory can hold anything.
        gdb.write(text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode() + "\n")


class GdbSession:
    """The commands' view of gdb."""

    def __init__(self) -> None:
        self.console: Console = GdbConsole()
        self.on_error: Callable[[str], None] = lambda text: gdb.write(f"refdbg: {text}\n", gdb.STDERR)
        self._target: GdbTarget | None = None
        self._breakpoints: list[GdbBreakpoint] = []
        self._waiting: list[GdbBreakpoint] = []
        self._signal: str | None = None
        self.busy = False
        self._last_stop: object = None
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
            raise CommandError(f"cannot evaluate {expression!r}: {error}") from error

    def break_on(self, functions: Sequence[str], on_hit: OnHit, where: Where = "entry") -> GdbBreakpoint:
        if _connection(gdb.selected_inferior())[0] == "core":
            raise NotLive("this is a core file: nothing runs in it, so nothing can be watched")
        watch = GdbBreakpoint(self, functions, on_hit, where)
        if not watch.placed:
            if gdb.lookup_global_symbol("_PyRuntime") is not None:
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

    def seen_before(self) -> bool:
        """Whether this stop is the last one once more, without any progress of the program.

        A signal that arrives while the program is stopped is delivered before the instruction under the breakpoint:
        when its handler has returned, the breakpoint is hit again. With an interval timer that would never end.
        """
        frame = gdb.newest_frame()
        here = (gdb.selected_thread().ptid, frame.pc(), int(frame.read_register("sp")))
        again = here == self._last_stop
        self._last_stop = here
        return again

    def has_python(self) -> bool:
        try:  # the linker's symbol is enough: a Python without debug info must not look like no Python
            gdb.parse_and_eval("(unsigned long)&_PyRuntime")
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
        gdb.execute(f"handle {' '.join(_DEADLY)} stop print pass", to_string=True)
        try:
            gdb.execute(f"attach {pid}", to_string=True)
        except gdb.error as error:
            raise NoProcess(
                f"gdb cannot attach to process {pid}: {error}",
                "In a container run it with --cap-add=SYS_PTRACE; see /proc/sys/kernel/yama/ptrace_scope.",
            ) from error
        if self.has_python():
            self.target().spare_debug_info()
        else:
            # A shared-library build, or a program that will exec Python: look at each library as it comes.
            gdb.execute("set auto-solib-add on", to_string=True)

    def resume(self) -> Halt:
        stops: list[gdb.StopEvent] = []
        keep = stops.append  # one object: gdb disconnects by identity
        gdb.events.stop.connect(keep)
        try:
            # Never `handle SIGTRAP pass`: gdb would deliver its own breakpoints' traps.
            gdb.execute("signal SIGTRAP" if self._signal == "SIGTRAP" else "continue", to_string=True)
        except gdb.error as error:
            raise NoProcess(f"gdb cannot let the program run on: {error}") from error
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
        # exec: instruction offsets of the old program would damage the new one.
        self._drop()
        for watch in self._breakpoints:
            watch.remove()
        self._waiting = list(self._breakpoints)

    def _new_file(self, _event: gdb.NewObjFileEvent) -> None:
        if self._target is not None:
            self._target.look_again()
        if self._waiting and gdb.lookup_global_symbol("_PyRuntime") is not None:
            self._waiting = [watch for watch in self._waiting if not watch.place()]


class _Command(gdb.Command):  # type: ignore[misc]
    """What a CPython process collects, finalizes and leaves over – and why. `refdbg help` lists the commands."""

    def __init__(self, session: GdbSession, run: Callable[[GdbSession, str], int]) -> None:
        self._session = session
        self._run = run
        super().__init__("refdbg", gdb.COMMAND_USER, gdb.COMPLETE_EXPRESSION)

    def invoke(self, line: str, _from_tty: bool) -> None:
        self.dont_repeat()
        self._run(self._session, line)


def install(run: Callable[[GdbSession, str], int]) -> GdbSession:
    """Add the command `refdbg` to gdb; *run(session, line)* executes a line typed by the user."""
    session = GdbSession()
    _Command(session, run)
    return session
