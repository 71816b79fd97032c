"""Where what findings are about was made: their evidence of the kind "allocation"."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace

from refdbg.cpython.stop import Stop
from refdbg.records import AllocatedRow, Allocation, Evidence, Finding
from refdbg.render.allocation import stack_text

_STACKS = 2  # of one finding
_KIND = "allocation"


def with_allocations(stop: Stop, findings: Iterable[Finding]) -> list[Finding]:
    """The findings, each with the Python stacks where most of its objects were made, where tracemalloc is on."""
    return [replace(each, evidence=[*each.evidence, *_evidence(stop, each)]) for each in findings]


def by_type(stop: Stop, kinds: Mapping[int, str]) -> list[AllocatedRow]:
    """Where most objects of each kind were made. *kinds*: by the object's address (``PyObject *``)."""
    addresses: defaultdict[str, list[int]] = defaultdict(list)
    for address, kind in kinds.items():
        addresses[kind].append(address)
    found = []
    for kind in sorted(addresses, key=lambda kind: (-len(addresses[kind]), kind)):
        for allocation, number in _stacks(stop, addresses[kind])[:1]:
            found.append(AllocatedRow(kind, number, allocation))
    return found


def _stacks(stop: Stop, addresses: Iterable[int]) -> list[tuple[Allocation, int]]:
    # The allocations of the objects, and of how many each is, the most frequent first.
    counted: Counter[int] = Counter()
    known = {}
    for address in addresses:
        allocation = stop.allocations.of(address)
        if allocation is not None:
            known[id(allocation)] = allocation  # one for each stack
            counted[id(allocation)] += 1
    return [(known[key], number) for key, number in counted.most_common()]


def _evidence(stop: Stop, finding: Finding) -> list[Evidence]:
    counted = _stacks(stop, [row.address for row in finding.objects])
    listed = sum(number for _, number in counted)
    found = []
    for allocation, number in counted[:_STACKS]:
        if allocation.frames:
            share = "" if number == listed == 1 else f"{number} of the {listed} listed objects: "
            found.append(Evidence(_KIND, share + stack_text(allocation), {
                "file": allocation.frames[0].file, "line": allocation.frames[0].line,
            }))
    if not found and listed:
        found.append(Evidence(_KIND, "the listed objects were made before tracemalloc was started, or by C code alone"))
    return found
