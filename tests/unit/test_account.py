"""The balance of a count, what goes when holders let go, and who gets what is held twice: against obvious twins."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from refdbg.analysis.balance import Trust, balance
from refdbg.analysis.collector import Release, replay
from refdbg.analysis.retention import shares
from refdbg.graph.edges import Edges

ROWS = 8
GRAPHS = st.lists(st.lists(st.integers(0, ROWS - 1), max_size=4), min_size=ROWS, max_size=ROWS)


def edges_of(lists: list[list[int]]) -> Edges:
    edges = Edges.empty()
    for targets in lists:
        for target in targets:
            edges.add(target)
        edges.close_row()
    return edges


def counts_of(lists: list[list[int]], outside: dict[int, int]) -> list[int]:
    inside = Counter(target for targets in lists for target in targets)
    return [inside[row] + outside.get(row, 0) for row in range(ROWS)]


@given(st.integers(0, 20), st.lists(st.sampled_from(Trust), max_size=20))
def test_each_reference_has_one_word_or_is_lost(count: int, trusts: list[Trust]) -> None:
    found = balance(count, trusts)
    owned = trusts.count(Trust.OWNED)
    assert found.owned == owned
    assert max(count - owned, 0) == len(found.taken) + found.lost
    assert found.surplus == max(owned - count, 0)
    assert len(set(found.taken)) == len(found.taken)
    assert all(trusts[n] is not Trust.OWNED for n in found.taken)
    # Nothing more trusted is left out for something less trusted.
    left = [trust for n, trust in enumerate(trusts) if n not in found.taken and trust is not Trust.OWNED]
    if found.taken and left:
        assert max(trusts[n] for n in found.taken) <= min(left)
        assert found.spare == left.count(trusts[found.taken[-1]])
    if found.lost:
        assert not left


def test_a_closed_balance() -> None:
    assert balance(3, [Trust.OWNED, Trust.STATIC, Trust.OWNED]).closed
    assert not balance(2, [Trust.OWNED, Trust.STATIC, Trust.STATIC]).closed  # which of the two?
    assert not balance(2, [Trust.OWNED]).closed
    assert not balance(1, [Trust.OWNED, Trust.OWNED]).closed


@given(GRAPHS, st.dictionaries(st.integers(0, ROWS - 1), st.integers(1, 2), min_size=1))
def test_what_goes_is_what_nothing_else_reaches(lists: list[list[int]], outside: dict[int, int]) -> None:
    """With every reference visited, letting go of some roots frees all that the other roots do not reach."""
    edges = edges_of(lists)
    dropped = dict(list(outside.items())[: len(outside) // 2 + 1])
    kept = edges.reach([row for row in outside if row not in dropped])
    gone = Release(counts_of(lists, outside), edges, edges, range(ROWS)).of(dropped)
    assert gone == set(range(ROWS)) - kept


@given(GRAPHS, GRAPHS, st.dictionaries(st.integers(0, ROWS - 1), st.integers(1, 2), min_size=1))
def test_what_goes_is_what_a_collection_of_all_finds(
    lists: list[list[int]], hidden: list[list[int]], outside: dict[int, int]
) -> None:
    """Looking only at what hangs on what is let go of, and at garbage once, loses nothing: some visits are missing."""
    visited = edges_of(lists)
    owned = edges_of([mine + more for mine, more in zip(lists, hidden)])
    counts = [0] * ROWS
    for target in owned.targets:
        counts[target] += 1
    for row, number in outside.items():
        counts[row] += number
    dropped = dict(list(outside.items())[: len(outside) // 2 + 1])
    left = list(counts)
    for row, number in dropped.items():
        left[row] -= number
    gone: set[int] = set()
    while True:  # the obvious twin
        dead = {row for row in range(ROWS) if left[row] == 0 and row in dropped and row not in gone}
        dead.update(replay(left, visited, [row for row in range(ROWS) if row not in gone]).unreachable)
        if not dead:
            break
        while dead:
            row = dead.pop()
            gone.add(row)
            for target in owned.of(row):
                left[target] -= 1
                if left[target] == 0 and target not in gone:
                    dead.add(target)
    assert Release(counts, owned, visited, range(ROWS)).of(dropped) == gone


@given(GRAPHS, st.dictionaries(st.integers(0, ROWS - 1), st.integers(1, 2), min_size=1))
def test_without_visits_only_counts_free(lists: list[list[int]], outside: dict[int, int]) -> None:
    """A collector that sees nothing: cycles stay, chains go."""
    edges, nothing = edges_of(lists), edges_of([[]] * ROWS)
    counts = counts_of(lists, outside)
    gone = Release(counts, edges, nothing, []).of(outside)
    left = list(counts)
    for row, number in outside.items():
        left[row] -= number
    expected: set[int] = set()
    while True:  # the obvious twin
        dead = [row for row in range(ROWS) if left[row] == 0 and counts[row] and row not in expected]
        if not dead:
            break
        for row in dead:
            expected.add(row)
            for target in lists[row]:
                left[target] -= 1
    assert gone == expected


def test_immortal_objects_never_go() -> None:
    lists: list[list[int]] = [[1], [], [], [], [], [], [], []]
    immortal = 1 << 31
    counts = [1, immortal, 0, 0, 0, 0, 0, 0]
    assert Release(counts, edges_of(lists), edges_of(lists), [0, 1], immortal).of({0: 1}) == {0}
    assert 1 in replay(counts, edges_of(lists), [0, 1], immortal).kept


@given(GRAPHS, st.dictionaries(st.integers(0, 3), st.lists(st.integers(0, ROWS - 1), min_size=1, max_size=3)),
       st.sets(st.integers(0, ROWS - 1)))
def test_each_row_is_one_holders(lists: list[list[int]], holders: dict[int, list[int]], kept: set[int]) -> None:
    edges = edges_of(lists)
    found = shares(holders, edges, [1] * ROWS, kept)
    rows = [row for share in found for row in share.rows]
    assert len(rows) == len(set(rows))
    assert set(rows) == edges.reach([row for each in holders.values() for row in each], kept)
    for share in found:
        assert share.rows <= edges.reach(holders[share.holder], kept)
    assert {share.holder for share in found} == set(holders)
