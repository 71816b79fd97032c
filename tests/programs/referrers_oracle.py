"""One object held in every way that refdbg names.

usage: referrers_oracle.py FILE    one JSON line with its address; then ascii() is entered, once
"""

from __future__ import annotations

import collections
import json
import sys
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
in_dict = {"in dict": held}
in_set = {held}
in_deque = collections.deque([held])
in_ordered = collections.OrderedDict(ordered=held)
weak = weakref.ref(held)


def held_by_frame() -> None:
    local = held

    def inner() -> object:
        return local

    ascii(inner)


with open(sys.argv[1], "w", encoding="utf-8") as file:
    file.write(json.dumps({"id": id(held)}) + "\n")
held_by_frame()
