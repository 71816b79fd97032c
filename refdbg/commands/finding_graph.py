"""The small graph of a finding: the culprit, what it holds, and the shortest ways on to what is left over behind it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from refdbg.analysis.audit import Owned, audit
from refdbg.cpython.owned import Reference
from refdbg.cpython.stop import Stop
from refdbg.errors import DecodeError, MemoryFault
from refdbg.records import FindingGraph, FindingNode, ObjectRow, finding_edge

NODES = 40  # a person reads no more
_SEARCHED = 20_000
_ALIKE = 3  # references of one object to another that are drawn


@dataclass(frozen=True)
class Holding:
    """What holds an object (*target*: ``PyObject *``) from outside of the heap."""

    kind: str
    label: str
    target: int
    role: str = "culprit"


@dataclass(frozen=True)
class Sources:
    """How a finding's stop is read, each by address (``PyObject *``): an object's *row*, what it owns, what its
    tp_traverse visits (None: not known)."""

    stop: Stop
    row: Callable[[int], ObjectRow]
    owned: Callable[[int], Iterable[Reference]]
    visits: Callable[[int], Sequence[int] | None]


def finding_graph(
    sources: Sources, holding: Sequence[Holding], culprits: Sequence[int], subjects: Sequence[int],
    behind: Iterable[int] = (), total: int = 0, unowned: str = "",
) -> FindingGraph:
    """Holders outside, *culprits* (objects that are to blame), *subjects* (what they hold) and the objects *behind*,
    each ``PyObject *`` and the most telling first; *total*: how many objects the finding explains; *unowned*: the
    field of a visit that no reference stands behind."""
    nodes = list(dict.fromkeys(FindingNode(each.kind, each.role, each.label, None) for each in holding))
    outside = {(node.kind, node.label): number for number, node in enumerate(nodes)}
    chosen = dict.fromkeys([*culprits, *subjects, *behind])
    roles = dict.fromkeys(islice(chosen, max(NODES - len(nodes), 0)), "behind")
    roles.update((address, "subject") for address in subjects if address in roles)
    roles.update((address, "culprit") for address in culprits if address in roles)
    number_of = {}
    for address, role in roles.items():
        number_of[address] = len(nodes)
        nodes.append(FindingNode("object", role, "", sources.row(address)))
    edges = [
        finding_edge(outside[each.kind, each.label], number_of[each.target], "", True, None)
        for each in holding if each.target in number_of
    ]
    for owner, source in number_of.items():
        edges += _edges(sources, owner, source, number_of, unowned)
    return FindingGraph(nodes, edges, max(total - len(number_of), 0))


def _edges(
    sources: Sources, owner: int, source: int, number_of: Mapping[int, int], unowned: str
) -> list[dict[str, object]]:
    visits = sources.visits(owner)
    owned = [
        Owned(each.label, each.target, each.exact, each.declared, "", each.suspended)
        for each in sources.owned(owner) if each.target in number_of
    ]
    found = audit(owned, [target for target in visits or () if target in number_of])
    alike: Counter[tuple[int, bool]] = Counter()
    edges = []
    for match in found.matched:
        alike[match.owned.target, match.visited] += 1
        if alike[match.owned.target, match.visited] <= _ALIKE:
            visited = match.visited or (False if visits is not None and _is_gc(sources, match.owned.target) else None)
            edges.append(finding_edge(source, number_of[match.owned.target], match.owned.label, True, visited))
    edges += [finding_edge(source, number_of[target], unowned, False, True) for target in dict.fromkeys(found.extra)]
    return edges


def _is_gc(sources: Sources, address: int) -> bool:
    # What takes no part in collection need not be visited.
    try:
        return sources.stop.texts.type_of(address).is_gc
    except (DecodeError, MemoryFault):
        return False


def spread(targets: Callable[[int], Iterable[int]], starts: Iterable[int], inside: Collection[int]) -> dict[int, int]:
    """Rows in the order of their distance from *starts*, each with the one before it, a start with itself.

    *targets*: a row's; *inside*: no other rows are looked at.
    """
    before = {row: row for row in starts}
    level = list(before)
    while level and len(before) < _SEARCHED:
        following = []
        for row in level:
            for target in targets(row):
                if target not in before and target in inside:
                    before[target] = row
                    following.append(target)
        level = following
    return before


def way_back(before: dict[int, int], row: int) -> list[int]:
    """The rows from *row* back to a start of `spread`; [] when it was not reached."""
    if row not in before:
        return []
    found = [row]
    while before[found[-1]] != found[-1]:
        found.append(before[found[-1]])
    return found
