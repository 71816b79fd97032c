"""What the other interpreters hold of the objects that were made while one of them was there."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import compress

from refdbg.cpython.owned import Owned
from refdbg.cpython.runtime import Interpreter
from refdbg.cpython.stop import Stop
from refdbg.cpython.storage import owned_edges
from refdbg.errors import DecodeError, TargetError
from refdbg.graph.rows import NO_ROW, Rows


def held_by_others(stop: Stop, interpreter: Interpreter, own: frozenset[int], rows: Iterable[int]) -> set[int]:
    """Those of the *rows* of the heap that the other interpreters hold: what they track, run and keep, and what hangs
    on it.

    *own*: what the ending interpreter's collector tracked at its last moment (``PyObject *``). That is its own, whoever
    holds it now, and so is what only it holds. Raises RefdbgError.
    """
    wanted = set(rows)
    index = stop.heap.index
    roots = {row for row in index.of(list(_held(stop, interpreter))) if row != NO_ROW}
    mine = {row for row in index.of(list(own)) if row != NO_ROW}
    if wanted.isdisjoint(roots) and _only_mine(stop, wanted, mine, roots):
        return set()
    edges = owned_edges(stop)
    # Where both have put something (a static type's table of subclasses), what else is there may be the leak's.
    shared = {row for row in roots if not mine.isdisjoint(edges.of(row))}
    return (edges.reach(list(roots - shared), mine | shared) | shared) & wanted


def _only_mine(stop: Stop, wanted: Iterable[int], mine: set[int], roots: set[int]) -> bool:
    # Whether the known owners of what is wanted, as many as it has references, lead to *mine* and nowhere else. That is
    # most often so, and need not be searched among all references of the heap.
    objects, known, index = stop.heap.objects, stop.known, stop.heap.index
    owned = Owned(stop.texts)
    owners: defaultdict[int, list[int]] = defaultdict(list)
    for row in known.others & mine.union(wanted):
        with suppress(DecodeError, TargetError):
            for each in owned.references(objects.addresses[row]):
                if each.exact:
                    owners[index.get(each.target)].append(row)
    seen = set(mine)
    todo = set(wanted) - seen
    while todo:
        seen |= todo
        addresses = frozenset(map(objects.addresses.__getitem__, todo))
        for place in compress(range(len(known.targets)), map(addresses.__contains__, known.targets)):
            owners[index[known.targets[place]]].append(bisect_right(known.starts, place) - 1)
        if any(len(owners[row]) != (objects.refcounts[row] or -1) for row in todo):
            return False  # of a deferred count (0, free-threaded) nothing follows
        todo = {owner for row in todo for owner in owners[row]} - seen
        for row in todo & roots:
            if mine.isdisjoint(index.of(known.targets[known.starts[row] : known.starts[row + 1]])):
                return False  # that one is theirs alone, and holds it
        todo -= roots
    return True


def _held(stop: Stop, interpreter: Interpreter) -> Iterator[int]:
    # What the other interpreters have themselves (``PyObject *``), and words that may be such.
    owned = Owned(stop.texts)
    for other in stop.runtime.interpreters():
        if other.address != interpreter.address:
            yield from stop.lists.tracked(other).addresses
            yield from _state_words(stop, other)
            for thread in stop.runtime.threads(other):
                for frame in stop.frames.stack(thread):
                    yield from _held_by_frame(owned, frame.address, stop.heap.index)


def _state_words(stop: Stop, interpreter: Interpreter) -> Sequence[int]:
    # What may be references in its PyInterpreterState.
    words = array("Q")
    with suppress(TargetError):
        words.frombytes(stop.runtime.memory.read(interpreter.address, stop.runtime.build.interpreter.size // 8 * 8))
    return words


def _held_by_frame(owned: Owned, frame: int, index: Rows) -> list[int]:
    # What a frame that executes holds, and the frame itself where it is an object (until 3.10).
    try:
        references = owned.references(frame) if frame in index else owned.frame_words(frame)
        return [frame, *(reference.target for reference in references)]
    except (DecodeError, TargetError):
        return [frame]
