"""Does something KIND of thing in each of several repetitions, and prints by how much the total of references grew."""

import ctypes
import gc
import sys

REPETITIONS = 6


class Thing:
    pass


old = Thing()
kept = []
add_reference = ctypes.pythonapi.Py_IncRef
add_reference.argtypes = [ctypes.py_object]


def keep(number):
    kept.append([Thing()])


def keep_once(number):
    if number < 2:
        kept.append([Thing()])


def lose_new(number):
    add_reference(Thing())


def lose_old(number):
    add_reference(old)
    add_reference(None)


def keep_old(number):
    kept.append(old)
    kept.append(None)


def up_and_down(number):
    kept[:] = [] if number % 2 else [Thing() for _ in range(5)]


def nothing(number):
    pass  # but for the first total, which is an object itself


do = globals()[sys.argv[1]]
numbers = list(range(REPETITIONS))
totals = [0] * REPETITIONS
deltas = [0] * REPETITIONS
pool = {number: number for number in range(-1000, 1000)}  # as regrtest does: the numbers themselves must not count
for i in numbers:
    do(i)
    gc.collect()
    total = sys.gettotalrefcount()
    deltas[i] = pool.get(total - totals[0], 0)
    totals[0] = total
print(*deltas[1:])
