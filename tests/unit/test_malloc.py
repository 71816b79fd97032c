"""The walk over the C library's heap, sound and damaged."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from refdbg.cpython.places import _class_name
from refdbg.target.malloc import NativeBlocks
from refdbg.target.memory import PAGE, Memory, Region

START = 0x1000_0000
HEAP = Region(START, START + 4 * PAGE, True, True, False, "[heap]", 0)


def memory(chunks: list[tuple[int, bool]]) -> Memory:
    """Chunks of (size, whether the one before is in use), then what is left as the top chunk."""
    data = bytearray(4 * PAGE)
    position = 0
    for size, in_use in [*chunks, (len(data) - sum(size for size, _ in chunks), True)]:
        struct.pack_into("<Q", data, position + 8, size | in_use)
        position += size

    def read_some(address: int, size: int) -> bytes:
        offset = address - START
        return bytes(data[offset : offset + size]) if 0 <= offset < len(data) else b""

    return Memory(read_some)


def test_blocks_and_what_is_free() -> None:
    blocks = NativeBlocks(memory([(32, True), (48, True), (64, False)]), HEAP)
    first = blocks.at(START + 16)
    assert first is not None and (first.address, first.size) == (START + 16, 24)
    assert blocks.at(START + 39) == first  # its last word lies where the next chunk begins
    assert blocks.at(START + 32 + 16) is None  # the chunk behind says that it is free
    third = blocks.at(START + 80 + 20)
    assert third is not None and third.address == START + 96
    assert blocks.at(START + 8) is None  # a header
    assert blocks.at(START - 1) is None and blocks.at(HEAP.end) is None


def test_what_the_first_thread_keeps_for_reuse_is_free() -> None:
    # tcache_perthread_struct, and in its list of 48-byte chunks the second, which leads to the first.
    below = memory([(0x290, True), (48, True), (48, True), (64, True)])
    data = bytearray(below.read(START, 4 * PAGE))
    first, second = START + 0x290 + 16, START + 0x290 + 48 + 16
    struct.pack_into("<H", data, 16 + 2, 2)
    struct.pack_into("<Q", data, 16 + 128 + 8, second)
    struct.pack_into("<Q", data, second - START, first ^ second >> 12)
    blocks = NativeBlocks(Memory(lambda address, size: bytes(data[address - START : address - START + size])), HEAP)
    assert blocks.at(first) is None and blocks.at(second + 8) is None
    last = blocks.at(second + 48)
    assert last is not None and last.size == 56
    assert next(block.address for block in blocks.in_use()) == START + 16


@given(st.binary(min_size=64, max_size=2 * PAGE), st.integers(0, 5 * PAGE))
def test_garbage_ends_the_walk(data: bytes, offset: int) -> None:
    def read_some(address: int, size: int) -> bytes:
        start = address - START
        return data[start : start + size] if start >= 0 else b""

    found = NativeBlocks(Memory(read_some), HEAP).at(START + offset)
    assert found is None or START <= found.address <= START + offset


def test_class_names() -> None:
    assert _class_name("_ZTV8Listener") == "Listener"
    assert _class_name("_ZTVN3net8ListenerE") == "net::Listener"
    assert _class_name("_ZTVN12_GLOBAL__N_18ListenerE") == "(anonymous namespace)::Listener"
    assert _class_name("_ZTV4ListIiE") == "_ZTV4ListIiE"
