"""The graph of a finding as a drawing: DOT, and SVG that a page colours by its own style sheet."""

from __future__ import annotations

from textwrap import fill
from typing import Any
from xml.etree import ElementTree

from refdbg.answers import Graph, GraphEdge, GraphNode
from refdbg.records import ObjectRow
from refdbg.render.dot import as_dot, as_svg

_TITLE = 100  # characters of a line
_OWN_STYLE = ("fill", "stroke", "stroke-width", "stroke-dasharray", "font-family", "width", "height")


def finding_dot(finding: dict[str, Any], bare: bool = False) -> str:
    """The graph of a finding that has one; *bare*: see `as_dot`."""
    nodes = [
        GraphNode(number, node["kind"], node["label"], ObjectRow(**node["object"]) if node["object"] else None, None,
                  node["role"] == "culprit")
        for number, node in enumerate(finding["graph"]["nodes"])
    ]  # fmt: skip
    edges = [
        GraphEdge(edge["from"], edge["to"], edge["label"], edge["owned"], edge["visited"], True)
        for edge in finding["graph"]["edges"]
    ]
    title = fill(f"{finding['verdict']}: {finding['message']}", _TITLE)
    return as_dot(Graph(title, nodes, edges, []), bare)


def finding_svg(finding: dict[str, Any]) -> str:
    """The same as one <svg> for the inside of a page, without colours, ids or anything to load.

    Nodes have `data-node`, edges `data-from` and `data-to`: the indexes of the record. Raises CommandError.
    """
    graph = finding["graph"]
    root = ElementTree.fromstring(as_svg(finding_dot(finding, bare=True)))
    _strip(root)
    canvas = root.find("g")
    assert canvas is not None
    for backdrop in canvas.findall("polygon"):
        canvas.remove(backdrop)
    for group in canvas.findall("g"):
        name = (group.findtext("title") or "").strip()
        kind = group.get("class", "")
        for title in group.findall("title"):
            group.remove(title)
        if kind == "node":
            number = int(name[1:])
            node = graph["nodes"][number]
            group.set("class", f"node {node['role']} {'object' if node['object'] else 'holder'}")
            group.set("data-node", str(number))
        else:
            source, _, target = name.partition("->")
            group.set("data-from", source[1:])
            group.set("data-to", target[1:])
    for title in canvas.findall("title"):
        canvas.remove(title)
    root.set("role", "group")
    return ElementTree.tostring(root, encoding="unicode")


def _strip(root: ElementTree.Element) -> None:
    # Inside HTML an <svg> needs no namespaces; what has a colour gets it from the style sheet.
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        for name in [*element.attrib]:
            if name in _OWN_STYLE or name == "id" or name.startswith("{"):
                del element.attrib[name]
        if element.tag == "text" and "font-size" in element.attrib:
            element.set("class", f"size{float(element.attrib.pop('font-size')):.0f}")
            if element.attrib.pop("font-weight", None):
                element.set("class", f"{element.get('class')} strong")
