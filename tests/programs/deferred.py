"""Frames of generators, of a function that has ended and of one that runs hold classes and functions without counting
them, and so do those of garbage. Prints what gc.collect() found after it has called ascii(obj)."""

import gc
import sys


class Kept:
    pass


def suspended():
    kind, function = Kept, suspended
    yield kind, function


def ended():
    kind, function = Kept, ended
    return sys._getframe(), kind, function


def garbage():
    class Local:
        pass

    def inner():
        pass

    def generator(function=inner):
        kind = Local
        called = function
        yield kind, called

    made = generator()
    next(made)
    Local.made = inner.made = made


def running():
    class Only:  # this frame and no other holds it, and uses it afterwards
        pass

    globals()["Only"] = Only
    del Only
    kind = globals_only()
    del globals()["Only"]
    ascii(obj)
    found = gc.collect()
    return kind() and found


def globals_only():
    return Only  # noqa: F821


gc.collect()
gc.disable()
obj = [Kept, suspended, ended, [suspended() for _ in range(5)], ended()[0]]
for each in obj[3]:
    next(each)
for _ in range(3):
    garbage()
print(running())
