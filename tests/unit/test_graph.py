"""Components, dominators, paths: each against a slow twin that nobody can doubt; and drawing."""

from __future__ import annotations

import re
import shutil
import subprocess
from array import array
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refdbg.analysis.cycles import covering, entries, holding, passing
from refdbg.analysis.retention import held_from_outside, retained_together, retention
from refdbg.answers import Graph, GraphEdge, GraphNode
from refdbg.errors import CommandError
from refdbg.graph.components import components
from refdbg.graph.dominators import ROOT, UNREACHED, dominators
from refdbg.graph.edges import Edges
from refdbg.graph.paths import grouped, path, search, shortest_cycle, transposed
from refdbg.records import ObjectRow
from refdbg.render import dot

Rows = list[list[int]]
settings.register_profile("refdbg", database=None, deadline=None)  # no files beside the sources; slow machines pass
settings.load_profile("refdbg")


def _edges(rows: Rows) -> Edges:
    return Edges(array("Q", accumulate(map(len, rows), initial=0)), array("Q", (row for each in rows for row in each)))


@st.composite
def graphs(draw: Any) -> Rows:
    size = draw(st.integers(1, 14))
    row = st.integers(0, size - 1)
    return draw(st.lists(st.lists(row, max_size=4), min_size=size, max_size=size))


@st.composite
def rooted(draw: Any) -> tuple[Rows, list[int]]:
    rows = draw(graphs())
    return rows, draw(st.lists(st.integers(0, len(rows) - 1), max_size=3))


def _reach(rows: Rows, roots: list[int], without: int = -1) -> set[int]:
    seen = {root for root in roots if root != without}
    todo = list(seen)
    while todo:
        for row in rows[todo.pop()]:
            if row not in seen and row != without:
                seen.add(row)
                todo.append(row)
    return seen


def _distances(rows: Rows, sources: set[int]) -> dict[int, int]:
    # Relaxes every edge until nothing changes.
    found = dict.fromkeys(sources, 0)
    for _ in rows:
        for row, targets in enumerate(rows):
            for target in targets:
                if row in found and found[row] + 1 < found.get(target, len(rows) + 1):
                    found[target] = found[row] + 1
    return found


@given(graphs())
def test_components_are_the_rows_that_reach_each_other(rows: Rows) -> None:
    found = components(_edges(rows))
    reach = [_reach(rows, [row]) for row in range(len(rows))]
    for one in range(len(rows)):
        for other in range(len(rows)):
            together = other in reach[one] and one in reach[other]
            assert (found.number[one] == found.number[other]) == together
    assert set(found.number) == set(range(found.count))
    assert all(found.number[target] <= found.number[row] for row, targets in enumerate(rows) for target in targets)
    cyclic = {frozenset(row for row in range(len(rows)) if found.number[row] == number) for number in found.number}
    cyclic = {each for each in cyclic if len(each) > 1 or next(iter(each)) in rows[next(iter(each))]}
    assert {frozenset(each) for each in found.cyclic} == cyclic
    assert [len(each) for each in found.cyclic] == sorted(map(len, found.cyclic), reverse=True)


@settings(max_examples=500)
@given(rooted())
def test_dominators_are_the_rows_without_which_a_row_is_not_reached(graph: tuple[Rows, list[int]]) -> None:
    rows, roots = graph
    found = dominators(_edges(rows), roots)
    reached = _reach(rows, roots)
    gone = {row: reached - _reach(rows, roots, without=row) for row in reached}
    assert set(found.order) == reached
    sizes = [10 ** (row % 5) + row for row in range(len(rows))]
    totals = found.retained(sizes)
    for row in range(len(rows)):
        if row not in reached:
            assert (found.parent[row], totals[row]) == (UNREACHED, 0)
            continue
        assert totals[row] == sum(sizes[each] for each in gone[row])
        assert set(found.below(row)) == gone[row]
        above = {each for each in reached if row in gone[each]} - {row}
        # Of all that dominate it, the immediate one is dominated by the others.
        nearest = [each for each in above if all(each in gone[other] for other in above)]
        assert found.parent[row] == (nearest[0] if nearest else ROOT)
    assert all(found.order.index(found.parent[row]) < place for place, row in enumerate(found.order)
               if found.parent[row] != ROOT)


@given(rooted(), st.sets(st.integers(0, 13), max_size=3))
def test_paths_are_shortest(graph: tuple[Rows, list[int]], walls: set[int]) -> None:
    rows, sources = graph
    before = search(_edges(rows), sources, without=walls)
    distances = _distances([[] if row in walls else targets for row, targets in enumerate(rows)], set(sources))
    for row in range(len(rows)):
        way = path(before, row)
        assert bool(way) == (row in distances)
        if way:
            assert way[0] in sources and way[-1] == row and len(way) == distances[row] + 1
            assert all(target in rows[source] for source, target in zip(way, way[1:]))


@given(rooted(), st.integers(0, 13))
def test_a_search_for_a_goal_finds_the_same_way(graph: tuple[Rows, list[int]], goal: int) -> None:
    rows, sources = graph
    goal %= len(rows)
    assert path(search(_edges(rows), sources, goals=[goal]), goal) == path(search(_edges(rows), sources), goal)


@given(graphs(), st.sets(st.integers(0, 13)))
def test_cycles_are_shortest(rows: Rows, inside: set[int]) -> None:
    for limits in (None, inside):
        room = set(range(len(rows))) if limits is None else limits
        for row in range(len(rows)):
            kept = [[each for each in targets if each in room | {row}] if source in room | {row} else []
                    for source, targets in enumerate(rows)]
            back = [distance + 1 for source, distance in _distances(kept, {row}).items() if row in kept[source]]
            cycle = shortest_cycle(_edges(rows), row, limits)
            assert len(cycle) == min(back, default=0)
            assert all(target in rows[source] for source, target in zip(cycle, [*cycle[1:], *cycle[:1]]))


