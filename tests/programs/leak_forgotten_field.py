"""forgotten_field: cycles through a field that tp_traverse does not visit."""

from leak_rounds import extension, growth

module = extension("forgotten_field")


def cycles():
    for _ in range(100):
        pair = module.Pair()
        pair.second = pair


growth(cycles)
