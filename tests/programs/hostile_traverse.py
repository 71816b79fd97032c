"""Objects whose tp_traverse loops, crashes or writes: arguments FOLDER (of the extensions), FILE. Writes [id, [ids]] for
every tracked object: gc.get_referents, or for the hostile ones what they visit (nothing known: 1), then calls ascii()."""

import datetime
import gc
import importlib.util
import json
import os
import shutil
import sys
import tempfile
import time

gc.disable()  # the collector must never see these objects
EACH = 20
JUNK = 0xDEADBEEF1


def load(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


path = os.path.join(sys.argv[1], "hostile_traverse.so")
module = load("hostile_traverse", path)
folder = tempfile.mkdtemp()
shutil.copy(path, os.path.join(folder, "unlinked.so"))
unlinked = load("unlinked.hostile_traverse", os.path.join(folder, "unlinked.so"))
shutil.rmtree(folder)

names = (
    "Honest", "Counting", "Sse", "Scribbling", "Avx", "SseAvx", "Bmi", "Looping", "Endless", "Crashing", "Jumping", "Junk"
)
held = [[number] for number in range(EACH)]
hostile = {name: [getattr(module, name)(one) for one in held] for name in names}
from_unlinked = [unlinked.Honest(held), unlinked.Sse(held), unlinked.Crashing(held)]
structs = [os.stat("."), time.localtime(), sys.flags, sys.version_info, datetime.datetime_CAPI]
visited = {}
for one in from_unlinked[:2]:
    visited[id(one)] = gc.get_referents(one)
visited[id(from_unlinked[2])] = []
for name, many in hostile.items():
    for one, other in zip(many, held):
        if name in ("Honest", "Counting", "Sse"):
            visited[id(one)] = gc.get_referents(one)
        elif name in ("Bmi", "Junk"):  # not every CPU has it; a list cannot hold it
            visited[id(one)] = [type(one), other]
        else:
            visited[id(one)] = []
told = thing = one = other = many = None
things = gc.get_objects()
with open(sys.argv[2], "w", encoding="utf-8") as told:
    for thing in things + structs:
        if thing is globals() or thing is visited:  # they change
            continue
        if id(thing) in visited:
            ids = [id(one) for one in visited[id(thing)]] or [1]
            if type(thing) is module.Junk:
                ids.append(JUNK)
        else:
            ids = [id(referent) for referent in gc.get_referents(thing)]
        told.write(json.dumps([id(thing), ids]) + "\n")
ascii("now")
os._exit(0)
