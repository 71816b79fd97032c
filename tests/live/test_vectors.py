"""What numpy reads of a large heap at once, against the loops that debuggers use."""

from __future__ import annotations

import subprocess
import sys
from array import array
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refdbg import dependencies
from refdbg.analysis.collector import replay
from refdbg.cpython.owned import Owned
from refdbg.cpython.referrers import Referrers
from refdbg.cpython.runtime import RUNTIME, Build
from refdbg.cpython.stop import Stop
from refdbg.graph import edges as edges_module
from refdbg.graph.edges import Edges, Marks
from refdbg.graph.rows import Rows
from refdbg.target import snapshot
from tests.conftest import python_of
from tests.support.run import ENVIRONMENT

PROGRAM = """
import collections, ctypes, decimal, sys
class Thing:
    def __init__(self, number):
        self.number, self.other = number, [number]
class Slots:
    __slots__ = ("first", "second")
class Child(list):
    pass
kept = [Thing(number) for number in range(3000)]
del kept[::7]
kept[5].__dict__
slots = [Slots() for _ in range(2000)]
for each in slots[::2]:
    each.first = each
numbers = [(number, None, (number,)) for number in range(3000)]
holes = [{**dict.fromkeys("abcdef", numbers), number: {number}} for number in range(1500)]
for each in holes[::3]:
    del each["c"]
children = [Child([number]) for number in range(1200)]
texts = ["text" * (number % 300) + chr(0x1F600 + number % 2) for number in range(3000)]
buffers = [bytearray(5000 + number) for number in range(50)] + [bytes(3_000_000)]
calloc = ctypes.create_string_buffer(1 << 24)
others = collections.OrderedDict.fromkeys(texts), collections.deque(texts), decimal.Decimal("1.5")
print(flush=True)
sys.stdin.readline()
"""
Both = Callable[[Callable[[Stop], Any]], list[Any]]
REFDBG = [sys.executable, "-c", "from refdbg.launch.shell import main; main()"]


