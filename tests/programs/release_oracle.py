"""What is alive, by the program itself, for builds of which nothing is printed at the end.

usage: release_oracle.py FILE    one JSON object; then a line of standard output, and it waits for one of standard input
"""

import collections
import gc
import json
import os
import sys
import threading


class Node:
    def __init__(self, number):
        self.number = number


class Slotted:
    __slots__ = ("held",)


gc.collect()
gc.disable()
nodes = [Node(float(number)) for number in range(100)]
slotted = Slotted()
slotted.held = {"untracked": 1.5}
# More than 512 bytes each: malloc's, some of them mapped by themselves.
large = [
    "x" * 10_000, "y" * 300_000, b"z" * 700, tuple(str(number) for number in range(1000)),
    {str(number): float(number) for number in range(500)}, list(range(10_000, 10_800)), set(range(2000, 4000)),
    collections.deque(str(number) for number in range(300)), 10**4000, frozenset(str(number) for number in range(500)),
]
thread = threading.Thread(target=lambda: large.append("w" * 2000))  # of a heap that is the thread's own
thread.start()
thread.join()
del thread


def closure():
    """The ids of what is tracked, and of all that get_referents() leads to from there, with their types' names."""
    objects = gc.get_objects()
    tracked = [id(each) for each in objects]
    found = {}
    while objects:
        each = objects.pop()
        if id(each) not in found and each is not objects and each is not found:
            found[id(each)] = type(each).__name__
            objects += gc.get_referents(each)
    return tracked, found


def told(file):
    closure()  # free lists and caches are filled by now
    tracked, found = closure()
    types = collections.Counter(type(each).__name__ for each in gc.get_objects())
    counts = {"Node": sys.getrefcount(Node) - 1, "large": sys.getrefcount(large) - 1}
    with open(file, "w", encoding="utf-8") as output:
        json.dump({
            "tracked": tracked, "reachable": found, "types": types, "refcounts": counts,
            "blocks": sys.getallocatedblocks(), "Node": id(Node), "large": id(large), "empty": id(()), "version": sys.version.split()[0],
        }, output)  # fmt: skip
    os.getppid()  # a debugger stops here
    print("ready", flush=True)
    sys.stdin.readline()


told(sys.argv[1])
