"""A graph of objects as Graphviz DOT, and as SVG through the `dot` program."""

from __future__ import annotations

import re
import shutil
import subprocess
import textwrap
from html import escape

from refdbg.answers import Graph, GraphEdge, GraphNode
from refdbg.errors import CommandError

_INSTALL = "Install Graphviz (Debian: apt-get install graphviz), or write DOT with --dot FILE and draw it elsewhere."
_TIMEOUT = 120
_WIDTH = 36  # characters of a line in a node
_LINES = 2
_EDGE_WIDTH = 30
_FONT = "Helvetica,Arial,sans-serif"

# Kind of node → (shape, fill, border).
_OBJECT = ("box", "#eef3fa", "#7d99bf")
_NODES = {
    "static": ("box3d", "#fdebd0", "#c98a2b"),
    "runtime": ("box3d", "#fdebd0", "#c98a2b"),
    "interpreter": ("component", "#e3f1e1", "#5f9a58"),
    "thread": ("component", "#e3f1e1", "#5f9a58"),
    "frame": ("note", "#efe6f7", "#8e6bb0"),
    "stack": ("note", "#f1f1f1", "#9a9a9a"),
    "memory": ("folder", "#f1f1f1", "#9a9a9a"),
    "block": ("folder", "#f8e3e6", "#b06a76"),
    "type": _OBJECT,
    "field": ("box", "#f7f7f7", "#9a9a9a"),
}
HOLDERS = {  # how a kind of holder is called
    "static": "C variable", "runtime": "runtime state", "interpreter": "interpreter state", "thread": "thread state",
    "frame": "running frame", "stack": "a word on the C stack", "memory": "a word in memory", "block": "native block",
}
_DEFAULT_REPR = re.compile(r"<[^<>]* object at 0x[0-9a-f]+>$")  # it says nothing that the node does not
_MARK = ("#fff3b0", "#b58900")
# What an edge is → (colour, style, how the legend says it).
_EDGES = {
    "visited": ("#44618c", "solid", "visited by tp_traverse"),
    "unvisited": ("#d62728", "dashed", "owned, NOT visited by tp_traverse"),
    "undecided": ("#8c8c8c", "solid", "visited or not: not known"),
    "extra": ("#e08a00", "bold", "visited, but not owned"),
    "holds": ("#555555", "solid", "held from outside the heap"),
    "weak": ("#a8a8a8", "dotted", "a word that may be stale or own nothing"),
}


def as_dot(graph: Graph, bare: bool = False) -> str:
    """The graph in the DOT language, with a legend of the kinds of edges that it has.

    *bare*: for a page that has title and legend itself, and scrolls down rather than to the right.
    """
    if bare:
        head = ["  graph [rankdir=LR, nodesep=0.15, ranksep=0.5, pad=0.1];"]
    else:
        head = [
            f'  graph [label=<{_text(graph.title)}>, labelloc=t, fontname="{_FONT}", fontsize=16, fontcolor="#333333",',
            "         rankdir=TB, nodesep=0.35, ranksep=0.6, compound=true, pad=0.3, bgcolor=white];",
        ]
    lines = [
        "digraph refdbg {",
        *head,
        f'  node [fontname="{_FONT}", fontsize=11, style="filled,rounded", penwidth=1.1, margin="0.1,0.04"];',
        f'  edge [fontname="{_FONT}", fontsize=9, arrowsize=0.7, penwidth=1.3];',
    ]
    for number, name in enumerate(graph.clusters):
        inside = [node for node in graph.nodes if node.cluster == number]
        if inside:
            lines += [
                f"  subgraph cluster_{number} {{",
                f'    label=<<b>{_text(name)}</b>>; labeljust=l; fontsize=11; fontcolor="#6b6b6b";',
                '    style="rounded,filled"; color="#d0d0d0"; fillcolor="#fafafa"; margin=14;',
                *(f"    {_node(node)}" for node in inside),
                "  }",
            ]
    lines += [f"  {_node(node)}" for node in graph.nodes if node.cluster is None]
    kinds = {node.id: node.kind for node in graph.nodes}
    lines += [f"  {_edge(edge, kinds)}" for edge in graph.edges]
    lines += [] if bare else _legend(graph, kinds)
    return "\n".join([*lines, "}"]) + "\n"


def as_svg(text: str) -> str:
    """DOT *text* drawn. Raises CommandError."""
    return _draw(text)


def write_svg(text: str, file: str) -> None:
    """Draw DOT *text* into *file*. Raises CommandError."""
    _draw(text, "-o", file)


