"""Says which functions run and how many objects the collector tracks, then loses one reference.

usage: matrix.py FILE    the functions as a line of JSON, and the number; then ascii() is entered, once
"""

import ctypes
import gc
import json
import sys
import traceback

lost = [object()]


def innermost(file):
    functions = [[frame.name, frame.lineno] for frame in reversed(traceback.extract_stack())]
    file.write(json.dumps(functions) + "\n")
    file.write("%d" % (gc.get_freeze_count() + len(gc.get_objects())))  # what is made from here on is not tracked
    file.flush()
    ascii("here refdbg looks")


def outer(name):
    with open(name, "w") as file:
        innermost(file)


if len(sys.argv) > 1:
    outer(sys.argv[1])
ctypes.pythonapi.Py_IncRef(ctypes.py_object(lost))
