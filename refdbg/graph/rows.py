"""Rows by address."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Any

from refdbg.dependencies import vectors

NO_ROW = -1
_UNALIGNED = 15  # objects begin at multiples of 16
_AT_ONCE = 1 << 16  # addresses: what is told of them stays in the processor's cache
_SPREAD = 512  # bytes of memory for each object, at most


class Rows:
    """The rows of objects, by their addresses.

    Most objects lie close together: a table of that part of the memory misses the processor's cache once where a dict
    does four times, and needs a tenth of its memory. A dict has the others.
    """

    def __init__(self, addresses: Sequence[int]) -> None:
        """*addresses*: of each row's object, each once."""
        self._low, self._high = low, high = _crowded(addresses)
        self._table = table = array("i", [NO_ROW]) * ((high - low >> 4) + 1)
        self._others: dict[int, int] = {}
        others = self._others
        np = vectors(len(addresses))
        if np is not None:
            found = np.asarray(addresses, "u8")
            near = (found >= low) & (found <= high) & (found & _UNALIGNED == 0)
            np.frombuffer(table, "i4")[found[near] - low >> 4] = np.flatnonzero(near)
            others.update(zip(found[~near].tolist(), np.flatnonzero(~near).tolist()))
            return
        for row, address in enumerate(addresses):
            if low <= address <= high and not address & _UNALIGNED:
                table[address - low >> 4] = row
            else:
                others[address] = row

    def of(self, wanted: Sequence[int]) -> array[int]:
        """The row of each of the addresses, NO_ROW where it is none of theirs."""
        np = vectors(len(wanted))
        if np is not None:
            return self._vectors(np, np.asarray(wanted, "u8"))
        low, high, table, other = self._low, self._high, self._table, self._others.get
        return array("q", [
            table[address - low >> 4] if low <= address <= high and not address & _UNALIGNED
            else other(address, NO_ROW)
            for address in wanted
        ])

    def _vectors(self, np: Any, wanted: Any) -> array[int]:
        found = array("q", [NO_ROW]) * len(wanted)
        rows, table = np.frombuffer(found, "i8"), np.frombuffer(self._table, "i4")
        known = np.array(sorted(self._others), "u8")
        for first in range(0, len(wanted), _AT_ONCE):
            some = wanted[first : first + _AT_ONCE]
            within = some - np.uint64(self._low)
            near = (within <= self._high - self._low) & (some & _UNALIGNED == 0)
            rows[first : first + len(some)] = np.where(near, table[np.where(near, within >> 4, 0)], NO_ROW)
            for place in np.flatnonzero(~near & among(np, some, known)).tolist():
                found[first + place] = self._others[int(some[place])]
        return found

    def get(self, address: int, otherwise: int = NO_ROW) -> int:
        """The row of the address, *otherwise* where it is none of theirs."""
        row = self._others.get(address, NO_ROW)
        if self._low <= address <= self._high and not address & _UNALIGNED:
            row = self._table[address - self._low >> 4]
        return otherwise if row == NO_ROW else row

    def __getitem__(self, address: int) -> int:
        row = self.get(address)
        if row == NO_ROW:
            raise KeyError(address)
        return row

    def __contains__(self, address: int) -> bool:
        return self.get(address) != NO_ROW


def among(np: Any, column: Any, wanted: Any) -> Any:
    """Whether each item of a *column* is one of those *wanted*, ascending; arrays of numpy's."""
    if not len(wanted):
        return np.zeros(len(column), bool)
    return wanted[np.minimum(np.searchsorted(wanted, column), len(wanted) - 1)] == column


def _crowded(addresses: Sequence[int]) -> tuple[int, int]:
    # The part of the memory around the median.
    if not addresses:
        return 0, 0
    np = vectors(len(addresses))
    ordered = sorted(addresses) if np is None else np.sort(np.asarray(addresses, "u8"))
    middle, room = int(ordered[len(ordered) // 2]), len(ordered) * _SPREAD // 2
    low, high = bisect_left(ordered, middle - room), bisect_right(ordered, middle + room) - 1
    return int(ordered[low]) & ~_UNALIGNED, int(ordered[high])
