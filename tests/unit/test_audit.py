"""Owned references against visits."""

from __future__ import annotations

from refdbg.analysis.audit import OWN_TYPE, Owned, audit, by_field


def owned(label: str, target: int, *, exact: bool = True, declared: bool = False, excuse: str = "") -> Owned:
    return Owned(label, target, exact, declared, excuse)


def unvisited(references: list[Owned], visits: list[int]) -> list[str]:
    return [match.owned.label for match in audit(references, visits).matched if not match.visited]


def test_the_surest_reference_is_served_first() -> None:
    references = [
        owned(OWN_TYPE, 1), owned("+0x18", 1, exact=False), owned(".field", 1, exact=False, declared=True),
        owned("a", 1),
    ]  # fmt: skip
    assert unvisited(references, [1]) == [OWN_TYPE, "+0x18", ".field"]
    assert unvisited(references, [1, 1]) == [OWN_TYPE, "+0x18"]
    assert unvisited(references, [1, 1, 1]) == [OWN_TYPE]
    found = audit(references, [1, 1, 1, 1, 2])
    assert all(match.visited for match in found.matched) and found.extra == [2]


def test_a_target_that_is_visited_for_another_field() -> None:
    found = audit([owned("a", 1), owned("b", 1), owned("c", 2)], [1])
    assert [(match.visited, match.elsewhere) for match in found.matched] == [
        (True, False), (False, True), (False, False),
    ]  # fmt: skip


def test_what_matters_to_nobody_is_counted() -> None:
    references = [owned("name", 1, excuse="atomic"), owned("visited name", 2, excuse="atomic"), owned("c", 3)]
    found = audit(references, [2])
    assert found.excused == {"atomic": 1}
    assert [row.label for row in by_field([found])] == ["c", "visited name"]


def test_fields_over_objects() -> None:
    one = audit([owned("[0]", 1), owned("[1]", 2), owned(".slots[0].x", 3, exact=False, declared=True)], [1, 2])
    two = audit([owned("[0]", 4), owned(".slots[0].x", 5, exact=False)], [4])
    slots, items = by_field([one, two])
    assert (slots.label, slots.owned, slots.visited, slots.exact, slots.declared) == (".slots[0].x", 2, 0, False, False)
    assert slots.unvisited == [3, 5]
    assert (items.label, items.owned, items.visited, items.exact) == ("[…]", 3, 3, True)


def test_items_count_as_one_field() -> None:
    labels = ["key 'a[b]'", "key 1", "['a]b']", "[(1, [2])]", "__dict__['x']", "element \n", ".slots[1].x", "local x"]
    found = audit([owned(label, number) for number, label in enumerate(labels)], range(9))
    assert [(row.label, row.owned) for row in by_field([found])] == [
        (".slots[1].x", 1), ("[…]", 2), ("__dict__[…]", 1), ("element …", 1), ("key …", 2), ("local x", 1),
    ]  # fmt: skip
