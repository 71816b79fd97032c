"""Objects that a collection finds and does not free: argv[1] says which."""

import gc
import os
import sys

gc.disable()
kept = []


class Node:
    def __init__(self, other=None):
        self.me = self
        self.other = other


class Phoenix(Node):
    def __del__(self):
        kept.append(self)


class Rescuer(Node):
    def __del__(self):
        kept.append(self.other)
        self.other = self.me = None


class Leaking(Node):
    def __del__(self):
        import ctypes

        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self))


def phoenix():
    for _ in range(3):
        Phoenix(Node())
        gc.collect()
    kept.clear()


def rescued():
    Rescuer(Node())
    gc.collect()


def phoenix_stays():
    phoenix()
    Phoenix(Node())
    gc.collect()
    os._exit(0)  # what is left over is not known


def rescued_stays():
    rescued()
    os._exit(0)


def leaking():
    Leaking()
    gc.collect()


def save_all():
    gc.set_debug(gc.DEBUG_SAVEALL)
    for _ in range(4):
        Node()
    gc.collect()
    gc.set_debug(0)
    gc.garbage.clear()


def saved_at_exit():
    gc.set_debug(gc.DEBUG_SAVEALL)
    for _ in range(50):
        Node()
    gc.collect()


def legacy():
    from _testcapi import with_tp_del

    @with_tp_del
    class Legacy(Node):
        __qualname__ = "Legacy"

        def __tp_del__(self):
            pass

    Legacy(Node())
    Legacy()
    gc.collect()
    for item in gc.garbage:
        item.__dict__.clear()
    gc.garbage.clear()


globals()[sys.argv[1]]()
