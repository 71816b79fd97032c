"""A stopped process that its debugger hands to another process of ours: that reads it, and changes nothing."""

from __future__ import annotations

from dataclasses import dataclass

from refdbg.target import NativeThread, TargetInfo
from refdbg.target.core import CoreMemory
from refdbg.target.process import ProcessMemory
from refdbg.target.recorded import RecordedTarget


@dataclass(frozen=True)
class Handed:
    """What the other process needs. *core*: the path of a core file, "" for a live process.

    *memory*: the descriptor of /proc/PID/mem, which it inherits; -1 for a core file.
    """

    info: TargetInfo
    threads: tuple[NativeThread, ...]
    memory: int
    core: str

    def target(self, first: str) -> RecordedTarget:
        """The process, for who has inherited the descriptor. *first*: see Images. Raises NoProcess."""
        source: CoreMemory | ProcessMemory
        if self.core:
            source = CoreMemory(self.core, program=self.info.executable)
        else:
            assert self.info.pid is not None
            source = ProcessMemory(self.info.pid, self.memory)
        return RecordedTarget(self.info, source, self.threads, first, cached=True)


def hand_over(
    info: TargetInfo, threads: tuple[NativeThread, ...], direct: ProcessMemory | CoreMemory
) -> Handed | None:
    """*direct*: how the debugger's own process reads it. None for a process without a number."""
    if isinstance(direct, CoreMemory):
        return Handed(info, threads, -1, direct.path)
    return Handed(info, threads, direct.descriptor, "") if info.pid is not None else None
