"""Why objects are left over when an interpreter ends: who holds them still, then why its last collection kept them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from refdbg.commands.last_collection import LastCollection
from refdbg.commands.left_over import LeftOver
from refdbg.cpython.finalization import LastEntry
from refdbg.cpython.runtime import Build
from refdbg.cpython.stop import Stop
from refdbg.graph.objects import Objects
from refdbg.records import Finding


@dataclass(frozen=True)
class Explanation:
    """*findings* on what an interpreter has left over, *notes* on what they do not explain.

    *late*: by a finding's signature, the offset in ``PyInterpreterState`` of the field that was released too late.
    """

    findings: list[Finding]
    notes: list[str]
    late: dict[str, int]


def explain(
    end: LeftOver, last: LastEntry | None, limit: int, claims: Sequence[Callable[[LeftOver, Objects], Objects]] = (),
) -> Explanation:
    """Why an interpreter has left over what *end* is about. Raises RefdbgError.

    *last*: the process at the entry of its last collection; *claims*: what collections have shown already: each takes
    its own from the objects that nothing outside holds, and gives back the others.
    """
    now, number = end.stop, end.interpreter
    limit = max(limit, 1)  # a finding names the first
    held = end.explain(limit)
    findings, notes, rest = held.findings, held.notes + now.suspended.notes, held.rest
    late: dict[str, int] = {}
    for claim in claims:
        rest = claim(end, rest)
    if len(rest) and last is not None:
        spared = end.behind(rest, last.spared)
        if len(spared):
            notes.append(
                f"{sum(end.held(spared).values())} references of {len(spared)} objects hang on what the last "
                "collection did not examine: the permanent generation (gc.freeze)."
            )
            known = frozenset(spared.addresses)
            rest = rest.pick(row for row, address in enumerate(rest.addresses) if address not in known)
    if len(rest) and last is not None:
        then = Stop(Build(last.capture))
        then.runtime.build.pages = end.stop.runtime.build.pages
        collection = LastCollection(then, last.examined, now, rest, end.held(rest), held.let_go)
        kept, more = collection.findings(number, limit)
        late = collection.late
        findings += kept
        notes += more
    elif len(rest):
        notes.append(
            f"{sum(end.held(rest).values())} references of {len(rest)} objects are held by each other only, and the "
            "collection that should have freed them was not seen."
        )
    findings = distinct(findings)
    prefix = f"interpreter {number}: " if number else ""
    return Explanation(
        findings, [note if note.startswith("interpreter") else prefix + note for note in notes], late
    )


def distinct(findings: list[Finding]) -> list[Finding]:
    """The findings, with a number after a signature that an earlier one has.

    Two that are alike in all that is stable (two functions' statics of the same name) are two all the same.
    """
    met: Counter[str] = Counter()
    found = []
    for each in findings:
        met[each.signature] += 1
        number = met[each.signature]
        found.append(replace(each, signature=f"{each.signature}-{number}") if number > 1 else each)
    return found
