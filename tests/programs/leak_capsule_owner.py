"""capsule_owner: objects that keep a capsule which owns them."""

from leak_rounds import extension, growth

module = extension("capsule_owner")


class Thing:
    pass


def attach():
    for _ in range(100):
        thing = Thing()
        thing.handle = module.hold(thing)


growth(attach)
