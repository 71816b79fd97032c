"""Every error that refdbg raises on purpose. Each carries a hint: what to do next."""

from __future__ import annotations


class RefdbgError(Exception):
    """Something refdbg cannot do, said in one line, with a *hint* at what to do next."""

    hint = ""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint

    def text(self) -> str:
        """The message and the hint, as the user sees them."""
        return f"{self}\n  {self.hint}" if self.hint else str(self)


class TargetError(RefdbgError):
    """The inspected process, or what is known of it, does not have what was asked for."""


class NoProcess(TargetError):
    """The debugger has no live process and no core file."""

    hint = "Start one (`run`, `start`), attach (`attach PID`) or load a core file first."


class NotLive(TargetError):
    """The command needs a process that can run on; this is a core file, or it has ended."""

    hint = (
        "`refdbg gc again` and `refdbg gc film OBJ --now` say what a collection would do; for more, run the program or "
        "attach to it (`run`, `gdb -p PID`, refdbg-run)."
    )


class MemoryFault(TargetError):
    """*size* bytes at *address* cannot be read."""

    hint = "The address is not mapped, or the core file does not contain it."

    def __init__(self, address: int, size: int) -> None:
        super().__init__(f"cannot read {size} bytes at {address:#x}")
        self.address = address
        self.size = size


class SymbolNotFound(TargetError):
    """The symbol *name* is in none of the loaded files."""

    hint = "Is this a Python with debug info or a symbol table (`file PROGRAM` says 'not stripped')?"

    def __init__(self, name: str) -> None:
        super().__init__(f"no symbol {name!r}")
        self.name = name


class DecisionInlined(TargetError):
    """The compiler has left no function *name* of its own, in which it could be seen how the collector decides."""

    hint = "Builds --with-pydebug have it."

    def __init__(self, name: str) -> None:
        super().__init__(f"how the collector decides cannot be watched: this build has no {name} of its own")


class LayoutNotFound(TargetError):
    """The struct, or the field of it, is not described by the debug info."""

    hint = "Install the interpreter's debug info (Debian: python3.11-dbg), or build it with -g."


class NotPython(TargetError):
    """The process has no CPython runtime that refdbg can read."""

    hint = "refdbg reads CPython with debug info. Is this a Python process, and has it started?"


class DecodeError(RefdbgError):
    """The bytes at an address do not look like what they must be."""

    hint = "Is this the address of a live object? `refdbg status` says whether the runtime is readable."


class BadSnapshot(RefdbgError):
    """A file is no snapshot, a damaged one, or of a newer refdbg."""

    hint = "Take it again: `refdbg snapshot FILE.refdbg`, in a debugger or with --pid."


class CommandError(RefdbgError):
    """A command was used in a way that it does not understand."""

    hint = "`refdbg help` lists the commands, `refdbg help COMMAND` explains one."


class NotEvaluated(CommandError):
    """An expression means no address."""

    hint = "Give an address (`refdbg objects TYPE` lists them) or a C variable (PyDict_Type), not a name in Python."


class SeveralTypes(CommandError):
    """A name means several types; the message lists them."""

    hint = "Give one of them as it stands here."


class MissingDependency(RefdbgError):
    """A Python package that refdbg needs is not installed."""


class Interrupted(RefdbgError):
    """The user pressed Ctrl-C during a walk."""

    hint = "What was read until then is shown; run the command again for the whole."
