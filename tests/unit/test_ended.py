"""The stacks of threads that have ended, in memory as the C library lays it out."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refdbg.target.ended import ended_stack
from refdbg.target.memory import PAGE, Memory, Region

START = 0x7F00_0000_0000
GUARD, STACK = PAGE, 8 * PAGE
HERE = START + STACK - 0x940  # struct pthread


def stack(kernel_id: int, size: int = STACK + GUARD, behind: int = 0) -> tuple[Memory, Region]:
    """A stack, its guard page below, and other memory behind."""
    data = bytearray(STACK + behind)
    for offset, value in ((0, HERE), (0x10, HERE), (0x690, START - GUARD), (0x698, size), (0x6A0, GUARD)):
        struct.pack_into("<Q", data, HERE - START + offset, value)
    struct.pack_into("<i", data, HERE - START + 0x2D0, kernel_id)

    def read_some(address: int, size: int) -> bytes:
        return bytes(data[max(address - START, 0) : max(address - START + size, 0)])

    return Memory(read_some), Region(START, START + len(data), True, True, False, "", 0)


@pytest.mark.parametrize("kernel_id", [0, -1])
@pytest.mark.parametrize("behind", [0, 3 * PAGE])
def test_one_that_has_ended(kernel_id: int, behind: int) -> None:
    memory, region = stack(kernel_id, behind=behind)
    for address in (START, START + STACK // 2, HERE - 8):
        assert ended_stack(memory, region, address) == (START, HERE)
    assert ended_stack(memory, region, HERE + 8) is None  # the C library's own
    assert ended_stack(memory, region, region.end - 8) is None


def test_others_are_none() -> None:
    assert ended_stack(*stack(4711), START) is None  # it runs
    assert ended_stack(*stack(0, size=2 * STACK), START) is None  # it would end elsewhere


@given(st.binary(max_size=4 * PAGE), st.integers(0, 4 * PAGE))
def test_any_memory(data: bytes, offset: int) -> None:
    memory = Memory(lambda address, size: data[max(address - START, 0) : max(address - START + size, 0)])
    ended_stack(memory, Region(START, START + 4 * PAGE, True, True, False, "", 0), START + offset)
