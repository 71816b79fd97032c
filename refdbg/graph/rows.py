"""Rows by address."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

from refdbg.dependencies import vectors

NO_ROW = -1
_UNALIGNED = 15  # objects begin at multiples of 16
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
        near = (wanted >= self._low) & (wanted <= self._high) & (wanted & _UNALIGNED == 0)
        found = np.full(len(wanted), NO_ROW, "i8")
        found[near] = np.frombuffer(self._table, "i4")[wanted[near] - self._low >> 4]
        if self._others:
            known = np.array(sorted(self._others), "u8")
            for place in np.flatnonzero(~near & (known[np.searchsorted(known, wanted) % len(known)] == wanted)):
                found[place] = self._others[int(wanted[place])]
        return array("q", found.tobytes())

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


def _crowded(addresses: Sequence[int]) -> tuple[int, int]:
    # The part of the memory around the median.
    if not addresses:
        return 0, 0
    ordered = sorted(addresses)
    middle, room = ordered[len(ordered) // 2], len(ordered) * _SPREAD // 2
    return max(ordered[0], middle - room) & ~_UNALIGNED, min(ordered[-1], middle + room)
