"""The process at one stop, each part decoded when first asked for."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from refdbg.cpython.frames import Frames
from refdbg.cpython.heap import GenerationLists, HeapObjects, heap_objects
from refdbg.cpython.runtime import Build, Runtime
from refdbg.cpython.text import Texts
from refdbg.cpython.types import Types
from refdbg.errors import RefdbgError

if TYPE_CHECKING:
    from refdbg.cpython.statics import Statics


class Stop:
    """Valid until the process runs on; make a new one at the next stop."""

    def __init__(self, build: Build) -> None:
        self.runtime = Runtime(build)

    @cached_property
    def types(self) -> Types:
        """The types."""
        return Types(self.runtime)

    @cached_property
    def lists(self) -> GenerationLists:
        """The collector's lists. Raises NotPython on a free-threaded build."""
        return GenerationLists(self.runtime)

    @cached_property
    def texts(self) -> Texts:
        """Bounded reprs and type names."""
        return Texts(self.runtime, self.types)

    @cached_property
    def frames(self) -> Frames:
        """Python frame stacks."""
        return Frames(self.runtime, self.types)

    @cached_property
    def heap(self) -> HeapObjects:
        """Every object in the allocator's blocks. Raises RefdbgError for a build without block headers."""
        if not self.runtime.traits.debug:
            raise RefdbgError(
                "this is a release build: untracked objects cannot be found",
                "Use a debug build (--with-pydebug), or a command that reads tracked objects only.",
            )
        return heap_objects(self.runtime, self.types)

    @cached_property
    def statics(self) -> Statics:
        """What lies in the libraries' writable data."""
        from refdbg.cpython.statics import Statics  # reads ELF files: only when it is asked for

        return Statics(self.runtime, self.types)

    def is_runtime_state(self, address: int) -> bool:
        """Whether *address* lies in ``_PyRuntime``."""
        start = self.runtime.build.runtime_address
        return start <= address < start + self.runtime.state.layout.size
