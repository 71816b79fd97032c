"""References with their labels, each visited by its owner's tp_traverse or not: asked for by owner, read once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from refdbg.analysis import audit
from refdbg.answers import Graph, GraphEdge, GraphNode, ReferenceStep
from refdbg.cpython import describe
from refdbg.cpython.owned import Owned
from refdbg.cpython.referrers import Holder, Referrers
from refdbg.cpython.stop import Stop
from refdbg.cpython.traverse import Traverse
from refdbg.errors import DecodeError, MemoryFault
from refdbg.records import ObjectRow

_LABELS = 3  # labels on one edge of a drawing


@dataclass(frozen=True)
class Link:
    """One reference. *owned*: False for a visit without a known reference; *visited*: None where it is undecided."""

    label: str
    target: int
    owned: bool
    visited: bool | None
    exact: bool


class References:
    """The references of one stop's objects, by owner (``PyObject *``)."""

    def __init__(self, stop: Stop) -> None:
        """Raises EmulationError, MissingDependency."""
        self._stop = stop
        self.traverse = Traverse(stop)
        self.owned = Owned(self._stop.texts, lambda: self._stop.heap)
        self.referrers = Referrers(stop, self.owned)
        self._holders: dict[int, list[Holder]] = {}
        self._links: dict[int, list[Link]] = {}
        self._rows: dict[int, ObjectRow] = {}

    def row(self, address: int) -> ObjectRow:
        """The object, described."""
        found = self._rows.get(address)
        if found is None:
            found = self._rows[address] = describe.row(self._stop, address)
        return found

    def holders(self, addresses: Iterable[int]) -> dict[int, list[Holder]]:
        """The words that equal each of the addresses, as `Referrers.of_many` finds them: each is searched once."""
        wanted = list(dict.fromkeys(addresses))
        self._holders.update(self.referrers.of_many([each for each in wanted if each not in self._holders]))
        return {address: self._holders[address] for address in wanted}

    def load(self, owners: Iterable[int]) -> None:
        """Read the references of many objects at once: the emulator then runs once."""
        types = {}
        for owner in dict.fromkeys(owners):
            if owner not in self._links:
                try:
                    types[owner] = self._stop.texts.type_of(owner).address
                except (DecodeError, MemoryFault):
                    self._links[owner] = []
        visited = self.traverse.visits(list(types), list(types.values()))
        for row, owner in enumerate(types):
            self._links[owner] = self._audited(owner, None if row in visited.undecided else visited.of(row))

    def _audited(self, owner: int, visits: Sequence[int] | None) -> list[Link]:
        owned = [
            audit.Owned(each.label, each.target, each.exact, each.declared, "", each.suspended)
            for each in self.owned.references(owner) if not each.stale
        ]
        found = audit.audit(owned, visits or ())
        return [
            Link(match.owned.label, match.owned.target, True, None if visits is None else match.visited,
                 match.owned.exact)
            for match in found.matched
        ] + [Link("visited only", target, False, True, False) for target in found.extra]

    def of(self, owner: int) -> list[Link]:
        """What the object refers to, owned or visited."""
        if owner not in self._links:
            self.load([owner])
        return self._links[owner]

    def link(self, owner: int, target: int, label: str | None = None) -> Link:
        """The reference from *owner* to *target* by the field *label*; without one the best: visited, exact."""
        found = [link for link in self.of(owner) if link.target == target and label in (None, link.label)]
        if found:
            return max(found, key=lambda link: (bool(link.visited), link.owned, link.exact))
        return Link(label or "a word", target, True, None, False)

    def steps(
        self, addresses: Sequence[int], labels: Mapping[tuple[int, int], str] | None = None
    ) -> list[ReferenceStep]:
        """The way through the objects: each reference, and the object that it leads to; the first has no label.

        *labels*: the field to take, by owner and target.
        """
        if not addresses:
            return []
        self.load(addresses[:-1])
        found = [ReferenceStep("", True, None, True, self.row(addresses[0]))]
        for owner, target in zip(addresses, addresses[1:]):
            link = self.link(owner, target, (labels or {}).get((owner, target)))
            found.append(ReferenceStep(link.label, link.owned, link.visited, link.exact, self.row(target)))
        return found

    def edges(self, ids: Mapping[int, int], clusters: Mapping[int, int | None]) -> list[GraphEdge]:
        """The edges between the objects that *ids* numbers, to draw: references of a kind are one edge."""
        self.load(ids)
        found = []
        for owner, source in ids.items():
            kinds: defaultdict[Link, list[str]] = defaultdict(list)
            for link in self.of(owner):
                if link.target in ids:
                    kinds[replace(link, label="")].append(link.label)
            for link, labels in kinds.items():
                rest = len(labels) - _LABELS
                text = "\n".join([*labels[:_LABELS], *([f"and {rest} more"] if rest > 0 else [])])
                joins = clusters.get(owner) is not None and clusters.get(owner) != clusters.get(link.target) is not None
                found.append(
                    GraphEdge(source, ids[link.target], text, link.owned, link.visited, link.exact, joins)
                )
        return found


class Drawing:
    """Collects a graph's nodes: objects by their addresses, and holders outside."""

    def __init__(self, references: References) -> None:
        self._references = references
        self._nodes: list[GraphNode] = []
        self._ids: dict[int, int] = {}
        self._clusters: dict[int, int | None] = {}
        self._holding: list[GraphEdge] = []
        self._places: dict[tuple[int, str], int] = {}

    def __len__(self) -> int:
        return len(self._nodes)

    def add(self, address: int, cluster: int | None = None, marked: bool = False) -> int:
        """An object, once."""
        if address not in self._ids:
            self._ids[address] = len(self._nodes)
            self._clusters[address] = cluster
            row = self._references.row(address)
            self._nodes.append(GraphNode(len(self._nodes), "object", "", row, cluster, marked))
        return self._ids[address]

    def hold(self, kind: str, place: int, label: str, certain: bool, address: int) -> None:
        """What holds an object from outside."""
        target = self.add(address)
        key = (place, label)
        if key not in self._places:
            self._places[key] = len(self._nodes)
            self._nodes.append(GraphNode(len(self._nodes), kind, label, None, None, False))
        edge = GraphEdge(self._places[key], target, "", True, None, certain)
        if edge not in self._holding:
            self._holding.append(edge)

    def graph(self, title: str, clusters: Sequence[str] = ()) -> Graph:
        """All of it, with the references between the objects."""
        edges = self._references.edges(self._ids, self._clusters)
        return Graph(title, self._nodes, self._holding + edges, list(clusters))
