"""What a collection does with one object, told by the changes of its reference count (Python/gc.c)."""

from __future__ import annotations

import re
from itertools import dropwhile

from refdbg.cpython import events
from refdbg.cpython.stop import Stop
from refdbg.target import Change, NativeFrame, Session

# Functions that only count references, or only give memory back: never the reason for it.
_INNER = re.compile(r".*(INCREF|DECREF|SET_REFCNT|memset|fill_mem_debug)|_?PyMem_|PyObject_Free$|PyObject_GC_Del$")
_DEALLOC_FINALIZER = "PyObject_CallFinalizerFromDealloc"  # for its time the object has a reference again
FRAMES = 14  # of the C stack: freeing alone takes half a dozen
_DEAD = 0xDDDD_DDDD  # PYMEM_DEADBYTE


def reason(stack: list[NativeFrame]) -> list[NativeFrame]:
    """The C stack from the function on that had a reason to change a count, or to free an object."""
    return list(dropwhile(lambda frame: _INNER.match(frame.function), stack))


class Life:
    """Watches an object from now on. *finalized*, *cleared*: the collector has called its tp_finalize, its tp_clear.

    *freed*: the C stack where its last reference went, innermost first. *watching*: False where the processor has no
    watchpoint left, and none of these is known.
    """

    def __init__(self, session: Session, stop: Stop, address: int) -> None:
        """*address*: ``PyObject *``."""
        self._session = session
        self._place = address + stop.runtime.build.ob_refcnt
        self._count = stop.runtime.memory.u64(self._place) & 0xFFFF_FFFF
        self.finalized = False
        self.cleared = False
        self.freed: list[NativeFrame] | None = None
        self._dropped: list[NativeFrame] = []
        self._watch = session.watch_word(self._place, self._changed)
        self.watching = self._watch is not None

    def delete(self) -> None:
        """Watch no more."""
        if self._watch is not None:
            self._watch.delete()
            self._watch = None

    def _changed(self, change: Change) -> bool:
        # Whether to watch on.
        before, self._count = self._count, self._session.target().memory.u64(self._place) & 0xFFFF_FFFF
        stack = reason(change.stack(FRAMES))
        if not before:
            # Else the memory is overwritten, or a new object's.
            if all(frame.function != _DEALLOC_FINALIZER for frame in stack):
                return False
            self.freed = None
        elif not self._count:
            if not stack or stack[0].function != _DEALLOC_FINALIZER:
                self._dropped = stack
            self.freed = self._dropped
        elif self._count == before + 1 and stack:
            # The collector holds what it calls such a function for.
            self.finalized |= stack[0].function in events.FINALIZERS
            self.cleared |= stack[0].function in events.CLEARING
        return self._count != _DEAD
