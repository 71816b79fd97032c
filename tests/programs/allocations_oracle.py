"""Objects of many kinds, and where tracemalloc says that each was made: one JSON line each in the file argv[1]."""

import array
import ctypes
import json
import sys
import threading
import tracemalloc
from collections import OrderedDict, deque


class Plain:
    def __init__(self):
        self.attribute = 1


class Lost:
    pass


class Slots:
    __slots__ = ("__weakref__", "first")


class Meta(type):
    pass


class SubclassOfTuple(tuple):
    pass


class SubclassOfInt(int):
    pass


class SubclassOfDict(dict):
    pass


def make(number):
    many = [[number] for _ in range(30)]  # more than free lists keep from before
    yield "list", many[-1]
    yield "dict", {"number": number}
    yield "tuple", (number, "in a tuple")
    yield "instance", Plain()
    yield "slots", Slots()
    yield "subclass of tuple", SubclassOfTuple((1, 2))
    yield "subclass of int", SubclassOfInt(10**40)
    yield "subclass of dict", SubclassOfDict(a=1)
    yield "class", type("Made", (), {})
    yield "class of a metaclass", Meta("MadeByMeta", (Plain,), {})
    yield "int", number**40
    yield "float", float(number)
    yield "str", f"text {number}" * 3
    yield "str of two bytes", "\u20ac" * number
    yield "large bytes", bytes(100_000 + number)
    yield "large list", [None] * 100_000
    yield "bytearray", bytearray(number)
    yield "set", {number}
    yield "function", lambda: number
    yield "code", compile(f"{number} + x", "elsewhere.py", "eval")
    yield "generator", (each for each in "ab")
    yield "deque", deque([number])
    yield "ordered", OrderedDict(a=number)
    yield "array", array.array("q", range(number))
    yield "exception", ValueError(number)
    yield "bound method", Plain().__init__
    yield "lock", threading.Lock()


def lose():
    lost = Lost()  # no list: one from a free list may be in a block from before tracemalloc was started
    number = 2.0**60
    for _ in range(9):  # more than stale words on the C stack can stand for
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(lost))
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(number))


kept = dict(make(7))
lose()
with open(sys.argv[1], "w", encoding="utf-8") as told:
    for kind, each in kept.items():
        traceback = tracemalloc.get_object_traceback(each) if tracemalloc.is_tracing() else None
        frames = [[frame.filename, frame.lineno] for frame in reversed(traceback or ())]
        told.write(json.dumps({"kind": kind, "address": id(each), "frames": frames}) + "\n")
ascii(kept)
