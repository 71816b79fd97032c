"""What collections found to be garbage and did not free, gathered over a run."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from refdbg.analysis.balance import balance
from refdbg.commands.account import Account, accounts, trust, unvisited
from refdbg.commands.decision import Decision, decide
from refdbg.commands.finding_graph import NODES, Holding, Sources, finding_graph, spread
from refdbg.commands.left_over import LeftOver
from refdbg.commands.not_cleared import claimed
from refdbg.cpython import describe
from refdbg.cpython.collection import Running, finalizer_of, garbage, has_finalizer, legacy_finalizer, saves_all
from refdbg.cpython.holders import BLOCK, Outside, strength
from refdbg.cpython.owned import Owned, Reference
from refdbg.cpython.referrers import Referrers
from refdbg.cpython.stop import Stop
from refdbg.graph.objects import Objects
from refdbg.graph.paths import UNREACHED, search
from refdbg.records import Explains, Finding, FindingGraph, ObjectRow
from refdbg.verdicts.not_freed import Function, Resurrected, Uncollectable, died_later, resurrected, uncollectable

_NOTHING = Explains(0, 0)
_DRAWN = 8  # objects that a finding's graph begins with


@dataclass
class _Seen:
    # The first evidence of a kind, and all objects of that kind: type by address (``PyObject *``).
    first: Resurrected | Uncollectable
    graph: FindingGraph
    objects: dict[int, int] = field(default_factory=dict)
    collections: int = 0
    remain: Explains = _NOTHING

    def add(self, objects: Objects) -> None:
        """More of them, from one collection."""
        self.objects.update(zip(objects.addresses, objects.types))
        self.collections += 1

    def told(self) -> Resurrected | Uncollectable:
        """The evidence, with the numbers up to now."""
        return replace(self.first, number=len(self.objects), collections=self.collections, remain=self.remain)


class NotFreed:
    """Collects the evidence. *limit*: how many objects a finding lists."""

    def __init__(self, limit: int) -> None:
        self._limit = max(limit, 1)
        self._seen: dict[tuple[str, str, str], _Seen] = {}

    def brought_back(self, running: Running) -> None:
        """At the clearing step of a collection that has brought objects back. Raises RefdbgError."""
        stop = running.stop
        types = dict(zip(running.unreachable.addresses, running.unreachable.types))
        returned = Objects()
        for address in reversed(running.brought_back):
            returned.addresses.append(address)
            returned.types.append(types[address])
            returned.refcounts.append(describe.refcount(stop, address))
        decision = decide(stop, returned)
        heads = [row for row in range(len(returned)) if decision.replay.gc_refs[row] > 0]
        called = _Called(running, decision)
        groups: dict[tuple[int, Function], list[int]] = {}
        for row in heads:
            groups.setdefault((returned.types[row], called.finalizer(row)), []).append(row)
        for (type_, function), rows in groups.items():
            key = ("resurrected", stop.texts.type_name(type_), function.name)
            if key not in self._seen:  # else all that is wanted is known
                if _goes_with(stop, decision, rows[0], running.cleared):
                    continue
                holder, owner = _holder(stop, decision, rows[0])
                first = returned.addresses[rows[0]]
                self._seen[key] = _Seen(Resurrected(
                    type=key[1],
                    objects=_rows(stop, returned.pick(rows), self._limit),
                    number=0,
                    collections=0,
                    finalizer=function,
                    own=called.is_own(rows[0]),
                    sure=called.is_sure(rows[0]),
                    holder=holder,
                    owner=owner,
                    remain=_NOTHING,
                    interpreter=running.interpreter.number,
                ), _drawn(stop, decision, rows, [] if owner else [Holding("holder", holder, first)] if holder else [],
                          [owner.address] if owner else []))
            # What hangs behind has come back with them.
            self._seen[key].add(returned.pick(sorted(decision.visits.reach(rows))))

    def ended(self, running: Running) -> None:
        """At the end of a collection: what it has put into gc.garbage. Raises RefdbgError."""
        stop = running.stop
        new = garbage(stop, running.interpreter)[running.garbage_before :]
        if not new:
            return
        found = Objects()
        for address in new:
            found.addresses.append(address)
            found.types.append(stop.texts.type_of(address).address)
            found.refcounts.append(describe.refcount(stop, address))
        reasons = {type_: legacy_finalizer(stop, type_) for type_ in set(found.types)}
        if not saves_all(stop, running.interpreter):
            found = found.pick(row for row, type_ in enumerate(found.types) if reasons[type_])
        groups: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
        for row, type_ in enumerate(found.types):
            reason = reasons[type_]
            groups[stop.texts.type_name(type_) if reason else "", reason].append(row)
        for (type_name, reason), rows in groups.items():
            key = ("uncollectable", type_name, reason)
            objects = found.pick(rows)
            if key not in self._seen:
                self._seen[key] = _Seen(Uncollectable(
                    type=type_name,
                    objects=_rows(stop, objects, self._limit),
                    number=0,
                    collections=0,
                    finalizer=reason,
                    holder="gc.garbage",
                    remain=_NOTHING,
                    interpreter=running.interpreter.number,
                ), _drawn(stop, decide(stop, objects.pick(range(len(objects))[:NODES])), range(len(objects)),
                          [Holding("collector", "gc.garbage", each) for each in objects.addresses[:_DRAWN]]))
            self._seen[key].add(objects)

    def left_over(self, left: Objects) -> None:
        """What is left over when an interpreter ends."""
        counts = {(address, type_): count for address, type_, count in left.rows()}
        for seen in self._seen.values():
            if isinstance(seen.first, Uncollectable):
                continue  # see `claim`
            there = [counts[key] for key in seen.objects.items() if key in counts]
            seen.remain = Explains(seen.remain.objects + len(there), seen.remain.references + sum(there))

    def claim(self, end: LeftOver, rest: Objects) -> Objects:
        """Those of the objects *rest*, left over at an interpreter's end and held by each other only, that were not
        saved in gc.garbage."""
        for seen in self._seen.values():
            if isinstance(seen.first, Uncollectable):
                rest, remain = claimed(end, rest, seen.objects)
                seen.remain = Explains(seen.remain.objects + remain.objects, seen.remain.references + remain.references)
        return rest

    def findings(self, ended: bool) -> list[Finding]:
        """A finding for each type and finalizer. *ended*: what is left over at the end is known, and what has come back
        and died since is none."""
        found = []
        for seen in self._seen.values():
            first = seen.told()
            if isinstance(first, Uncollectable):
                found.append(replace(uncollectable(first), graph=seen.graph))
            elif first.remain.objects or not ended:
                found.append(replace(resurrected(first), graph=seen.graph))
        return found

    def notes(self, ended: bool) -> list[str]:
        """What has come back, and is no finding."""
        told = [seen.told() for seen in self._seen.values()] if ended else []
        return [died_later(each) for each in told if isinstance(each, Resurrected) and not each.remain.objects]


class _Called:
    # Which finalizer has brought back what.
    def __init__(self, running: Running, decision: Decision) -> None:
        stop, objects = running.stop, decision.objects
        names = {finalizer.function for finalizer in running.finalizers}
        of_type = {
            type_: Function(*finalizer_of(stop, type_)) for type_ in set(objects.types) if has_finalizer(stop, type_)
        }
        self._own = {
            row: of_type[type_] for row, type_ in enumerate(objects.types)
            if type_ in of_type and of_type[type_].name in names
        }
        self._before = search(decision.visits, list(self._own))
        self._all = [Function(each.function, each.file, each.line) for each in running.finalizers]

    def is_own(self, row: int) -> bool:
        return row in self._own

    def is_sure(self, row: int) -> bool:
        """Whether it is the finalizer's own object, or only one has been called."""
        return row in self._own or len(self._all) == 1

    def finalizer(self, row: int) -> Function:
        """Its own, that of the nearest object that refers to it, or one of those that were called."""
        if self._before[row] == UNREACHED:
            return self._all[0] if self._all else Function("(none was seen)")
        while self._before[row] != row:
            row = self._before[row]
        return self._own[row]


