"""Reading a stopped process in bulk: one page cache, typed reads over it."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from refdbg.errors import MemoryFault

PAGE_BITS = 12
PAGE = 1 << PAGE_BITS
DELETED = " (deleted)"  # what the kernel appends to the path of a mapped file that is no more
_OFFSET = PAGE - 1
_U64 = struct.Struct("<Q").unpack_from


@dataclass(frozen=True)
class Region:
    """A mapped address range [start, end); *path* is the mapped file, "" when anonymous."""

    start: int
    end: int
    readable: bool
    writable: bool
    executable: bool
    path: str
    file_offset: int


class Memory:
    """The bytes of a stopped process, cached by page.

    *read_some(address, size)* returns at most *size* bytes from *address*, fewer where the
    mapped memory ends, none when nothing can be read. The cache holds until `forget`.
    """

    def __init__(self, read_some: Callable[[int, int], bytes]) -> None:
        self.read_some = read_some
        self.pages: dict[int, bytes] = {}

    def read_into(self, address: int, view: memoryview) -> int:
        """Fill *view* from *address*; returns how many bytes could be read. Not through the cache."""
        data = self.read_some(address, len(view))
        view[: len(data)] = data
        return len(data)

    def forget(self) -> None:
        """Drop the cache: the process has run."""
        self.pages.clear()

    def page(self, number: int) -> bytes:
        """The page *number* (address >> PAGE_BITS), empty when it cannot be read."""
        page = self.pages.get(number)
        if page is None:
            page = self.pages[number] = self.read_some(number << PAGE_BITS, PAGE)
        return page

    def read(self, address: int, size: int) -> bytes:
        """All of the *size* bytes. Raises MemoryFault."""
        if size <= 0:
            return b""
        if address < 0 or address >> 64:
            raise MemoryFault(address, size)
        start = address & _OFFSET
        if start + size <= PAGE:
            data = self.page(address >> PAGE_BITS)[start : start + size]
        elif size <= 16 * PAGE:
            last = (address + size - 1) >> PAGE_BITS
            whole = b"".join(self.page(number) for number in range(address >> PAGE_BITS, last + 1))
            data = whole[start : start + size]
        else:
            data = self.read_some(address, size)
        if len(data) != size:
            raise MemoryFault(address, size)
        return data

    def u64(self, address: int) -> int:
        """The unsigned 64-bit word. Raises MemoryFault."""
        try:
            return int(_U64(self.pages[address >> PAGE_BITS], address & _OFFSET)[0])
        except (KeyError, struct.error):
            return int.from_bytes(self.read(address, 8), "little")

    def integer(self, address: int, size: int, signed: bool = False) -> int:
        """The little-endian integer of *size* bytes. Raises MemoryFault."""
        return int.from_bytes(self.read(address, size), "little", signed=signed)

    def c_string(self, address: int, limit: int = 256) -> str:
        """The zero-terminated string, cut after *limit* bytes, never failing to decode. Raises MemoryFault."""
        data = b""
        while len(data) < limit:
            room = PAGE - ((address + len(data)) & _OFFSET)
            chunk = self.read(address + len(data), min(room, limit - len(data)))
            end = chunk.find(b"\0")
            if end >= 0:
                data += chunk[:end]
                break
            data += chunk
        return data.decode("utf-8", "backslashreplace")
