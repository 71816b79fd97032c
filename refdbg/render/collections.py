"""The collector's runs as text."""

from __future__ import annotations

from refdbg.answers import FieldVisits, GcAgain, GcLog, GcStop, Message, ObjectVisits, TypeVisits
from refdbg.records import Collection, Finalizer, ObjectRow
from refdbg.render import plain, text
from refdbg.render.report import by_type_table, collection_table, frame_line, table

_STACK = 5
_FIELDS = 100


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
    lines += [""] * bool(record.checks) + [f"check: {check}" for check in record.checks]
    return "\n".join(line.rstrip() for line in lines)


def _found(collection: Collection) -> list[str]:
    where = f" in {frame_line(plain(collection.frame))}" if collection.frame else ""
    lines = [f"#{collection.number} ({collection.reason}{where}) found {collection.unreachable} unreachable objects:"]
    lines += by_type_table([plain(row) for row in collection.by_type], 8)
    lines += _finalizers(collection.finalizers)
    lines += _objects(collection.objects, collection.unreachable, ", of collections still to come")
    return lines


def _finalizers(finalizers: list[Finalizer]) -> list[str]:
    return [
        f"  finalizer {finalizer.function}" + (f" ({finalizer.file}:{finalizer.line})" if finalizer.file else "")
        + f" for {finalizer.objects} object{'' if finalizer.objects == 1 else 's'}"
        for finalizer in finalizers
    ]


def _objects(objects: list[ObjectRow], total: int, which: str = "") -> list[str]:
    lines = [f"  {row.address:#x} {row.repr} (references: {row.refcount})" for row in objects]
    if total > len(objects):
        lines.append(f"  … and {total - len(objects)} more (--objects N lists more{which})")
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
    """What would be found."""
    count = f"at least {record.unreachable}" if record.undecided else f"{record.unreachable}"
    lines = [f"A full collection would find {count} of {record.tracked} tracked objects unreachable."]
    if record.unreachable:
        lines += by_type_table([plain(row) for row in record.by_type], 12)
        lines += _objects(record.objects, record.unreachable)
    lines += [f"  note: {note}" for note in record.notes]
    return "\n".join(line.rstrip() for line in lines)


@text.register
def visits_text(record: ObjectVisits, width: int) -> str:
    """Each reference, visited or not."""
    why = "it is static, or its type has no Py_TPFLAGS_HAVE_GC"
    lines = [f"{record.object.type} {record.object.repr}, {_traversed(record.traverse, record.is_gc, why)}:"]
    rows = [
        [field.field, _verdict(field) or "visited", *(f"{target.address:#x} {target.repr}" for target in field.targets)]
        for field in sorted(record.fields, key=lambda field: field.visited)[:_FIELDS]
    ]
    lines += table(rows, ["field", "", "refers to"], ("left",) * 3)
    lines += _more(record.fields) + _excused(record.excused)
    lines += [
        f"  visited, with no owned reference that refdbg knows: {row.address:#x} {row.repr}" for row in record.extra
    ]
    return "\n".join(line.rstrip() for line in lines)


@text.register
def type_visits_text(record: TypeVisits, width: int) -> str:
    """The fields of a type, unvisited ones first."""
    looked_at = record.objects + sum(record.undecided.values())
    traversed = _traversed(record.traverse, record.is_gc, "no Py_TPFLAGS_HAVE_GC")
    lines = [f"{record.type}: {record.objects} objects, {traversed}"]
    if not record.total:
        lines.append(f"  `refdbg objects {record.type} --subclasses` lists its subclasses' objects, if there are any.")
    if looked_at < record.total:
        lines.append(f"  looked at {looked_at} of {record.total} objects (--limit N looks at more)")
    rows = [[field.field, field.owned, field.visited, _verdict(field)] for field in record.fields[:_FIELDS]]
    lines += table(rows, ["field", "held", "visited", ""], ("left", "right", "right", "left"))
    lines += _more(record.fields) + _excused(record.excused)
    if record.extra:
        lines.append(f"  {record.extra} visits have no owned reference that refdbg knows.")
    lines += [f"  {number} objects undecided: {reason}" for reason, number in record.undecided.items()]
    return "\n".join(line.rstrip() for line in lines)


def _traversed(traverse: str, is_gc: bool, why: str) -> str:
    if not is_gc:
        return f"not traversed, as it takes no part in collection ({why})"
    return f"traversed by {traverse}" if traverse else "not traversed: the type has no tp_traverse"


def _verdict(field: FieldVisits) -> str:
    if field.visited == field.owned:
        return ""
    remarks = [] if field.exact else ["may be borrowed" if field.declared else "a guess"]
    if field.elsewhere == field.owned - field.visited:
        remarks.append("its object is visited, for another field")
    remark = f" ({'; '.join(remarks)})" if remarks else ""
    return ("not always visited" if field.visited else "NOT VISITED") + remark


def _more(fields: list[FieldVisits]) -> list[str]:
    return [f"  … and {len(fields) - _FIELDS} more (--json has them all)"] if len(fields) > _FIELDS else []


def _excused(numbers: dict[str, int]) -> list[str]:
    why = {
        "atomic": "to str, bytes, int, float, bool or None: these refer to nothing, so that no cycle is missed",
        "uncollected": "to objects that take no part in collection: a visit of them changes nothing",
        "running": "from a frame that is running, whose locals the collector never sees",
    }
    return [f"  not visited and left out: {number} {why[excuse]}" for excuse, number in numbers.items()]
