"""Visits without a reference behind them: sought where the collector is about to act on one, and type by type."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from refdbg.analysis.collector import replay
from refdbg.commands.account import Account, accounts
from refdbg.commands.finding_graph import Holding, Sources, finding_graph
from refdbg.cpython.collection import object_rows
from refdbg.cpython.kinds import OBJECT
from refdbg.cpython.owned import Owned, Reference
from refdbg.cpython.referrers import Referrers
from refdbg.cpython.stop import Stop
from refdbg.cpython.traverse import Traverse, Visited
from refdbg.errors import DecodeError, LayoutNotFound, MemoryFault
from refdbg.graph.objects import Objects
from refdbg.graph.rows import Rows
from refdbg.records import Finding, FindingGraph
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
                    words = list(owned.frame_words(frame.address, deferred=True))
                except (LayoutNotFound, DecodeError, MemoryFault):
                    continue  # until 3.10 frames are objects, which the collector visits
                for word in words:
                    if word.exact and word.target in garbage:
                        found[word.target] = f"{word.label} of {frame.function} ({frame.file}:{frame.line})"
    return found


def over_visits(
    stop: Stop, objects: Objects, visited: Visited, rows: Iterable[int], interpreter: int,
    used: Mapping[int, str] | None = None, too_often: Mapping[int, int] | None = None,
) -> list[Finding]:
    """The types among the *rows* of *objects* whose traverse functions visit what they do not own, a finding each.

    *visited*: the visits of each row; *used*: of these victims only (see `in_use`); *too_often*: of these only, with
    how many visits they have in all, more than references: some visit is false for certain. Raises RefdbgError.
    """
    victims = used if too_often is None else too_often
    referrers = Referrers(stop, Owned(stop.texts, lambda: stop.heap))
    doubtful = list(_doubtful(stop, referrers, objects, visited, rows, victims))
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
        if (known.owned != known.count and too_often is None) or (objects.types[row], field) in found:
            continue  # somebody else must own, and this one may
        type_ = stop.types[objects.types[row]]
        symbol = stop.runtime.target.symbol_at(type_.traverse)
        evidence = finding(OverVisit(
            owner=stop.texts.type_name(type_.address),
            field=field,
            traverse=symbol.name if symbol else f"{type_.traverse:#x}",
            library=symbol.library if symbol else "",
            visitor=object_rows(stop, objects.pick([row]), 1)[0],
            victim=object_rows(stop, stop.heap.objects.pick([row_of[victim]]), 1)[0],
            known=known.owned,
            in_use=(used or {}).get(victim, ""),
            visits=(too_often or {}).get(victim, 0),
            interpreter=interpreter,
        ))
        drawn = _drawn(stop, referrers, objects.addresses[row], visited.of(row), victim, field, account[victim], row_of)
        found[objects.types[row], field] = replace(evidence, graph=drawn)
    return list(found.values())


def _drawn(
    stop: Stop, referrers: Referrers, visitor: int, visits: Sequence[int], victim: int, field: str,
    account: Account, row_of: Rows,
) -> FindingGraph:
    # The visitor, the victim, and who really owns that. Of the others no visits are asked for.
    standing = list(account.standing())
    owners = [holder.owner for holder in standing if holder.kind == "object" and holder.owner in row_of][:_SAMPLES]
    holding = [Holding(holder.kind, holder.label, victim, "owner") for holder in standing if holder.owner not in row_of]

    def owned(address: int) -> list[Reference]:
        return [
            each for each in referrers.references(address)
            if each.exact or (address == visitor and each.target != victim and each.target in visits)
        ]

    return finding_graph(
        Sources(
            stop,
            lambda address: object_rows(stop, stop.heap.objects.pick([row_of[address]]), 1)[0],
            owned,
            lambda address: visits if address == visitor else None,
        ),
        holding[:_SAMPLES], [visitor], [victim], owners, unowned=field,
    )


def _doubtful(
    stop: Stop, referrers: Referrers, objects: Objects, visited: Visited, rows: Iterable[int],
    victims: Container[int] | None,
) -> Iterator[tuple[int, int, str]]:
    # (row, what it visits, by which field) where the reference behind a visit is not known.
    left = {
        type_: _SAMPLES for type_ in set(objects.types)
        if stop.texts.kinds.name(type_) == OBJECT and stop.types[type_].traverse
    }
    types = objects.types
    for row in rows:  # most are of other types
        type_ = types[row]
        if not left.get(type_):
            continue
        address = objects.addresses[row]
        visits: Sequence[int] = visited.of(row)
        if not visits or (victims is not None and not any(target in victims for target in visits)):
            continue
        left[type_] -= 1
        fields: defaultdict[int, list[tuple[bool, str]]] = defaultdict(list)
        for reference in referrers.references(address):
            fields[reference.target].append((not reference.exact, reference.label))
        for target, number in Counter(visits).items():
            words = sorted(fields[target])
            known = sum(1 for guessed, _ in words if not guessed)
            if number > known and (victims is None or target in victims):
                yield row, target, words[known][1] if known < len(words) else ""


def at_finalization(stop: Stop, unreachable: Objects, interpreter: int) -> list[Finding]:
    """The over-visits that a collection is about to act on. *unreachable*: what it takes for garbage."""
    used = in_use(stop, unreachable)
    if not used:
        return []
    visited = Traverse(stop).visits(unreachable.addresses, unreachable.types)
    return over_visits(stop, unreachable, visited, range(len(unreachable)), interpreter, used)


def at_abort(stop: Stop, examined: Objects, interpreter: int) -> tuple[list[Finding], list[str]]:
    """The over-visits that a collection has run into, else notes on objects whose counts are too small.

    A debug build aborts where an object is visited more often than it has references (Python/gc.c, visit_decref). The
    collector's own counts are half made then; its lists and the objects are whole. *examined*: what it has begun with.
    """
    visited = Traverse(stop).visits(examined.addresses, examined.types)
    counts, visits = examined.refcounts, visited.edges(Rows(examined.addresses))
    decided = replay(counts, visits, range(len(examined)), stop.runtime.immortal_count)
    too_often = {examined.addresses[row]: counts[row] - decided.gc_refs[row] for row in decided.negative}
    if not too_often:
        return [], []
    found = over_visits(stop, examined, visited, range(len(examined)), interpreter, too_often=too_often)
    return found, [
        f"the collector aborts: {row.type} {row.repr} is visited {too_often[row.address]} times, with a reference "
        f"count of {row.refcount}, and no visit was found that owns nothing: a Py_INCREF is missing, or a Py_DECREF "
        "too many."
        for row in object_rows(stop, examined.pick([] if found else decided.negative), _SAMPLES)
    ]
