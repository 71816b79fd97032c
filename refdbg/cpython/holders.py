"""What of an object's holders stands outside the heap, how sure it is, and what it is called."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

from refdbg.cpython.places import runtime_name
from refdbg.cpython.referrers import Holder
from refdbg.cpython.stop import Stop

# How strong the evidence is that a word holds a reference.
SURE, BLOCK, MAYBE, STACK = range(4)
_STRENGTH = {"block": BLOCK, "memory": MAYBE, "stack": STACK}


def strength(holder: Holder) -> int:
    """SURE, BLOCK (a native block in use), MAYBE (a word that may be stale) or STACK (on a C stack)."""
    if holder.kind == "frame" and not holder.exact:
        return MAYBE  # a slot of the value stack beyond what is in use, as far as can be told
    return _STRENGTH.get(holder.kind, SURE)


class Outside:
    """The border of one stop's heap."""

    def __init__(self, stop: Stop) -> None:
        self._stop = stop
        self._heap = frozenset(stop.heap.objects.addresses)

    def resolved(self, holder: Holder) -> Holder | None:
        """The holder as it stands to the heap: None when it holds nothing.

        Kind "object" is left to objects on the heap that need a holder themselves: a static object is a "static",
        and a frame that is running (an object until 3.10) a "frame".
        """
        if holder.kind == "borrowed":
            return None
        if holder.kind == "static":
            return replace(holder, label=self._variable(holder))
        if holder.kind != "object":
            return holder
        if holder.suspended and not (holder.exact or holder.declared):
            owner = self._stop.texts.type_name(self._stop.texts.type_of(holder.owner).address)
            return replace(holder, kind="stack", owner=0, label=f"of a suspended {owner}")
        if holder.owner in self._frames:
            return replace(holder, kind="frame", owner=0, label=f"{holder.label} of {self._frames[holder.owner]}")
        if holder.owner not in self._heap:
            name = runtime_name(self._stop.runtime, holder.owner) or f"static object at {holder.owner:#x}"
            label = f"{name}.{holder.label}" if holder.exact else self._variable(holder)
            return replace(holder, kind="static", owner=0, label=label)
        return holder

    @cached_property
    def _frames(self) -> dict[int, str]:
        runtime = self._stop.runtime
        return {
            frame.address: f"{frame.function}() in thread {number} of interpreter {interpreter.number}"
            for interpreter in runtime.interpreters()
            for number, thread in enumerate(runtime.threads(interpreter))
            for frame in self._stop.frames.stack(thread, 1000) if frame.address in self._heap
        }

    def _variable(self, holder: Holder) -> str:
        # The member path and the place of its declaration, where debug info has them.
        word = self._stop.statics.word_at(holder.place)
        if word is None or not word.symbol:
            return holder.label
        variable = self._stop.runtime.target.variable(word.c_symbol)
        if variable is None:
            return f"{holder.label} ({word.library})"
        return f"{variable.path} ({variable.file}:{variable.line})"
