"""What the leak_*.py programs share: do something several times and print how the references grow."""

import gc
import importlib
import sys

ROUNDS = 3
total = getattr(sys, "gettotalrefcount", lambda: 0)  # a release build does not count


def growth(action):
    """Run *action* ROUNDS times; print the total of references before, after, and what each round added."""
    totals = [0] * (ROUNDS + 1)
    gc.collect()
    totals[0] = total()
    for number in range(ROUNDS):
        action()
        gc.collect()
        totals[number + 1] = total()
    print("references:", *totals)
    print("growth:", *(after - before for before, after in zip(totals, totals[1:])))


def in_subinterpreters(script):
    """The growth of *script*, each time run in a subinterpreter of its own, which then ends."""
    import _xxsubinterpreters

    def action():
        interpreter = _xxsubinterpreters.create(isolated=False)
        _xxsubinterpreters.run_string(interpreter, script)
        _xxsubinterpreters.destroy(interpreter)

    growth(action)


def extension(name):
    """Import the module *name* of tests/extensions, or "control" instead: arguments FOLDER [control]."""
    if sys.argv[1] not in sys.path:
        sys.path.insert(0, sys.argv[1])
    return importlib.import_module(sys.argv[2] if len(sys.argv) > 2 else name)


def extension_again(name):
    """The same, made anew."""
    sys.modules.pop(extension(name).__name__)
    return extension(name)
