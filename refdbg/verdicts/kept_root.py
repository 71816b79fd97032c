"""Why the last collection kept a root: missing-visit, state-reference, late-garbage, static-reference.

The evidence is a kept root's gc_refs, itemised: owned references that no collected object's traverse reported.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, replace

from refdbg.records import Counterfactual, Evidence, Explains, Finding, ObjectRow
from refdbg.verdicts.signature import library_name, signature

OWN_TYPE = "ob_type"


@dataclass(frozen=True)
class Reason:
    """Who kept roots alive. *kind*: "object", "static", "state"; "nobody" where the reference is lost.

    *owner*: an object's type, a C variable's or a state's struct name, what the reference is lost on; *field*: the
    reference in it, the one that only borrows where it is lost.
    *still_held*: at the interpreter's end it holds them still. *library*, *source*: where the variable lives, ""
    when not known; *offset*: the field's, in the state's struct. *traverse*: the owner type's tp_traverse, "" without
    one; *has_gc*: it takes part in collection; *own_type*: the owners own their type; *opaque*: what the field points
    to is for the type's users to know; *inherited*: the tp_traverse is a base's, which does not have the field.
    """

    kind: str
    owner: str
    field: str
    still_held: bool
    library: str = ""
    source: str = ""
    traverse: str = ""
    has_gc: bool = True
    own_type: bool = True
    opaque: bool = False
    inherited: bool = False
    offset: int = dataclasses.field(default=0, compare=False)


@dataclass(frozen=True)
class KeptRoots:
    """The roots that one reason kept, and what hangs behind them.

    *gc_refs*: their counts less all visits, summed up; *itemised*: how many of those this reason stands for;
    *undeclared*: of these, words of which neither C nor a destructor says that they own; *spare*: how many more words
    could own instead; *others*: how many known references of other reasons stand there too; *freed*: what a replay of
    the collector frees of *explained* when the reason is taken away (*alone*), or all reasons that were found are.
    """

    reason: Reason
    roots: list[ObjectRow]
    owners: list[ObjectRow]
    gc_refs: int
    itemised: int
    undeclared: int
    spare: int
    others: int
    explained: Explains
    freed: Explains
    alone: bool
    interpreter: int


def finding(kept: KeptRoots) -> Finding:
    """The verdict. Proven when nothing of gc_refs is left over and the replayed collector then frees everything."""
    reason = kept.reason
    verdict, message, fix = _words(kept)
    known = not (kept.undeclared or kept.spare or reason.opaque)
    complete = kept.itemised + kept.others == kept.gc_refs and kept.freed == kept.explained and known
    evidence = [
        Evidence("gc_refs", f"the collector kept {row.type} {row.repr}, reference count {row.refcount}")
        for row in kept.roots[:3]
    ]
    evidence.append(
        Evidence(
            "balance",
            f"gc_refs of these roots: {kept.gc_refs}; {kept.itemised} of them from {reason.owner}."
            + reason.field.lstrip(".")
            + (f", {kept.others} from other holders" if kept.others else "")
            + (f"; {kept.spare} other words could own instead" if kept.spare else ""),
        )
    )
    evidence += [
        Evidence("owner", f"{row.type} {row.repr} owns one of them, and no traverse reported it")
        for row in kept.owners[:3]
    ]
    if kept.undeclared:
        evidence.append(
            Evidence(
                "doubt",
                f"nothing tells that {reason.field.lstrip('.')} owns: if it only borrows (a pointer to a parent, a "
                "cache), nothing is to be visited, and a reference to what was kept is lost",
            )
        )
    evidence.append(
        Evidence(
            "counterfactual",
            f"with {'this change' if kept.alone else 'this change and those of the other findings'} "
            f"{kept.freed.references} of {kept.explained.references} references "
            f"({kept.freed.objects} of {kept.explained.objects} objects) are freed by the same collection",
        )
    )
    return Finding(
        verdict=verdict,
        confidence="proven" if complete else "likely",
        signature=signature(verdict, library_name(reason.library), reason.owner, reason.field),
        message=f"{message}: {kept.explained.objects} objects with {kept.explained.references} references "
        "are left over.",
        interpreter=kept.interpreter,
        subject={"type": kept.roots[0].type, "repr": kept.roots[0].repr},
        holder={"kind": reason.kind, "owner": reason.owner, "field": reason.field, "library": reason.library},
        explains=kept.explained,
        objects=kept.roots,
        evidence=evidence,
        fix=fix,
        next=_next(kept),
        counterfactual=Counterfactual(kept.freed.objects, kept.freed.references),
    )


def released_by(late: Finding, function: str, callers: Sequence[str], source: str) -> Finding:
    """The late-garbage finding with the C function that released the field after the last collection."""
    through = f", called by {callers[0]}" if callers else ""
    where = f" ({source})" if source else ""
    return replace(
        late,
        message=late.message.replace("was released only after", f"was released by {function}() only after", 1),
        evidence=[*late.evidence, Evidence("released", f"a watchpoint saw {function}{where}{through} clear it")],
        fix=f"Clear it before the last collection of the interpreter: call {function} earlier.",
    )


def _next(kept: KeptRoots) -> str:
    if kept.reason.kind != "object":
        return "refdbg gc stop --at begin, then refdbg leaks"
    # What a module's state owns, no type is to be asked for.
    subject = f"{kept.owners[0].address:#x}" if " " in kept.reason.owner else kept.reason.owner
    return f"refdbg visits {subject}"


def _words(kept: KeptRoots) -> tuple[str, str, str]:
    # (verdict, message, fix)
    reason = kept.reason
    if reason.kind == "object":
        return "missing-visit", *_missing_visit(reason)
    place = f"`{reason.owner}.{reason.field}`" if reason.kind == "state" else f"C variable `{reason.field}`"
    if reason.source:
        place += f" ({reason.source})"
    if not reason.still_held:
        return (
            "late-garbage",
            f"{place} was released only after the last collection, so what it held in cycles is left over",
            "Clear it before the last collection of the interpreter.",
        )
    if reason.kind == "state":
        return "state-reference", f"{place} still holds its object when the interpreter is deleted", (
            "Clear the field when the interpreter is finalized, before its last collection."
        )
    return "static-reference", f"{place} still holds a reference when the interpreter is deleted", (
        f"Release it when the module is freed (Py_CLEAR({reason.field})), or move it into the module state (PEP 630)."
    )


def _missing_visit(reason: Reason) -> tuple[str, str]:
    owner = reason.owner
    if reason.opaque:
        unseen = f"{reason.traverse} does not visit it" if reason.has_gc else "takes no part in collection"
        return (
            f"{owner}: an instance seems to own the object that its {reason.field} points to, and {unseen}",
            f"Keep the object where a tp_traverse visits it, and let the {reason.field} borrow; or break the cycle "
            "yourself before its last user is gone.",
        )
    if not reason.has_gc:
        own_type = " (their heap type among them)" if reason.own_type else f" ({reason.field})"
        return (
            f"{owner}: instances own references{own_type} and take no part in collection",
            "Give the type Py_TPFLAGS_HAVE_GC, a tp_traverse that visits each owned reference and Py_TYPE(self), "
            "and a dealloc that untracks.",
        )
    if not reason.traverse:
        own_type = " and Py_TYPE(self)" if reason.own_type else ""
        return f"{owner}: no traverse function", f"Write one that visits each owned reference{own_type}."
    field = reason.field.lstrip(".")
    if reason.field == OWN_TYPE:
        return (
            f"{owner}: instances own their heap type, and {reason.traverse} never visits it",
            f"Add `Py_VISIT(Py_TYPE(self));` to {reason.traverse}.",
        )
    if reason.inherited:
        return (
            f"{owner}: {field} is owned, and {reason.traverse}, which the type inherits, never visits it",
            f"Give the type a tp_traverse of its own that visits {field}, and then calls {reason.traverse}.",
        )
    return (
        f"{owner}: {field} is owned, and {reason.traverse} never visits it",
        f"Add a `Py_VISIT` of {field} to {reason.traverse}.",
    )
