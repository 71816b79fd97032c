"""At the stop: a lost list, garbage that no collection frees, garbage that one would free, and a module full of life."""

import ctypes
import gc
import sys

sys.path.insert(0, sys.argv[1])
import forgotten_field

gc.disable()
kept = {"name": ["alive"]}
lost = ["lost", "for", "good"]
for _ in range(9):  # more than stale words on the C stack can stand for
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(lost))
del lost
for _ in range(5):
    pair = forgotten_field.Pair()
    pair.second = pair
    garbage = []
    garbage.append(garbage)
del pair, garbage
ascii(kept)
