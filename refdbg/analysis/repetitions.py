"""What of a program's objects recurs from repetition to repetition: pure functions over the objects at its ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from refdbg.graph.objects import Objects

LEAK, NOISE, STOPS, STEADY, SHRINKS, TOO_FEW = "leak", "noise", "stops", "steady", "shrinks", "too few"


@dataclass(frozen=True)
class Change:
    """The objects after a repetition against those before it.

    *new*: rows of those after it that were not there before, or were of another type; *gained*: by address, the change
    of a count that is another one now.
    """

    new: list[int]
    gained: dict[int, int]


def change(before: Objects, after: Objects) -> Change:
    """What has changed. An object that was freed and one of the same type at its address are taken for one."""
    known = {address: (type_, count) for address, type_, count in before.rows()}
    new = []
    gained = {}
    for row, (address, type_, count) in enumerate(after.rows()):
        was = known.get(address)
        if was is None or was[0] != type_:
            new.append(row)
        elif was[1] != count:
            gained[address] = count - was[1]
    return Change(new, gained)


def surviving(then: Objects, rows: Sequence[int], now: Objects) -> list[int]:
    """Those of the *rows* of *then* that are still there."""
    still = dict(zip(now.addresses, now.types))
    return [row for row in rows if still.get(then.addresses[row]) == then.types[row]]


def verdict(growths: Sequence[int]) -> str:
    """What the growths of the total say, one for each repetition that counts.

    A leak is what the test runner calls one (Lib/test/libregrtest/refleak.py, check_rc_deltas): each grew.
    """
    if len(growths) < 2:
        return TOO_FEW
    if all(growth >= 1 for growth in growths):
        return LEAK
    if all(growth <= -1 for growth in growths):
        return SHRINKS
    if not any(growths):
        return STEADY
    if growths[0] > 0 and not growths[-1] and all(a >= b >= 0 for a, b in zip(growths, growths[1:])):
        return STOPS
    return NOISE
