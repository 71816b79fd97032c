"""A stopped process's memory in ours, copied once: where many readers go over all of it, and an emulator maps it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap

from refdbg.errors import RefdbgError
from refdbg.target import Target
from refdbg.target.memory import Region

_NORESERVE = 0x4000  # asm-generic/mman.h; mmap.MAP_NORESERVE from Python 3.13 on
_PIECE = 4 << 20  # read at once: what is read is copied, and must not need the memory twice


@dataclass(frozen=True)
class Run:
    """Neighbouring regions of one protection: [start, end), which the copy has from its byte *first* on.

    *missing*: the parts of it that cannot be read; they are zeros in the copy.
    """

    start: int
    end: int
    first: int
    executable: bool
    missing: tuple[tuple[int, int], ...]


class CopiedMemory:
    """Every readable page that is backed, in *buffer*: runs of neighbours as in the process, the rest zeros.

    Not what is mapped read-only of files without code: data, of any size. *regions*: what there is; *copied*: bytes;
    *runs*: ascending.
    """

    def __init__(self, target: Target) -> None:
        """Raises RefdbgError where there is not enough room for it."""
        self._target = target
        self.regions = [r for r in target.regions() if r.readable and not r.path.startswith(("[vvar", "[vsys"))]
        self._libraries = {region.path for region in self.regions if region.executable and region.path[:1] == "/"}
        runs = list(_runs(self.regions))
        size = sum(run[-1].end - run[0].start for run in runs)
        try:  # most of it may stay untouched
            self.buffer = mmap(-1, max(size, 1), MAP_PRIVATE | MAP_ANONYMOUS | _NORESERVE)
        except OSError as error:
            raise RefdbgError(
                f"the process's {size >> 20} MiB cannot be copied: {error.strerror}",
                "What lies in mappings of that size? /proc/PID/maps tells; a larger machine, or `ulimit -v`, may do.",
            ) from error
        self.copied = 0
        self.runs: list[Run] = []
        first = 0
        with memoryview(self.buffer) as view:
            for run in runs:
                size = run[-1].end - run[0].start
                missing = tuple(self._copy(run, view[first : first + size]))
                self.runs.append(Run(run[0].start, run[-1].end, first, run[0].executable, missing))
                first += size
        self._starts = [run.start for run in self.runs]

    def _copy(self, run: Sequence[Region], view: memoryview) -> Iterator[tuple[int, int]]:
        # Yields what cannot be read: zeros must not be taken for it.
        start = run[0].start
        for region in run:
            if region.path.startswith("/") and region.path not in self._libraries and not region.writable:
                yield region.start, region.end
                continue
            for low, high in self._backed(region):
                while low < high:
                    size = min(_PIECE, high - low)
                    done = self._target.memory.read_into(low, view[low - start : low - start + size])
                    self.copied += done
                    if done < size:
                        yield low + done, high
                        break
                    low += size

    def _backed(self, region: Region) -> Sequence[tuple[int, int]]:
        # Anonymous memory that was never touched is zero; reading it would make the process use memory.
        if region.path in self._libraries:
            return [(region.start, region.end)]
        return self._target.resident(region.start, region.end)

    def place(self, start: int, end: int) -> tuple[int, int]:
        """Where the copy has [start, end), and how many bytes of it could be read; none where it is in no run."""
        row = bisect_right(self._starts, start) - 1
        run = self.runs[row] if row >= 0 else None
        if run is None or end > run.end:
            return 0, 0
        cut = min((max(low, start) for low, high in run.missing if low < end and start < high), default=end)
        return run.first + start - run.start, cut - start


def _runs(regions: Sequence[Region]) -> Iterator[list[Region]]:
    # Neighbours of one protection as one mapping: an emulator's cost grows with their number.
    run: list[Region] = []
    for region in regions:
        if run and (region.start != run[-1].end or region.executable != run[0].executable):
            yield run
            run = []
        run.append(region)
    if run:
        yield run
