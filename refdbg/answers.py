"""What the commands answer: frozen dataclasses, their JSON form. A run that only reports does not load them."""

from __future__ import annotations

from dataclasses import dataclass, field

from refdbg.records import Allocation, Collection, Finalizer, Finding, FrameRow, ObjectRow, TypeRow


@dataclass(frozen=True)
class StackFrame(FrameRow):
    """*arguments*: which of the *locals* are the function's arguments; *deferred*: which of them hold a reference that
    no count includes (free-threaded builds from 3.14 on)."""

    arguments: list[str] = field(default_factory=list)
    deferred: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ThreadStack:
    """A Python thread's frames, innermost first.

    *number*: by age, over all interpreters; *address*: ``PyThreadState *``; *native_id*: the kernel's id, None
    where it cannot be known; *selected*: the debugger's thread, or the one that has crashed; *note*: why
    the stack ends early, "" if whole.
    """

    number: int
    address: int
    native_id: int | None
    interpreter: int
    selected: bool
    holds_gil: bool
    frames: list[StackFrame]
    note: str = ""


@dataclass(frozen=True)
class GrowthRow:
    """A type at two moments. *new*: objects of now that were not there; *references*, *bytes*: how many more."""

    type: str
    before: int
    after: int
    new: int
    references: int
    bytes: int


@dataclass(frozen=True)
class Growth:
    """What there is more of: objects *before* and *after*, *new* ones, how many *types* have changed.

    *recurring*: with three moments or more, what the last two steps have both added, and is still there; *findings*:
    who keeps that, or else the new ones.
    """

    before: int
    after: int
    new: int
    types: int
    rows: list[GrowthRow]
    recurring: list[TypeRow]
    findings: list[Finding]
    notes: list[str]


@dataclass(frozen=True)
class SnapshotTaken:
    """A snapshot was written. *bytes*: the file's size; *values*: whether it has the contents of strings."""

    file: str
    bytes: int
    values: bool


@dataclass(frozen=True)
class SuspendedStack:
    """A task, a greenlet, or a generator, coroutine or async generator that no other one awaits; and those it awaits.

    *kind*: one of these words; *name*: a task's, "main" for the greenlet that its thread began with; *address*:
    ``PyObject *``; *state*: "suspended", "not started", "running" (a task: its frames are those of a thread), "ready"
    (a task that waits for nothing). *frames*: innermost first. *waits_for*: what the innermost one awaits, None for
    nothing; *tasks*: their names, where it is some.
    """

    kind: str
    name: str
    address: int
    state: str
    frames: list[StackFrame]
    waits_for: ObjectRow | None
    tasks: list[str] = field(default_factory=list)
    note: str = ""


@dataclass(frozen=True)
class Suspended:
    """What is suspended at a stop, tasks first."""

    stacks: list[SuspendedStack]
    notes: list[str]


@dataclass(frozen=True)
class Stacks:
    """Frame stacks. *notes*: why these threads, and what could not be read."""

    threads: list[ThreadStack]
    notes: list[str]


@dataclass(frozen=True)
class SplitCount:
    """The parts of a reference count of a free-threaded build.

    *local*: the owning thread's; *shared*: all others', which may be negative; *state*: "maybe weakref", "queued",
    "merged" or ""; *owner*: ``ob_tid``, 0 for none; *thread*: that thread's kernel id, None where it is gone.
    *deferred*: one of the references is held by nobody, so that only the collector frees the object; *bits*: the names
    of what the collector has noted of it; *by_threads*: what the threads count of it in arrays of their own (3.14+).
    """

    local: int
    shared: int
    state: str
    owner: int
    thread: int | None
    immortal: bool
    deferred: bool
    bits: list[str]
    by_threads: int


