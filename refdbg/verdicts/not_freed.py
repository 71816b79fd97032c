"""resurrected, uncollectable: what a collection has found to be garbage and did not free."""

from __future__ import annotations

from dataclasses import dataclass

from refdbg.records import Evidence, Explains, Finding, ObjectRow
from refdbg.verdicts.signature import signature

RESURRECTED = "resurrected"
UNCOLLECTABLE = "uncollectable"
_SAVE_ALL = "gc.DEBUG_SAVEALL"


@dataclass(frozen=True)
class Function:
    """A finalizer: its qualified name; file and line, None for a C function."""

    name: str
    file: str | None = None
    line: int | None = None

    @property
    def text(self) -> str:
        """The name and the place."""
        return f"{self.name} ({self.file}:{self.line})" if self.file else self.name


@dataclass(frozen=True)
class Resurrected:
    """Objects of one type that finalizers brought back, and something else than these holds since.

    *objects*: some of them; *number*: how many there were, in *collections*; *own*: the finalizer is the type's own,
    else it is that of what referred to them, or (not *sure*) one of several that were called. *holder*: what holds the
    first, "" where that was not found; *owner*: the object that this is a field of. *remain*: of all that came back,
    what is left over at the end.
    """

    type: str
    objects: list[ObjectRow]
    number: int
    collections: int
    finalizer: Function
    own: bool
    sure: bool
    holder: str
    owner: ObjectRow | None
    remain: Explains
    interpreter: int


def resurrected(seen: Resurrected) -> Finding:
    """The verdict. Proven when the function and what holds the object are known."""
    first = seen.objects[0]
    by = f"its finalizer {seen.finalizer.text}" if seen.own else f"the finalizer {seen.finalizer.text}"
    where = _place(seen)
    message = f"{seen.type} {first.repr} was garbage, and {by} has made it reachable again"
    message += f": {where} holds it" if where else ": what holds it was not found"
    message += f"; {counted(seen.number, 'object')} in {counted(seen.collections, 'collection')}"
    message += _remaining(seen.remain)
    evidence = [
        Evidence("resurrected", f"the collector found {row.type} {row.repr} unreachable, called the finalizer, and "
                                f"looked again: it is reachable, reference count {row.refcount}")
        for row in seen.objects[:3]
    ]
    evidence.append(Evidence(
        "finalizer", seen.finalizer.text + ("" if seen.sure else ", one of several that this collection called"),
        {"file": seen.finalizer.file, "line": seen.finalizer.line},
    ))
    return Finding(
        verdict=RESURRECTED,
        confidence="proven" if seen.sure and where else "likely",
        signature=signature(RESURRECTED, seen.type, seen.finalizer.name),
        message=f"{message}.",
        interpreter=seen.interpreter,
        subject={"type": seen.type, "repr": first.repr},
        holder={"kind": "finalizer", "owner": seen.finalizer.name, "field": where, "library": ""},
        explains=seen.remain,
        objects=seen.objects,
        evidence=evidence,
        fix=f"Do not store {'self' if seen.own else 'the object'} in {seen.finalizer.name}: it is not called a second "
            "time for the same object (PEP 442). Where it is meant, release what holds it.",
        next=f"refdbg gc stop --at clear --type {seen.type}",
    )


def died_later(seen: Resurrected) -> str:
    """What is said of objects that came back, and of which none is left over: that is no leak."""
    again = "has made it" if seen.number == 1 else "has made them"
    return (
        f"no leak: {counted(seen.number, 'object')} came back from {counted(seen.collections, 'collection')} "
        f"({seen.type} {seen.objects[0].repr} the first: the finalizer {seen.finalizer.text} {again} reachable again), "
        "and none of them is left over."
    )


def _place(seen: Resurrected) -> str:
    if seen.owner is None:
        return seen.holder
    return f"{seen.holder} of {seen.owner.type} {seen.owner.repr}"


@dataclass(frozen=True)
class Uncollectable:
    """Objects of one type in gc.garbage, which is *holder*.

    *finalizer*: the C function that is its tp_del; "" where gc.DEBUG_SAVEALL is the reason, and the objects are of any
    type. *number*: how many were found, in *collections*; *remain*: what of these is left over at the end.
    """

    type: str
    objects: list[ObjectRow]
    number: int
    collections: int
    finalizer: str
    holder: str
    remain: Explains
    interpreter: int


def uncollectable(seen: Uncollectable) -> Finding:
    """The verdict: proven, as the collector itself says so."""
    first = seen.objects[0]
    reason = seen.finalizer or _SAVE_ALL
    if seen.finalizer:
        message = (
            f"{seen.type}: a legacy finalizer (tp_del: {seen.finalizer}) keeps the collector from freeing what it has "
            f"found to be garbage: {counted(seen.number, 'object')} in {seen.holder}, {first.repr} among them"
        )
        fix = "Turn tp_del into tp_finalize (PEP 442), whose objects are collected; or clear gc.garbage."
    else:
        message = (
            f"collectable, and saved: gc.set_debug({_SAVE_ALL}) has made {counted(seen.collections, 'collection')} put "
            f"{counted(seen.number, 'object')} into {seen.holder}, {first.type} {first.repr} among them. "
            "This is no leak"
        )
        fix = f"Leave {_SAVE_ALL} out of gc.set_debug, or clear gc.garbage when it has been looked at."
    return Finding(
        verdict=UNCOLLECTABLE,
        confidence="proven",
        signature=signature(UNCOLLECTABLE, seen.type if seen.finalizer else "", reason),
        message=f"{message}{left_behind(seen.remain)}.",
        interpreter=seen.interpreter,
        subject={"type": first.type, "repr": first.repr},
        holder={"kind": "collector", "owner": reason, "field": seen.holder, "library": ""},
        explains=seen.remain,
        objects=seen.objects,
        evidence=[
            Evidence("garbage", f"the collector has put {row.type} {row.repr} into {seen.holder}, reference count "
                                f"{row.refcount}")
            for row in seen.objects[:3]
        ],
        fix=fix,
        next="refdbg gc stop --at end",
    )


def _remaining(remain: Explains) -> str:
    return f". Of these {_sum(remain)} left over at the end" if remain.objects else ""


def left_behind(remain: Explains) -> str:
    """What is left over at the end, as the end of a sentence."""
    return f"; with what hangs behind {_sum(remain)} are left over at the end" if remain.objects else ""


def _sum(remain: Explains) -> str:
    return f"{counted(remain.objects, 'object')} with {counted(remain.references, 'reference')}"


def counted(number: int, thing: str) -> str:
    """So many of them."""
    return f"{number} {thing}{'' if number == 1 else 's'}"
