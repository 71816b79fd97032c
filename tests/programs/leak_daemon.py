"""A daemon thread that holds objects in its frames when the interpreter ends: nothing releases them.

Prints the kernel's id of the thread. Argument "joined": it returns, and is waited for.
"""

import sys
import threading
import time


class Held:
    pass


def outer(ready):
    in_outer, alone = Held(), Held()
    inner(ready, in_outer)


def inner(ready, other):
    in_inner = Held()
    in_inner.me = in_inner
    ready.set()
    if "joined" in sys.argv:
        return
    time.sleep(1000)


ready = threading.Event()
keeper = threading.Thread(target=outer, args=(ready,), name="keeper", daemon=True)
keeper.start()
ready.wait()
print(keeper.native_id)
if "joined" in sys.argv:
    keeper.join()
