"""function_static: caches in statics of functions. The control has no such functions."""

from leak_rounds import extension, growth

module = extension("function_static")


def remember():
    for name in ("spam", "eggs"):
        if hasattr(module, "first"):
            module.first(f"first {name}")
            module.second(f"second {name}")


growth(remember)
