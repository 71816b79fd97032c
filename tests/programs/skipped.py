"""Makes cycles with objects of a type named Skipped, which a patched collector does not look into, and collects."""

import gc


class Skipped:
    pass


class Other:
    pass


gc.collect()
gc.disable()
for _ in range(3):
    skipped = Skipped()
    skipped.items = [skipped]
    other = Other()
    other.items = [other]
del skipped, other
gc.collect()
