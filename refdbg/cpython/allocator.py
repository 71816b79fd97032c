"""Which allocator makes the blocks of objects (Objects/obmalloc.c)."""

from __future__ import annotations

from refdbg.cpython.kinds import address_of
from refdbg.cpython.runtime import Runtime
from refdbg.errors import LayoutNotFound, MemoryFault, SymbolNotFound

_PLAIN = ("_PyObject_Malloc", "_PyMem_RawMalloc", "_PyObject_MiMalloc")


def has_debug_headers(runtime: Runtime) -> bool:
    """Whether the allocator's blocks have the headers of a debug build: PYTHONMALLOC gives and takes them in all."""
    try:
        function = _function(runtime)
    except (LayoutNotFound, SymbolNotFound, MemoryFault):
        return runtime.traits.debug
    if function == address_of(runtime, "_PyMem_DebugMalloc"):
        return True
    plain = [address_of(runtime, name) for name in _PLAIN]
    return runtime.traits.debug and function not in plain  # else a hook above it: tracemalloc's


def _function(runtime: Runtime) -> int:
    # What PyObject_Malloc calls (Objects/obmalloc.c: _PyObject; 3.12+: in _PyRuntimeState).
    if "allocators" in runtime.state.layout:
        return int(runtime.state["allocators.standard.obj.malloc"])
    allocator = runtime.build.layout("PyMemAllocatorEx")
    return runtime.memory.u64(runtime.target.address_of("_PyObject") + allocator.offset("malloc"))
