"""Objects that are held in known ways.

usage: graph_oracle.py FILE    one JSON line with their addresses; then ascii() is entered, once
"""

import ctypes
import gc
import json
import signal
import sys
import threading


class Node:
    def __init__(self, name):
        self.name = name


class Slotted:
    __slots__ = ("other",)


gc.collect()
gc.disable()

# A chain from a global of this module.
leaf = Node("leaf")
registry = {"chain": [None, {"deep": leaf}]}

# Two groups of garbage: a ring of two, and one that a third object leads to.
first, second = Node("first"), Node("second")
first.other, second.other = second, first
slotted = Slotted()
slotted.other = (slotted,)
tail = Node("tail")
tail.ring = slotted
tail.me = tail

# A cycle that a global holds.
alive = Node("alive")
alive.child = Node("child")
alive.child.parent = alive

# A handler that nothing but C's table holds.
def handler(*_):
    pass


signal.signal(signal.SIGUSR2, handler)

# What goes with one object.
heavy = Node("heavy")
heavy.load = [[number] for number in range(1000, 2000)]
light = Node("light")
light.load = heavy.shared = [bytes(10_000)]

# In a cycle that is garbage: it cannot be seen from it that it holds a lock.
locked = Node("locked")
locked.lock = threading.Lock()
locked.me = locked
locked.payload = ["text of the payload"]

# A reference that nobody has.
lost = Node("lost")
ctypes.pythonapi.Py_IncRef(ctypes.py_object(lost))

names = ("leaf", "first", "slotted", "tail", "alive", "handler", "heavy", "light", "locked", "lost")
told = {name: id(globals()[name]) for name in names}
told["child"] = id(alive.child)
told["lock"] = id(locked.lock)
told["table"] = id(registry)
told["payload"] = id(locked.payload)
told["text"] = id(locked.payload[0])
told["lock_type"] = id(type(locked.lock))
with open(sys.argv[1], "w", encoding="utf-8") as file:
    file.write(json.dumps(told) + "\n")
del leaf, first, second, slotted, tail, handler, locked, lost


def running():
    local = Node("local")
    local.me = [local]
    ascii(local)


running()
