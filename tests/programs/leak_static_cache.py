"""static_cache: a cache that grows with each new name."""

from leak_rounds import extension, growth

module = extension("static_cache")
names = (f"name {number}" for number in range(10**6))


def look_up():
    for _ in range(100):
        module.lookup(next(names))


growth(look_up)
