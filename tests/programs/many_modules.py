"""Imports and uses much of the standard library, then calls ascii(): whatever owns a reference there is known."""

import functools

MODULES = """
    argparse array ast asyncio base64 bz2 cmath collections concurrent.futures configparser contextvars csv ctypes
    curses datetime dataclasses decimal difflib dis email.message fractions gzip hashlib heapq http.client
    importlib.metadata inspect ipaddress json locale logging lzma mmap multiprocessing optparse pdb pickle queue random
    readline resource secrets select selectors shelve signal socket sqlite3 ssl statistics struct symtable tarfile
    tempfile threading tracemalloc typing unicodedata unittest.mock urllib.request uuid weakref xml.dom.minidom
    xml.etree.ElementTree xml.sax zipfile zlib zoneinfo _elementtree _testcapi _ctypes_test
""".split()


def import_all():
    for name in MODULES:
        try:
            __import__(name)
        except ImportError:
            pass  # not every interpreter is built with all of them


class Thing:
    pass


class Slotted:
    __slots__ = ("__weakref__", "value")


class Cached:
    value = functools.cached_property(lambda self: [self])
    text = functools.singledispatchmethod(lambda self, argument: argument)


@functools.lru_cache(maxsize=3)
def cached(argument):
    return [argument]


@functools.lru_cache(maxsize=None)
def unbounded(argument):
    return [argument]


@functools.lru_cache(maxsize=1)
def last(argument):
    return [argument]


def closure():
    thing = Thing()
    return lambda: thing


def use_all():
    """Objects of types whose references are no plain fields."""
    import asyncio
    import ctypes
    import decimal
    import itertools
    import sqlite3
    import weakref
    import xml.etree.ElementTree as tree

    for argument in range(1000, 1005):
        cached(argument), unbounded(argument), last(argument)
    slotted = Slotted()
    slotted.value = Thing()
    things = [Thing() for _ in range(5)]
    for number, thing in enumerate(things):
        setattr(thing, f"name{number}", thing)
        thing.__dict__["more"] = things
    connection = sqlite3.connect(":memory:")
    connection.create_function("twice", 1, lambda argument: 2 * argument)
    array = (ctypes.py_object * 3)(*things[:3])
    pointer = ctypes.pointer(ctypes.c_int(7))
    callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(int)
    iterators = [
        iter(things), zip(things, things), map(str, things), enumerate(things), reversed(things), filter(None, things),
        itertools.chain(things), itertools.tee(things), itertools.groupby(things), itertools.product(things, repeat=2),
        itertools.combinations(things, 2), iter({1: 2}.items()), iter({1, 2}), iter(Thing, None),
    ]
    for iterator in iterators[:-1]:
        next(iter(iterator))
    loop = asyncio.new_event_loop()
    future = loop.create_future()
    future.add_done_callback(closure())
    return [
        slotted, things, connection, connection.execute("select 1"), array, pointer, callback, iterators, loop, future,
        Cached().value, Thing.__init__, things[0].__init__, Thing.mro, closure(), weakref.WeakKeyDictionary({slotted: 1}),
        weakref.finalize(slotted, print, things), weakref.proxy(slotted), decimal.getcontext(), decimal.Decimal("1.5"),
        tree.fromstring("<a b='c'><d/>text</a>"), functools.partial(print, things, end=""), memoryview(b"bytes"),
        slice(things, 1, 2), range(1 << 70), super(Slotted, slotted), list[int],
        {**Thing.__dict__}.keys(), Exception("text", things),
    ]  # fmt: skip


if __name__ == "__main__":
    import_all()
    KEEP = use_all()
    ascii(KEEP[0])
