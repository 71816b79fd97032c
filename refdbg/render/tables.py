"""The records' texts: one function per record, registered with refdbg.render.text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from refdbg.answers import (
    Census,
    Growth,
    ObjectInfo,
    ObjectList,
    Referents,
    ReferrerList,
    SnapshotTaken,
    SplitCount,
    Status,
    TypeInfo,
)
from refdbg.dependencies import tabulate
from refdbg.records import ObjectRow
from refdbg.render import plain, text
from refdbg.render.allocation import allocation_lines
from refdbg.render.report import finding_lines

_IMMORTAL = 1 << 31  # no count that is one gets there


def _table(headers: Sequence[str], rows: Iterable[Sequence[object]], right: Sequence[int] = ()) -> str:
    # Every cell is text already: tabulate must not take an address or a repr for a number.
    cells = [[_line(str(cell)) for cell in row] for row in rows]
    align = ["right" if column in right else "left" for column in range(len(headers))]
    return str(tabulate.tabulate(cells, headers, tablefmt="simple", disable_numparse=True, colalign=align))


def _line(cell: str) -> str:
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape", "surrogatepass").decode() for each in cell
    )


def _facts(rows: Iterable[tuple[str, str]]) -> str:
    shown = [(name, value) for name, value in rows if value]
    room = max((len(name) for name, _ in shown), default=0)
    return "\n".join(f"{name:<{room}}  {_line(value)}" for name, value in shown)


def _object(row: ObjectRow) -> str:
    count = "immortal" if row.refcount >= _IMMORTAL else _counted(row.refcount, "reference")
    return f"{row.type} at {row.address:#x}: {row.repr} ({count})"


def _references(number: int) -> str:
    return "immortal" if number >= _IMMORTAL else f"{number:,}"


def _counted(number: int, thing: str) -> str:
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def _cut(value: str, width: int) -> str:
    return value if len(value) <= width else value[: width - 1] + "…"


def _notes(notes: Sequence[str]) -> list[str]:
    return [f"note: {note}" for note in dict.fromkeys(notes)]


@text.register
def object_text(record: ObjectInfo, width: int) -> str:
    """One object."""
    if record.tracked is None:
        collector = "takes no part in collection"
    elif not record.tracked:
        collector = "not tracked"
    elif record.generation is None:
        collector = "tracked, but found in no list"
    elif record.permanent:
        collector = f"tracked: interpreter {record.interpreter}, permanent (frozen)"
    else:
        list_ = "" if record.generation == "all" else f", generation {record.generation}"
        collector = f"tracked: interpreter {record.interpreter}{list_}"
    if record.finalized:
        collector += ", finalized"
    size = f"{record.size:,} bytes" + (f" (block of {record.block:,})" if record.block is not None else "")
    facts = [
        ("object", f"{record.address:#x}"),
        ("type", f"{record.type} ({record.type_address:#x})"),
        ("repr", record.repr),
        ("references", "immortal" if record.immortal else f"{record.refcount:,}"),
        ("  split", _split(record.split)),
        ("size", size),
        ("collector", collector),
        ("static", record.static or ""),
    ]
    facts += [(f"  .{name}", _cut(value, max(width - 24, 40))) for name, value in record.attributes.items()]
    return "\n".join([_facts(facts), *allocation_lines(record.allocation)])


def _split(split: SplitCount | None) -> str:
    if split is None or split.immortal:
        return ""
    owner = f"thread {split.thread}" if split.thread else "a thread that is gone" if split.owner else "no thread"
    parts = [f"{split.local} local ({owner}) + {split.shared} shared"]
    if split.by_threads:
        parts.append(f"{split.by_threads} in the threads' own counts")
    if split.deferred:
        parts.append("1 of them deferred: only a collection frees it")
    elif split.state:
        parts.append(split.state)
    return "; ".join(parts)


@text.register
def type_text(record: TypeInfo, width: int) -> str:
    """One type."""
    facts = _facts(
        [
            ("type", f"{record.name} ({record.address:#x})"),
            ("module", record.module or ""),
            ("tp_name", record.tp_name if record.tp_name != record.name else ""),
            ("metatype", record.metatype),
            ("kind", ("heap type" if record.heap else f"static type {record.static or ''}").rstrip()),
            ("collection", "instances take part" if record.gc else "instances take no part"),
            ("references", _references(record.refcount)),
            ("flags", f"{record.flags:#x} {' '.join(record.flag_names)}"),
            ("sizes", f"basicsize {record.basicsize}, itemsize {record.itemsize}, dictoffset {record.dictoffset}, "
                      f"weaklistoffset {record.weaklistoffset}"),
            ("base", record.base or ""),
            ("bases", ", ".join(record.bases)),
            ("mro", ", ".join(record.mro_types)),
            ("instances", f"{record.instances:,}, of subclasses {record.instances_of_subclasses:,} ({record.scope})"),
        ]
    )
    slots = _table(
        ["slot", "function", "address"],
        [(slot.slot, slot.symbol or "?" if slot.address else "-", f"{slot.address:#x}" if slot.address else "")
         for slot in record.slots],
    )
    return f"{facts}\n\n{slots}"


@text.register
def objects_text(record: ObjectList, width: int) -> str:
    """The objects of one type."""
    head = f"{_counted(record.total, 'object')} of type {record.type} ({record.scope})"
    if not record.rows:
        return head
    room = max(width - 32 - max(len(row.type) for row in record.rows), 40)
    table = _table(
        ["address", "type", "references", "repr"],
        [(f"{row.address:#x}", row.type, _references(row.refcount), _cut(row.repr, room)) for row in record.rows],
        right=(2,),
    )
    return "\n".join([head, "", table, *_rest(record.total - len(record.rows), "object")])


def _rest(number: int, thing: str) -> list[str]:
    return [f"… and {_counted(number, thing)} more (--limit N shows more)"] if number > 0 else []


@text.register
def referents_text(record: Referents, width: int) -> str:
    """What an object refers to."""
    head = f"{_object(record.object)}\nrefers to {_counted(len(record.references), 'object')}"
    if not record.references:
        return "\n".join([head, *_notes(record.notes)])
    room = max(width - 60, 40)
    table = _table(
        ["field", "object", "type", "references", "repr"],
        [
            (_cut(row.label, 40) + ("" if row.exact else " ?"), f"{row.target.address:#x}", row.target.type,
             _references(row.target.refcount), _cut(row.target.repr, room))
            for row in record.references
        ],
        right=(3,),
    )
    guessed = ["? a word that equals an object's address: refdbg does not know this C struct"]
    uncertain = guessed if any(not row.exact for row in record.references) else []
    return "\n".join([head, "", table, *uncertain, *_notes(record.notes)])


@text.register
def referrers_text(record: ReferrerList, width: int) -> str:
    """Who holds an object."""
    head = (
        f"{_object(record.object)}\n{_counted(record.total, 'word')} of the process "
        f"{'equals' if record.total == 1 else 'equal'} its address, {record.owning:,} of them known to own a reference"
    )
    if not record.rows:
        return "\n".join([head, *_notes(record.notes)])
    room = max(width - 60, 40)
    table = _table(
        ["kind", "word at", "field", "holder"],
        [
            (row.kind, f"{row.place:#x}", _cut(row.label, 60) + ("" if row.exact or row.kind != "object" else " ?"),
             f"{row.owner.type} {row.owner.address:#x} {_cut(row.owner.repr, room)}" if row.owner else "")
            for row in record.rows
        ],
    )
    return "\n".join([head, "", table, *_rest(record.total - len(record.rows), "word"), *_notes(record.notes)])


@text.register
def census_text(record: Census, width: int) -> str:
    """The objects by type."""
    head = f"{_counted(record.objects, 'object')} of {_counted(record.types, 'type')}, " + _counted(
        record.references, "reference"
    )
    if record.bytes is not None:
        head += f", {_counted(record.bytes, 'byte')}"
    rows = [
        (f"{row.objects:,}", f"{row.references:,}", f"{row.bytes:,}" if row.bytes is not None else "", row.type)
        for row in record.by_type
    ]
    table = _table(["objects", "references", "bytes", "type"], rows, right=(0, 1, 2)) if rows else ""
    rest = _rest(record.types - len(record.by_type), "type")
    counts = ", ".join(f"{number:,} {kind}" for kind, number in sorted(record.counts.items(), key=lambda one: -one[1]))
    heads = [f"{head} ({record.scope})", *([f"counts: {counts}"] if counts else [])]
    return "\n".join([*heads, "", table, *rest, *_notes(record.notes)])


@text.register
def status_text(record: Status, width: int) -> str:
    """The process."""
    process = f"pid {record.pid}" if record.pid is not None else "no pid"
    traits = {"release": not record.traits["debug"], **record.traits}
    facts = _facts(
        [
            ("python", record.python or "version not known yet"),
            ("executable", record.executable),
            ("process", f"{process}, {'live' if record.live else 'as it was'}"),
            ("debugger", record.debugger),
            ("build", ", ".join(name for name, has in traits.items() if has)),
            ("layouts", record.layout_source),
        ]
    )
    parts = [facts]
    for interpreter in record.interpreters:
        threads = ", ".join(str(each) if each else "?" for each in interpreter.threads) or "none"
        enabled = {True: "enabled", False: "disabled", None: "not known"}[interpreter.enabled]
        head = f"interpreter {interpreter.id}{' (main)' if interpreter.main else ''} at {interpreter.address:#x}"
        head += ", finalizing" if interpreter.finalizing else ""
        head += f": threads {threads}; automatic collection {enabled}"
        rows = [
            (row.name, f"{row.tracked:,}", "" if row.count is None else f"{row.count:,}",
             "" if row.threshold is None else f"{row.threshold:,}")
            for row in interpreter.generations
        ]
        parts.append(f"{head}\n\n{_table(['generation', 'tracked', 'count', 'threshold'], rows, right=(1, 2, 3))}")
    return "\n\n".join(parts + _notes(record.notes))


@text.register
def snapshot_text(record: SnapshotTaken, width: int) -> str:
    """A snapshot that was written."""
    values = "" if record.values else ", without the contents of strings"
    return f"{record.file}: {record.bytes:,} bytes{values}. `refdbg {record.file} COMMAND` answers from it, anywhere."


@text.register
def growth_text(record: Growth, width: int) -> str:
    """What there is more of."""
    lines = [f"{record.before:,} objects then, {record.after:,} now; {record.new:,} of these were not there", ""]
    lines.append(_table(
        ["type", "then", "now", "new", "references", "bytes"],
        [(row.type, f"{row.before:,}", f"{row.after:,}", f"{row.new:,}", f"{row.references:+,}", f"{row.bytes:+,}")
         for row in record.rows],
        right=range(1, 6),
    ))
    if record.types > len(record.rows):
        lines.append(f"… and {record.types - len(record.rows)} types more (--limit N shows more)")
    if record.recurring:
        lines += ["", "Each of the last two steps has added, and it is still there:"]
        lines += [f"  {row.objects} {row.type}, {row.references} references" for row in record.recurring]
    for number, finding in enumerate(record.findings, 1):
        lines += ["", *finding_lines(number, plain(finding))]
    return "\n".join([*lines, *_notes(record.notes)])
