"""Reference counts: one number, or split between the thread that owns an object and all others (PEP 703)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Union

from refdbg.answers import SplitCount
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
_ALIVE = {32: "alive"}  # 3.14+: what a running collection has found from its roots
# Include/object.h, _Py_REF_*: the low bits of ob_ref_shared.
_SHIFT = 2
_STATES = ("", "maybe weakref", "queued", "merged")
_FLAGS, _QUEUED = 3, 2
_NOBODYS = (1 << 60) - 1  # _Py_REF_DEFERRED since 3.14, PY_SSIZE_T_MAX / 8; before that one reference


class PlainCounts:
    """Counts of a build with the GIL."""

    def __init__(self, object_: StructLayout, immortal: bool) -> None:
        self._offset = object_.offset("ob_refcnt")
        # Since 3.12 (PEP 683) a 32-bit one; 3.14 keeps flags beside it.
        self._mask = 0xFFFF_FFFF if immortal else 0xFFFF_FFFF_FFFF_FFFF

    def of(self, memory: Memory, address: int, _by_threads: int = 0) -> int:
        """The object's count (``PyObject *``). Raises MemoryFault."""
        count = memory.u64(address + self._offset) & self._mask
        return count if count < 1 << 63 else count - (1 << 64)

    def words(self, address: int) -> tuple[int, ...]:
        """Where the 32 bits are that Py_DECREF lowers."""
        return (address + self._offset,)

    def split(self, memory: Memory, address: int, _by_threads: int = 0) -> SplitCount | None:
        """The parts of the object's count: it has none."""
        return None


class SplitCounts:
    """Counts of a free-threaded build (Include/object.h, struct _object; Objects/object.c).

    A count is what the object's holders have: without the references that deferred counting adds, and without that of
    the queue in which an object waits for its thread to merge the two parts. *by_threads*: since 3.14 the threads count
    the references to types, code and namespaces in arrays of their own (`Runtime.by_threads`). *never*: bits that no
    object has in the word in which the collector's and the local count are.
    """

    def __init__(self, object_: StructLayout, by_threads: bool) -> None:
        """*by_threads*: whether they do."""
        self.by_threads = by_threads
        self.nobodys = _NOBODYS if by_threads else 1  # what deferred counting adds
        self._names = {**_BITS, **_ALIVE} if by_threads else _BITS
        self.size = object_.size
        self._tid = object_.offset("ob_tid")
        self._bits = object_.offset("ob_gc_bits")
        self._local = object_.offset("ob_ref_local")
        self._shared = object_.offset("ob_ref_shared")
        # 3.14 has flags where 3.13 has padding (Include/object.h): few of the bits have a meaning.
        self.never = (0xFF00 if "ob_flags" in object_ else 0xFFFF) | 0x80 << 8 * (self._bits % 8)

    def words(self, address: int) -> tuple[int, ...]:
        """Where the 32 bits are that Py_DECREF lowers: the one or the other (Include/refcount.h)."""
        return address + self._local, address + self._shared

    def of(self, memory: Memory, address: int, by_threads: int = 0) -> int:
        """The object's count, IMMORTAL_COUNT of an immortal one (``PyObject *``). Raises MemoryFault."""
        return self.in_bytes(memory.read(address, self.size), by_threads)

    def in_bytes(self, data: bytes, by_threads: int = 0) -> int:
        """The count of the object that *data* begins with."""
        local = int.from_bytes(data[self._local : self._local + 4], "little")
        if local == IMMORTAL_COUNT:
            return IMMORTAL_COUNT
        shared = int.from_bytes(data[self._shared : self._shared + 8], "little", signed=True)
        return local + by_threads + (shared >> _SHIFT) - self.surplus(data[self._bits], shared)

    def surplus(self, bits: int, shared: int) -> int:
        """What the two parts count that no holder has. *bits*: the collector's; *shared*: the word of others."""
        return self.nobodys * bool(bits & DEFERRED) or shared & _FLAGS == _QUEUED

    def split(self, memory: Memory, address: int, by_threads: int = 0) -> SplitCount:
        """The parts of the object's count (``PyObject *``). Raises MemoryFault."""
        data = memory.read(address, self.size)
        shared = int.from_bytes(data[self._shared : self._shared + 8], "little", signed=True)
        local = int.from_bytes(data[self._local : self._local + 4], "little")
        bits = data[self._bits]
        owner = int.from_bytes(data[self._tid : self._tid + 8], "little")
        deferred = bool(bits & DEFERRED)
        return SplitCount(
            local, (shared >> _SHIFT) - (self.nobodys - 1) * deferred, _STATES[shared & _FLAGS], owner, None,
            local == IMMORTAL_COUNT, deferred, [name for bit, name in self._names.items() if bits & bit], by_threads,
        )

    def kinds(self, memory: Memory, addresses: Iterable[int]) -> Counter[str]:
        """How many of the objects are immortal, deferred, merged, queued, owned by a thread (``PyObject *``).

        Raises MemoryFault.
        """
        found: Counter[str] = Counter()
        for address in addresses:
            word = memory.u64(address + (self._local & ~7))
            if word >> 32 == IMMORTAL_COUNT:
                found["immortal"] += 1
            elif word >> 8 * (self._bits % 8) & DEFERRED:
                found["deferred"] += 1
            else:
                found[_STATES[memory.u64(address + self._shared) & _FLAGS] or "local"] += 1
        return found

    def bits(self, memory: Memory, address: int) -> int:
        """What the collector has noted of the object, ``ob_gc_bits`` (``PyObject *``). Raises MemoryFault."""
        return memory.integer(address + self._bits, 1)

    def columns(self) -> tuple[int, int, int]:
        """(the word of the object in whose upper half its local count is, that of its shared one, the bits of its
        collector's byte in the first of them)."""
        return self._local // 8, self._shared // 8, 8 * (self._bits % 8)

    def is_sane(self, word: int) -> bool:
        """Whether the word in which the collector's bits and the local count are can be an object's."""
        return not word & self.never


Counts = Union[PlainCounts, SplitCounts]
