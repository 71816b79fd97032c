"""Visits without a reference behind them: sought where the collector is about to act on one, and type by type."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from refdbg.commands.account import accounts
from refdbg.cpython.collection import object_rows
from refdbg.cpython.kinds import OBJECT
from refdbg.cpython.owned import Owned
from refdbg.cpython.referrers import Referrers
from refdbg.cpython.stop import Stop
from refdbg.cpython.traverse import Traverse, Visited
from refdbg.errors import DecodeError, LayoutNotFound, MemoryFault
from refdbg.graph.objects import Objects
from refdbg.records import Finding
from refdbg.verdicts.over_visit import OverVisit, finding

_FRAMES = 64  # innermost frames of each thread that are looked at: one look at every collection that finds garbage
_SAMPLES = 5  # objects of a type that are looked at


def in_use(stop: Stop, unreachable: Objects) -> dict[int, str]:
    """The objects of *unreachable* that a running frame holds (``PyObject *``), with the frame's name.

    There are none unless a traverse function has lied to the collector.
    """
    garbage = frozenset(unreachable.addresses)
    owned = Owned(stop.texts)
    found = {}
    for interpreter in stop.runtime.interpreters():
        for thread in stop.runtime.threads(interpreter):
            for frame in stop.frames.stack(thread, _FRAMES):
                try:
                    words = list(owned.frame_words(frame.address))
                except (LayoutNotFound, DecodeError, MemoryFault):
                    continue  # until 3.10 frames are objects, which the collector visits
                for word in words:
                    if word.exact and word.target in garbage:
                        found[word.target] = f"{word.label} of {frame.function} ({frame.file}:{frame.line})"
    return found


def over_visits(
    stop: Stop, objects: Objects, visited: Visited, rows: Iterable[int], interpreter: int,
    used: Mapping[int, str] | None = None,
) -> list[Finding]:
    """The types among the *rows* of *objects* whose traverse functions visit what they do not own, a finding each.

    *visited*: the visits of each row; *used*: of these victims only (see `in_use`). Raises RefdbgError.
    """
    referrers = Referrers(stop, Owned(stop.texts, lambda: stop.heap))
    doubtful = list(_doubtful(stop, referrers, objects, visited, rows, used))
    row_of = stop.heap.index
    counts = {
        victim: stop.heap.objects.refcounts[row_of[victim]] for _, victim, _ in doubtful
        if victim in row_of and not stop.runtime.is_immortal(stop.heap.objects.refcounts[row_of[victim]])
    }
    account = accounts(referrers, counts)
    found: dict[tuple[int, str], Finding] = {}
    for row, victim, field in doubtful:
        if victim not in account:
            continue
        known = account[victim].balance
        if known.owned != known.count or (objects.types[row], field) in found:
            continue  # somebody else must own, and this one may
        type_ = stop.types[objects.types[row]]
        symbol = stop.runtime.target.symbol_at(type_.traverse)
        found[objects.types[row], field] = finding(OverVisit(
            owner=stop.texts.type_name(type_.address),
            field=field,
            traverse=symbol.name if symbol else f"{type_.traverse:#x}",
            library=symbol.library if symbol else "",
            visitor=object_rows(stop, objects.pick([row]), 1)[0],
            victim=object_rows(stop, stop.heap.objects.pick([row_of[victim]]), 1)[0],
            known=known.owned,
            in_use=(used or {}).get(victim, ""),
            interpreter=interpreter,
        ))
    return list(found.values())


def _doubtful(
    stop: Stop, referrers: Referrers, objects: Objects, visited: Visited, rows: Iterable[int],
    used: Mapping[int, str] | None,
) -> Iterator[tuple[int, int, str]]:
    # (row, what it visits, by which field) where the reference behind a visit is not known.
    left = {
        type_: _SAMPLES for type_ in set(objects.types)
        if stop.texts.kinds.name(type_) == OBJECT and stop.types[type_].traverse
    }
    for row in rows:
        address, type_ = objects.addresses[row], objects.types[row]
        if not left.get(type_):
            continue
        visits: Sequence[int] = visited.of(row)
        if not visits or (used is not None and used.keys().isdisjoint(visits)):
            continue
        left[type_] -= 1
        fields: defaultdict[int, list[tuple[bool, str]]] = defaultdict(list)
        for reference in referrers.references(address):
            fields[reference.target].append((not reference.exact, reference.label))
        for target, number in Counter(visits).items():
            words = sorted(fields[target])
            known = sum(1 for guessed, _ in words if not guessed)
            if number > known and (used is None or target in used):
                yield row, target, words[known][1] if known < len(words) else ""


def at_finalization(stop: Stop, unreachable: Objects, interpreter: int) -> list[Finding]:
    """The over-visits that a collection is about to act on. *unreachable*: what it takes for garbage."""
    used = in_use(stop, unreachable)
    if not used:
        return []
    visited = Traverse(stop).visits(unreachable.addresses, unreachable.types)
    return over_visits(stop, unreachable, visited, range(len(unreachable)), interpreter, used)