def _goes_with(stop: Stop, decision: Decision, row: int, garbage: Objects | None) -> bool:
    # Whether only what is about to be cleared holds the object: a finished generator does not visit its code (3.13).
    if garbage is None or not (stop.runtime.traits.debug or stop.runtime.traits.free_threaded):
        return False
    address = decision.objects.addresses[row]
    referrers = Referrers(stop, Owned(stop.texts, lambda: stop.heap))
    account = accounts(referrers, {address: decision.objects.refcounts[row]})[address]
    going = {*garbage.addresses, address}
    return not account.balance.lost and all(holder.owner in going for holder in account.standing())


def _holder(stop: Stop, decision: Decision, row: int) -> tuple[str, ObjectRow | None]:
    # What else than the objects that came back holds the object: its label, and its owner if that is an object.
    address = decision.objects.addresses[row]
    visitors = Counter(decision.objects.addresses[each] for each in decision.visitors.of(row))
    holders = Referrers(stop, Owned(stop.texts, lambda: stop.heap)).of(address)
    words = unvisited(holders, lambda owner: visitors[owner])
    outside = Outside(stop)
    for holder in Account(words, balance(decision.replay.gc_refs[row], [trust(word) for word in words])).standing():
        named = outside.resolved(holder)
        if named is not None and strength(named) <= BLOCK:
            return named.label, describe.row(stop, named.owner) if named.owner else None
    return "", None


def _drawn(
    stop: Stop, decision: Decision, rows: Sequence[int], holding: Sequence[Holding], owners: Sequence[int] = (),
) -> FindingGraph:
    # The first of *rows*, what holds them (objects *owners*, ``PyObject *``, and others), and what they visit.
    addresses = decision.objects.addresses
    shown = rows[:_DRAWN]
    near = islice(spread(decision.visits.of, shown, range(len(addresses))), NODES)
    owned = Owned(stop.texts, lambda: stop.heap)

    def visits(address: int) -> list[int] | None:
        row = decision.row_of.get(address)
        return None if row is None else [addresses[target] for target in decision.visits.of(row)]

    def exact(address: int) -> list[Reference]:
        visited = frozenset(visits(address) or ())
        return [each for each in owned.references(address) if each.exact or each.target in visited]

    sources = Sources(stop, lambda address: describe.row(stop, address), exact, visits)
    return finding_graph(sources, holding, owners, [addresses[row] for row in shown],
                         [addresses[row] for row in near], len(rows))


def _rows(stop: Stop, objects: Objects, limit: int) -> list[ObjectRow]:
    return [describe.row(stop, address) for address in objects.addresses[:limit]]
