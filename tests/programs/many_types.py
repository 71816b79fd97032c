"""Has objects of many built-in types, one coroutine of them running, then calls ascii() with all of them."""

import _thread
import abc
import array
import asyncio
import collections
import functools
import io
import itertools
import re


class Thing:
    @property
    def value(self):
        return 1

    @staticmethod
    def function():
        pass


class Registered(metaclass=abc.ABCMeta):
    pass


Registered.register(Thing)
isinstance(Thing(), Registered), isinstance([], Registered)
Thing.__dict__["function"].__func__.extra = Thing()


@functools.lru_cache(maxsize=3)
def cached(argument):
    return [argument]


def generator():
    yield Thing()


async def coroutine():
    thing = Thing()
    await asyncio.sleep(0)
    return thing


async def async_generator():
    thing = Thing()
    yield thing


async def main():
    cached.extra = Thing()
    for argument in (Thing(), Thing(), "text", 3):
        cached(argument)
    reader = io.TextIOWrapper(io.BytesIO(b"line\n" * 3))
    reader.readline()
    reader.extra = Thing()
    chain = itertools.chain([1, 2], [Thing()])
    next(chain)
    started, running, later = generator(), async_generator(), coroutine()
    next(started)
    await running.__anext__()
    task = asyncio.ensure_future(later)
    await asyncio.sleep(0)
    numbers = array.array("d", [1, 2])
    ascii([
        _thread.allocate_lock(), functools.partial(print, Thing(), thing=Thing()), cached, reader, chain, started,
        collections.deque([Thing(), 1]), re.compile("(?P<name>x)"), numbers, memoryview(numbers), task, Thing(),
    ])  # fmt: skip
    await task


asyncio.run(main())
