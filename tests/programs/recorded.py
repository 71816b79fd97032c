"""Something of everything that the commands show, for one stop that is looked at in several ways."""

import threading


class Node:
    def __init__(self, name):
        self.name = name
        self.next = None


class Slotted:
    __slots__ = ("left", "right")


secret = "a secret that is nobody's business: " + "x" * 8
keep = [Node(f"node {number}") for number in range(50)]
held = {"the key": Node("held"), (1, 2): {3.5, b"bytes of a secret"}}
ring = [Node("one"), Node("two")]
ring[0].next, ring[1].next = ring[1], ring[0]
garbage = Node("garbage")
garbage.next = garbage
del garbage
slotted = Slotted()
slotted.left = slotted
event = threading.Event()
thread = threading.Thread(target=event.wait, daemon=True)
thread.start()
while not event._cond._waiters:
    pass


def inner(argument):
    local = [argument]
    ascii(argument)
    return local


inner(ring[0])
