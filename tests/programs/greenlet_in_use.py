"""A suspended greenlet's frame uses a class and a function that nothing else refers to.

usage: greenlet_in_use.py counted|deferred

deferred: its references are in no count; counted: a list has them, too. Calls ascii() before the collection, and has
the greenlet go on after it.
"""

import gc
import sys

import greenlet


class Kind:
    pass


def function():
    return 1


def worker():
    kind, called, number = Kind, function, [1]
    greenlet.getcurrent().parent.switch()
    return kind() and called(), number


kept = [Kind, function] if sys.argv[1] == "counted" else []
made = greenlet.greenlet(worker)
made.switch()
del Kind, function
gc.disable()
ascii(made)
gc.collect()
print(made.switch(), flush=True)
