"""Why objects are alive, their cycles and what they retain, as text."""

from __future__ import annotations

from collections.abc import Sequence

from refdbg.answers import Component, Cycles, Keeper, ReferenceStep, Retained, RetainedRow, UnknownReferences, Why
from refdbg.records import ObjectRow
from refdbg.render import plain, text
from refdbg.render.allocation import allocation_lines
from refdbg.render.dot import HOLDERS, printable
from refdbg.render.report import by_type_table, table

_LABEL = 40
_REPR = 60
_IMMORTAL = 1 << 31


@text.register
def why_text(record: Why, width: int) -> str:
    """The ways from outside."""
    row = record.object
    lines = [f"{object_line(row)} ({_references(row)})", ""]
    if record.verdict == "immortal":
        lines.append("It is immortal: it is never freed, whoever holds it.")
    elif record.verdict == "static":
        lines.append("It is an object in a library's data: it is never freed, whoever holds it.")
    elif record.verdict == "held":
        lines.append("Held from outside the heap; the shortest way for each of its holders:")
    elif record.verdict == "weak":
        lines.append("Only words that may be stale or own nothing hold it from outside the heap:")
    elif record.verdict == "cycle":
        accounted = ", and all references are accounted for" if not record.unknown else ", as far as was found"
        lines.append(f"Nothing outside the heap holds it: it is held by a cycle only{accounted}.")
    elif record.verdict == "open":
        lines.append("No holder outside the heap was found.")
    elif record.direct:
        lines.append("Nothing outside the heap holds it, directly or through other objects.")
    else:
        lines.append(f"Nobody holds it although its count is {row.refcount}: no word of the process refers to it.")
    for number, path in enumerate(record.paths, 1):
        holder = path.holder
        remark = "" if holder.certain else " (weak evidence)" if holder.kind != "block" else " (likely)"
        lines += ["", f"{number}. {HOLDERS.get(holder.kind, holder.kind)} {_line(holder.label)}{remark}"]
        lines += _steps(path.steps, width)
    if record.more > 0:
        lines += ["", f"… and {record.more} more {'holder' if record.more == 1 else 'holders'} (--limit N shows more)"]
    if record.through and record.verdict in ("held", "weak"):
        lines += ["", "Also held by objects that are held through it alone (a cycle), or from farther away:"]
        lines += [f"    {object_line(each)}" for each in record.through]
    if record.cycle:
        lines += ["", "The cycle:", *_cycle(record.cycle)]
        if len(record.leads) > 1:
            lines += ["", "which leads to it:", *_steps(record.leads, width)]
    lines += [""] if record.unknown else []
    lines += [_unknown(unknown) for unknown in record.unknown]
    made = allocation_lines(record.allocation)
    lines += ["", *made] if made else []
    return "\n".join(line.rstrip() for line in [*lines, *_notes(record.notes)])


def _unknown(unknown: UnknownReferences) -> str:
    row = unknown.object
    found = f"its count is {row.refcount}, {row.refcount - unknown.references} of them found"
    if unknown.weak:
        found += f"; {_counted(unknown.weak, 'word')} on stacks or elsewhere may hold the rest, or be stale"
    else:
        found += ". A lost reference is possible"
    return f"{_counted(unknown.references, 'reference')} of unknown holders: {object_line(row)}: {found}."


@text.register
def cycles_text(record: Cycles, width: int) -> str:
    """The groups, each with its cycles and what keeps it."""
    if record.object is None:
        lines = [
            f"{_counted(record.garbage_objects, 'object')} in {_counted(record.garbage, 'group')} with cycles "
            "are garbage: nothing outside holds them, and the next full collection finds them."
            if record.garbage else "No reference cycle is garbage now."
        ]
    else:
        lines = [f"{object_line(record.object)} ({_references(record.object)})"]
        if not record.components:
            lines.append("It is part of no reference cycle, and none holds it.")
    for number, component in enumerate(record.components, 1):
        lines += ["", *_component(number, component, width)]
    if record.more > 0:
        lines += ["", f"… and {record.more} more (--limit N shows more)"]
    lines += [
        "",
        f"Alive: {_counted(record.live_objects, 'object')} in {_counted(record.live, 'group')} with cycles, "
        f"the largest of {record.largest_live:,}.",
    ]
    return "\n".join(line.rstrip() for line in [*lines, *_notes(record.notes)])


