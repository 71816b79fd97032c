"""Objects that were there before and gain references in each repetition: nobody holds those, or an older object."""

from __future__ import annotations

from refdbg.records import Evidence, Explains, Finding, ObjectRow
from refdbg.verdicts.outside import KEEPER_FIX, keeper_signature
from refdbg.verdicts.signature import signature


def kept(
    verdict: str, path: str, library: str, owner: ObjectRow, objects: list[ObjectRow], each: int
) -> Finding:
    """The verdict on an *owner*, reached by *path*, that keeps *each* more references to the *objects*."""
    what = f"{objects[0].type} {objects[0].repr}"
    if len(objects) > 1:
        what += f" and {len(objects) - 1} more objects"
    return Finding(
        verdict=verdict,
        confidence="likely",
        signature=keeper_signature(verdict, path, library),
        message=f"{owner.type} `{path}` keeps {_number(each)} more to {what} in each repetition.",
        interpreter=0,
        subject={"type": objects[0].type, "repr": objects[0].repr},
        holder={"kind": "object", "symbol": path, "path": path, "library": library, "file": None, "line": None},
        explains=Explains(0, each),
        objects=objects,
        evidence=[Evidence(
            "growth", f"it refers to {'it' if len(objects) == 1 else 'them'} in {_number(each, 'word')} more than at "
            "the end of the repetition before; nothing new was made for that"
        )],
        fix=KEEPER_FIX,
        next="in a debugger, between two repetitions: refdbg referents of it",
    )


def finding(row: ObjectRow, name: str, each: int) -> Finding:
    """The verdict. *name*: of a static object, else ""; *each*: what a repetition adds."""
    what = name or f"{row.type} {row.repr}"
    number = _number(each)
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


def _number(number: int, what: str = "reference") -> str:
    return f"{number} {what}{'s' if number > 1 else ''}"
