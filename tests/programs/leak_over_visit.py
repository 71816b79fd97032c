"""over_visit: collects watchers of a list that only a running frame holds; one watcher is left for the end."""

import gc

from leak_rounds import extension, growth

module = extension("over_visit")


def watch():
    watched = ["in use"]
    watcher = module.Watcher(watched)
    watcher.note = watcher
    del watcher
    gc.collect()
    print("watched:", watched)


growth(watch)
watcher = module.Watcher(int)
watcher.note = watcher
