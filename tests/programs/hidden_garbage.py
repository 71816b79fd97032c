"""Leaves seven unreachable objects uncollected, then calls ascii() with an object that holds a lock."""

import gc
import threading


class Node:
    pass


gc.collect()
gc.disable()
for _ in range(3):
    node = Node()
    node.me = [node]
node = Node()
node.lock = threading.Lock()
node.me = node
alone = []
alone.append(alone)
del alone
ascii(node)
