"""`refdbg why`: shortest ways from outside the heap to an object."""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from itertools import islice, zip_longest

from refdbg.answers import Graph, HolderPath, OutsideHolder, UnknownReferences, Why
from refdbg.commands.context import Context
from refdbg.commands.inspect import object_address
from refdbg.commands.references import Drawing, References
from refdbg.cpython import describe
from refdbg.cpython.fields import SURROUNDINGS
from refdbg.cpython.holders import BLOCK, STACK, SURE, Outside, strength
from refdbg.cpython.referrers import Holder
from refdbg.cpython.stop import Stop
from refdbg.graph.paths import UNREACHED, grouped, path, search, shortest_cycle

_LEVELS = 60
_OBJECTS = 20_000  # whose holders are searched in all
_LEVEL_ROOM = 3000  # objects whose holders are searched at once
_FURTHER = 2  # levels after the first way that was found
_UNKNOWN = 5


@dataclass
class _Known:
    """The part of the graph that was searched: rows are objects, row 0 is the one that was asked for."""

    addresses: list[int]
    rows: dict[int, int]
    pairs: list[tuple[int, int]] = field(default_factory=list)  # (owner, target)
    labels: dict[tuple[int, int], str] = field(default_factory=dict)  # the same by address → field
    outside: defaultdict[int, list[Holder]] = field(default_factory=lambda: defaultdict(list))
    counted: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))  # words that own a reference
    weak: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))  # words that may be stale
    complete: bool = False  # every holder of every row was searched

    def held(self, weakest: int) -> list[int]:
        """The rows that something of at least that strength holds from outside, strongest first."""
        strongest = {row: min(map(strength, holders)) for row, holders in self.outside.items() if holders}
        return sorted((row for row, found in strongest.items() if found <= weakest), key=strongest.__getitem__)

    def owners(self, row: int) -> list[int]:
        """The objects that refer to a row."""
        return list(dict.fromkeys(owner for owner, target in self.pairs if target == row))


def show_why(context: Context, arguments: argparse.Namespace) -> Why:
    """Why the object is alive. Raises RefdbgError."""
    stop = context.stop
    address = object_address(context, arguments.expression)
    references = References(context.stop)
    known = _search(stop, references, address, arguments.limit)
    paths, through = _paths(known, references, arguments.limit)
    held = any(one.holder.certain or one.holder.kind == "block" for one in paths)
    rows = range(len(known.addresses)) if known.complete and not held else [0]
    unknown = _unknown(stop, known, references, rows)
    if known.complete and not held and not unknown:
        paths = []  # all references are accounted for: other words are stale
    cycle, leads = ([], []) if paths else _cycle(known)
    shown = paths[: arguments.limit]
    row = references.row(address)
    return Why(
        row, _verdict(stop, known, paths, held, cycle), len(known.owners(0)) + len(known.outside[0]), shown,
        len(paths) - len(shown),
        [references.row(known.addresses[owner]) for owner in through[: arguments.limit]],
        references.steps(cycle, known.labels), references.steps(leads, known.labels),
        unknown[:_UNKNOWN], _drawn(references, address, shown, [*cycle, *leads]),
        _notes(known, bool(paths)) + references.referrers.coverage.notes, stop.allocations.of(address),
    )


def best_way(stop: Stop, references: References, address: int) -> HolderPath | None:
    """The best way from outside to an object (``PyObject *``), None where none is found. Raises RefdbgError.

    A module's namespace is that of its module before it is that of a frame that runs in it.
    """
    for without in (SURROUNDINGS, frozenset[str]()):
        paths, _ = _paths(_search(stop, references, address, 1, without), references, 1)
        if paths and (paths[0].holder.certain or not without):
            return paths[0]
    return None


def _drawn(references: References, address: int, paths: Sequence[HolderPath], others: Sequence[int]) -> Graph:
    drawing = Drawing(references)
    drawing.add(address, marked=True)
    for path_ in paths:
        holder = path_.holder
        drawing.hold(holder.kind, holder.place, holder.label, holder.certain, path_.steps[0].object.address)
        for step in path_.steps:
            drawing.add(step.object.address)
    for each in others:
        drawing.add(each)
    return drawing.graph(f"Why is {references.row(address).repr} alive?")


def _search(
    stop: Stop, references: References, address: int, limit: int, without: Container[str] = frozenset()
) -> _Known:
    # Backwards, level by level, until enough of the object's own holders are traced to the outside. *without*: fields
    # through which no way goes.
    known = _Known([address], {address: 0})
    outside = Outside(stop)
    type_of = dict(zip(stop.heap.objects.addresses, stop.heap.objects.types))
    level = [address]
    first_found = None
    searched, cut = 1, False
    for depth in range(_LEVELS):
        following: list[int] = []
        for target, holders in references.holders(level).items():
            for holder in holders:
                if holder.label.partition(" of ")[0] not in without:
                    following += _add(known, target, outside.resolved(holder))
        if not following:
            known.complete = not cut
            break
        found, direct = _traced(known)
        if found and first_found is None:
            first_found = depth
        if found >= min(limit, direct) or (first_found is not None and depth >= first_found + _FURTHER):
            break
        level = _mixed(following, type_of)
        searched += len(level)
        cut |= len(level) < len(following)
        if searched > _OBJECTS:
            break
    return known