@dataclass(frozen=True)
class ObjectInfo:
    """Everything about one object.

    *type_address*: ``PyTypeObject *``; *size*: bytes of its C struct and items; *block*: bytes of its allocator
    block, None when not known; *tracked*: None where the type takes no part in collection; *generation*: the
    name of the list it is in, None when in none; *static*: the C symbol that it is, None for one on the heap.
    *allocation*: where it was made, None where tracemalloc is off; *split*: the parts of the count, None of a build
    with the GIL.
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
    allocation: Allocation | None = None
    split: SplitCount | None = None


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
    """The objects in *scope* by type, most numerous first; *types* is how many types there are in all.

    *counts*: how many of them have which kind of reference count (immortal, deferred …), of a free-threaded build.
    """

    scope: str
    objects: int
    references: int
    bytes: int | None
    types: int
    by_type: list[TypeRow]
    notes: list[str]
    counts: dict[str, int] = field(default_factory=dict)


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
    """The recorded collections; *dropped*: how many older ones were not kept.

    *checks*: where a collection decided otherwise than the replayed collector, and how many were replayed.
    """

    collections: list[Collection]
    dropped: int
    recording: bool
    checks: list[str] = field(default_factory=list)


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
class GraphNode:
    """A node to draw: an object, or (*kind* is not "object") what holds one from outside, a type, a type's field.

    *cluster*: index of the cluster that it belongs to; *marked*: it is what was asked for.
    """

    id: int
    kind: str
    label: str
    object: ObjectRow | None
    cluster: int | None
    marked: bool


@dataclass(frozen=True)
class GraphEdge:
    """An edge to draw. *certain*: False where the reference is a guess; *joins*: it leads to another cluster."""

    source: int
    target: int
    label: str
    owned: bool
    visited: bool | None
    certain: bool
    joins: bool = False


@dataclass(frozen=True)
class Graph:
    """Nodes and edges to draw; *clusters*: the names of the groups of nodes."""

    title: str
    nodes: list[GraphNode]
    edges: list[GraphEdge]
    clusters: list[str]


@dataclass(frozen=True)
class FieldVisits:
    """A field: how many references it holds, how many of them are visited.

    *exact*: it is known to own; *declared*: C says that it is an object, which may be borrowed. *elsewhere*: how many
    are not, while the same target is visited for another field: it may be that one that is forgotten. *targets*: what
    it refers to; over several objects some that are not visited.
    """

    field: str
    owned: int
    visited: int
    exact: bool
    declared: bool
    elsewhere: int
    targets: list[ObjectRow]


@dataclass(frozen=True)
class ObjectVisits:
    """One object's references, each visited or not. *extra*: visited without an owned reference that refdbg knows.

    *excused*: how many unvisited references are left out of *fields*: "atomic" ones to str, int and the like,
    those to "uncollected" objects, which take no part in collection, and those of "running" frames.
    """

    object: ObjectRow
    traverse: str
    is_gc: bool
    fields: list[FieldVisits]
    excused: dict[str, int]
    extra: list[ObjectRow]
    graph: Graph


@dataclass(frozen=True)
class TypeVisits:
    """The same over the *objects* of a type that were looked at, of *total*.

    *undecided*: why what some visit is not known, and of how many; *extra*: how many visits.
    """

    type: str
    traverse: str
    is_gc: bool
    is_heap: bool
    objects: int
    total: int
    undecided: dict[str, int]
    fields: list[FieldVisits]
    excused: dict[str, int]
    extra: int
    graph: Graph


@dataclass(frozen=True)
class GcAgain:
    """What a full collection would find now. *undecided*: how many objects' visits are not known."""

    tracked: int
    unreachable: int
    by_type: list[TypeRow]
    objects: list[ObjectRow]
    undecided: int
    notes: list[str]


@dataclass(frozen=True)
class ReferenceStep:
    """One reference on a way through the objects, and the object that it refers to.

    *label*: the field or element, "" where the way begins; *owned*: False for a visit without a known reference;
    *visited*: by the owner's tp_traverse, None where that is not known; *exact*: False for a word that only
    equals the object's address.
    """

    label: str
    owned: bool
    visited: bool | None
    exact: bool
    object: ObjectRow


@dataclass(frozen=True)
class OutsideHolder:
    """What holds an object from outside the heap: a C variable, a state's field, a frame, a C stack, a native block.

    *certain*: False for weak evidence, a word that may be stale. A C variable may still only borrow.
    """

    kind: str
    place: int
    label: str
    certain: bool


@dataclass(frozen=True)
class HolderPath:
    """A shortest way from outside to an object. The first step is what *holder* refers to."""

    holder: OutsideHolder
    steps: list[ReferenceStep]


@dataclass(frozen=True)
class UnknownReferences:
    """References that an object's count has beyond the words that own one.

    *weak*: how many words that may be stale, as on C stacks, could stand for them.
    """

    object: ObjectRow
    references: int
    weak: int


@dataclass(frozen=True)
class Why:
    """Why an object is alive: shortest ways from outside the heap, one for each of its holders.

    *verdict*: "held"; "weak" (only words that may be stale); "cycle" (objects that hold each other, and nothing else);
    "unknown" (nothing was found that holds it); "open" (the search ended too early); "immortal", "static" (it lies in
    a library's data): never freed.
    *direct*: how many holders of its own were found, objects and words outside; *more*: how many of them are not
    in *paths*; *through*: those that are held only through the object itself, or from farther than was searched.
    *allocation*: where it was made, None where tracemalloc is off.
    *cycle*: one that holds it, from an object back to the same; *leads*: the way from there to the object, which is
    the cycle's first object when it is part of it. *unknown*: references that no word was found for, of the object
    and, unless something outside holds it, of what holds it.
    """

    object: ObjectRow
    verdict: str
    direct: int
    paths: list[HolderPath]
    more: int
    through: list[ObjectRow]
    cycle: list[ReferenceStep]
    leads: list[ReferenceStep]
    unknown: list[UnknownReferences]
    graph: Graph
    notes: list[str]
    allocation: Allocation | None = None


@dataclass(frozen=True)
class Keeper:
    """A reference into a component from outside of it, or one inside that no tp_traverse visits.

    *kind*: "object", or what else holds it; *owner*: None when that is no object.
    """

    kind: str
    label: str
    owner: ObjectRow | None
    target: ObjectRow
    visited: bool | None
    certain: bool


