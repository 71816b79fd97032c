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
    """One Python frame, or a *native* one of C."""

    function: str
    file: str
    line: int
    locals: dict[str, str] | None = None
    native: bool = False


@dataclass(frozen=True)
class Allocation:
    """Where an object was made, as tracemalloc keeps it: the Python stack, innermost first, of *total* frames.

    Without *frames* it was made before tracemalloc was started. A frame's function is "" where it is not known.
    """

    frames: list[FrameRow]
    total: int


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
    """The sum of all reference counts where the interpreter prints it: *references_reported* is its own number.

    *owners*: who holds the references to the heap objects, of the lines' first.
    """

    function: str
    references_reported: int
    references_attributed: int
    references_unattributed: int
    lines: list[TotalLine]
    owners: list[TotalLine] = field(default_factory=list)


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
class FindingNode:
    """A node of a finding's graph: an object, or (*kind* is not "object") what holds one from outside of the heap.

    *role*: "culprit" (holds what it should not, or forgets it), "owner" (has a right to it), "subject"
    (what they hold), "behind" (hangs there).
    """

    kind: str
    role: str
    label: str
    object: ObjectRow | None


@dataclass(frozen=True)
class FindingGraph:
    """A finding to draw. *edges*: see `finding_edge`; *more*: how many of its objects are left out."""

    nodes: list[FindingNode]
    edges: list[dict[str, Any]]
    more: int


def finding_edge(source: int, target: int, label: str, owned: bool, visited: bool | None) -> dict[str, Any]:
    """A reference between two nodes (indexes). *visited*: by a tp_traverse, None where that does not matter."""
    return {"from": source, "to": target, "label": label, "owned": owned, "visited": visited}  # a keyword is no field


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
    graph: FindingGraph | None = None


@dataclass(frozen=True)
class AllocatedRow:
    """Where most new objects of a type were made: *objects* of them, with an equal *allocation*."""

    type: str
    objects: int
    allocation: Allocation


@dataclass(frozen=True)
class Growth:
    """What one repetition of a program has left, and was still there when the next one was over.

    *repetition*: its number, from 1; *references*: by how much the interpreter's own total grew in it, of which
    *lines* are the parts. *by_type*: the new objects of types that the next one has left, too; *steady*: the next one
    left as many of each. *older*: objects that were there before, and what they gained. *allocated*: by type, where
    tracemalloc is on.
    """

    repetition: int
    references: int
    lines: list[TotalLine]
    by_type: list[TypeRow]
    steady: bool
    older: list[TotalLine]
    allocated: list[AllocatedRow] = field(default_factory=list)


@dataclass(frozen=True)
class TestRow:
    """What a repetition leaves of one test method: new objects and the sum of their counts, references of *older* ones.

    New objects are of types that the repetition leaves more of. *test*: module.class.method, "" for none.
    """

    test: str
    objects: int
    references: int
    older: int


@dataclass(frozen=True)
class Repetitions:
    """What a program did again and again. *test*: of regrtest's, "" for another program.

    *marker*: the C function that was called after each repetition. *references*: by how much the interpreter's own
    total grew in each, None for the first; the first *warmups* do not count. *verdict*: leak, noise, stops (it grew,
    then stopped), steady, shrinks, or too few. *growth*: of one repetition, where it leaks. *tests*: which test methods
    of unittest have left that, with what ran until the next one began. *findings*: their signatures.
    """

    test: str
    marker: str
    warmups: int
    references: list[int | None]
    verdict: str
    growth: Growth | None
    tests: list[TestRow]
    findings: list[str]
    notes: list[str]


@dataclass(frozen=True)
class Call:
    """One step of a call path: a C function, or a Python frame, and the line that it was at.

    *library*: the file of a C function that is not the interpreter's own.
    """

    function: str
    file: str | None
    line: int | None
    python: bool = False
    library: str = ""


@dataclass(frozen=True)
class Way:
    """One way to change a reference count: *calls*, outermost first. *creates*: the object is made there."""

    calls: tuple[Call, ...]
    creates: bool = False


@dataclass(frozen=True)
class Remaining:
    """References that no decrement is there for (*references* < 0: decrements without an increment).

    *site*: where: the function that counted, or the line of other C code that called it; *path*: outermost first.
    """

    references: int
    site: Call
    path: list[Call]


@dataclass(frozen=True)
class BalanceNode:
    """One step of the paths that are left, the same for all of them. *net*: what is left of it and of *calls*."""

    call: Call
    net: int
    calls: list[BalanceNode]


@dataclass(frozen=True)
class Balance:
    """What is left of the increments and decrements of one object when those that balance are taken out.

    *start*: references that were there before the first, and are not given back; *hidden*: how many increments have a
    decrement; *remaining*: the paths that are left, most suspicious first; *tree*: the same, merged from the outermost
    call on.
    """

    start: int
    increments: int
    decrements: int
    hidden: int
    remaining: list[Remaining]
    tree: list[BalanceNode]


@dataclass(frozen=True)
class Blame:
    """Who has changed the reference count of one object. *state*: "alive" or "freed", after the last change.

    *incarnation*: which of the objects that were made at this address, 0 where it was there before; *verified*: it is
    the one that an earlier run has left over; *writes*: how often the processor has reported a change of the word, for
    other objects at the address too.
    """

    object: ObjectRow
    state: str
    incarnation: int
    verified: bool
    writes: int
    balance: Balance
    notes: list[str]
