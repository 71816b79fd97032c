"""A class that C code alone holds, on its stack and without counting it, while it calls it.

Calls ascii() with a weak reference to the class, and prints what gc.collect() found then.
"""

import gc
import weakref

import _testcapi


class Meta(type):
    def __call__(cls):  # instead of making an object, with `self` nowhere: a type is no method
        del cls, Sized.__len__
        return called()


class Sized:
    __len__ = Meta("Length", (), {})


def called():
    ascii(length)
    return gc.collect()


_testcapi.pyobject_enable_deferred_refcount(Sized.__len__)
length = weakref.ref(Sized.__len__)
gc.collect()
gc.disable()
print(len(Sized()), length() is None)
