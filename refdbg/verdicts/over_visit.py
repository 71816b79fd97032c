"""over-visit: a tp_traverse reports a reference that its object does not own."""

from __future__ import annotations

from dataclasses import dataclass

from refdbg.records import Evidence, Explains, Finding, ObjectRow
from refdbg.verdicts.signature import library_name, signature

VERDICT = "over-visit"


@dataclass(frozen=True)
class OverVisit:
    """The evidence: an object that is visited by one that does not own it.

    *owner*: the visitor's type, *field*: where it has the object's address, "" when nowhere; *known*: how many known
    owners *victim* has; *in_use*: who still uses what the collector takes for garbage, "" when nobody is known;
    *visits*: how often it is visited in all, where that is more than it has references, else 0.
    """

    owner: str
    field: str
    traverse: str
    library: str
    visitor: ObjectRow
    victim: ObjectRow
    known: int
    in_use: str
    visits: int
    interpreter: int


def finding(seen: OverVisit) -> Finding:
    """The verdict. Proven when known owners account for the whole count, so that the visitor's word owns nothing."""
    field = f".{seen.field.lstrip('.')}" if seen.field else "an object that it does not hold"
    message = f"{seen.owner}: {seen.traverse} visits {field}, which owns no reference"
    if seen.in_use:
        message += f": the collector takes {seen.victim.type} {seen.victim.repr} for garbage, which {seen.in_use} uses"
    if seen.visits:
        message += (
            f": {seen.victim.type} {seen.victim.repr} is visited {seen.visits} times, with "
            f"{_counted(seen.victim.refcount)}, and the collector aborts"
        )
    return Finding(
        verdict=VERDICT,
        confidence="proven" if seen.known == seen.victim.refcount else "likely",
        signature=signature(VERDICT, library_name(seen.library), seen.owner, seen.field),
        message=f"{message}.",
        interpreter=seen.interpreter,
        subject={"type": seen.victim.type, "repr": seen.victim.repr},
        holder={"kind": "object", "owner": seen.owner, "field": seen.field, "library": seen.library},
        explains=Explains(1, 1),
        objects=[seen.victim, seen.visitor],
        evidence=[
            Evidence("visitor", f"{seen.visitor.type} {seen.visitor.repr} is visited through and visits "
                                f"{seen.victim.type} {seen.victim.repr}"),
            Evidence("balance", f"reference count {seen.victim.refcount}, and {seen.known} known owners that are not "
                                "this one"),
        ],
        fix=f"Remove the Py_VISIT of {seen.field.lstrip('.') or 'it'} from {seen.traverse}, or own the reference "
            "(Py_INCREF where it is stored, Py_CLEAR in tp_clear and tp_dealloc).",
        next=f"refdbg visits {seen.visitor.address:#x}",
    )


def _counted(references: int) -> str:
    return f"{references} reference{'' if references == 1 else 's'}"
