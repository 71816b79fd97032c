"""A traverse audit to draw: what is asked about, its references, each visited or not."""

from __future__ import annotations

from collections.abc import Sequence

from refdbg.answers import FieldVisits, Graph, GraphEdge, GraphNode
from refdbg.records import ObjectRow

_DRAWN = 40  # a person reads no more


def object_graph(title: str, subject: ObjectRow, fields: Sequence[FieldVisits], extra: Sequence[ObjectRow]) -> Graph:
    """One object and what its fields refer to, unvisited ones first; *extra*: what is visited and not owned."""
    nodes = [GraphNode(0, "object", "", subject, None, True)]
    ids = {subject.address: 0}
    edges = []

    def number(row: ObjectRow) -> int | None:
        if row.address not in ids and len(nodes) <= _DRAWN:
            ids[row.address] = len(nodes)
            nodes.append(GraphNode(len(nodes), "object", "", row, None, False))
        return ids.get(row.address)

    left_out = 0
    for field in sorted(fields, key=lambda field: field.visited):
        for row in field.targets:
            target = number(row)
            if target is None:
                left_out += 1
            else:
                # A visit proves nothing of ownership, but what is visited is no guess to be marked.
                certain = field.exact or bool(field.visited)
                edges.append(GraphEdge(0, target, field.field, True, bool(field.visited), certain))
    for row in extra:
        target = number(row)
        if target is None:
            left_out += 1
        else:
            edges.append(GraphEdge(0, target, "visited only", False, True, True))
    return Graph(title + _more(left_out, "references"), nodes, edges, [])


def type_graph(title: str, name: str, objects: int, fields: Sequence[FieldVisits]) -> Graph:
    """A type and its fields over the objects that were looked at; one that is visited now and then has two edges."""
    nodes = [GraphNode(0, "type", f"{name}, {objects} object{'' if objects == 1 else 's'}", None, None, True)]
    edges = []
    for field in fields[:_DRAWN]:
        target = len(nodes)
        nodes.append(GraphNode(target, "field", field.field, None, None, False))
        missing = field.owned - field.visited
        if missing:
            edges.append(GraphEdge(0, target, f"{missing} of {field.owned}", True, False, field.exact))
        if field.visited:
            edges.append(GraphEdge(0, target, f"{field.visited} of {field.owned}", True, True, True))
    return Graph(title + _more(max(len(fields) - _DRAWN, 0), "fields"), nodes, edges, [])


def _more(number: int, what: str) -> str:
    return f"\n{number} more {what} are not drawn" if number else ""
