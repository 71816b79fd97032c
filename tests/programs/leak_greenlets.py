"""Greenlets that suspended frames lead back to.

usage: leak_greenlets.py leak|ended|apart [stop]

leak: the frames hold what refers to their greenlet; ended: the same, and each is ended; apart: nothing refers to it.
With stop, where it waits for a line: a JSON line by then, what is suspended where.
"""

import gc
import json
import sys

import greenlet


class Node:
    pass


def inner(node):
    greenlet.getcurrent().parent.switch()  # suspended here


def worker(node, apart):
    if not apart:
        node.greenlet = greenlet.getcurrent()
    inner(node)


def start(apart):
    new = greenlet.greenlet(worker)
    new.switch(Node(), apart)
    return new


def through_generators():
    def outer():
        yield from deep()

    def deep():
        greenlet.getcurrent().parent.switch()  # suspended in a generator
        yield 1

    return list(outer())


def no_greenlets():
    """Generators and coroutines that suspended frames lead back to: the collector knows how."""

    def generator(box):
        yield box

    async def coroutine(box):
        await Wait()

    class Wait:
        def __await__(self):
            yield 1

    for make in (generator, coroutine):
        box = []
        box.append(make(box))
        box[0].send(None)


def line_of(text):
    with open(__file__) as source:
        return next(number for number, line in enumerate(source, 1) if line.rstrip().endswith(text))


how = sys.argv[1]
for _ in range(10):
    made = start(how == "apart")
    if how == "ended":
        made.throw()
del made
no_greenlets()
gc.collect()
print(sum(isinstance(each, Node) for each in gc.get_objects()), flush=True)

if "stop" in sys.argv:
    gc.disable()
    no_greenlets()
    never = greenlet.greenlet(worker)
    dead = greenlet.greenlet(int)
    dead.switch()
    deep = greenlet.greenlet(through_generators)
    deep.switch()
    seen = start(True)
    seen.gr_frame.f_back  # 3.12 and later: greenlet rewrites the chain of frames for that

    def ask():
        print(json.dumps({
            "deep": id(deep), "seen": id(seen),
            "inner": line_of("# suspended here"), "generator": line_of("# suspended in a generator"),
        }), flush=True)
        sys.stdin.readline()
        return "asked"

    assert greenlet.greenlet(ask).switch() == "asked"
    deep.throw()
    seen.throw()
