"""Counting objects by type: a pure function over columns."""

from __future__ import annotations

from array import array

from refdbg.graph.census import by_type
from refdbg.graph.objects import Objects
from refdbg.records import TypeRow

NAMES = {1: "dict", 2: "list", 3: "module.Twin", 4: "module.Twin"}


def _objects(*rows: tuple[int, int]) -> Objects:
    addresses = array("Q", range(0x1000, 0x1000 + 16 * len(rows), 16))
    return Objects(addresses, array("Q", [type_ for type_, _ in rows]), array("q", [count for _, count in rows]))


def test_nothing() -> None:
    assert by_type(_objects(), NAMES.__getitem__) == []


def test_most_numerous_first_then_by_name() -> None:
    rows = by_type(_objects((2, 1), (1, 5), (1, 1), (3, 7)), NAMES.__getitem__)
    assert rows == [TypeRow("dict", 2, 6), TypeRow("list", 1, 1), TypeRow("module.Twin", 1, 7)]


def test_bytes_are_summed_only_when_they_are_known() -> None:
    objects = _objects((1, 1), (2, 2), (1, 3))
    assert [row.bytes for row in by_type(objects, NAMES.__getitem__)] == [None, None]
    assert [row.bytes for row in by_type(objects, NAMES.__getitem__, [10, 20, 30])] == [40, 20]


def test_types_of_one_name_are_one_row() -> None:
    assert by_type(_objects((3, 1), (4, 2)), NAMES.__getitem__, [8, 8]) == [TypeRow("module.Twin", 2, 3, 16)]


def test_immortal_objects_add_no_references() -> None:
    objects = _objects((1, 0xFFFF_FFFF), (1, 3), (2, 1 << 31))
    assert by_type(objects, NAMES.__getitem__, immortal=1 << 31) == [TypeRow("dict", 2, 3), TypeRow("list", 1, 0)]


def test_each_type_is_named_once() -> None:
    asked = []

    def name(type_: int) -> str:
        asked.append(type_)
        return NAMES[type_]

    by_type(_objects((1, 1), (2, 1), (1, 1), (2, 1)), name)
    assert asked == [1, 2]
