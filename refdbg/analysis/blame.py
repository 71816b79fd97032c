"""Who took the references that nobody gave back: increments and decrements of one object, balanced by call path."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field

from refdbg.records import Balance, BalanceNode, Call, Remaining, Way

HOW = (
    "an increment and a decrement balance in the innermost call, or line of Python, that both were made in: a "
    "decrement takes the newest increment before it of its own function, or else the oldest of its source file, or "
    "else the oldest of all, of the same round of a loop first"
)

_Key = tuple[str, "str | None", "int | None"]


@dataclass
class _Step:
    # One change; *count*: how much of it is not balanced yet. Older ones have lower times.
    time: int
    way: Way
    count: int


@dataclass
class _Node:
    # A function on one path from the outermost one, or a line of a Python function.
    below: dict[_Key, _Node] = field(default_factory=dict)
    steps: list[_Step] = field(default_factory=list)


def balance(changes: Iterable[tuple[Way, int]], start: int = 0) -> Balance:
    """Takes out what balances. *changes*: by how much, in order; *start*: how many references were there before."""
    root = _Node()
    nodes: dict[Way, _Node] = {}
    before = _Step(-1, Way(()), start)
    if start:
        root.steps.append(before)
    increments = decrements = 0
    for time, (way, delta) in enumerate(changes):
        node = nodes.get(way)
        if node is None:
            node = root
            for call in way.calls:
                node = node.below.setdefault((call.function, call.file, None), _Node())
                if call.python:  # what a call has returned is most often used by its own line
                    node = node.below.setdefault(("", None, call.line), _Node())
            nodes[way] = node
        node.steps.append(_Step(time, way, delta))
        increments += max(delta, 0)
        decrements -= min(delta, 0)
    left: Counter[Way] = Counter()
    for step in _unmatched(root, across=not start):
        left[step.way] += step.count
    start_left = left.pop(before.way, 0)
    remaining = [Remaining(count, site(way), list(way.calls)) for way, count in left.items()]
    remaining.sort(key=lambda each: (each.references < 0, not each.site.library, -abs(each.references)))
    taken = start_left + sum(count for count in left.values() if count > 0)
    return Balance(
        start_left, increments, decrements, start + increments - taken, remaining,
        _tree([(each.path, each.references) for each in remaining]),
    )


def _tree(paths: Sequence[tuple[Sequence[Call], int]]) -> list[BalanceNode]:
    # Merged from the outermost call on, in the order of the paths.
    below: dict[Call, list[tuple[Sequence[Call], int]]] = {}
    for path, count in paths:
        if path:
            below.setdefault(path[0], []).append((path[1:], count))
    return [BalanceNode(call, sum(count for _, count in rest), _tree(rest)) for call, rest in below.items()]


def _unmatched(root: _Node, across: bool) -> list[_Step]:
    # All increments, or all decrements. Bottom-up, and without recursion: paths are deep. *across*: changes of
    # different files may balance at once; references that were there before the first are older than any.
    order = [root]
    for node in order:
        order.extend(node.below.values())
    open_: dict[int, list[_Step]] = {}
    for node in reversed(order):
        steps = node.steps
        for below in node.below.values():
            steps = steps + open_.pop(id(below))
        if len({step.count > 0 for step in steps}) == 2:
            steps.sort(key=lambda step: step.time)
            rounds = _rounds(steps)
            rules: list[tuple[Callable[[Way], Hashable], bool]] = [(_function, True), (_file, False)]
            if across or node is root:
                rules.append((lambda way: True, False))
            for alike, newest in rules:
                for each in rounds:
                    _paired(each, alike, newest)
                steps = _paired(steps, alike, newest)
        open_[id(node)] = steps
    # What other pairs have taken the increment of: any that is left.
    rest = sorted(open_[id(root)], key=lambda step: (step.count < 0, step.time))
    return _paired(rest, lambda way: True, newest=False)


def _rounds(steps: Sequence[_Step]) -> list[list[_Step]]:
    # Where a path comes again the line runs again, or the function is called again: what one round has taken is most
    # often given back in it, and a later round gives nothing back for one that forgot.
    found: list[list[_Step]] = [[]]
    met: set[tuple[Way, bool]] = set()
    for step in steps:
        own = step.way, step.count > 0
        if own in met:
            found.append([])
            met.clear()
        met.add(own)
        found[-1].append(step)
    return found


def _function(way: Way) -> Hashable:
    # The reference that an object is made with belongs to whoever asked for it.
    return (way.calls[-1].function, way.calls[-1].file) if way.calls and not way.creates else None


def _file(way: Way) -> Hashable:
    return (way.calls[-1].file or way.calls[-1].library) if way.calls and not way.creates else None


def _paired(steps: list[_Step], alike: Callable[[Way], Hashable], newest: bool) -> list[_Step]:
    # What is left when each decrement has taken an increment that is alike, and was there before.
    taken: dict[Hashable, deque[_Step]] = {}
    for step in steps:
        key = alike(step.way)
        if key is None:
            continue
        if step.count > 0:
            taken.setdefault(key, deque()).append(step)
            continue
        candidates = taken.get(key)
        while candidates and step.count:
            candidate = candidates[-1 if newest else 0]
            size = min(candidate.count, -step.count)
            candidate.count -= size
            step.count += size
            if not candidate.count:
                if newest:
                    candidates.pop()
                else:
                    candidates.popleft()
    return [step for step in steps if step.count]


def site(way: Way) -> Call:
    """Where a change belongs: the innermost C code of an extension, before any Python code that called it.

    A function of the interpreter that returns a new reference has counted it, and who called it owns it.
    """
    for call in reversed(way.calls):
        if call.python:
            break
        if call.library and call.function != "??":  # without symbols it says nothing
            return call
    return way.calls[-1]
