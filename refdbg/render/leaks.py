"""Findings at a stop, and balances, as text."""

from __future__ import annotations

from refdbg.answers import BalanceOf, Leaks
from refdbg.render import plain, text
from refdbg.render.report import finding_lines, table

_HOLDERS = 40


@text.register
def leaks_text(record: Leaks, width: int) -> str:
    """The findings, the largest first."""
    lines = []
    for number, finding in enumerate(record.findings, 1):
        lines += [*finding_lines(number, plain(finding)), ""]
    if not record.findings:
        missing = any("cannot be read" in note for note in record.notes)
        lines.append("No leak was found in what can be read." if missing else "No leak was found.")
    freed = record.garbage - record.leaked
    if record.leaked:
        lines.append(
            f"Of {record.objects} objects nothing alive holds {record.garbage}: the next collection frees {freed} of "
            f"these, and {record.leaked} are leaked."
        )
    else:
        lines.append(
            f"Of {record.objects} objects {record.garbage} are garbage, and the next collection frees {freed} of these."
        )
    if record.weak:
        lines.append(
            f"{record.weak} object{'s are' if record.weak > 1 else ' is'} held only by words that may be stale, on "
            "stacks and in memory of nobody known: some may be leaked. `refdbg leaks --all` lists them."
        )
    return "\n".join([*lines, *(f"note: {note}" for note in record.notes)])


@text.register
def balance_text(record: BalanceOf, width: int) -> str:
    """The account, a line each holder."""
    row = record.object
    lines = [f"{row.type} {row.repr} at {row.address:#x}"]
    if record.immortal:
        return "\n".join([*lines, "It is immortal: its references are not counted."])
    counted = [holder for holder in record.holders if holder.counts]
    others = [holder for holder in record.holders if not holder.counts]
    shown = [
        ["1", holder.label, f"{holder.owner.type} {holder.owner.repr}" if holder.owner else holder.kind, holder.trust]
        for holder in counted[:_HOLDERS]
    ]
    if len(counted) > _HOLDERS:
        shown.append([str(len(counted) - _HOLDERS), "… more", "", ""])
    if record.lost:
        shown.append([str(record.lost), "nobody", "lost: no word of the process holds them", "lost"])
    lines += [f"reference count {row.refcount}:", ""]
    lines += table(shown, ["references", "as", "held by", "trust"], ("right", "left", "left", "left"))
    if others:
        lines += ["", f"{len(others)} more words equal its address and are not needed for the count:"]
        lines += table([["", holder.label, holder.kind, holder.trust] for holder in others[:10]],
                       ["", "as", "in", "trust"], ("right", "left", "left", "left"))
    lines.append("")
    if record.lost:
        lines.append(f"{record.lost} references are lost: a missing Py_DECREF, or a Py_INCREF too many.")
    elif record.surplus:
        lines.append(f"{record.surplus} more owners than references: one of these words owns nothing, or a Py_INCREF "
                     "is missing and the object will be freed too early.")
    elif record.spare:
        lines.append("The count is accounted for; which of the least trusted words own is not known.")
    else:
        lines.append("Every reference is accounted for.")
    return "\n".join(lines)