def _component(number: int, record: Component, width: int) -> list[str]:
    state = "garbage" if record.garbage else "alive"
    if not record.seen:
        head = f"{number}. A cycle of {_counted(record.objects, 'object')} that the collector does not see:"
    else:
        several = "objects that reach each other" if record.objects > 1 else "object that refers to itself"
        head = f"{number}. {record.objects:,} {several} ({state}):"
    names = [f"{row.objects} {_line(row.type)}" for row in record.by_type[:4]]
    rest = len(record.by_type) - len(names)
    lines = [head, "   " + ", ".join(names) + (f", … {rest} more types" if rest > 0 else "")]
    if record.leads:
        lines += ["   leads to it:", *_steps(record.leads, width)]
    for cycle in record.cycles:
        lines += _cycle(cycle)
    if record.keepers:
        lines.append("   kept by:")
        lines += [f"     {_keeper(keeper)}" for keeper in record.keepers]
        if record.more_keepers > 0:
            lines.append(f"     … and {record.more_keepers} more")
    elif not record.garbage and record.seen:
        lines.append("   what keeps it is not known")
    return lines


def _keeper(keeper: Keeper) -> str:
    target = f"→ {object_line(keeper.target)}"
    if keeper.owner is not None:
        remark = "" if keeper.visited else "  NOT VISITED" if keeper.visited is False else "  visited or not: not known"
        return f"{object_line(keeper.owner)} {_line(keeper.label)} {target}{remark}"
    remark = "" if keeper.certain else " (weak evidence)" if keeper.kind != "block" else " (likely)"
    return f"{HOLDERS.get(keeper.kind, keeper.kind)} {_line(keeper.label)}{remark} {target}"


def _cycle(steps: Sequence[ReferenceStep]) -> list[str]:
    lines = [f"   {object_line(steps[0].object)}"]
    for step in steps[1:-1]:
        lines.append(f"     {_line(step.label)}{_remark(step)} → {object_line(step.object)}")
    lines.append(f"     {_line(steps[-1].label)}{_remark(steps[-1])} → back to the first")
    return lines


def _steps(steps: Sequence[ReferenceStep], width: int) -> list[str]:
    rows = []
    for number, step in enumerate(steps):
        # The first one is what the holder holds.
        label = f"   {'↳ ' if number else '  '}{_cut(_line(step.label), _LABEL)}{_remark(step) if number else ''}"
        rows.append((label, step.object))
    room = max(len(label) for label, _ in rows)
    return [f"{label:<{room}}  {_cut(object_line(row), max(width - room - 2, _REPR))}" for label, row in rows]


def _remark(step: ReferenceStep) -> str:
    guess = "" if step.exact else " ?"
    if not step.owned:
        return f"{guess} (VISITED, NOT OWNED)"
    if step.visited is None:
        return f"{guess} (visited or not: not known)"
    return guess if step.visited else f"{guess} (NOT VISITED)"


@text.register
def retained_text(record: Retained, width: int) -> str:
    """The largest retainers."""
    lines = [
        f"{_counted(record.objects, 'object')} of {_counted(record.bytes, 'byte')}; what would go with one of them is "
        f"{record.confidence}, not certain: references are found conservatively."
    ]
    together = record.together
    if together is not None:
        lines += [
            "",
            f"{_line(together.type)}: if {'it' if record.total == 1 else f'all {record.total:,}'} went, "
            f"{_counted(together.objects, 'object')} of {_counted(together.bytes or 0, 'byte')} would go:",
            *by_type_table([plain(row) for row in record.by_type], len(record.by_type)),
        ]
    rows = [
        [f"{row.objects:,}", f"{row.bytes:,}", _cut(object_line(row.object), _REPR + 20), _through(row)]
        for row in record.rows
    ]
    if rows:
        lines += ["", *table(rows, ["objects", "bytes", "would go with", "is held through"],
                             ("right", "right", "left", "left"))]
    if record.total > len(record.rows):
        lines.append(f"… and {record.total - len(record.rows):,} more (--limit N shows more)")
    return "\n".join(line.rstrip() for line in [*lines, *_notes(record.notes)])


def _through(row: RetainedRow) -> str:
    if row.dominator is not None:
        return _cut(object_line(row.dominator), _LABEL)
    return "nothing: garbage" if row.garbage else "several ways"


def object_line(row: ObjectRow) -> str:
    """The object: its type, its repr cut short, and its address unless that is in it."""
    shown = _cut(_line(row.repr), _REPR)
    address = f"{row.address:#x}"
    return f"{_line(row.type)} {shown}" + ("" if address in shown else f" at {address}")


def _references(row: ObjectRow) -> str:
    return "immortal" if row.refcount >= _IMMORTAL else _counted(row.refcount, "reference")


def _counted(number: int, thing: str) -> str:
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def _cut(value: str, width: int) -> str:
    return value if len(value) <= width else value[: width - 1] + "…"


def _line(value: str) -> str:
    return printable(value).replace("\n", "\\n")


def _notes(notes: Sequence[str]) -> list[str]:
    return [f"note: {note}" for note in dict.fromkeys(notes)]
