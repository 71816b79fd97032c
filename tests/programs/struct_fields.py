"""Makes objects whose C structs hold addresses in many ways, then calls ascii() with all of them. Argument: FOLDER."""

import _sqlite3
import gc
from collections import deque

from leak_rounds import extension

fields = extension("fields")


class Derived(fields.Record):
    __slots__ = ("own",)


class Slotted:
    __slots__ = ("__private", "public")

    def __init__(self):
        self.__private, self.public = [], []


class Text(str):
    pass


def generator():
    yield []


async def coroutine():
    pass


async def async_generator():
    yield []


gc.disable()
shared = []
record = fields.Record([], [], [], set(), set())
twice = fields.Record(shared, shared, [], set(), set())
derived = Derived([], [], [], set(), set())
derived.own = []
bare = fields.Bare([])
connection = _sqlite3.connect(":memory:")
slotted = Slotted()
atomic = deque([1, "text", b"bytes", 1.5, None, True, Text("subclass"), ()])
generators = [generator(), coroutine(), async_generator()]
ascii([record, twice, fields, atomic])
generators[1].close()
