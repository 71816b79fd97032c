"""Visits without a reference that a debug build's collector aborts on: argv[2] says which. Argument: FOLDER."""

import gc

from leak_rounds import sys

sys.path.insert(0, sys.argv[1])
over_visit = __import__("over_visit")


def twice():
    watched = ["in use"]
    kept = [over_visit.Watcher(watched), over_visit.Watcher(watched)]
    gc.collect()
    return kept


def at_exit():
    global registry, watcher
    registry = {"watched": ["in use"]}
    watcher = over_visit.Watcher(registry["watched"])


def too_few():
    import ctypes

    global one, two
    one = two = ["counted too low"]
    ctypes.pythonapi.Py_DecRef(ctypes.py_object(one))
    gc.collect()


gc.disable()
globals()[sys.argv[2]]()
