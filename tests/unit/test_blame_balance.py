"""Balancing increments and decrements by call path."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from refdbg.analysis.blame import balance
from refdbg.records import BalanceNode, Call, Way

MODULE, WORK = Call("<module>", "a.py", 9, True), Call("work", "a.py", 3, True)
EVALUATE = Call("_PyEval_EvalFrameDefault", "ceval.c", 100)
MAKE = Way((MODULE, WORK, Call("PyType_GenericAlloc", "typeobject.c", 5)), creates=True)
LOAD = Way((MODULE, WORK, EVALUATE))
DROP = Way((MODULE, WORK, Call("_PyEval_EvalFrameDefault", "ceval.c", 200)))
APPEND = Way((MODULE, WORK, Call("list_append", "listobject.c", 7)))
CLEAR = Way((MODULE, WORK, Call("list_clear", "listobject.c", 8)))
LEAVE = Way((MODULE, WORK, Call("_PyFrame_Clear", "frame.c", 1)))


def extension(line: int, function: str = "keep") -> Way:
    return Way((MODULE, WORK, Call(function, "ext.c", line, library="ext.so")))


def sites(changes: Sequence[tuple[Way, int]], start: int = 0) -> list[tuple[int, str, int | None]]:
    return [(each.references, each.site.function, each.site.line) for each in balance(changes, start).remaining]


def test_a_missing_decref_is_what_is_left() -> None:
    life = [(MAKE, 1), (LOAD, 1), (APPEND, 1), (LOAD, 1), (extension(18), 1), (DROP, -1), (LOAD, 1), (DROP, -1),
            (CLEAR, -1), (DROP, -1), (LEAVE, -1)]
    found = balance(life)
    assert [(each.references, each.site.function, each.site.line) for each in found.remaining] == [(1, "keep", 18)]
    assert (found.increments, found.decrements, found.hidden, found.start) == (6, 5, 5, 0)
    assert found.tree == [BalanceNode(MODULE, 1, [BalanceNode(WORK, 1, [BalanceNode(extension(18).calls[-1], 1, [])])])]


def test_what_balances_in_a_call_is_hidden_even_when_another_is_older() -> None:
    inner = Call("look", "ext.c", 26, library="ext.so")
    got = Way((MODULE, WORK, inner, Call("PyObject_GetAttr", "object.c", 1)))
    dropped = Way((MODULE, WORK, Call("look", "ext.c", 27, library="ext.so")))
    forgotten = Way((*extension(34, "fetch").calls, Call("PyObject_GetAttr", "object.c", 1)))
    life = [(MAKE, 1), (got, 1), (dropped, -1), (forgotten, 1), (got, 1), (dropped, -1), (LEAVE, -1)]
    assert sites(life) == [(1, "fetch", 34)]


def test_a_container_gives_back_what_it_took_first() -> None:
    put, got, gone = [Way((MODULE, WORK, Call(name, "dictobject.c", 1))) for name in ("insertdict", "get", "dealloc")]
    assert sites([(MAKE, 1), (put, 1), (LEAVE, -1), (got, 1), (gone, -1)]) == [(1, "get", 1)]


def test_the_reference_of_the_creation_is_not_its_files() -> None:
    """A list's own first reference, forgotten; the one that another list has taken is given back."""
    made = Way((MODULE, WORK, Call("make", "ext.c", 4, library="ext.so"), Call("PyList_New", "listobject.c", 1)), True)
    assert sites([(made, 1), (APPEND, 1), (CLEAR, -1)]) == [(1, "make", 4)]


def test_a_later_round_of_a_loop_gives_nothing_back_for_one_that_forgot() -> None:
    got = Way((MODULE, WORK, Call("dict_subscript", "dictobject.c", 1)))
    right = [(got, 1), (extension(18), 1), (extension(20), -1), (LEAVE, -1)]
    forgot = [(got, 1), (extension(18), 1), (LEAVE, -1)]
    for life in (forgot, forgot + right, right + forgot + right, right * 3 + forgot + right * 3):
        assert sites(life) == [(1, "keep", 18)]


def test_a_decrement_is_never_for_a_later_increment() -> None:
    assert sites([(LEAVE, -1), (extension(18), 1)], start=2) == [(1, "keep", 18)]
    assert balance([(LEAVE, -1), (extension(18), 1)], start=2).start == 1


def test_nothing_is_left() -> None:
    found = balance([(MAKE, 1), (LOAD, 1), (DROP, -1), (LEAVE, -1)])
    assert (found.remaining, found.tree, found.hidden) == ([], [], 2)


def test_changes_by_more_than_one() -> None:
    assert sites([(MAKE, 1), (extension(5), 4), (extension(6), -3), (LEAVE, -1)]) == [(1, "keep", 5)]


def test_extensions_come_first_then_how_many() -> None:
    life = [(MAKE, 1), (LOAD, 5), (extension(18), 2)]
    assert [references for references, *_ in sites(life)] == [2, 5, 1]


ways = st.builds(
    lambda names, creates: Way(tuple(Call(name, f"{name[0]}.c", 1) for name in names), creates),
    st.lists(st.sampled_from(["aa", "ab", "ba", "bb", "ca"]), min_size=1, max_size=4), st.booleans(),
)


@given(st.lists(st.tuples(ways, st.integers(-3, 3).filter(bool)), max_size=40), st.integers(0, 4))
def test_the_sum_is_what_is_left(changes: list[tuple[Way, int]], start: int) -> None:
    found = balance(changes, start)
    left = found.start + sum(each.references for each in found.remaining)
    assert left == start + sum(delta for _, delta in changes)
    assert found.start + sum(node.net for node in found.tree) == left
    signs = {each.references > 0 for each in found.remaining} | ({True} if found.start else set())
    assert len(signs) < 2
    assert found.hidden <= min(found.increments + start, found.decrements)