def _draw(text: str, *options: str) -> str:
    program = shutil.which("dot")
    if program is None:
        raise CommandError("Graphviz's `dot` is not installed: no SVG", _INSTALL)
    try:
        done = subprocess.run(
            [program, "-Tsvg", *options], input=text, text=True, encoding="utf-8", capture_output=True,
            timeout=_TIMEOUT, check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CommandError(f"`dot` failed: {error}", _INSTALL) from error
    if done.returncode:
        raise CommandError(f"`dot` failed: {done.stderr.strip()[:400]}", "`--dot FILE` writes what it was given.")
    return done.stdout


def printable(text: str) -> str:
    """Text of the process, safe to show: what is not printable is escaped; line ends stay."""
    return "".join(
        each if each.isprintable() or each == "\n" else each.encode("unicode_escape", "surrogatepass").decode()
        for each in text
    )


def _text(text: str) -> str:
    # For an HTML-like label.
    return escape(printable(text)).replace("\n", "<br/>")


def _wrapped(text: str, width: int, lines: int) -> str:
    found = textwrap.wrap(printable(text), width, break_on_hyphens=False)
    if len(found) > lines:
        found = [*found[: lines - 1], f"{found[lines - 1][: width - 1]}…"]
    return "<br/>".join(escape(line) for line in found)


def _node(node: GraphNode) -> str:
    shape, fill, border = _OBJECT if node.kind == "object" else _NODES.get(node.kind, _OBJECT)
    width = 1.1
    if node.object is not None:
        row = node.object
        rows = [f"<b>{_wrapped(row.type, _WIDTH, 1)}</b>"]
        if row.repr and not _DEFAULT_REPR.match(row.repr):
            rows.append(f'<font point-size="9" color="#444444">{_wrapped(row.repr, _WIDTH, _LINES)}</font>')
        rows.append(f'<font point-size="8" color="#8a8a8a">{row.address:#x}</font>')
    else:
        kind = HOLDERS.get(node.kind, node.kind)
        rows = [] if kind == node.label else [f'<font point-size="9" color="#666666">{_text(kind)}</font>']
        rows.append(f"<b>{_wrapped(node.label, _WIDTH, 3)}</b>")
    if node.marked:
        (fill, border), width = _MARK, 2.4
    cells = "".join(f"<tr><td>{each}</td></tr>" for each in rows)
    label = f'<table border="0" cellborder="0" cellspacing="0" cellpadding="1">{cells}</table>'
    return f'n{node.id} [shape={shape}, fillcolor="{fill}", color="{border}", penwidth={width}, label=<{label}>];'


def _kind(edge: GraphEdge, kinds: dict[int, str]) -> str:
    if kinds.get(edge.source) in HOLDERS:
        return "holds" if edge.certain else "weak"
    if not edge.owned:
        return "extra"
    return "undecided" if edge.visited is None else "visited" if edge.visited else "unvisited"


def _edge(edge: GraphEdge, kinds: dict[int, str]) -> str:
    kind = _kind(edge, kinds)
    colour, style, _ = _EDGES[kind]
    options = [f'class="{kind}"', f'color="{colour}"', f'style="{style}"', f'fontcolor="{colour}"']
    if edge.label:
        lines = "<br/>".join(_wrapped(line, _EDGE_WIDTH, 1) for line in edge.label.split("\n"))
        options.append(f"label=<&nbsp;{lines}{'' if edge.certain else ' ?'}&nbsp;>")
    if edge.joins:
        options.append("penwidth=3")
    return f"n{edge.source} -> n{edge.target} [{', '.join(options)}];"


def _legend(graph: Graph, kinds: dict[int, str]) -> list[str]:
    used = {_kind(edge, kinds) for edge in graph.edges}
    strokes = {"solid": "━━━▶", "dashed": "╍╍╍▶", "dotted": "┈┈┈▶", "bold": "━━━▶"}
    rows = [
        f'<tr><td><font color="{colour}">{strokes[style]}</font></td><td align="left">{says}</td></tr>'
        for kind, (colour, style, says) in _EDGES.items() if kind in used
    ]
    if any(edge.joins for edge in graph.edges):
        stroke = '<font point-size="14"><b>━━▶</b></font>'
        rows.append(f'<tr><td>{stroke}</td><td align="left">thick: from one group to another</td></tr>')
    if any(edge.label and not edge.certain for edge in graph.edges):
        rows.append('<tr><td>label ?</td><td align="left">it may own nothing: borrowed, or a guess</td></tr>')
    if any(node.marked for node in graph.nodes):
        rows.append(f'<tr><td bgcolor="{_MARK[0]}">&nbsp;</td><td align="left">what it is about</td></tr>')
    if not rows:
        return []
    table = f'<table border="0" cellborder="0" cellspacing="3" cellpadding="1">{"".join(rows)}</table>'
    return [
        "  subgraph cluster_legend {",
        '    label=""; style="rounded"; color="#dddddd"; margin=4;',
        f'    legend [shape=plaintext, style="", fontsize=9, fontcolor="#555555", label=<{table}>];',
        "  }",
    ]
