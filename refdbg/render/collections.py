"""The collector's runs as text."""

from __future__ import annotations

from refdbg.records import (
    Collection,
    FieldVisits,
    Finalizer,
    GcAgain,
    GcLog,
    GcStop,
    Message,
    ObjectRow,
    Visits,
    VisitsOfType,
)
from refdbg.render import plain, text
from refdbg.render.report import by_type_table, collection_table, frame_line, table

_STACK = 5


@text.register
def message_text(record: Message, width: int) -> str:
    """The sentence."""
    return record.text


@text.register
def log_text(record: GcLog, width: int) -> str:
    """Each collection as a row, then what those found that found something."""
    if not record.collections:
        return "No collection yet." + (" Let the program run." if record.recording else "")
    lines = collection_table([plain(collection) for collection in record.collections])
    if record.dropped:
        lines.append(f"{record.dropped} older collections were not kept.")
    for collection in record.collections:
        if collection.unreachable:
            lines += ["", *_found(collection)]
    return "\n".join(line.rstrip() for line in lines)


def _found(collection: Collection) -> list[str]:
    where = f" in {frame_line(plain(collection.frame))}" if collection.frame else ""
    lines = [f"#{collection.number} ({collection.reason}{where}) found {collection.unreachable} unreachable objects:"]
    lines += by_type_table([plain(row) for row in collection.by_type], 8)
    lines += _finalizers(collection.finalizers)
    lines += _objects(collection.objects, collection.unreachable)
    return lines


def _finalizers(finalizers: list[Finalizer]) -> list[str]:
    return [
        f"  finalizer {finalizer.function}" + (f" ({finalizer.file}:{finalizer.line})" if finalizer.file else "")
        + f" for {finalizer.objects} object{'' if finalizer.objects == 1 else 's'}"
        for finalizer in finalizers
    ]


def _objects(objects: list[ObjectRow], total: int) -> list[str]:
    lines = [f"  {row.address:#x} {row.repr} (references: {row.refcount})" for row in objects]
    if total > len(objects):
        lines.append(f"  … and {total - len(objects)} more (--objects N lists more)")
    return lines


@text.register
def stop_text(record: GcStop, width: int) -> str:
    """Where the program stands, and the garbage."""
    steps = {
        "begin": "before the collector looks for garbage",
        "finalize": "before finalizers are called",
        "clear": "before tp_clear is called",
    }
    where = f"Interpreter {record.interpreter}, generation {record.generation} ({record.reason})"
    lines = [f"{where}: stopped {steps[record.at]}."]
    lines += [f"  called from {frame_line(plain(frame))}" for frame in record.stack[:_STACK]]
    if record.unreachable is None:
        lines.append(f"  {record.tracked} tracked objects are going to be examined.")
        return "\n".join(lines)
    lines.append(f"  {record.unreachable} of {record.tracked} tracked objects are unreachable:")
    lines += by_type_table([plain(row) for row in record.by_type], 12)
    lines += _finalizers(record.finalizers)
    lines += _objects(record.objects, record.unreachable)
    lines += [f"  note: {note}" for note in record.coverage_notes]
    return "\n".join(line.rstrip() for line in lines)


@text.register
def again_text(record: GcAgain, width: int) -> str:
    """What would be freed."""
    lines = [f"A full collection would find {record.unreachable} of {record.tracked} tracked objects unreachable."]
    if record.unreachable:
        lines += by_type_table([plain(row) for row in record.by_type], 12)
        lines += _objects(record.objects, record.unreachable)
    lines += [f"  note: {note}" for note in record.notes]
    return "\n".join(line.rstrip() for line in lines)


@text.register
def visits_text(record: Visits, width: int) -> str:
    """Each reference, visited or not."""
    traverse = record.traverse or "no tp_traverse"
    lines = [f"{record.object.type} {record.object.repr}, traversed by {traverse}:"]
    rows = [
        [field.field, "visited" if field.visited else "NOT VISITED", "" if field.exact else "a guess", field.repr or ""]
        for field in record.fields
    ]
    lines += table(rows, ["field", "", "", "refers to"], ("left",) * 4)
    lines += [f"  visited and not owned: {row.address:#x} {row.repr}" for row in record.extra]
    return "\n".join(line.rstrip() for line in lines)


@text.register
def type_visits_text(record: VisitsOfType, width: int) -> str:
    """The fields of a type, unvisited ones first."""
    if not record.is_gc:
        lines = [f"{record.type}: its objects take no part in collection (no Py_TPFLAGS_HAVE_GC)."]
    else:
        lines = [f"{record.type}: {record.objects} objects traversed by {record.traverse or 'no tp_traverse'}"]
    lines += table([_field_row(field) for field in record.fields], ["field", "owned", "visited", ""])
    if record.extra:
        lines.append(f"  {record.extra} visits had no owned reference that refdbg knows")
    lines += [f"  undecided: {reason}" for reason in record.undecided]
    return "\n".join(line.rstrip() for line in lines)


def _field_row(field: FieldVisits) -> list[str | int]:
    remark = "" if field.visited == field.owned else "NOT VISITED" if not field.visited else "not always visited"
    return [field.field, field.owned, field.visited, remark + ("" if field.exact else " (a guess)")]