def _mixed(addresses: list[int], type_of: dict[int, int]) -> list[int]:
    # Not more than can be searched at once, of all types in turn: a class has many instances and one module.
    if len(addresses) <= _LEVEL_ROOM:
        return addresses
    groups: defaultdict[int, list[int]] = defaultdict(list)
    for address in addresses:
        groups[type_of[address]].append(address)
    turns = (address for turn in zip_longest(*groups.values()) for address in turn if address is not None)
    return list(islice(turns, _LEVEL_ROOM))


def _add(known: _Known, target: int, holder: Holder | None) -> list[int]:
    # One word that equals the target's address. Returns the object that holds it if it is met for the first time.
    if holder is None:
        return []
    row = known.rows[target]
    (known.counted if strength(holder) <= BLOCK else known.weak)[row] += 1
    if holder.kind != "object":
        known.outside[row].append(holder)
        return []
    new = holder.owner not in known.rows
    if new:
        known.rows[holder.owner] = len(known.addresses)
        known.addresses.append(holder.owner)
    known.pairs.append((known.rows[holder.owner], row))
    known.labels.setdefault((holder.owner, target), holder.label)
    return [holder.owner] if new else []


def _traced(known: _Known) -> tuple[int, int]:
    # How many of the object's own holders lead outside by sure ways, and how many it has.
    edges = grouped(known.pairs, len(known.addresses))
    before = search(edges, known.held(BLOCK), without=[0])
    own = known.owners(0)
    words = [holder for holder in known.outside[0] if strength(holder) <= BLOCK]
    return len(words) + sum(before[row] != UNREACHED for row in own), len(words) + len(own)


def _paths(known: _Known, references: References, limit: int) -> tuple[list[HolderPath], list[int]]:
    # One way for each of the object's own holders, best first, and the owners that have none.
    edges = grouped(known.pairs, len(known.addresses))
    ways: list[tuple[int, int, Holder, list[int]]] = [
        (strength(holder), 0, holder, [0]) for holder in known.outside[0]
    ]
    left = [owner for owner in known.owners(0) if owner != 0]
    for weakest in (BLOCK, STACK):
        if weakest == STACK and any(way[0] <= BLOCK for way in ways):
            break  # words on a stack say nothing new about what is held anyway
        before = search(edges, [row for row in known.held(weakest) if row], without=[0])
        for owner in left:
            way = path(before, owner)
            if way:
                holder = min(known.outside[way[0]], key=strength)
                ways.append((strength(holder), len(way), holder, [*way, 0]))
        left = [owner for owner in left if before[owner] == UNREACHED]
    ways.sort(key=lambda way: way[:2])
    chosen = [way for way in ways if way[0] <= BLOCK] or ways
    return [
        HolderPath(
            OutsideHolder(holder.kind, holder.place, holder.label, found == SURE),
            references.steps([known.addresses[row] for row in rows], known.labels) if number < limit else [],
        )
        for number, (found, _, holder, rows) in enumerate(chosen)
    ], left


def _cycle(known: _Known) -> tuple[list[int], list[int]]:
    # A shortest cycle through the object, or the nearest one that leads to it and the way from there (addresses).
    edges = grouped(known.pairs, len(known.addresses))
    for row in range(len(known.addresses)):  # in the order of their distance
        found = shortest_cycle(edges, row)
        if found:
            way = path(search(edges, found, goals=[0]), 0)
            at = found.index(way[0])
            closed = [*found[at:], *found[: at + 1]]
            return [known.addresses[each] for each in closed], [known.addresses[each] for each in way]
    return [], []


def _verdict(
    stop: Stop, known: _Known, paths: Sequence[HolderPath], held: bool, cycle: Sequence[int]
) -> str:
    if describe.is_immortal(stop, known.addresses[0]):
        return "immortal"
    if known.addresses[0] not in stop.heap.objects.addresses:
        return "static"
    if paths:
        return "held" if held else "weak"
    if not known.complete:
        return "open"
    return "cycle" if cycle else "unknown"


def _unknown(stop: Stop, known: _Known, references: References, rows: Sequence[int]) -> list[UnknownReferences]:
    # Objects with a greater count than words that own a reference to them.
    found = []
    for row in rows:
        address = known.addresses[row]
        count = stop.held(address)
        missing = count - known.counted[row]
        if missing > 0 and not stop.runtime.is_immortal(count):
            found.append(UnknownReferences(references.row(address), missing, known.weak[row]))
    return found


def _notes(known: _Known, found: bool) -> list[str]:
    if not known.complete and not found:
        return [f"The search ended after {len(known.addresses)} objects: what holds it may be farther away."]
    return []
