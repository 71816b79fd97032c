"""Makes objects in several threads, two that end and one that waits, and tells what gc.get_objects() knows.

Into the file of the first argument, as JSON: "objects", the ids of those that are tracked, and "counts", of some objects
[id, how many references they have at the end].
"""

import gc
import sys
import threading


class Node:
    pass


kept, big = [], []
begun, end = threading.Event(), threading.Event()
together = threading.Barrier(2)  # a thread that begins when another has ended may get its number, and its objects


def end_at_once():
    together.wait()
    kept.extend([{"a": [number], "b": bytes(50 + number)} for number in range(2000)])


def wait():
    mine = [[number] for number in range(3000)]
    kept.extend(mine[::2])
    begun.set()
    end.wait()


waiting = threading.Thread(target=wait, daemon=True)
waiting.start()
ended = [threading.Thread(target=end_at_once) for _ in range(2)]
for thread in ended:
    thread.start()
for thread in ended:
    thread.join()
begun.wait()
big = [bytes(100_000) for _ in range(30)]
huge = bytearray(40_000_000)
nodes = [Node() for _ in range(500)]
for node in nodes:
    node.me = node
del kept[::3], nodes[::2], big[::2], node  # blocks of each thread are freed, some of them by another one
gc.disable()

# Less the tuple's, the variable's and until 3.13 the argument's reference; later the list of all objects has one.
alone = [Node()]
more = [sys.getrefcount(each) for each in (alone[0],)][0] - 1
counts = [[id(each), sys.getrefcount(each) - more + 1] for each in (kept[0], kept[1333], kept[-1])]
gc.collect()
objects = gc.get_objects()
known = [id(each) for each in objects]
with open(sys.argv[1], "w", encoding="utf-8") as file:
    file.write(f'{{"objects": {known}, "counts": {counts}}}')
ascii(0)