@pytest.fixture(scope="module", params=["3.9-debug", "3.11-debug", "3.11-trace-refs", "3.13-debug"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Both:
    """Asks the same of one process, by loops and by numpy."""
    file = tmp_path_factory.mktemp("vectors") / "all.refdbg"
    with subprocess.Popen(
        [python_of(request.param), "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=ENVIRONMENT,
    ) as program:
        assert program.stdout is not None
        program.stdout.readline()
        subprocess.run([*REFDBG, "--pid", str(program.pid), "snapshot", str(file)], check=True, capture_output=True)
        program.communicate("\n")
    stops = [Stop(Build(snapshot.opened(str(file), RUNTIME))) for _ in range(2)]

    def asked(question: Callable[[Stop], Any]) -> list[Any]:
        answers = []
        for stop, long in zip(stops, (sys.maxsize, 0)):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(dependencies, "_LONG", long)
                answers.append(question(stop))
        return answers

    return asked


def test_the_same_blocks_and_objects(both: Both) -> None:
    loops, vectors = both(lambda stop: stop.heap)
    assert len(loops.objects) > 20_000
    assert vectors.objects == loops.objects
    assert vectors.blocks == loops.blocks
    assert vectors.rows == loops.rows
    loops, vectors = both(lambda stop: stop.heap.object_in)
    assert vectors == loops


def test_the_same_tracked_objects(both: Both) -> None:
    loops, vectors = both(lambda stop: (stop.heap, stop.tracked())[1])
    assert len(loops) > 8_000
    assert vectors == loops


def test_damaged_lists_of_the_collector(both: Both) -> None:
    def tracked(stop: Stop) -> Any:
        row = stop.heap.objects.types.index(stop.runtime.target.address_of("PyDict_Type"), 2000)
        place = stop.heap.objects.addresses[row] - stop.lists.head_size
        stop.runtime.memory.page(place >> 12)
        page = bytearray(stop.runtime.memory.pages[place >> 12])
        page[place & 0xFFF : (place & 0xFFF) + 8] = (24).to_bytes(8, "little")  # its next link leads nowhere
        stop.runtime.memory.pages[place >> 12] = bytes(page)
        if stop.copy is not None:
            first, _size = stop.copy.place(place, place + 8)
            stop.copy.buffer[first : first + 8] = (24).to_bytes(8, "little")
        return stop.tracked()

    loops, vectors = both(tracked)
    assert loops.coverage.unreadable == 1
    assert vectors == loops


def test_the_same_references(both: Both) -> None:
    loops, vectors = both(lambda stop: stop.known)
    assert len(loops.targets) > 30_000
    assert vectors == loops


def test_the_same_visits(both: Both) -> None:
    loops, vectors = both(lambda stop: stop.visited_edges)
    assert len(loops.targets) > 30_000
    assert vectors == loops


def test_the_same_holders(both: Both) -> None:
    def holders(stop: Stop) -> Any:
        objects = stop.heap.objects
        chosen = [*objects.addresses[:300], *objects.addresses[10_000:10_300]]
        return Referrers(stop, Owned(stop.texts, lambda: stop.heap), stop.known).of_many(chosen)

    loops, vectors = both(holders)
    assert sum(map(len, loops.values())) > 600
    assert vectors == loops


@given(st.sets(st.integers(1 << 20, 1 << 26), max_size=40), st.lists(st.integers(0, 1 << 27), max_size=40))
def test_the_same_rows(addresses: set[int], others: list[int]) -> None:
    ordered = [address & -8 for address in dict.fromkeys(address & -8 for address in addresses)]
    with pytest.MonkeyPatch.context() as patch:
        found = []
        for long in (sys.maxsize, 0):
            patch.setattr(dependencies, "_LONG", long)
            found.append(Rows(ordered).of([*ordered, *others]))
    assert found[0] == found[1]
    assert list(found[0][: len(ordered)]) == list(range(len(ordered)))


@given(
    st.lists(st.lists(st.integers(0, 99), max_size=4), min_size=100, max_size=100), st.lists(st.integers(0, 99)),
    st.frozensets(st.integers(0, 99)),
)
def test_the_same_is_reached(rows: list[list[int]], roots: list[int], taken: frozenset[int]) -> None:
    rows[0] = rows[0] or [1]
    starts = array("Q", [sum(map(len, rows[:row])) for row in range(101)])
    edges = Edges(starts, array("Q", [one for each in rows for one in each]))
    with pytest.MonkeyPatch.context() as patch:
        found = []
        for long in (sys.maxsize, 0):
            patch.setattr(dependencies, "_LONG", long)
            for wide in (0, 6):
                patch.setattr(edges_module, "_WIDE", wide)
                marks = Marks(100)
                marks.set(taken, 1)
                found.append(edges.reach(roots, taken))
                found.append(edges.reach(roots, marks))
                found.append({row for row, mark in enumerate(edges.flood(roots, marks).marks) if mark})
                assert {row for row, mark in enumerate(marks.marks) if mark} == found[-1] | taken
    todo, expected = [row for row in roots if row not in taken], set()
    while todo:
        row = todo.pop()
        if row not in expected:
            expected.add(row)
            todo += [target for target in rows[row] if target not in taken]
    assert all(each == expected for each in found)


@given(
    st.lists(st.lists(st.integers(-1, 9), max_size=5), min_size=10, max_size=10), st.binary(min_size=10, max_size=10)
)
def test_the_same_edges_stay(rows: list[list[int]], flags: bytes) -> None:
    edges = Edges(
        array("Q", [sum(map(len, rows[:row])) for row in range(11)]), array("q", [one for each in rows for one in each])
    )
    inside = bytes(flag & 1 for flag in flags) + b"\0"
    with pytest.MonkeyPatch.context() as patch:
        found = []
        for long in (sys.maxsize, 0):
            patch.setattr(dependencies, "_LONG", long)
            found.append(edges.only(inside))
    assert found[0].starts == found[1].starts
    assert list(found[0].targets) == list(found[1].targets)


@given(
    st.lists(st.lists(st.integers(0, 9), max_size=5), min_size=10, max_size=10),
    st.lists(st.integers(0, 4), min_size=10, max_size=10), st.sets(st.integers(0, 9)),
)  # fmt: skip
def test_the_same_replay(rows: list[list[int]], counts: list[int], collected: set[int]) -> None:
    edges = Edges(
        array("Q", [sum(map(len, rows[:row])) for row in range(11)]), array("Q", [one for each in rows for one in each])
    )
    with pytest.MonkeyPatch.context() as patch:
        found = []
        for long in (sys.maxsize, 0):
            patch.setattr(dependencies, "_LONG", long)
            found.append(replay(counts, edges, sorted(collected), immortal=4))
    assert found[0] == found[1]
