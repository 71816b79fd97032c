"""Suspended frames hold what their owner's traverse function does not report: untraversed-frame."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from refdbg.records import Counterfactual, Evidence, Explains, Finding, ObjectRow
from refdbg.verdicts.kept_root import KeptRoots
from refdbg.verdicts.signature import signature

_STACKS = 3
_WORDS = 6  # of a stack that are written out


@dataclass(frozen=True)
class HeldBy:
    """One reference of a stack that closes a cycle: its name, and the *way* that leads back."""

    label: str
    way: str


@dataclass(frozen=True)
class StackFrame:
    """A suspended frame, and those of its references that close the cycle."""

    function: str
    file: str
    line: int
    closing: list[HeldBy]


@dataclass(frozen=True)
class Stack:
    """A suspended stack, innermost frame first. *slots*: words of its C stack that close the cycle; *overlooked*: the
    collector is told that its owner takes no part in collection."""

    frames: list[StackFrame]
    slots: list[HeldBy]
    overlooked: bool


def finding(kept: KeptRoots, first: Stack, number: int, places: int, guessed: int, means: str) -> Finding:
    """The verdict. *first*: of the first owner, of *number*; *places*: how many different ones they are
    suspended at, in the same functions; *guessed*: how many of the roots' references only words
    on C stacks stand for; *means*: how a traverse function visits a frame.
    """
    reason = kept.reason
    owner, traverse = reason.owner, reason.traverse or "its tp_traverse"
    # A change that frees nothing explains nothing, though the references are there.
    doubtful = "likely" if kept.freed.references else "possible"
    complete = kept.itemised + kept.others == kept.gc_refs and kept.freed == kept.explained and not guessed
    closing = [frame for frame in first.frames if frame.closing] or first.frames[-1:]
    where = ", called by ".join(f"{each.function}() ({each.file}:{each.line})" for each in closing[:_STACKS])
    if places > 1:
        where += f" and at {places - 1} other places in the same functions" if closing else f" at {places} places"
    subject = f"{number} of them are" if number > 1 else "one is"
    below = "below" if closing and closing[0] is not first.frames[0] else "in"
    evidence = _told(f"{kept.owners[0].type} {kept.owners[0].repr}", first)
    if first.overlooked:
        evidence.append(
            Evidence(
                "tp_is_gc",
                f"while a {owner} is suspended its type's tp_is_gc says no: the collector overlooks who refers "
                "to it, and keeps it",
            )
        )
    evidence.append(
        Evidence(
            "balance",
            f"gc_refs of what the collector kept: {kept.gc_refs}; {kept.itemised} of them from these stacks"
            + (f", {guessed} of these by words of C stacks" if guessed else "")
            + (f", {kept.others} from other holders" if kept.others else ""),
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
    place = closing[0] if closing else None
    return Finding(
        verdict="untraversed-frame",
        confidence="proven" if complete else doubtful,
        signature=signature("untraversed-frame", "", owner, reason.field),
        message=f"{owner}: {subject} suspended {below} {where or 'C code'}, and {traverse} does not visit what the "
        f"suspended frames hold: {kept.explained.objects} objects with {kept.explained.references} references "
        "are left over.",
        interpreter=kept.interpreter,
        subject={"type": owner, "repr": kept.owners[0].repr},
        holder={
            "kind": "frame",
            "owner": owner,
            "field": reason.field,
            "library": reason.library,
            "file": place.file if place else None,
            "line": place.line if place else None,
        },
        explains=kept.explained,
        objects=kept.owners,
        evidence=evidence,
        fix=_fix(traverse, closing, first.overlooked, means),
        next="refdbg frames --suspended --locals",
        counterfactual=Counterfactual(kept.freed.objects, kept.freed.references),
    )


@dataclass(frozen=True)
class Used:
    """A word of a suspended frame that refers to an object without counting, and what is about to be freed."""

    label: str
    function: str
    file: str
    line: int
    object: ObjectRow


def freed_in_use(
    owner: str, traverse: str, used: Sequence[Used], number: int, first: ObjectRow, interpreter: int, means: str,
    decided: bool, limit: int,
) -> Finding:
    """The verdict on what the next collection frees while suspended frames use it. *owner*: the type of the *number*
    objects, of which *first* is one, that own the frames; *decided*: all visits that the replay rests on are known.
    """
    place = used[0]
    objects = list({each.object.address: each.object for each in used}.values())
    what = "1 object" if len(objects) == 1 else f"{len(objects)} objects"
    subject = f"{number} of them are" if number > 1 else "one is"
    evidence = [
        Evidence(
            "deferred",
            f"{each.label} of {each.function}(): {each.object.type} {each.object.repr} will be freed while in use",
            {"file": each.file, "line": each.line},
        )
        for each in used[:limit]
    ]
    evidence.append(
        Evidence(
            "collector",
            "these references are deferred: no count includes them, and the collector looks for them on the stacks of "
            f"threads and in what a tp_traverse reports; the replayed collection finds the {what} unreachable",
        )
    )
    return Finding(
        verdict="untraversed-frame",
        confidence="proven" if decided else "likely",
        signature=signature("untraversed-frame", "", owner, "deferred references"),
        message=f"{owner}: {subject} suspended in {place.function}() ({place.file}:{place.line}), and {traverse} does "
        f"not visit what the suspended frames hold: the next collection frees {what} that they use without counting. "
        "When they go on they use freed memory.",
        interpreter=interpreter,
        subject={"type": owner, "repr": first.repr},
        holder={
            "kind": "frame", "owner": owner, "field": "deferred references", "library": "", "file": place.file,
            "line": place.line,
        },
        explains=Explains(len(objects), sum(each.refcount for each in objects)),
        objects=objects[:limit],
        evidence=evidence,
        fix=f"In {traverse}: visit each suspended frame's references, {means}. Until then keep what such frames use "
        "alive, or do not run without the GIL.",
        next="refdbg frames --suspended --locals",
    )


def _told(name: str, stack: Stack) -> list[Evidence]:
    found = []
    words = [(held, frame) for frame in stack.frames for held in frame.closing]
    if stack.frames:
        inner = stack.frames[0]
        found.append(
            Evidence(
                "frame",
                f"{name} is suspended in {inner.function}() ({inner.file}:{inner.line})",
                {"file": inner.file, "line": inner.line},
            )
        )
    for held, frame in words[:_WORDS]:
        found.append(
            Evidence(
                "cycle",
                f"{held.label} of {frame.function}() leads back: {held.way}",
                {"file": frame.file, "line": frame.line},
            )
        )
    slots = Counter((held.label, held.way) for held in stack.slots)
    for (label, way), number in list(slots.items())[:_WORDS]:
        times = f" ({number} words)" if number > 1 else ""
        found.append(Evidence("cycle", f"{label}{times} leads back: {way}"))
    if not words and not slots:
        found.append(Evidence("cycle", "nothing on its stack leads back: others refer to it in a cycle"))
    return found


def _fix(traverse: str, closing: list[StackFrame], overlooked: bool, means: str) -> str:
    local = next(
        (
            f"drop `{held.label.removeprefix('local ')}` in {frame.function}() before it switches away, or "
            for frame in closing
            for held in frame.closing
            if held.label.startswith("local ")
        ),
        "",
    )
    program = f"In the program: {local}end it (throw) when it is no longer needed. "
    more = "; and have no tp_is_gc that says no while it is suspended" if overlooked else ""
    return f"{program}In {traverse}: visit each suspended frame's references, {means}{more}."
