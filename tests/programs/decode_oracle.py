"""Says of many objects of every type what refdbg must read of them.

usage: decode_oracle.py FILE    one JSON line per object; then ascii() is entered, once
"""

from __future__ import annotations

import collections
import enum
import functools
import gc
import json
import os
import re
import sys
import types
import weakref

import _thread


class Plain:
    shared = 1

    def __init__(self) -> None:
        self.x = 1
        self.name = "plain"

    def method(self) -> None: ...

    @property
    def value(self) -> int:
        return 1

    @classmethod
    def make(cls) -> None: ...

    @staticmethod
    def static() -> None: ...

    class Inner:
        pass


class Slotted:
    __slots__ = ("a", "b", "__weakref__")


class SlottedChild(Slotted):
    __slots__ = ("c", "__dict__")


class MyList(list):
    pass


class MyInt(int):
    pass


class MyTuple(tuple):
    pass


class MyDict(dict):
    pass


class MySet(set):
    pass


class MyStr(str):
    pass


class Meta(type):
    pass


class WithMeta(metaclass=Meta):
    pass


class Oops(Exception):
    pass


class Quiet(dict):
    def __repr__(self) -> str:
        return "quiet"


class Colour(enum.IntEnum):
    RED = 1


Point = collections.namedtuple("Point", "x y")


def function(a, b=1, *, c=2):  # type: ignore[no-untyped-def]
    return a


def outer():  # type: ignore[no-untyped-def]
    kept, empty = [1], 2

    def inner():  # type: ignore[no-untyped-def]
        return kept, empty

    del empty
    return inner


def generator(argument):  # type: ignore[no-untyped-def]
    local = [argument]
    yield local


async def coroutine(): ...  # type: ignore[no-untyped-def]


async def async_generator():  # type: ignore[no-untyped-def]
    yield 1


def values() -> list[object]:
    """Built-in values."""
    cyclic: list[object] = [1]
    cyclic.append(cyclic)
    cyclic_dict: dict[str, object] = {}
    cyclic_dict["d"] = cyclic_dict
    deleted = {str(n): n for n in range(20)}
    for key in ("3", "7", "19"):
        del deleted[key]
    emptied = set(range(30))
    for element in range(25):
        emptied.discard(element)
    return [
        None, ..., NotImplemented, True, False,
        0, 1, -1, 7, 2**15, 2**30 - 1, 2**30, -(2**30), 2**60, -(2**61), 2**100, -(2**3000), MyInt(-5),
        0.0, -0.0, 1.5, -1e300, 5e-324, float("nan"), float("inf"), 1 + 2j, -0j, complex("nan"),
        "", "a", "abc", "\xe9", "\xff\xfe", "日本", "\ud800", "😀", "it's", 'both \' and "', "\n\t\0\x7f", "x" * 5000,
        MyStr("derived"),
        b"", b"abc", b"\0\xff'", b"x" * 3000, bytearray(), bytearray(b"abc\0"), bytearray(2000), memoryview(b"x"),
        [], [1], [1, [2, [3, [4]]]], list(range(2000)), MyList([1, 2]), cyclic,
        (), (1,), (1, (2, (3,))), tuple(range(1000)), MyTuple((1, 2)), ([1],),
        {}, {"a": 1}, {1: "x", "y": [2], (3,): {}}, {str(n): n for n in range(500)}, {n: n for n in range(300)},
        deleted, cyclic_dict, MyDict(a=1), {"x": 1}.keys(), {"x": 1}.values(), {"x": 1}.items(),
        set(), {1}, {1, 2, 3}, set(range(500)), emptied, MySet([1]), frozenset(), frozenset({"a"}), frozenset(range(99)),
        range(3), range(0, 10, 2), range(2**70), slice(None), slice(1, 2, 3),
        collections.deque(), collections.deque([1, 2]), collections.deque([1, 2], 5), collections.deque(range(500)),
        collections.OrderedDict(), collections.OrderedDict(a=1, b=[2]), collections.defaultdict(int, {1: 2}),
        collections.defaultdict(None), types.SimpleNamespace(a=1, b="two"), types.MappingProxyType({"k": 1}),
        functools.partial(int, "1", base=2), functools.partial(print), Point(1, 2),
        sys.version_info, sys.flags, sys.float_info, os.stat("/"), sys.implementation,
        object(), iter([1]), iter({}), enumerate([1]), zip([1]), re.compile("a"), _thread.allocate_lock(),
    ]  # fmt: skip


