"""A process with many objects, for the benchmark. It measures itself; the debugger stops it in `builtin_ascii`."""

import gc
import json
import sys
import time


class Instance:
    def __init__(self, number):
        self.number = number


def crowd(size):
    make = (lambda n: [n], lambda n: {n: n}, lambda n: (n, []), lambda n: {n}, Instance)
    made = [make[number % len(make)](number) for number in range(size)]
    while len(gc.get_objects()) < size:
        made.append([])
    return made


def web(size):
    """Objects with two references each, to the one before and to another anywhere; the third visit is the list's."""
    made = [[]]
    for number in range(1, size):
        last, other = made[-1], made[number // 2]
        kind = number % 4
        made.append(
            [last, other] if kind == 0 else (last, other) if kind == 1
            else {"x": last, "y": other} if kind == 2 else Instance(other)
        )
    return made


def capture():
    return [(id(found), type(found), sys.getrefcount(found)) for found in gc.get_objects()]


def capture_with_edges():
    return [(id(found), sys.getrefcount(found), gc.get_referents(found)) for found in gc.get_objects()]


def main():
    size, repetitions, told = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    gc.disable()
    walk = capture_with_edges if len(sys.argv) > 4 else capture
    kept = web(size) if len(sys.argv) > 4 else crowd(size)
    gc.collect()  # all in one generation, untracked what need not be tracked
    while len(gc.get_objects()) < size:
        kept.append([])
    for _ in range(repetitions):
        wall, cpu = time.perf_counter(), time.process_time()
        rows = walk()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        with open(told, "a", encoding="utf-8") as file:
            file.write(json.dumps({"objects": len(rows), "wall": wall, "cpu": cpu}) + "\n")
        del rows
        ascii("")  # the debugger's turn


if __name__ == "__main__":
    main()
