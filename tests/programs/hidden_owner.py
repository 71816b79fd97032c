"""Correct owners whose references stand in no word that a search of the memory finds: only their tp_traverse tells.

usage: hidden_owner.py EXTENSIONS [lose|parent]    prints a line and waits for one; with `lose` one reference to all is
lost, with `parent` one to an object that its child points to without owning it
"""

import gc
import sys

sys.path.insert(0, sys.argv[1])
import hidden_owner

gc.disable()


def make():
    found = []
    for name in ("Tagged", "Packed", "Handle", "Twice"):
        one = getattr(hidden_owner, name)()
        one.set([one])
        found.append(one)
    return found


make()  # garbage, which the next collection frees
kept = make()
if "lose" in sys.argv:
    hidden_owner.lose(kept)
for _ in range(4):
    kept.append(hidden_owner.Node())
    kept[-1].set(hidden_owner.Node())
if "parent" in sys.argv:
    hidden_owner.lose(kept.pop())
print("ready", flush=True)
sys.stdin.readline()
