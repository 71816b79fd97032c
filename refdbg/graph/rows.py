"""Rows of many addresses at once."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import repeat

NO_ROW = -1


def rows_of(addresses: Sequence[int], wanted: Sequence[int]) -> array[int]:
    """For each of *wanted* its row among the *addresses*, NO_ROW where it is none of them."""
    keys, words = _eighths(addresses), _eighths(wanted)
    if keys is None or words is None:
        keys, words = array("Q", addresses), array("Q", wanted)
    row_of = dict(zip(keys, range(len(keys))))
    return array("q", map(row_of.get, words, repeat(NO_ROW)))


def _eighths(addresses: Sequence[int]) -> array[int] | None:
    # Each address divided by 8, None where that loses something: as keys of a dict multiples of 8 fall on few of its
    # slots. All at once, as one number.
    words = array("Q", addresses).tobytes()
    whole = int.from_bytes(words, "little")
    if whole & int.from_bytes(b"\7\0\0\0\0\0\0\0" * len(addresses), "little"):
        return None
    eighths = array("Q")
    eighths.frombytes((whole >> 3).to_bytes(len(words), "little"))
    return eighths
