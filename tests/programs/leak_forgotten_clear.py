"""forgotten_clear: cycles that are found, and not broken."""

from leak_rounds import extension, growth

module = extension("forgotten_clear")
Box = getattr(module, "Box", module.Pair)
Derived = type("Derived", (Box,), {}) if Box is not module.Pair else Box  # the control's has no subclasses


def cycles():
    for _ in range(20):
        pair = module.Pair()
        pair.second = [(pair,)]  # the list breaks this one: no defect shows
        pair = module.Pair()
        pair.second = (pair,)
        box = Box()
        box.second = (box, "more")
        box = Derived()
        box.second = box


growth(cycles)
