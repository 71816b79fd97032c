"""Writes what it knows of its own objects, frames and collections as JSON to the file argv[1], then calls ascii(obj)."""

import gc
import json
import sys
import threading
import traceback


class Node:
    def __init__(self, **attributes):
        self.__dict__.update(attributes)


class Slotted:
    __slots__ = ("one", "two")


def suspended(values, nothing=None):
    for value in values:  # the list's iterator is on the stack, and so is a number that is no object
        got = yield value, nothing
        del got


def told(frame):
    stack = []
    for entry in reversed(traceback.extract_stack(frame)):
        stack.append({"function": frame.f_code.co_qualname, "file": entry.filename, "line": entry.lineno,
                      "locals": sorted(frame.f_locals)})
        frame = frame.f_back
    return stack


def wait(ready, go_on, number=3):
    class Body:
        def own(self) -> number: return __class__
        numbers = [lambda: each for each in (4,)]
        ready.release()
        go_on.wait()
    return number, Body


def main(file):
    ready, go_on = threading.Semaphore(0), threading.Event()
    thread = threading.Thread(target=wait, args=(ready, go_on))
    thread.start()
    ready.acquire()
    generator = suspended([Node(a=1), 2])
    next(generator)
    ended = suspended([1])
    list(ended)
    slotted = Slotted()
    slotted.one = Node(b=[slotted])
    obj = [generator, ended, slotted, Node(c=(1, "two")), {Node(): 4}, {5, None}, int | None, Node, "text", 7 ** 70]
    gc.collect()
    truth = {
        "objects": [[id(each), type(each).__qualname__, sys.getrefcount(each), [id(to) for to in gc.get_referents(each)]]
                    for each in obj],
        "stats": gc.get_stats(),
        "thread": told(sys._current_frames()[thread.ident]),
        "main": told(sys._getframe()),
    }
    text = json.dumps(truth)
    gc.collect()
    tracked = len(gc.get_objects())
    with open(file, "w") as output:
        output.write(f'{text[:-1]}, "tracked": {tracked}}}')
    ascii(obj)
    go_on.set()
    thread.join()


main(sys.argv[1])
