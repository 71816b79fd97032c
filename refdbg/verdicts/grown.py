"""An object that was there before, and gains references in each repetition that no word holds: lost-reference."""

from __future__ import annotations

from refdbg.records import Evidence, Explains, Finding, ObjectRow
from refdbg.verdicts.signature import signature


def finding(row: ObjectRow, name: str, each: int) -> Finding:
    """The verdict. *name*: of a static object, else ""; *each*: what a repetition adds."""
    what = name or f"{row.type} {row.repr}"
    number = f"{each} references" if each > 1 else "1 reference"
    # What an object holds is another thing in each run; a type has its name.
    own = signature("lost-reference", "growth", name or (row.repr if row.type == "type" else row.type))
    return Finding(
        verdict="lost-reference",
        confidence="likely",
        signature=own,
        message=f"{what}: each repetition adds {number} that nobody holds.",
        interpreter=0,
        subject={"type": row.type, "repr": row.repr},
        holder={"kind": "nobody", "symbol": what, "path": "nobody", "library": "", "file": None, "line": None},
        explains=Explains(0, each),
        objects=[row],
        evidence=[Evidence(
            "growth", f"two repetitions in a row added {number} more than the words of the process that refer to it"
        )],
        fix="Look for a missing Py_DECREF (often on an error path), or a Py_INCREF too many, where it is used.",
        next=f"refdbg-run --refleak --blame {own} PROGRAM…: the same run again, and who takes the references",
    )
