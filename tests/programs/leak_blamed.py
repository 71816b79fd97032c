"""Objects that come and go at one address; the last of them is the one that C code forgets. Arguments: folder, way."""

import sys

sys.path.insert(0, sys.argv[1])
import blamed


class Thing:
    pass


class Holder:
    pass


def come_and_go():
    for _ in range(20):
        thing = Thing()
        blamed.hold(thing)


def kept():
    thing = Thing()
    things = [thing, thing]
    blamed.hold(thing)
    blamed.keep(thing)
    blamed.hold(thing)
    things.clear()


def fetched():
    holder = Holder()
    holder.held = Thing()
    blamed.look(holder)
    blamed.fetch(holder)
    blamed.look(holder)


come_and_go()
{"kept": kept, "fetched": fetched, "clean": come_and_go}[sys.argv[2]]()
