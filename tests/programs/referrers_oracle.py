"""One object held in every way that refdbg names; then ascii() is entered, once, in held_by_frame()."""

from __future__ import annotations

import collections
import weakref


class Held:
    def __init__(self) -> None:
        self.items = [1]
        self.itself = {"key": self}


class Slotted:
    __slots__ = ("slot",)


held = Held()
slotted = Slotted()
slotted.slot = held
in_list = [None, held]
in_tuple = (held,)
in_dict = {"held": held}
in_set = {held}
in_deque = collections.deque([held])
in_ordered = collections.OrderedDict(ordered=held)
weak = weakref.ref(held)


def held_by_frame() -> None:
    local = held

    def inner() -> object:
        return local

    ascii(inner)


held_by_frame()
