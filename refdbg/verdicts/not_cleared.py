"""uncollectable, by a tp_clear: what the collector finds unreachable again and again, and nothing breaks its cycles."""

from __future__ import annotations

from dataclasses import dataclass

from refdbg.records import Evidence, Explains, Finding, ObjectRow
from refdbg.verdicts.not_freed import UNCOLLECTABLE, counted, left_behind
from refdbg.verdicts.signature import library_name, signature


@dataclass(frozen=True)
class NotCleared:
    """Objects that outlived the tp_clear of a collection, in cycles through *fields* of *type*.

    *clear*: the type's tp_clear, "" without one; *library*: where the type's functions are; *objects*: some that have
    the fields, *cycle*: one of their cycles in words; *number*: how many objects, with what hangs behind; *collection*:
    the first that found them; *circular*: how many objects its cycles had, *freed*: how many of these go by their
    reference counts when the fields are cleared; *remain*: what is left over at the end.
    """

    type: str
    fields: tuple[str, ...]
    clear: str
    library: str
    objects: list[ObjectRow]
    cycle: str
    number: int
    collection: int
    circular: int
    freed: int
    remain: Explains
    interpreter: int


def not_cleared(seen: NotCleared) -> Finding:
    """The verdict. Proven when the counts go to zero once the fields are cleared."""
    fields = " and ".join(field.lstrip(".") for field in seen.fields)
    what = f"{seen.clear} does not clear {fields}" if seen.clear else "no tp_clear"
    done = f"called its tp_clear ({seen.clear})" if seen.clear else "had no tp_clear to call"
    members = " ".join(f"Py_CLEAR(self->{field[1:]});" for field in seen.fields if field.startswith("."))
    statements = f"`{members}`" if members else f"what clears {fields}"
    return Finding(
        verdict=UNCOLLECTABLE,
        confidence="proven" if seen.freed == seen.circular else "likely",
        signature=signature(UNCOLLECTABLE, library_name(seen.library), seen.type, *seen.fields),
        message=f"{seen.type}: {what}, so nothing breaks the cycles through {fields}: {counted(seen.number, 'object')} "
                f"that the collector found unreachable live on{left_behind(seen.remain)}.",
        interpreter=seen.interpreter,
        subject={"type": seen.objects[0].type, "repr": seen.objects[0].repr},
        holder={"kind": "object", "owner": seen.type, "field": seen.fields[0], "library": seen.library},
        explains=seen.remain,
        objects=seen.objects,
        evidence=[
            *(Evidence("outlived", f"found unreachable by collection #{seen.collection}, which {done}, and it still "
                                   f"lives: {row.type} {row.repr}, reference count {row.refcount}")
              for row in seen.objects[:3]),
            Evidence("cycle", f"unbroken: {seen.cycle}"),
            Evidence("counterfactual", f"with this change {seen.freed} of {seen.circular} objects in such cycles are "
                                       "freed by their reference counts, in the same collection"),
        ],
        fix=f"Add {statements} to {seen.clear}." if seen.clear else
            f"Give the type a tp_clear (Py_tp_clear) with {statements}.",
        next=f"refdbg type {seen.type}",
    )
