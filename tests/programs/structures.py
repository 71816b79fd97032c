"""Frames, suspended functions and counts of all kinds, made without an import of the standard library.

Prints what it knows of itself, as two Python literals, and waits for ever.
"""

import _thread
import gc
import sys


class Node:
    def __init__(self, **attributes):
        self.__dict__.update(attributes)


class Slotted:
    __slots__ = ("one", "two")


class Sized:
    def __len__(self):  # called from C
        return recurse(3, slotted.one)


class Kept:
    """Held by frames, which do not count it in a free-threaded build."""


def suspended(values, nothing=None):
    kind, called = Kept, suspended
    for value in values:  # the list's iterator is on the stack, and so is a number that is no object
        yield value, nothing
    return kind, called


def delegating(values):
    inner = suspended(values)
    yield from inner


class Awaited:
    def __await__(self):
        kind = Kept
        yield 1
        return kind


async def inner(number):
    await Awaited()
    return number


async def outer(number):
    made = [number]
    await inner(number + 1)
    return made


async def asynchronous():
    for number in range(5):
        yield number


def ended():
    kind = Kept
    return sys._getframe(), kind


def wait(kind, number=3):
    made = [Node(number=each) for each in range(200)]
    kept.extend(made[::2])
    for _ in range(3):
        count(number)
    begun.release()
    go_on.acquire()  # LINE wait
    return kind, made


def count(number):
    return number + 1


def end_at_once():
    kept.extend([{"a": [number]} for number in range(300)])
    done.release()


def of_class(class_):
    return f"{class_.__module__}.{class_.__qualname__}"


def stack(frame):
    """A thread's frames, innermost first."""
    found = []
    while frame is not None:
        code = frame.f_code
        found.append((code.co_qualname, code.co_filename, frame.f_lineno, sorted(frame.f_locals)))
        frame = frame.f_back
    return found


def counts(objects):
    """What sys.getrefcount() says, less what the loop and the call have."""
    found = [sys.getrefcount(each) for each in objects]
    alone = [Node()]
    return [each - [sys.getrefcount(one) for one in alone][0] + 1 for each in found]


def recurse(depth, argument):
    if depth:
        return recurse(depth - 1, argument)
    return stop(argument)


def stop(argument):
    kind, called, local = Kept, stop, argument
    stacks = {ident: stack(frame) for ident, frame in sys._current_frames().items()}
    tracked = {}
    truth = {
        "version": sys.version,
        "objects": [(id(each), of_class(type(each)), [id(to) for to in gc.get_referents(each)]) for each in objects],
        "reprs": [repr(each) for each in plain],
        "plain": [id(each) for each in plain],
        "counts": counts(objects),
        "nodes": sum(type(each) is Node for each in gc.get_objects()),
        "kept": id(Kept), "called": id(Sized.__len__), "Node": id(Node), "size": Slotted.__basicsize__, "flags": Slotted.__flags__,
        "thread": _thread.get_ident(), "stacks": stacks,
        "suspended": [
            (id(generator), generator.gi_code.co_qualname, generator.gi_frame.f_lineno, sorted(generator.gi_frame.f_locals))
            for generator in generators
        ],
        "coroutine": (id(coroutine), coroutine.cr_frame.f_lineno, id(coroutine.cr_await)),
    }
    print(truth, flush=True)
    del truth, stacks
    for each in gc.get_objects():
        tracked[type(each)] = tracked.get(type(each), 0) + 1
    print({of_class(class_): number for class_, number in tracked.items()}, flush=True)
    tracked.clear()
    go_on.acquire()  # LINE stop
    return len((kind, local))


kept, begun, go_on, done = [], _thread.allocate_lock(), _thread.allocate_lock(), _thread.allocate_lock()
for lock in (begun, go_on, done):
    lock.acquire()
gc.collect()
gc.disable()
_thread.start_new_thread(wait, (Kept,))
begun.acquire()
_thread.start_new_thread(end_at_once, ())
done.acquire()
while len(sys._current_frames()) > 2:  # its thread is still ending
    pass

slotted = Slotted()
slotted.one = Node(b=[slotted])
generators = [suspended([Node(a=1), 2]), delegating((3, 4)), suspended([]), suspended([5])]
for generator in generators[:2]:
    next(generator)
generator = generators[2]
list(generator)  # it has ended
generators.remove(generator)
coroutine = outer(6)
coroutine.send(None)
producer = asynchronous()
try:
    producer.asend(None).send(None)
except StopIteration:
    pass
frame = ended()[0]
garbage = Node()
garbage.me = garbage
del garbage, kept[::3]
objects = [*generators, coroutine, producer, frame, slotted, slotted.one, kept[0], kept[-1], [Node()], {Node(): 4}, {5, 2.5},
           (kept, "two"), stop, Awaited(), Kept, Node]
plain = ["text", "é€𝄞", b"bytes", 7**70, -2.5, (1, ("two", None)), [True, {3: frozenset([4])}]]
len(Sized())
