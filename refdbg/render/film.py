"""The film of one object as text."""

from __future__ import annotations

from refdbg.answers import BalanceHolder, FilmStep, GcFilm, GcRefs, ReferenceStep
from refdbg.render import plain, text
from refdbg.render.dot import HOLDERS, printable
from refdbg.render.graphs import object_line
from refdbg.render.report import frame_line

_STACK = 5

_UNEXAMINED = {
    "no gc": "No collection examines it: its type takes no part in collection. It is freed with its last reference.",
    "untracked": "No collection examines it: it is not tracked, as what cannot be part of a cycle (a dict or tuple of "
    "numbers and texts), or is not complete yet.",
    "permanent": "No collection examines it: it is in the permanent generation (gc.freeze).",
    "collecting": "It is in no generation: a collection that is running has it on a list of its own "
    "(`refdbg gc unreachable` shows that).",
    "freed": "No collection has examined it: it was freed before, when its last reference went.",
}
_DOUBTS = {"guessed": " (a guess)", "static": " (likely)", "native": " (likely)", "stack": " (likely)"}


@text.register
def film_text(record: GcFilm, width: int) -> str:
    """What is decided, why, and what happens then."""
    place = f", in generation {record.generation}" if record.generation not in (None, "permanent") else ""
    lines = [object_line(record.object) + place]
    if record.state != "examined":
        lines += [_UNEXAMINED[record.state], *(line for step in record.steps for line in _stack(step))]
    elif record.collection is None:
        lines += ["A collection of all generations now would decide:", ""]
    else:
        run = record.collection
        where = f" in {frame_line(plain(run.frame))}" if run.frame else ""
        lines += [f"in collection #{run.number} of generation {run.generation} ({run.reason}{where}):", ""]
    if record.refs is not None:
        lines += [*_refs(record.refs, ""), *_decision(record)]
    if record.collection is not None:
        lines += [_agreement(record), "", "What happens:"]
        for step in record.steps:
            lines += _step(step)
    return "\n".join(line.rstrip() for line in [*lines, *(f"note: {note}" for note in record.notes)])


def _refs(refs: GcRefs, indent: str) -> list[str]:
    count = refs.object.refcount
    lines = [
        f"{indent}{_counted(count, 'reference')}, {_counted(refs.visits, 'visit')} by collected objects: "
        f"gc_refs is {refs.gc_refs}"
    ]
    lines += [f"{indent}  visited      {_holder(holder)}" for holder in refs.visitors]
    if refs.visits > len(refs.visitors) and refs.visitors:
        lines.append(f"{indent}  visited      {refs.visits} times in all")
    lines += [f"{indent}  not visited  {_holder(holder)}" for holder in refs.holders]
    if refs.unknown:
        lines.append(f"{indent}  not visited  {_counted(refs.unknown, 'reference')} of unknown holders")
    return lines


def _holder(holder: BalanceHolder) -> str:
    doubt = _DOUBTS.get(holder.trust, "")
    if holder.owner is None:
        return f"{HOLDERS.get(holder.kind, holder.kind)} {printable(holder.label)}{doubt}"
    return f"{printable(holder.label)} of {object_line(holder.owner)}{doubt}"


def _decision(record: GcFilm) -> list[str]:
    if record.decision == "unreachable":
        return ["It is unreachable: gc_refs is 0, and no object that stays visits it, nor any that such a one reaches."]
    if record.decision == "held":
        return ["It stays: something that is not collected holds it (gc_refs is greater than 0)."]
    lines = ["It stays: visits lead to it from an object that stays:", *map(_way, record.way)]
    if record.root is not None:
        lines += [f"  {object_line(record.root.object)} stays:", *_refs(record.root, "    ")]
    return lines


def _way(step: ReferenceStep) -> str:
    label = f"↳ {printable(step.label)}  " if step.label else ""
    return f"  {label}{object_line(step.object)}"


def _agreement(record: GcFilm) -> str:
    decided = next((step.kind for step in record.steps if step.kind in ("kept", "unreachable")), "")
    own = record.refs.own if record.refs is not None else None
    count = "" if own is None else f", with gc_refs {own}"
    if record.agrees:
        return f"CPython decides alike{count}."
    return f"CPython DISAGREES: it has found it {'reachable' if decided == 'kept' else decided}{count}."


def _step(step: FilmStep) -> list[str]:
    where = f" ({step.file}:{step.line})" if step.file else ""
    again = "" if step.gc_refs is None else f" (gc_refs was {step.gc_refs} when the collector looked again)"
    texts = {
        "unreachable": "it is put on the list of the unreachable",
        "kept": "it is kept",
        "finalizer": f"its finalizer is called: {step.function}{where}",
        "resurrected": f"it is resurrected: what the finalizers did has made it reachable again{again}",
        "tp_clear": "it is handed to tp_clear",
        "freed": "it is freed, its last reference going" + (" in:" if step.stack else ""),
        "uncollectable": "it is uncollectable: it has a legacy finalizer (tp_del), or one that has refers to it",
        "saved": "it is put into gc.garbage and not cleared (gc.DEBUG_SAVEALL)",
        "survives": f"it survives, in generation {step.generation}",
        "untracked": "it survives, and is not tracked any more: it can be part of no cycle",
    }
    return [f"  {texts[step.kind]}", *_stack(step)]


def _stack(step: FilmStep) -> list[str]:
    return [
        f"      {frame.function}" + (f" ({frame.file}:{frame.line})" if frame.file else "")
        for frame in step.stack[:_STACK]
    ]


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
