"""Makes objects of many types and writes [id, [ids of gc.get_referents]] for every tracked object, then calls ascii()."""

import asyncio
import collections
import contextvars
import ctypes
import decimal
import functools
import gc
import itertools
import json
import re
import sqlite3
import sys
import threading
import types
import typing
import weakref
import xml.etree.ElementTree

import _testcapi


class Slotted:
    __slots__ = ("x", "__dict__")


class Plain:
    pass


def generator():
    inside = [1]
    yield inside


async def coroutine():
    await asyncio.sleep(0)


async def async_generator():
    yield 1


def failing():
    1 / 0


slotted, plain = Slotted(), Plain()
slotted.x, slotted.y, plain.q = [1], slotted, slotted
suspended = generator()
next(suspended)
keep = [
    slotted, plain, suspended, coroutine(), async_generator(), {1, 2, plain}, frozenset([plain]),
    collections.deque([slotted] * 100), collections.OrderedDict(x=slotted), collections.defaultdict(list, x=slotted),
    collections.Counter("abc"), collections.ChainMap({1: slotted}), functools.partial(generator, 1),
    functools.lru_cache(generator), itertools.count(slotted and 3), itertools.chain([slotted], [plain]),
    itertools.cycle([slotted]), itertools.tee([slotted]), itertools.product([slotted], [plain]), iter([slotted]),
    iter({1: slotted}), iter({1: slotted}.items()), reversed([slotted]), enumerate([slotted]), zip([slotted]),
    map(len, [[slotted]]), filter(None, [slotted]), re.compile("x").finditer("x"), re.match("(x)", "x"),
    weakref.ref(plain, lambda reference: 0), weakref.proxy(plain), weakref.WeakValueDictionary(x=plain),
    contextvars.copy_context(), types.MappingProxyType({1: slotted}), memoryview(bytearray(3)), property(generator),
    staticmethod(generator), classmethod(generator), super(Plain, plain), slice(slotted, plain, None),
    decimal.getcontext(), decimal.Decimal(3), sqlite3.connect(":memory:"),
    xml.etree.ElementTree.XML("<a><b x='1'/></a>"), threading.RLock(), threading.Lock(), threading.local(),
    typing.List[int], list[int], ctypes.c_int(3), ctypes.pointer(ctypes.c_int(4)), ctypes.CFUNCTYPE(None)(print),
    sys._getframe(), lambda: slotted, Exception(slotted), [].append, slotted.__init__, Plain.__dict__, asyncio,
    _testcapi, types.SimpleNamespace(x=slotted), range(3), object(), "text".split,
]
try:
    failing()
except ZeroDivisionError as error:
    keep += [error, error.__traceback__]

told = thing = None
things = gc.get_objects()  # kept until the end: what is written must still exist then
for _ in range(2):  # the first time something may be imported
    with open(sys.argv[1], "w", encoding="utf-8") as told:
        for thing in things:
            if thing is not globals():  # it changes with each statement
                told.write(json.dumps([id(thing), [id(referent) for referent in gc.get_referents(thing)]]) + "\n")
ascii("now")
