"""Makes garbage of known kinds, collects it, and writes what it knows of each collection to the file argv[1]."""

import gc
import json
import sys
import threading

gc.disable()
truth = []
infos = []
kept = []


def note(phase, info):
    if phase == "stop":
        infos.append(dict(info))


class Node:
    __slots__ = ("me", "__weakref__")


class Finalized(Node):
    calls = 0

    def __del__(self):
        Finalized.calls += 1


class Inheriting(Finalized):
    __slots__ = ()


class Phoenix(Node):
    def __del__(self):
        kept.append(self)


class Breaker(Node):
    def __del__(self):
        self.me = None


def cycles(cls, number):
    for _ in range(number):
        node = cls()
        node.me = node


def collect(name, generation=2, after=lambda: {}, **more):
    infos.clear()
    before = [row["collections"] for row in gc.get_stats()]
    tracked = len(gc.get_objects()) if generation == 2 else None
    returned = gc.collect(generation); line = sys._getframe().f_lineno  # noqa: E702
    ran = [row["collections"] - old for row, old in zip(gc.get_stats(), before)]
    truth.append({
        "name": name, "generation": generation, "returned": returned, "line": line, "tracked": tracked,
        "infos": list(infos), "ran": ran, "thread": threading.get_native_id(), **more, **after(),
    })


def suspended():
    me = []
    generator = wait(me)
    me.append(generator)
    next(generator)


def wait(me):
    try:
        yield me
    finally:
        me.clear()


gc.collect()
gc.callbacks.append(note)

collect("nothing")
cycles(Node, 50)
collect("plain", by_type={"__main__.Node": 50})
cycles(Finalized, 20)
cycles(Inheriting, 3)
collect("finalizers", by_type={"__main__.Finalized": 20, "__main__.Inheriting": 3},
        defined=Finalized.__del__.__code__.co_firstlineno, after=lambda: {"calls": Finalized.calls})
cycles(Phoenix, 7)
collect("resurrection", by_type={"__main__.Phoenix": 7}, after=lambda: {"kept": len(kept)})
kept.clear()
collect("second death", by_type={"__main__.Phoenix": 7}, after=lambda: {"kept": len(kept)})
cycles(Breaker, 4)
collect("freed early", by_type={"__main__.Breaker": 4})
for generation in 0, 1:
    cycles(Node, 6 + generation)
    collect(f"generation {generation}", generation, by_type={"__main__.Node": 6 + generation})
suspended()
collect("generator")
frozen = [Node() for _ in range(5)]
for node in frozen:
    node.me = node
gc.freeze()
del frozen, node
collect("frozen")
gc.unfreeze()
collect("unfrozen", by_type={"__main__.Node": 5})
gc.set_debug(gc.DEBUG_SAVEALL)
cycles(Node, 8)
collect("save all", by_type={"__main__.Node": 8}, after=lambda: {"garbage": len(gc.garbage)})
gc.set_debug(0)
gc.garbage.clear()
gc.collect()
infos.clear()
try:
    from _testcapi import with_tp_del
except ImportError:
    pass
else:

    @with_tp_del
    class Legacy:
        __slots__ = ("me",)

        def __tp_del__(self):
            pass

    Legacy.__qualname__ = "Legacy"
    gc.collect()
    legacy = Legacy()
    legacy.me = legacy
    del legacy
    collect("legacy", after=lambda: {"garbage": len(gc.garbage)})
    gc.garbage[0].me = None
    gc.garbage.clear()
    gc.collect()

gates = [threading.Event() for _ in range(3)]


def in_turn(number):
    gates[number].wait()
    cycles(Node, number + 1)
    collect(f"thread {number}", number, by_type={"__main__.Node": number + 1})
    if number < 2:
        gates[number + 1].set()


threads = [threading.Thread(target=in_turn, args=(number,)) for number in range(3)]
for thread in threads:
    thread.start()
gates[0].set()
for thread in threads:
    thread.join()
del threads, thread


def allocate():
    while not infos:
        kept.append([])


gc.collect()
infos.clear()
gc.set_threshold(700, 10, 10)
gc.enable()
allocate()
gc.disable()
truth.append({"name": "allocation", "generation": infos[0]["generation"], "infos": list(infos)})
gc.callbacks.remove(note)

with open(sys.argv[1], "w") as file:
    json.dump(truth, file)
