"""Reference counts: one number, or split between the thread that owns an object and all others (PEP 703)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Union

from refdbg.target.layout import StructLayout
from refdbg.target.memory import Memory

IMMORTAL_COUNT = 0xFFFF_FFFF  # what stands for the count of an object that is immortal

# Include/internal/pycore_gc.h, _PyGC_BITS_*: ob_gc_bits.
TRACKED, FINALIZED, UNREACHABLE, FROZEN = 1, 2, 4, 8
DEFERRED = 64
_BITS = {
    TRACKED: "tracked", FINALIZED: "finalized", UNREACHABLE: "unreachable", FROZEN: "frozen", 16: "shared",
    32: "shared inline", DEFERRED: "deferred",
}
# Include/object.h, _Py_REF_*: the low bits of ob_ref_shared.
_SHIFT = 2
_STATES = ("", "maybe weakref", "queued", "merged")
_FLAGS, _QUEUED = 3, 2


@dataclass(frozen=True)
class SplitCount:
    """The parts of a count. *local*: the owning thread's; *shared*: all others', which may be negative; *state*:
    "maybe weakref", "queued", "merged" or ""; *owner*: ``ob_tid``, 0 for none.

    *deferred*: one of the references is held by nobody, and makes that only the collector frees the object; *bits*:
    the names of what the collector has noted of it.
    """

    local: int
    shared: int
    state: str
    owner: int
    immortal: bool
    deferred: bool
    bits: list[str]


class PlainCounts:
    """Counts of a build with the GIL."""

    def __init__(self, object_: StructLayout, immortal: bool) -> None:
        self._offset = object_.offset("ob_refcnt")
        # Since 3.12 (PEP 683) a 32-bit one; 3.14 keeps flags beside it.
        self._mask = 0xFFFF_FFFF if immortal else 0xFFFF_FFFF_FFFF_FFFF

    def of(self, memory: Memory, address: int) -> int:
        """The object's count (``PyObject *``). Raises MemoryFault."""
        count = memory.u64(address + self._offset) & self._mask
        return count if count < 1 << 63 else count - (1 << 64)

    def split(self, memory: Memory, address: int) -> SplitCount | None:
        """The parts of the object's count: it has none."""
        return None


class SplitCounts:
    """Counts of a free-threaded build (Include/object.h, struct _object; Objects/object.c).

    A count is what the object's holders have: without the reference that deferred counting adds, and without that of
    the queue in which an object waits for its thread to merge the two parts.
    """

    def __init__(self, object_: StructLayout) -> None:
        self.size = object_.size
        self._tid = object_.offset("ob_tid")
        self._bits = object_.offset("ob_gc_bits")
        self._local = object_.offset("ob_ref_local")
        self._shared = object_.offset("ob_ref_shared")

    def of(self, memory: Memory, address: int) -> int:
        """The object's count, IMMORTAL_COUNT of an immortal one (``PyObject *``). Raises MemoryFault."""
        return self.in_bytes(memory.read(address, self.size))

    def in_bytes(self, data: Union[bytes, memoryview], at: int = 0) -> int:
        """The count of the object that begins at *at*."""
        local = int.from_bytes(data[at + self._local : at + self._local + 4], "little")
        if local == IMMORTAL_COUNT:
            return IMMORTAL_COUNT
        shared = int.from_bytes(data[at + self._shared : at + self._shared + 8], "little", signed=True)
        return local + (shared >> _SHIFT) - (bool(data[at + self._bits] & DEFERRED) or shared & _FLAGS == _QUEUED)

    def split(self, memory: Memory, address: int) -> SplitCount:
        """The parts of the object's count (``PyObject *``). Raises MemoryFault."""
        data = memory.read(address, self.size)
        shared = int.from_bytes(data[self._shared : self._shared + 8], "little", signed=True)
        local = int.from_bytes(data[self._local : self._local + 4], "little")
        bits = data[self._bits]
        return SplitCount(
            local, shared >> _SHIFT, _STATES[shared & _FLAGS], int.from_bytes(data[self._tid : self._tid + 8], "little"),
            local == IMMORTAL_COUNT, bool(bits & DEFERRED), [name for bit, name in _BITS.items() if bits & bit],
        )

    def bits(self, memory: Memory, address: int) -> int:
        """What the collector has noted of the object, ``ob_gc_bits`` (``PyObject *``). Raises MemoryFault."""
        return memory.integer(address + self._bits, 1)

    def columns(self) -> tuple[int, int, int]:
        """(the word of the object in whose upper half its local count is, that of its shared one, the bits of its
        collector's byte in the first of them)."""
        return self._local // 8, self._shared // 8, 8 * (self._bits % 8)

    def is_sane(self, word: int) -> bool:
        """Whether the word in which the collector's bits and the local count are can be an object's."""
        return not word & 0xFFFF and not word >> 8 * (self._bits % 8) & 0x80


Counts = Union[PlainCounts, SplitCounts]
