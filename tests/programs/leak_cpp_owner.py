"""cpp_owner: callbacks that C++ objects keep."""

from leak_rounds import extension, growth

module = extension("cpp_owner")


def subscribe():
    for _ in range(100):
        module.subscribe(lambda: None)


growth(subscribe)
