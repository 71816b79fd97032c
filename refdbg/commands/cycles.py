"""`refdbg cycles`: groups of objects that hold each other, and what keeps them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from refdbg.analysis.collector import replay
from refdbg.analysis.cycles import covering, entries, holding, passing
from refdbg.answers import Component, Cycles, Keeper, ReferenceStep
from refdbg.commands.context import Context
from refdbg.commands.inspect import object_address
from refdbg.commands.references import Drawing, References
from refdbg.cpython.census import by_type
from refdbg.cpython.holders import SURE, Outside, strength
from refdbg.cpython.referrers import Holder, Referrers
from refdbg.cpython.stop import Stop
from refdbg.cpython.storage import edges_and_sizes
from refdbg.cpython.traverse import undecided_types
from refdbg.graph.components import Components, components
from refdbg.graph.edges import Edges
from refdbg.graph.objects import Objects
from refdbg.graph.paths import shortest_cycle
from refdbg.graph.rows import Rows

_CYCLES = 3  # written out for each group
_KEEPERS = 6
_ENTRIES = 300  # members whose holders are searched
_DRAWN = 40  # objects
_DRAWN_MEMBERS = 12  # of a group, beyond those of its cycles
_OWNERS = 200  # objects whose references are audited for one group


@dataclass(frozen=True)
class _Graph:
    # Objects, what their tp_traverse visits, and what the collector would decide.
    objects: Objects
    edges: Edges
    found: Components
    garbage: frozenset[int]
    notes: list[str]
    seen: bool = True

    def is_garbage(self, members: Sequence[int]) -> bool:
        return members[0] in self.garbage


@dataclass(frozen=True)
class _Group:
    graph: _Graph
    rows: list[int]
    way: list[int]  # from a member to the object that was asked for; that alone when it is a member


def show_cycles(context: Context, arguments: argparse.Namespace) -> Cycles:
    """The cycles that are garbage, or those that have to do with one object. Raises RefdbgError."""
    stop = context.stop
    address = object_address(context, arguments.expression) if arguments.expression else None
    references = References(context.stop)
    graph = _visited(stop, references)
    notes = list(graph.notes)
    cyclic = graph.found.cyclic
    dead = [members for members in cyclic if graph.is_garbage(members)]
    live = [members for members in cyclic if not graph.is_garbage(members)]
    referrers = Referrers(stop, references.owned)
    if address is None:
        groups = [_Group(graph, members, []) for members in dead]
    else:
        groups = _of_object(stop, graph, referrers, address, notes)
    shown = groups[: arguments.limit]
    drawing = Drawing(references)
    cluster = 0 if shown and address is not None and shown[0].way == [address] else None
    if address is not None:
        drawing.add(address, cluster, marked=True)
    found = [_component(stop, references, referrers, group) for group in shown]
    for number, group in enumerate(shown):
        _draw(drawing, group, found[number][1], number)
    for _, _, holders in found:
        _draw_keepers(drawing, holders)
    records = [record for record, _, _ in found]
    names = [_name(record) for record in records]
    title = "Reference cycles" + (f" of {references.row(address).repr}" if address is not None else "")
    return Cycles(
        references.row(address) if address is not None else None,
        len(dead), sum(map(len, dead)), len(live), sum(map(len, live)), max(map(len, live), default=0),
        records, len(groups) - len(shown), drawing.graph(title, names), notes,
    )


def _visited(stop: Stop, references: References) -> _Graph:
    # The collector's view: all interpreters' tracked objects. Each interpreter collects its own.
    objects = Objects()
    ranges, notes = [], []
    for interpreter in stop.runtime.interpreters():
        first = len(objects)
        for generation in stop.lists.generations(interpreter):
            if generation.name != "permanent":
                objects.extend(stop.lists.walk(generation.head))
        ranges.append(range(first, len(objects)))
        if stop.lists.collecting(interpreter):
            notes.append(f"interpreter {interpreter.number} is inside a collection: not all objects are in its lists")
    visited = references.traverse.visits(objects.addresses, objects.types)
    edges = visited.edges(Rows(objects.addresses))
    garbage: set[int] = set()
    for rows in ranges:
        garbage.update(replay(objects.refcounts, edges, rows, stop.runtime.immortal_count).unreachable)
    notes += (
        f"what {name} objects visit is undecided ({why}): cycles through them are not seen"
        for name, why in undecided_types(stop, visited, objects.types).items()
    )
    return _Graph(objects, edges, components(edges), frozenset(garbage), notes + objects.coverage.notes)


def _of_object(
    stop: Stop, graph: _Graph, referrers: Referrers, address: int, notes: list[str]
) -> list[_Group]:
    # The groups that contain the object, or those that hold it, nearest first.
    row_of = {each: row for row, each in enumerate(graph.objects.addresses)}
    row = row_of.get(address)
    for members in graph.found.cyclic:
        if row in members:
            return [_Group(graph, members, [address])]
    unseen = _unseen(stop, address)
    if unseen is not None:
        return [unseen]
    if row is not None:
        starts = [row]
    else:  # the collector does not track it: by its holders
        notes.append("the collector does not track this object: these groups contain or hold the objects that hold it")
        owners = {holder.owner for holder in referrers.of(address) if holder.kind == "object"}
        starts = [row_of[owner] for owner in owners if owner in row_of]
    addresses = graph.objects.addresses
    groups = []
    for index, way in holding(graph.edges, starts, graph.found).items():
        tail = [] if row is not None else [address]
        groups.append(_Group(graph, graph.found.cyclic[index], [*(addresses[each] for each in way), *tail]))
    return groups


def _unseen(stop: Stop, address: int) -> _Group | None:
    # A cycle through the object by references that it owns, where the collector sees none.
    heap = stop.heap
    try:
        row = heap.objects.addresses.index(address)
    except ValueError:
        return None
    edges, _sizes = edges_and_sizes(stop, heap)
    cycle = shortest_cycle(edges, row)
    if not cycle:
        return None
    found = Components([], 0, [cycle])
    return _Group(_Graph(heap.objects, edges, found, frozenset(), [], seen=False), cycle, [address])


def _component(
    stop: Stop, references: References, referrers: Referrers, group: _Group
) -> tuple[Component, list[int], list[tuple[Keeper, Holder]]]:
    # The record, the rows of its cycles, and what keeps it with the words that do.
    graph, addresses = group.graph, group.graph.objects.addresses
    own = {addresses[row]: row for row in group.rows}
    contains = len(group.way) == 1
    through = own.get(group.way[0]) if group.way else None
    if not graph.seen:
        cycles = [group.rows]
    elif through is not None:
        cycles = passing(graph.edges, through, group.rows, _CYCLES)
    else:
        cycles = covering(graph.edges, group.rows, _CYCLES)
    keepers, more = _keepers(stop, references, referrers, group, own)
    members = graph.objects.pick(group.rows)
    return Component(
        len(group.rows), sum(count for count in members.refcounts if not stop.runtime.is_immortal(count)),
        by_type(stop, members), graph.is_garbage(group.rows), graph.seen, contains,
        [] if contains else references.steps(group.way), [_closed(references, graph, cycle) for cycle in cycles],
        [keeper for keeper, _ in keepers], more,
    ), [row for cycle in cycles for row in cycle], keepers


def _closed(references: References, graph: _Graph, cycle: Sequence[int]) -> list[ReferenceStep]:
    return references.steps([graph.objects.addresses[row] for row in (*cycle, cycle[0])])


def _keepers(
    stop: Stop, references: References, referrers: Referrers, group: _Group, own: dict[int, int]
) -> tuple[list[tuple[Keeper, Holder]], int]:
    # What refers to the members and is no visited reference of another member: strongest first.
    graph = group.graph
    inside = entries(graph.edges, group.rows, graph.objects.refcounts)
    asked = [graph.objects.addresses[row] for row in list(inside)[:_ENTRIES]]
    outside = Outside(stop)
    held = []
    for target, holders in referrers.of_many(asked).items():
        for holder in map(outside.resolved, holders):
            if holder is not None:
                held.append((holder, target))
    # C's holders come first, then members: references that the collector cannot see explain most.
    held.sort(key=lambda pair: (strength(pair[0]), pair[0].kind == "object", pair[0].owner not in own))
    references.load([holder.owner for holder, _ in held[:_OWNERS] if holder.owner])
    found: dict[tuple[str, str, int], tuple[Keeper, Holder]] = {}
    more = max(len(held) - _OWNERS, 0)
    for holder, target in held[:_OWNERS]:
        visited: bool | None = None
        owner = None
        if holder.kind == "object":
            visited = references.link(holder.owner, target, holder.label).visited
            if holder.owner in own and (visited or not graph.seen):
                continue
            owner = references.row(holder.owner)
        key = (owner.type if owner else holder.kind, holder.label, target)
        if key in found:
            more += 1
        else:
            certain = strength(holder) == SURE
            found[key] = Keeper(holder.kind, holder.label, owner, references.row(target), visited, certain), holder
    pairs = sorted(found.values(), key=lambda pair: (not pair[0].certain, pair[0].visited is not False))
    return pairs[:_KEEPERS], more + len(pairs[_KEEPERS:])


def _name(record: Component) -> str:
    state = "garbage" if record.garbage else "live" if record.seen else "not seen by the collector"
    return f"{record.objects} objects, {state}"


def _draw(drawing: Drawing, group: _Group, rows: Sequence[int], cluster: int) -> None:
    addresses = group.graph.objects.addresses
    for row in dict.fromkeys([*rows, *(group.rows if len(group.rows) <= _DRAWN_MEMBERS else ())]):
        if len(drawing) < _DRAWN:
            drawing.add(addresses[row], cluster)
    for number, address in enumerate(group.way):
        drawing.add(address, None if number else cluster)


def _draw_keepers(drawing: Drawing, holders: Sequence[tuple[Keeper, Holder]]) -> None:
    for keeper, holder in holders:
        if keeper.owner is not None:
            drawing.add(keeper.owner.address)
            drawing.add(keeper.target.address)
        elif keeper.certain:
            drawing.hold(keeper.kind, holder.place, keeper.label, keeper.certain, keeper.target.address)
