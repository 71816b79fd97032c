"""What refdbg reports, as frozen dataclasses. The JSON report is these records' fields (DESIGN: refdbg-report/1)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class ObjectRow:
    """One object: address (``PyObject *``), type, bounded repr, reference count."""

    address: int
    type: str
    repr: str
    refcount: int


@dataclass(frozen=True)
class TypeRow:
    """How many objects of one type, the sum of their reference counts, and their bytes (None: not known)."""

    type: str
    objects: int
    references: int
    bytes: int | None = None


@dataclass(frozen=True)
class FrameRow:
    """One Python frame."""

    function: str
    file: str
    line: int
    locals: dict[str, str] | None = None
    native: bool = False


@dataclass(frozen=True)
class Finalizer:
    """A finalizer that the collector calls: function, where it is defined, for how many objects."""

    function: str
    file: str | None
    line: int | None
    objects: int


@dataclass(frozen=True)
class Collection:
    """One run of the collector (Python/gc.c, gc_collect_main).

    *tracked*: objects in the generations it examined, before; *tracked_after*: of those and what was made
    meanwhile, still tracked in the generation where survivors go. *unreachable*: what it found to be
    garbage; *finalized*: those whose finalizer it called; *resurrected*: brought back by one; *freed_early*:
    freed by the finalizers themselves; *cleared*: handed to tp_clear. *seconds*: CPU time of its thread.
    """

    number: int
    interpreter: int
    generation: int
    phase: str
    thread: int
    frame: FrameRow | None
    stack: list[FrameRow]
    reason: str
    tracked: int
    tracked_after: int | None
    unreachable: int
    finalized: int
    finalizers: list[Finalizer]
    resurrected: int
    freed_early: int
    cleared: int
    uncollectable: int
    by_type: list[TypeRow]
    objects: list[ObjectRow]
    seconds: float | None


@dataclass(frozen=True)
class Moment:
    """The objects that exist at one moment, by type. *function*: the C function that was entered."""

    function: str
    what: str
    objects: int
    references: int
    bytes: int | None
    by_type: list[TypeRow]


@dataclass(frozen=True)
class LeftOver:
    """What is left over at an interpreter's very end."""

    objects: int
    references: int
    bytes: int
    by_type: list[TypeRow]
    first: list[ObjectRow] = field(default_factory=list)


@dataclass(frozen=True)
class InterpreterEnd:
    """One interpreter's finalization."""

    id: int
    moments: dict[str, Moment]
    left_over: LeftOver | None


@dataclass(frozen=True)
class TotalLine:
    """One contribution to the total of references."""

    what: str
    references: int


@dataclass(frozen=True)
class Totals:
    """The sum of all reference counts where the interpreter prints it: *references_reported* is its own number."""

    function: str
    references_reported: int
    references_attributed: int
    references_unattributed: int
    lines: list[TotalLine]


@dataclass(frozen=True)
class Explains:
    """How much a finding accounts for."""

    objects: int
    references: int


@dataclass(frozen=True)
class Counterfactual:
    """What the replayed collector frees when the finding's cause is taken away."""

    freed_objects: int
    freed_references: int


@dataclass(frozen=True)
class Evidence:
    """One fact that supports a finding."""

    kind: str
    text: str
    location: dict[str, Any] | None = None


@dataclass(frozen=True)
class Finding:
    """One verdict: what leaks, who keeps it, what to change."""

    verdict: str
    confidence: str
    signature: str
    message: str
    interpreter: int
    subject: dict[str, Any]
    holder: dict[str, Any]
    explains: Explains
    objects: list[ObjectRow]
    evidence: list[Evidence]
    fix: str
    next: str
    counterfactual: Counterfactual | None = None
    repetitions: int = 1


@dataclass(frozen=True)
class ThreadStack:
    """A Python thread's frames, innermost first.

    *number*: by age, over all interpreters; *address*: ``PyThreadState *``; *native_id*: the kernel's id, None
    where it cannot be known; *selected*: the debugger's thread; *note*: why the stack ends early, "" if whole.
    """

    number: int
    address: int
    native_id: int | None
    interpreter: int
    selected: bool
    holds_gil: bool
    frames: list[FrameRow]
    note: str = ""


@dataclass(frozen=True)
class Stacks:
    """Frame stacks. *notes*: why these threads, and what could not be read."""

    threads: list[ThreadStack]
    notes: list[str]


@dataclass(frozen=True)
class ObjectInfo:
    """Everything about one object.

    *type_address*: ``PyTypeObject *``; *size*: bytes of its C struct and items; *block*: bytes of its allocator
    block, None when not known; *tracked*: None where the type takes no part in collection; *generation*: the
    name of the list it is in, None when in none; *static*: the C symbol that it is, None for one on the heap.
    """

    address: int
    type: str
    type_address: int
    repr: str
    refcount: int
    size: int
    block: int | None
    immortal: bool
    tracked: bool | None
    interpreter: int | None
    generation: str | None
    permanent: bool
    finalized: bool | None
    static: str | None
    attributes: dict[str, str]


