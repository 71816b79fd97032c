"""_weakref: importlib is imported afresh, from its sources, as test_importlib does; no subinterpreter, no end needed."""

import importlib
import sys

from leak_rounds import growth


def import_importlib_again():
    saved = {name: module for name, module in sys.modules.items() if "importlib" in name}
    for name in saved:
        del sys.modules[name]
    sys.modules["_frozen_importlib"] = sys.modules["_frozen_importlib_external"] = None
    try:
        assert importlib.__import__("importlib") is not importlib
    finally:
        for name in [name for name in sys.modules if "importlib" in name]:
            del sys.modules[name]
        sys.modules.update(saved)


growth(import_importlib_again)
