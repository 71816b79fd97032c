"""Python and C functions that call each other. Calls ascii() before they do, and inside the innermost."""

import functools
import heapq
import threading


class Ordered:
    def __lt__(self, other):
        return between(other)


def between(other):
    return innermost(other)


def innermost(other):
    return bool(ascii("the end"))


def pushing():
    heap = [Ordered()]
    heapq.heappush(heap, Ordered())


def reducing(first, second):
    pushing()


def key(value):
    return folding()


def folding():
    return functools.reduce(reducing, [1, 2])


def sorting():
    return sorted([1], key=key)


def generator():
    yield sorting()


def collecting():
    return list(generator())


def main():
    collecting()


lock = threading.Lock()
lock.acquire()
threading.Thread(target=lock.acquire, daemon=True).start()
waiting = threading.Thread(target=lambda: lock.acquire(timeout=-1), daemon=True)
waiting.start()
ascii("the start")
main()
