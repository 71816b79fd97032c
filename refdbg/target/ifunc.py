"""libc's variants of strcmp, memcpy and the like for new CPUs (GNU IFUNC), replaced by those for any CPU, in a copy.

The emulator lacks AVX. Which variants the process uses, and which it would use on a CPU with SSE2 only, libc's own
resolvers tell: they are called in the copy, as it is and once more without the CPU's feature bits.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from refdbg.dependencies import elftools
from refdbg.target.cpu import Cpu, EmulationError
from refdbg.target.elf import STT_GNU_IFUNC, Library
from refdbg.target.memory import PAGE, Region

# sysdeps/x86/include/cpu-features.h: struct cpu_features has an array of {cpuid[4]; active[4]}, then `preferred`.
_LEAF = "__x86_get_cpuid_feature_leaf"  # the array's entry of a number; since 2.33
_LEAF_SIZE, _ACTIVE = 32, 16
_MOST_LEAVES = 64
_JUMP = 0xE9


class Variants:
    """Replaces the variants of a library's functions when one of them cannot be emulated."""

    def __init__(self, cpu: Cpu, call: Callable[..., int]) -> None:
        """*call(function, *arguments)*: the result of a C function. Raises EmulationError."""
        self._cpu = cpu
        self._call = call
        self._done: dict[str, int] = {}  # how many were replaced, by the library's path

    def replaced(self, place: int) -> bool:
        """Whether functions of the library that has code at *place* are replaced; replaces them if that can be."""
        region = self._cpu.region_at(place)
        if region is None or not region.path.startswith("/"):
            return False
        if region.path not in self._done:
            self._done[region.path] = 0
            try:
                jumps = self._jumps(region.path)
                for variant, plain in jumps.items():
                    self._cpu.poke(variant, struct.pack("<Bi", _JUMP, plain - (variant + 5)))
                self._done[region.path] = len(jumps)
            except (EmulationError, OSError, elftools.ELFError):
                pass  # a libc of another kind: its functions stay as they are
        return self._done[region.path] > 0

    def _jumps(self, path: str) -> dict[int, int]:
        # Variant in use → variant for any CPU.
        code = [region for region in self._cpu.regions if region.path == path and region.executable]
        base = next((r.start for r in self._cpu.regions if r.path == path and r.file_offset == 0), 0)
        with self._cpu.open(path) as file:
            if not base or file.read(PAGE) != self._cpu.peek(base, PAGE):
                return {}  # the file has been replaced since
        library = Library(path, base, self._cpu.open)
        bias = library.bias
        symbols = library.exports()
        leaf = next((symbol.value + bias for symbol in symbols if symbol.name == _LEAF), 0)
        resolvers = {symbol.value + bias for symbol in symbols if symbol.kind == STT_GNU_IFUNC}
        if not leaf:
            return {}
        used = self._resolved(resolvers)
        with self._no_features(leaf):
            plain = self._resolved(resolvers)
        jumps: dict[int, int] = {}
        doubtful: set[int] = set(plain.values())  # a loop of jumps must not be
        for resolver, variant in used.items():
            other = plain.get(resolver, variant)
            if other == variant or not (_within(variant, code) and _within(other, code)):
                continue
            if jumps.setdefault(variant, other) != other:
                doubtful.add(variant)
        return {variant: other for variant, other in jumps.items() if variant not in doubtful}

    def _resolved(self, resolvers: Iterable[int]) -> dict[int, int]:
        found = {}
        for resolver in resolvers:
            try:
                found[resolver] = self._call(resolver)
            except EmulationError:
                continue
        return found

    @contextmanager
    def _no_features(self, leaf: int) -> Iterator[None]:
        first = self._call(leaf, 0)
        count = 1
        while count < _MOST_LEAVES and self._call(leaf, count) == first + count * _LEAF_SIZE:
            count += 1
        size = count * _LEAF_SIZE + 4
        saved = self._cpu.peek(first, size)
        cleared = bytearray(saved)
        for number in range(count):
            cleared[number * _LEAF_SIZE + _ACTIVE : (number + 1) * _LEAF_SIZE] = bytes(_LEAF_SIZE - _ACTIVE)
        cleared[-4:] = bytes(4)
        self._cpu.poke(first, bytes(cleared))
        try:
            yield
        finally:
            self._cpu.poke(first, saved)


def _within(address: int, regions: Iterable[Region]) -> bool:
    return any(region.start <= address < region.end for region in regions)
