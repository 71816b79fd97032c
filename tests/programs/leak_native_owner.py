"""native_owner: objects that end and leave a malloc block with a reference behind."""

from leak_rounds import extension, growth

module = extension("native_owner")


def subscribe():
    for _ in range(100):
        module.Subscription(lambda: None)


growth(subscribe)
