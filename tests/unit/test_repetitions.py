"""What recurs from repetition to repetition, and what the growths of the total say."""

from __future__ import annotations

from array import array

import pytest

from refdbg.analysis import repetitions
from refdbg.graph.objects import Objects


def objects(*rows: tuple[int, int, int]) -> Objects:
    """Objects of (address, type, count)."""
    columns = list(zip(*rows)) or [(), (), ()]
    return Objects(array("Q", columns[0]), array("Q", columns[1]), array("q", columns[2]))


def test_what_changed_is_new_or_gained() -> None:
    before = objects((1, 100, 1), (2, 100, 5), (3, 100, 1))
    after = objects((1, 100, 1), (2, 100, 4), (3, 200, 1), (4, 100, 2))
    found = repetitions.change(before, after)
    assert found.new == [2, 3]  # another type at an address is another object
    assert found.gained == {2: -1}


def test_only_the_same_object_survives() -> None:
    then, now = objects((1, 100, 1), (2, 100, 1), (3, 100, 1)), objects((1, 100, 9), (3, 200, 1))
    assert repetitions.surviving(then, [0, 1, 2], now) == [0]


@pytest.mark.parametrize(("growths", "expected"), [
    ([56, 56, 56], "leak"), ([5, 5, 6], "leak"), ([10, 1, 1], "leak"),
    ([3, 0, 0], "stops"), ([8, 3, 0], "stops"), ([8, -8, 1], "noise"), ([0, 1, 0], "noise"), ([0, 1, 1], "noise"),
    ([-2, -2, -2], "shrinks"), ([-2, 0, -2], "noise"), ([0, 0, 0], "steady"), ([7], "too few"), ([], "too few"),
])  # fmt: skip
def test_the_verdict_on_growths(growths: list[int], expected: str) -> None:
    assert repetitions.verdict(growths) == expected
