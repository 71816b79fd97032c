"""Where what findings are about was made: their evidence of the kind "allocation"."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from refdbg.cpython.stop import Stop
from refdbg.records import Allocation, Evidence, Finding, FrameRow
from refdbg.render.allocation import frame_text

_STACKS = 2  # of one finding
_CALLERS = 4
KIND = "allocation"


def with_allocations(stop: Stop, findings: Iterable[Finding]) -> list[Finding]:
    """The findings, each with the Python stacks where most of its objects were made, where tracemalloc is on."""
    return [replace(each, evidence=[*each.evidence, *_evidence(stop, each)]) for each in findings]


def stacks(stop: Stop, addresses: Sequence[int]) -> Counter[tuple[FrameRow, ...]]:
    """How many of the objects (``PyObject *``) were made by each stack; () for those without a trace."""
    found: Counter[tuple[FrameRow, ...]] = Counter()
    for address in addresses:
        allocation = stop.allocations.of(address)
        if allocation is not None:
            found[tuple(allocation.frames)] += 1
    return found


def _evidence(stop: Stop, finding: Finding) -> list[Evidence]:
    counted = stacks(stop, [row.address for row in finding.objects])
    listed = sum(counted.values())
    found = []
    for frames, number in counted.most_common(_STACKS):
        if frames:
            share = "" if number == listed == 1 else f"{number} of the {listed} listed objects: "
            found.append(Evidence(KIND, share + stack_text(Allocation(list(frames), 0)), {
                "file": frames[0].file, "line": frames[0].line,
            }))
    if not found and listed:
        found.append(Evidence(KIND, "the listed objects were made before tracemalloc was started, or by C code alone"))
    return found


def stack_text(allocation: Allocation) -> str:
    """The stack in one line."""
    frames = allocation.frames
    text = f"allocated at {frame_text(frames[0])}"
    callers = [frame_text(frame) for frame in frames[1 : 1 + _CALLERS]]
    return text + (f", called from {', '.join(callers)}" if callers else "")
