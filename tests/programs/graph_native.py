"""An object that a malloc'ed struct of an extension holds, whose owner has died.

usage: graph_native.py FILE EXTENSIONS    one JSON line with the address; then ascii() is entered, once
"""

import json
import sys

sys.path.insert(0, sys.argv[2])
import native_owner


class Callback:
    pass


callback = Callback()
native_owner.Subscription(callback)
address = id(callback)
del callback
with open(sys.argv[1], "w", encoding="utf-8") as file:
    file.write(json.dumps({"callback": address}) + "\n")
ascii(1)