@dataclass(frozen=True)
class TypeSlot:
    """A C function of a type: *symbol* is None where it is unknown; *address* is 0 for an empty slot."""

    slot: str
    address: int
    symbol: str | None


@dataclass(frozen=True)
class TypeInfo:
    """Everything about one type. *instances*: of exactly this type, among the objects that *scope* says."""

    address: int
    name: str
    module: str | None
    tp_name: str
    metatype: str
    heap: bool
    gc: bool
    refcount: int
    flags: int
    flag_names: list[str]
    basicsize: int
    itemsize: int
    dictoffset: int
    weaklistoffset: int
    base: str | None
    bases: list[str]
    mro_types: list[str]
    slots: list[TypeSlot]
    instances: int
    instances_of_subclasses: int
    scope: str
    static: str | None


@dataclass(frozen=True)
class ObjectList:
    """The objects of one type: *total* of them in *scope*, the first of which are *rows*."""

    type: str
    scope: str
    total: int
    rows: list[ObjectRow]


@dataclass(frozen=True)
class ReferenceRow:
    """One reference that an object holds: to *target*, by the field or element *label*.

    *exact* is False for a word that equals an object's address, where refdbg does not know the C struct.
    """

    label: str
    target: ObjectRow
    exact: bool


@dataclass(frozen=True)
class Referents:
    """What an object refers to. *notes*: what could not be read."""

    object: ObjectRow
    references: list[ReferenceRow]
    notes: list[str]


@dataclass(frozen=True)
class HolderRow:
    """One word that equals an object's address: where it is, and the object (*owner*) or C thing it belongs to."""

    kind: str
    place: int
    label: str
    owner: ObjectRow | None
    exact: bool


@dataclass(frozen=True)
class ReferrerList:
    """Who holds an object: *total* words found, the first of which are *rows*; *owning* are known references."""

    object: ObjectRow
    total: int
    owning: int
    rows: list[HolderRow]
    notes: list[str]


@dataclass(frozen=True)
class Census:
    """The objects in *scope* by type, most numerous first; *types* is how many types there are in all."""

    scope: str
    objects: int
    references: int
    bytes: int | None
    types: int
    by_type: list[TypeRow]
    notes: list[str]


@dataclass(frozen=True)
class GenerationRow:
    """One of the collector's lists: how many objects it tracks; threshold and count where it has them."""

    name: str
    tracked: int
    threshold: int | None
    count: int | None


@dataclass(frozen=True)
class InterpreterRow:
    """One interpreter. *enabled*: automatic collection; *threads*: the kernel's ids, 0 where not known."""

    id: int
    main: bool
    address: int
    finalizing: bool
    enabled: bool | None
    threads: list[int]
    generations: list[GenerationRow]


@dataclass(frozen=True)
class Status:
    """What refdbg reads, and how."""

    python: str
    executable: str
    pid: int | None
    live: bool
    debugger: str
    traits: dict[str, bool]
    layout_source: str
    interpreters: list[InterpreterRow]
    notes: list[str]


@dataclass(frozen=True)
class Message:
    """One sentence on what a command has done."""

    text: str


@dataclass(frozen=True)
class GcLog:
    """The recorded collections; *dropped*: how many older ones were not kept."""

    collections: list[Collection]
    dropped: int
    recording: bool


@dataclass(frozen=True)
class GcStop:
    """A collection that the program is stopped in. *at*: begin, finalize, clear. *unreachable*: None when not known."""

    at: str
    interpreter: int
    generation: int
    phase: str
    reason: str
    stack: list[FrameRow]
    tracked: int
    unreachable: int | None
    finalizers: list[Finalizer]
    by_type: list[TypeRow]
    objects: list[ObjectRow]
    coverage_notes: list[str]


@dataclass(frozen=True)
class FieldVisits:
    """A field: how many references it owns, how many of them are visited; *exact*: it is known to own."""

    field: str
    owned: int
    visited: int
    exact: bool
    repr: str | None


@dataclass(frozen=True)
class Visits:
    """One object's references, each visited or not. *extra*: visited and not owned."""

    object: ObjectRow
    traverse: str
    fields: list[FieldVisits]
    extra: list[ObjectRow]


@dataclass(frozen=True)
class VisitsOfType:
    """The same over the objects of a type. *undecided*: why some could not be traversed; *extra*: how many visits."""

    type: str
    traverse: str
    is_gc: bool
    is_heap: bool
    objects: int
    undecided: list[str]
    fields: list[FieldVisits]
    extra: int


@dataclass(frozen=True)
class GcAgain:
    """What a full collection would find now. *undecided*: how many objects' visits are not known."""

    tracked: int
    unreachable: int
    by_type: list[TypeRow]
    objects: list[ObjectRow]
    undecided: int
    notes: list[str]
