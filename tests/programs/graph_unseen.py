"""A cycle through a field that its tp_traverse does not visit.

usage: graph_unseen.py FILE EXTENSIONS    one JSON line with the address; then ascii() is entered, once
"""

import gc
import json
import sys

sys.path.insert(0, sys.argv[2])
import forgotten_field

pair = forgotten_field.Pair()
pair.second = [pair]
address = id(pair)
del pair
gc.collect()
with open(sys.argv[1], "w", encoding="utf-8") as file:
    file.write(json.dumps({"pair": address}) + "\n")
ascii(1)
