"""The stacks of threads that have ended, which the C library keeps for new ones (glibc, nptl/allocatestack.c)."""

from __future__ import annotations

from array import array

from refdbg.target.memory import PAGE, Memory, Region

# struct pthread (nptl/descr.h) on x86-64 stands at the end of the stack. It begins with tcbhead_t, of which the words 0
# and 2 point to itself. The kernel's id is 0 when the thread has ended, and -1 when it was joined. Where it says from
# where to where the stack is, differs between releases.
_ALIGNMENT = 64
_ID = 0x2D0
_SIZE = 0x900
_LARGEST = 64 << 20  # bytes of a stack in which the struct is looked for


def ended_stack(memory: Memory, region: Region, address: int) -> tuple[int, int] | None:
    """[start, end) of the stack of a thread that has ended, its thread-local variables included, around *address*.

    *region*: the mapped range that *address* is in. None: it is none of these, as far as can be told. Raises nothing.
    """
    start = (address // _ALIGNMENT + 1) * _ALIGNMENT
    data = memory.read_some(start, min(region.end - start, _LARGEST) & -_ALIGNMENT)
    words = array("Q", data[: len(data) & -8])  # a core file may have been cut anywhere
    for here, word in zip(range(start, region.end, _ALIGNMENT), words[:: _ALIGNMENT // 8]):
        if here == word:
            found = _stack(memory.read_some(here, _SIZE), here)
            if found is not None and found[0] <= address:
                return found
    return None


def _stack(struct: bytes, here: int) -> tuple[int, int] | None:
    # What the struct at *here* says of its stack, without the struct, when its thread has ended.
    words = array("Q", struct[: len(struct) & -8])
    if 8 * len(words) < _SIZE or words[2] != here:
        return None
    if int.from_bytes(struct[_ID : _ID + 4], "little", signed=True) > 0:
        return None
    for block, size, guard in zip(words, words[1:], words[2:]):
        paged = not (block | size | guard) % PAGE
        if paged and 0 <= guard < size and block < here < here + _SIZE <= block + size < here + 2 * PAGE:
            return block + guard, here
    return None