def code() -> list[object]:
    """Functions, classes and what belongs to them."""
    plain, slotted, child = Plain(), Slotted(), SlottedChild()
    slotted.a, child.a, child.c, child.extra = [1], [2], [3], [4]  # type: ignore[attr-defined]
    many = Plain()
    for number in range(40):  # more attributes than inline values have room for
        setattr(many, f"attribute{number}", [number])
    materialised, replaced, removed = Plain(), Plain(), Plain()
    materialised.__dict__["later"] = [1]
    replaced.__dict__ = {"other": [2]}
    del removed.x
    started, fresh = generator(1), generator(2)
    next(started)
    finished = generator(3)
    list(finished)
    awaiting = coroutine()
    closure = outer()
    dead = weakref.ref(Slotted())
    error = Oops("a", 2)
    try:
        raise ValueError("context") from error
    except ValueError as caught:
        raised = caught
    lock = _thread.allocate_lock()
    lock.acquire()
    found: list[object] = [
        plain, slotted, child, many, materialised, materialised.__dict__, replaced, replaced.__dict__, removed,
        WithMeta(), Plain.Inner(), Oops(), Oops("a"), error, raised, raised.__traceback__, KeyError("k"),
        OSError(2, "no", "file"), UnicodeDecodeError("utf-8", b"x", 0, 1, "why"), StopIteration(1), Quiet(a=1), Colour.RED,
        int, type, dict, Plain, Plain.Inner, Slotted, Meta, WithMeta, Oops, Point, collections.OrderedDict,
        collections.deque, weakref.ref, types.GenericAlias,
        function, outer, closure, closure.__closure__, *closure.__closure__, function.__code__, lambda: 0,
        plain.method, Plain.method, Plain.make, Plain.static, Plain.__dict__["make"], Plain.__dict__["static"],
        Plain.__dict__["value"], Slotted.a, Plain.__dict__, len, [].append, str.join, int.__add__, (1).__add__,
        dict.__dict__["fromkeys"], types.FunctionType.__dict__["__code__"], type.__dict__["__mro__"],
        sys, os, collections, sys.modules["__main__"], types.ModuleType("made"), gc,
        weakref.ref(plain), weakref.ref(Plain), weakref.ref(function), weakref.proxy(plain), dead,
        weakref.ref(slotted, print), started, fresh, finished, started.gi_frame, awaiting, async_generator(),
        list[int], dict[str, list[int]], tuple[()], super(Plain, plain), lock,
    ]  # fmt: skip
    awaiting.close()
    if sys.version_info >= (3, 10):
        found.append(int | None)
    return found


def type_name(type_: type) -> str:
    """As refdbg names types: tp_name for static ones, module and qualified name for the others."""
    return type_.__qualname__ if type_.__module__ == "builtins" else f"{type_.__module__}.{type_.__qualname__}"


def refcount(objects: list[object], index: int) -> int:
    """The count without the argument's; immortal objects have none."""
    count = sys.getrefcount(objects[index])
    return count if count >> 31 else count - 1


def main() -> None:
    objects = values() + code()
    gc.collect()
    gc.disable()
    counts = [refcount(objects, index) for index in range(len(objects))]
    lines = []
    for index in range(len(objects)):
        own_repr = isinstance(type(objects[index]).__repr__, types.FunctionType)
        lines.append(
            {
                "id": id(objects[index]),
                "repr": repr(objects[index]),
                "plain": not own_repr,
                "type": type_name(type(objects[index])),
                "type_id": id(type(objects[index])),
                "refcount": counts[index],
                "tracked": gc.is_tracked(objects[index]),
                "size": object.__sizeof__(objects[index]),
                "int": isinstance(objects[index], int),
                "referents": [id(referent) for referent in gc.get_referents(objects[index])],
            }
        )
    text = "".join(json.dumps(line) + "\n" for line in lines)
    with open(sys.argv[1], "w", encoding="utf-8") as file:
        file.write(text)
    for index, line in enumerate(lines):  # counts that move, of shared objects, are no oracle
        if refcount(objects, index) != line["refcount"]:
            line["refcount"] = None
    text = "".join(json.dumps(line) + "\n" for line in lines)
    with open(sys.argv[1], "w", encoding="utf-8") as file:
        file.write(text)
    del file, text, line, lines, counts
    ascii(None)


main()
