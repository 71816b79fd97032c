"""Objects that come and go at one address; the last of them is the one that C code forgets. Arguments: folder, way.

Ways: kept, fetched, come_and_go, from_a_thread; other FILE: what is left over is another thing each time.
"""

import os
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


def other():
    things = [object() if os.path.exists(sys.argv[3]) else Thing() for _ in range(40)]
    open(sys.argv[3], "w").close()
    blamed.keep(things[20])


def from_a_thread():
    import threading

    thing = Thing()
    thread = threading.Thread(target=lambda: blamed.keep(thing))
    thread.start()
    thread.join()


print("out")
come_and_go()
globals()[sys.argv[2]]()