@given(graphs())
def test_transposed_twice_is_the_same(rows: Rows) -> None:
    turned = transposed(_edges(rows))
    pairs = sorted((row, target) for row, targets in enumerate(rows) for target in targets)
    assert sorted((target, row) for row in range(len(rows)) for target in turned.of(row)) == pairs
    back = grouped(pairs, len(rows))
    assert [list(back.of(row)) for row in range(len(rows))] == [sorted(each) for each in rows]


def test_deep_graphs_need_no_recursion() -> None:
    depth = 200_000
    chain = _edges([[row + 1] for row in range(depth)] + [[0]])
    assert [len(each) for each in components(chain).cyclic] == [depth + 1]
    assert dominators(chain, [0]).retained([1] * (depth + 1))[:2] == [depth + 1, depth]


def test_nothing() -> None:
    assert components(Edges.empty()).count == 0
    assert dominators(Edges.empty(), []).order == []
    assert list(search(Edges.empty(), [])) == []


# Two rings that meet in row 1: 0 ⇄ 1, 1 → 2 → 3 → 1; 4 leads to 0; 3 leads to 5.
RINGS = [[1], [0, 2], [3], [1, 5], [0], []]


def test_cycles_of_a_component() -> None:
    edges = _edges(RINGS)
    assert components(edges).cyclic == [[0, 1, 2, 3]]
    assert covering(edges, [0, 1, 2, 3], 5) == [[0, 1], [2, 3, 1]]
    assert covering(edges, [0, 1, 2, 3], 1) == [[0, 1]]
    assert passing(edges, 1, [0, 1, 2, 3], 5) == [[1, 0], [1, 2, 3]]
    assert passing(edges, 0, [0, 1, 2, 3], 5) == [[0, 1]]


def test_what_refers_into_a_component() -> None:
    assert entries(_edges(RINGS), [0, 1, 2, 3], [4, 2, 1, 1, 0, 1]) == {0: 3}


def test_components_that_hold_a_row() -> None:
    edges = _edges(RINGS)
    assert holding(edges, [5], components(edges)) == {0: [3, 5]}
    assert holding(edges, [4], components(edges)) == {}


def test_retention() -> None:
    # 0 is held from outside and holds a ring and 3; 3 is held by 4 too, which is held from outside.
    edges = _edges([[1, 3], [2], [1], [], [3], [5], [5]])
    counts = [1, 2, 1, 2, 1, 2, 0]
    assert held_from_outside(edges, counts) == [0, 4]
    found = retention(edges, counts, [10, 20, 30, 40, 50, 60, 70])
    assert found.objects == [3, 2, 1, 1, 1, 0, 0]
    assert found.bytes == [60, 50, 30, 40, 50, 0, 0]
    assert retained_together(edges, found.roots, [0, 4]) == {0, 1, 2, 3, 4}
    assert retained_together(edges, found.roots, [0]) == {0, 1, 2}


# Drawing

NASTY = 'a "quoted" <tag> & \\ back\nline \x1b[31m \u202e {brace|bar}'


def _graph() -> Graph:
    nodes = [
        GraphNode(0, "static", NASTY, None, None, False),
        GraphNode(1, "object", "", ObjectRow(4096, NASTY, NASTY, 1), 0, True),
        GraphNode(2, "object", "", ObjectRow(8192, "dict", "{}", 1), 1, False),
    ]
    edges = [
        GraphEdge(0, 1, "", True, None, True),
        GraphEdge(1, 2, NASTY, True, False, False, joins=True),
        GraphEdge(2, 1, "[0]\n[1]", True, True, True),
        GraphEdge(2, 2, "visited only", False, True, True),
        GraphEdge(1, 1, "x", True, None, True),
    ]
    return Graph(NASTY, nodes, edges, ["one", "two"])


def test_edges_are_drawn_by_what_they_are() -> None:
    lines = {line.split(" [")[0].strip(): line for line in dot.as_dot(_graph()).splitlines() if " -> " in line}
    assert 'style="dashed"' in lines["n1 -> n2"] and "penwidth=3" in lines["n1 -> n2"]
    assert 'style="solid"' in lines["n2 -> n1"] and "penwidth" not in lines["n2 -> n1"]
    colours = [re.search(r' color="(.*?)"', line).group(1) for line in lines.values()]  # type: ignore[union-attr]
    assert len(set(colours)) == 5


def test_text_of_the_process_is_escaped() -> None:
    text = dot.as_dot(_graph())
    assert "<tag>" not in text and "\x1b" not in text and "\u202e" not in text


@pytest.mark.skipif(shutil.which("dot") is None, reason="no Graphviz: apt-get install graphviz")
def test_graphviz_accepts_it(tmp_path: Path) -> None:
    text = dot.as_dot(_graph())
    done = subprocess.run(["dot", "-Tplain"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    dot.write_svg(text, str(tmp_path / "graph.svg"))
    assert "<svg" in (tmp_path / "graph.svg").read_text()
    with pytest.raises(CommandError, match="missing"):
        dot.write_svg(text, str(tmp_path / "missing" / "graph.svg"))


def test_without_graphviz(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CommandError) as error:
        dot.write_svg("digraph {}", str(tmp_path / "graph.svg"))
    assert "apt-get install graphviz" in error.value.text()


def test_the_empty_graph() -> None:
    assert dot.as_dot(Graph("nothing", [], [], [])).startswith("digraph")
