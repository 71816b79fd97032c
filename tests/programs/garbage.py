"""Collections with cycles, finalizers, resurrection, subclasses, generators and threads."""

import gc
import threading


class Node:
    def __init__(self, other=None):
        self.other = other or self


class Loud(Node):
    def __del__(self):
        pass


class Lazarus(Node):
    alive = []

    def __del__(self):
        Lazarus.alive.append(self)


def generator(cycle):
    cycle.append(generator)
    yield cycle


def make(count):
    for _ in range(count):
        Node()
        Loud(Node())
        Node(Node(Loud()))
        cycle = []
        cycle.append(generator(cycle))
        next(cycle[0])

        class Local:
            pass


make(50)
gc.collect()
Lazarus()
gc.collect()
threads = [threading.Thread(target=make, args=(300,)) for _ in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
gc.freeze()
make(10)
gc.collect(1)
