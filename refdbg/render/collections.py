"""The collector's runs as text."""

from __future__ import annotations

from refdbg.records import Collection, Finalizer, GcLog, GcStop, Message, ObjectRow
from refdbg.render import plain, text
from refdbg.render.report import by_type_table, collection_table, frame_line

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
