"""For each CASE:GENERATION of the arguments, gives an object to ascii() and then collects that generation."""

import gc
import sys

gc.disable()
kept = []


class Node:
    def __init__(self):
        self.me = self


class Finalized(Node):
    def __del__(self):
        pass


class Phoenix(Node):
    def __del__(self):
        kept.append(self)


class Breaker(Node):
    def __del__(self):
        self.me = None


class Holder:
    pass


def held():
    node = Node()
    ascii(node)
    collect()
    return node


def reached():
    holder = Holder()
    holder.item = [Node()]
    ascii(holder.item[0])
    collect()
    return holder


def garbage(kind):
    def make():
        ascii(kind())

    make()
    collect()


def outlived():
    def make():
        node = Node()
        ascii(node)
        node.me = None

    make()
    collect()


def collect():
    gc.collect(generation)


def old():
    node = Node()
    gc.collect()
    ascii(node)
    del node
    for each in 0, 1, 2:
        gc.collect(each)


def save_all():
    gc.set_debug(gc.DEBUG_SAVEALL)
    garbage(Node)
    gc.set_debug(0)


def untracked():
    ascii((1, "text"))


def frozen():
    node = Node()
    gc.freeze()
    ascii(node)


def legacy():
    from _testcapi import with_tp_del

    @with_tp_del
    class Legacy(Node):
        def __tp_del__(self):
            pass

    garbage(Legacy)


cases = {
    "node": lambda: garbage(Node), "finalized": lambda: garbage(Finalized), "phoenix": lambda: garbage(Phoenix),
    "text": lambda: ascii("text"), "breaker": lambda: garbage(Breaker), "skipped": lambda: garbage(type("Skipped", (Node,), {})),
}
for argument in sys.argv[1:]:
    case, _, number = argument.partition(":")
    generation = int(number)
    gc.collect()
    cases.get(case, globals().get(case))()
