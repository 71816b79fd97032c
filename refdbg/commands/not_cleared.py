"""Cycles that collections found, and that no tp_clear broke, gathered over a run."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from refdbg.analysis.collector import Release
from refdbg.commands.decision import Decision, decide
from refdbg.commands.finding_graph import NODES, Sources, finding_graph, spread
from refdbg.commands.left_over import LeftOver
from refdbg.cpython import describe
from refdbg.cpython.collection import Running, function_name
from refdbg.cpython.owned import Owned, Reference
from refdbg.cpython.stop import Stop
from refdbg.errors import DecodeError, MemoryFault
from refdbg.graph.components import components
from refdbg.graph.objects import Objects
from refdbg.graph.paths import shortest_cycle
from refdbg.records import Explains, Finding, FindingGraph
from refdbg.verdicts.not_cleared import NotCleared, not_cleared

_OWN_TYPE = "ob_type"  # goes with the object, not with its tp_clear
_MADE_WHOLE = ("tuple", "structseq")  # have no tp_clear: no cycle is made of them alone (Objects/tupleobject.c)
_NOTHING = Explains(0, 0)
_READ = 5000  # objects whose fields are read; of more cycles of the same types the fields are the same


@dataclass(frozen=True)
class _Blame:
    # The type (``PyTypeObject *``) whose tp_clear leaves the fields.
    type: int
    fields: tuple[str, ...]


@dataclass
class _Seen:
    first: NotCleared
    graph: FindingGraph
    objects: dict[int, int] = field(default_factory=dict)  # type by address (``PyObject *``)
    remain: Explains = _NOTHING


class Outlived:
    """Collects the evidence. *limit*: how many objects a finding lists."""

    def __init__(self, limit: int) -> None:
        self._limit = max(limit, 1)
        self._seen: dict[tuple[str, tuple[str, ...]], _Seen] = {}
        self._known: dict[int, int] = {}

    def ended(self, running: Running, number: int, alive: Mapping[int, int]) -> None:
        """At the end of a collection, the *number*-th: types by address (``PyObject *``) of what outlived its tp_clear.

        Raises RefdbgError.
        """
        if all(self._known.get(address) == type_ for address, type_ in alive.items()):
            return
        self._known.update(alive)
        stop = running.stop
        objects = Objects()
        for address, type_ in alive.items():
            objects.addresses.append(address)
            objects.types.append(type_)
            objects.refcounts.append(describe.refcount(stop, address))
        decision = decide(stop, objects)
        garbage = frozenset(decision.replay.unreachable)
        fields = _Fields(stop, decision)
        groups: defaultdict[_Blame, list[list[int]]] = defaultdict(list)
        for rows in components(decision.visits).cyclic:
            blame = fields.blame(rows) if garbage.issuperset(rows) else None
            if blame is not None:
                groups[blame].append(rows)
        for blame, cycles in groups.items():
            self._add(running, number, decision, fields, blame, cycles)

    def _add(
        self, running: Running, number: int, decision: Decision, fields: _Fields, blame: _Blame,
        cycles: Sequence[Sequence[int]],
    ) -> None:
        stop = running.stop
        key = (stop.texts.type_name(blame.type), blame.fields)
        rows = [row for cycle in cycles for row in cycle]
        reached = decision.objects.pick(sorted(decision.visits.reach(rows)))
        if key not in self._seen:
            owners = [row for row in rows if fields.kept(row, blame)]
            dropped = Counter(
                target for row in owners for target in fields.kept(row, blame)
            )
            freed = Release(decision.objects.refcounts, decision.visits, decision.visits, []).of(dropped)
            clear = stop.types[blame.type].clear
            symbol = stop.runtime.target.symbol_at(stop.types[blame.type].traverse)
            first = owners[0]
            cycle = next(each for each in cycles if first in each)
            self._seen[key] = _Seen(NotCleared(
                type=key[0],
                fields=blame.fields,
                clear=function_name(stop, clear) if clear else "",
                library=symbol.library if symbol else "",
                objects=[describe.row(stop, decision.objects.addresses[row]) for row in owners[: self._limit]],
                cycle=fields.words(shortest_cycle(decision.visits, first, frozenset(cycle))),
                number=0,
                collection=number,
                circular=len(rows),
                freed=len(freed.intersection(rows)),
                remain=_NOTHING,
                interpreter=running.interpreter.number,
            ), fields.drawn(owners, cycle, len(reached)))
        self._seen[key].objects.update(zip(reached.addresses, reached.types))

    def claim(self, end: LeftOver, rest: Objects) -> Objects:
        """Those of the objects *rest*, left over at an interpreter's end and held by each other only, that this is not
        the reason for."""
        for seen in self._seen.values():
            rest, remain = claimed(end, rest, seen.objects)
            seen.remain = Explains(seen.remain.objects + remain.objects, seen.remain.references + remain.references)
        return rest

    def findings(self) -> list[Finding]:
        """A finding for each type and fields."""
        return [
            replace(not_cleared(replace(seen.first, number=len(seen.objects), remain=seen.remain)), graph=seen.graph)
            for seen in self._seen.values()
        ]


def claimed(end: LeftOver, rest: Objects, known: Mapping[int, int]) -> tuple[Objects, Explains]:
    """The objects *rest* without those *known* (types by address) and what hangs behind, and how much these are."""
    roots = rest.pick(row for row, (address, type_, _) in enumerate(rest.rows()) if known.get(address) == type_)
    if not len(roots):
        return rest, _NOTHING
    behind = end.behind(rest, roots)
    gone = frozenset(behind.addresses)
    left = rest.pick(row for row, address in enumerate(rest.addresses) if address not in gone)
    return left, Explains(len(behind), sum(end.held(behind).values()))


class _Fields:
    # The references inside of cycles, by field.
    def __init__(self, stop: Stop, decision: Decision) -> None:
        self._stop = stop
        self._decision = decision
        self._owned = Owned(stop.texts, lambda: stop.heap)
        self._inside: dict[int, list[Reference]] = {}  # by row
        self._alike: dict[frozenset[int], _Blame | None] = {}

    def blame(self, rows: Sequence[int]) -> _Blame | None:
        """Whose tp_clear should have broken the cycles of these rows, a component."""
        types = frozenset(self._decision.objects.types[row] for row in rows)
        if len(self._inside) > _READ and types in self._alike:
            return self._alike[types]
        found: defaultdict[tuple[bool, bool, int], set[str]] = defaultdict(set)
        inside = {self._decision.objects.addresses[row] for row in rows}
        for row in rows:
            for reference in self.inside(row):
                if reference.target in inside:
                    type_ = self._declaring(self._decision.objects.types[row], reference.offset)
                    whole = self._stop.texts.kinds.of(type_).name in _MADE_WHOLE
                    # One that was called and left it is as guilty as can be; then one that is missing.
                    found[whole, not self._stop.types[type_].clear, type_].add(reference.label)
        best = min(found, default=None)
        blame = _Blame(best[2], tuple(sorted(found[best]))) if best is not None else None
        self._alike[types] = blame
        return blame

    def inside(self, row: int) -> list[Reference]:
        """What the object keeps of the objects that outlived their tp_clear, its own type left out."""
        if row not in self._inside:
            objects, visits = self._decision.objects, self._decision.visits
            visited = {objects.addresses[target] for target in visits.of(row)}
            try:
                references = self._owned.references(objects.addresses[row])
            except (DecodeError, MemoryFault):
                references = []
            self._inside[row] = [
                each for each in references if each.target in visited and each.label != _OWN_TYPE
            ]
        return self._inside[row]

    def kept(self, row: int, blame: _Blame) -> list[int]:
        """The rows that the object keeps by the fields, as often as it does."""
        type_ = self._decision.objects.types[row]
        return [
            self._decision.row_of[each.target] for each in self.inside(row)
            if each.label in blame.fields and self._declaring(type_, each.offset) == blame.type
        ]

    def _declaring(self, type_: int, offset: int | None) -> int:
        # The type in whose C struct the field is: a subclass's tp_clear leaves it to that one's.
        if offset is None:
            return type_
        types = self._stop.types
        return [type_, *(each for each in types.mro(type_) if types[each].basicsize > offset)][-1]

    def words(self, cycle: Sequence[int]) -> str:
        """A cycle of rows in one line."""
        steps = []
        for row, following in zip(cycle, [*cycle[1:], *cycle[:1]]):
            target = self._decision.objects.addresses[following]
            label = next((each.label for each in self.inside(row) if each.target == target), _OWN_TYPE)
            name = self._stop.texts.type_name(self._decision.objects.types[row])
            steps.append(f"{name} {label} → ")
        return "".join(steps) + self._stop.texts.type_name(self._decision.objects.types[cycle[0]])

    def drawn(self, owners: Sequence[int], cycle: Sequence[int], total: int) -> FindingGraph:
        """The first of *owners* in its cycle, and what else there is."""
        decision, addresses = self._decision, self._decision.objects.addresses
        near = [addresses[row] for row in islice(spread(decision.visits.of, owners[:1], range(len(addresses))), NODES)]
        sources = Sources(
            self._stop,
            lambda address: describe.row(self._stop, address),
            lambda address: self._owned_of(address),
            lambda address: [addresses[target] for target in decision.visits.of(decision.row_of[address])],
        )
        return finding_graph(sources, [], [addresses[owners[0]]], [addresses[row] for row in cycle], near,
                             total)

    def _owned_of(self, address: int) -> list[Reference]:
        row = self._decision.row_of[address]
        types = [each for each in self._owned.references(address) if each.label == _OWN_TYPE]
        return [*self.inside(row), *types]