@dataclass(frozen=True)
class Component:
    """Objects that all reach each other. *garbage*: waiting for the collector.

    *seen*: False where the cycle takes references that no tp_traverse visits: the collector knows no such cycle.
    *contains*: the object that was asked for is one of them; *leads*: else a way from one of them to it.
    *cycles*: short ones, each from one object back to the same.
    *keepers*: what refers to it from outside; *more_keepers*: how many others there are.
    """

    objects: int
    references: int
    by_type: list[TypeRow]
    garbage: bool
    seen: bool
    contains: bool
    leads: list[ReferenceStep]
    cycles: list[list[ReferenceStep]]
    keepers: list[Keeper]
    more_keepers: int


@dataclass(frozen=True)
class Cycles:
    """The components of the visited graph that have cycles. *object*: only those that contain or hold it.

    *garbage*, *live*: how many components there are, and objects in them; *more*: components that are not shown.
    """

    object: ObjectRow | None
    garbage: int
    garbage_objects: int
    live: int
    live_objects: int
    largest_live: int
    components: list[Component]
    more: int
    graph: Graph
    notes: list[str]


@dataclass(frozen=True)
class RetainedRow:
    """What would go with one object, itself included.

    *dominator*: the object that all ways from outside to it pass through, None when there is none. *garbage*: nothing
    outside holds it.
    """

    object: ObjectRow
    objects: int
    bytes: int
    dominator: ObjectRow | None
    garbage: bool


@dataclass(frozen=True)
class Retained:
    """The largest retainers, of *total*; the graph has *objects* of *bytes*.

    *what*: the object or type that was asked for, "" for all; *together*: what would go if all of it went.
    *by_type*: of what goes together. *confidence*: "likely": references are found conservatively.
    """

    what: str
    confidence: str
    objects: int
    bytes: int
    roots: int
    unreached: int
    total: int
    rows: list[RetainedRow]
    together: TypeRow | None
    by_type: list[TypeRow]
    notes: list[str]


@dataclass(frozen=True)
class BalanceHolder:
    """A word that equals an object's address. *trust*: how far it is believed to own; *counts*: it stands for one of
    the object's references."""

    kind: str
    label: str
    owner: ObjectRow | None
    trust: str
    counts: bool


@dataclass(frozen=True)
class BalanceOf:
    """An object's reference count, word by word.

    *owned*: known owners; *spare*: words that might own instead of one that was counted; *lost*: references that no
    word stands for; *surplus*: known owners beyond the count.
    """

    object: ObjectRow
    immortal: bool
    holders: list[BalanceHolder]
    owned: int
    spare: int
    lost: int
    surplus: int


@dataclass(frozen=True)
class Leaks:
    """What leaks at a stop. *weak*: objects that only words hold that are often stale, on stacks; *garbage*: objects
    that nothing outside of them holds; *leaked*: those of them that a collection would not free."""

    objects: int
    weak: int
    garbage: int
    leaked: int
    findings: list[Finding]
    notes: list[str]


@dataclass(frozen=True)
class GcRefs:
    """An object's reference count as a collection sees it.

    *visits*: by objects that are collected; *gc_refs*: the count less these; *own*: what CPython itself had there, None
    where that was not seen. *visitors*: some of the visits (trust "visited"); *holders*: the words that stand for
    gc_refs, *unknown*: how much of it none stands for.
    """

    object: ObjectRow
    visits: int
    gc_refs: int
    own: int | None
    visitors: list[BalanceHolder]
    holders: list[BalanceHolder]
    unknown: int


@dataclass(frozen=True)
class NativeFrameRow:
    """One C frame."""

    function: str
    file: str | None
    line: int | None


@dataclass(frozen=True)
class FilmStep:
    """What a collection has done with an object.

    *kind*: "unreachable", "kept" (so CPython decided), "finalizer", "resurrected", "tp_clear", "freed",
    "uncollectable", "saved" (DEBUG_SAVEALL), "survives", "untracked" (it survives, in no generation).
    *function*, *file*, *line*: the finalizer; *gc_refs*: of the resurrected; *generation*: where it survives;
    *stack*: the C stack where its last reference went, innermost first, empty where that was not seen.
    """

    kind: str
    function: str = ""
    file: str | None = None
    line: int | None = None
    gc_refs: int | None = None
    generation: str | None = None
    stack: list[NativeFrameRow] = field(default_factory=list)


@dataclass(frozen=True)
class GcFilm:
    """One object's way through a collection.

    *state*: "examined"; or why none examines it: "no gc" (its type takes no part), "untracked", "permanent"
    (gc.freeze), "freed" (before any did), "collecting" (a running collection has it). *generation*: the list that it
    is in; *collection*: None where nothing has run and all generations are replayed. *refs*: its own; *decision*: the
    replayed collector's: "held" (gc_refs > 0), "reached" (*way*: the visits that lead to it from the nearest such
    object, *root*: that one's), "unreachable". *agrees*: CPython decided so; None where it was not asked.
    *steps*: what really happened.
    """

    object: ObjectRow
    state: str
    generation: str | None
    collection: Collection | None
    refs: GcRefs | None
    decision: str
    way: list[ReferenceStep]
    root: GcRefs | None
    agrees: bool | None
    steps: list[FilmStep]
    notes: list[str]
