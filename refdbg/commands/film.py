"""`refdbg gc film`: one object through one collection."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from itertools import islice

from refdbg.analysis.balance import balance
from refdbg.answers import BalanceHolder, FilmStep, GcFilm, GcRefs, NativeFrameRow, ReferenceStep
from refdbg.commands.account import Account, trust, unvisited
from refdbg.commands.context import Context
from refdbg.commands.decision import Decision, decide
from refdbg.commands.references import References
from refdbg.cpython import describe, heap
from refdbg.cpython.collection import Running, finalizer_of, has_finalizer, saves_all
from refdbg.cpython.holders import Outside
from refdbg.cpython.life import FRAMES, Life, reason
from refdbg.cpython.referrers import Referrers
from refdbg.cpython.stop import Stop
from refdbg.errors import CommandError, DecodeError, MemoryFault
from refdbg.graph.objects import Objects
from refdbg.graph.paths import path, search
from refdbg.records import Collection, ObjectRow
from refdbg.target import Change, NativeFrame

_VISITORS = 10  # that are listed


@dataclass(frozen=True)
class _Replayed:
    # The decision on one object, and why.
    refs: GcRefs
    decision: str
    way: list[ReferenceStep]
    root: GcRefs | None
    notes: list[str]


def _replayed(context: Context, decision: Decision, address: int) -> _Replayed:
    # What a collection decides on the object, one of those that it collects. Raises RefdbgError.
    row = decision.row_of[address]
    decided = decision.replay
    account = _Accountant(context, decision)
    way: list[ReferenceStep] = []
    root = None
    if decided.gc_refs[row] > 0:
        found = "held"
    elif row not in decided.kept:
        found = "unreachable"
    else:
        found = "reached"
        roots = [each for each in range(len(decision.objects)) if decided.gc_refs[each] > 0]
        rows = path(search(decision.visits, roots, goals=[row]), row)
        way = account.references.steps([decision.objects.addresses[each] for each in rows])
        root = account.refs(rows[0])
    notes = []
    if decision.undecided:
        notes.append(
            f"what {', '.join(decision.undecided)} objects visit is undecided: whatever only they refer to looks kept"
        )
    return _Replayed(account.refs(row), found, way, root, notes)


class _Accountant:
    # Itemises gc_refs.
    def __init__(self, context: Context, decision: Decision) -> None:
        self._decision = decision
        self._stop = context.stop
        self.references = References(context.stop)
        self._referrers = Referrers(self._stop, self.references.owned)
        self._outside = Outside(self._stop)

    def refs(self, row: int) -> GcRefs:
        decision = self._decision
        address = decision.objects.addresses[row]
        gc_refs = decision.replay.gc_refs[row]
        visitors = Counter(decision.objects.addresses[each] for each in decision.visitors.of(row))
        words = unvisited(self._referrers.of(address), lambda owner: visitors[owner])
        known = balance(gc_refs, [trust(word) for word in words])
        holders = []
        for holder in Account(words, known).standing():
            named = self._outside.resolved(holder)
            if named is not None:
                owner = self.references.row(named.owner) if named.owner else None
                holders.append(BalanceHolder(named.kind, named.label, owner, trust(holder).name.lower(), True))
        self.references.load(islice(visitors, _VISITORS))
        return GcRefs(
            self.references.row(address), sum(visitors.values()), gc_refs, None,
            [
                BalanceHolder(
                    "object", self.references.link(owner, address).label, self.references.row(owner), "visited", True
                )
                for owner in islice(visitors, _VISITORS)
            ],
            holders, known.lost,
        )


def still(context: Context, address: int) -> GcFilm:
    """What a collection of all generations would do with the object, as the process is now. Raises RefdbgError."""
    stop = context.stop
    state, generation = where(stop, address)
    if state != "examined":
        return _unexamined(stop, address, state, generation)
    tracked = Objects()
    number = heap.generation_of(stop.lists, list(stop.runtime.interpreters()), address)
    for interpreter in stop.runtime.interpreters():
        if number is not None and interpreter.number == number[0]:
            for each in stop.lists.generations(interpreter):
                if each.name != "permanent":
                    tracked.extend(stop.lists.walk(each.head))
    found = _replayed(context, decide(stop, tracked), address)
    notes = describe.collecting_notes(stop) + tracked.coverage.notes + found.notes
    return GcFilm(
        found.refs.object, "examined", generation, None, found.refs, found.decision, found.way, found.root, None, [],
        notes,
    )


def where(stop: Stop, address: int) -> tuple[str, str | None]:
    """(state, generation) of an object, as in the record GcFilm. Raises DecodeError, MemoryFault."""
    if not describe.is_gc(stop, address):
        return "no gc", None
    if not stop.lists.is_tracked(address):
        return "untracked", None
    found = heap.generation_of(stop.lists, list(stop.runtime.interpreters()), address)
    if found is None:
        return "collecting", None
    return ("permanent" if found[1] == "permanent" else "examined"), found[1]


def _unexamined(stop: Stop, address: int, state: str, generation: str | None) -> GcFilm:
    return GcFilm(describe.row(stop, address), state, generation, None, None, "", [], None, None, [], [])


class Film:
    """Follows an object through the next collection that examines it. The methods are what a Listener needs."""

    def __init__(self, context: Context, address: int) -> None:
        """*address*: ``PyObject *``, of an object that is tracked. Raises CommandError on a free-threaded build."""
        stop = context.stop
        if stop.runtime.traits.free_threaded:
            raise CommandError(
                "an object of a free-threaded build cannot be filmed: its count is in two words, which a collection "
                "also uses for itself",
                f"`refdbg gc film {address:#x} --now`, `refdbg watch {address:#x}`, `refdbg gc stop --at finalize`.",
            )
        self._context = context
        self._address = address
        self._type = stop.texts.type_of(address).address
        self._row: ObjectRow = describe.row(stop, address)
        self._generation = where(stop, address)[1]
        self._freed_early: list[NativeFrame] | None = None
        self._early = context.session.watch_word(address + stop.runtime.build.ob_type, self._type_changed)
        self._thread: int | None = None  # whose collection it is
        self._replayed: _Replayed | None = None
        self._own: list[int] = []  # gc_refs after each subtraction of visits
        self._life: Life | None = None
        self._finalizer: FilmStep | None = None  # that is to be called
        self._found = False
        self._collectable = False
        self._steps: list[FilmStep] = []
        self._saved = False

    def delete(self) -> None:
        """Follow it no more."""
        if self._early is not None:
            self._early.delete()
            self._early = None
        if self._life is not None:
            self._life.delete()

    def examine(self, running: Running) -> None:
        """A collector is about to look for garbage. Raises RefdbgError."""
        examined = running.examined or Objects()
        if self._thread is not None or self._address not in examined.addresses:
            return
        self._thread = running.thread
        self._context.refresh()
        stop = self._context.stop
        self._row = describe.row(stop, self._address)
        self._replayed = _replayed(self._context, decide(stop, examined), self._address)

    def subtracted(self, running: Running) -> None:
        """It has subtracted the visits from all counts: the first time, or of what finalizers were called for."""
        if running.thread == self._thread and self._address in running.subtracted.addresses:
            self._own.append(running.stop.lists.gc_refs(self._address))

    def deduced(self, running: Running) -> None:
        """It has found what is unreachable."""
        if running.thread == self._thread and running.deduced is not None:
            self._found = self._address in running.deduced.addresses
            self._saved = saves_all(running.stop, running.interpreter)
            self._steps.append(FilmStep("unreachable" if self._found else "kept"))
            if self._found:
                self._life = Life(self._context.session, running.stop, self._address)

    def finalize(self, running: Running) -> None:
        """It is about to call finalizers."""
        if running.thread != self._thread or not self._found:
            return
        self._collectable = self._address in running.unreachable.addresses
        stop = running.stop
        if self._collectable and has_finalizer(stop, self._type) and not stop.lists.is_finalized(self._address):
            self._finalizer = FilmStep("finalizer", *finalizer_of(stop, self._type))

    def clear(self, running: Running) -> None:
        """It is about to clear what is still unreachable."""
        if running.thread != self._thread or not self._found:
            return
        self._called()
        if self._address in running.brought_back:
            self._steps.append(FilmStep("resurrected", gc_refs=self._own[1] if len(self._own) > 1 else None))
        elif running.cleared is not None and self._address in running.cleared.addresses and self._saved:
            self._steps.append(FilmStep("saved"))

    def _called(self) -> None:
        # Its finalizer, if it was not freed before its turn.
        if self._finalizer is not None and (self._life is None or self._life.finalized or not self._life.watching):
            self._steps.append(self._finalizer)
        self._finalizer = None

    def ended(self, running: Running, record: Collection) -> GcFilm | None:
        """The whole film, when this was its collection."""
        if running.thread != self._thread or self._replayed is None:
            return None
        self._called()
        self._steps += self._outcome(running)
        found = self._replayed
        own = self._own[0] if self._own else None
        refs = replace(found.refs, own=own)
        agrees = self._found == (found.decision == "unreachable") and own in (None, refs.gc_refs)
        notes = list(found.notes)
        if self._life is not None and not self._life.watching:
            notes.append("the processor has no watchpoint left: who freed it, and if tp_clear was called, is not known")
        self.delete()
        return GcFilm(
            refs.object, "examined", self._generation, record, refs, found.decision, found.way, found.root, agrees,
            self._steps, notes,
        )

    def _outcome(self, running: Running) -> list[FilmStep]:
        steps = []
        life = self._life
        if life is not None and life.cleared:
            steps.append(FilmStep("tp_clear"))
        if life is not None and life.freed is not None:
            return [*steps, FilmStep("freed", stack=_rows(life.freed))]
        if not self._lives(running.stop):
            return [*steps, FilmStep("freed")]
        if self._found and not self._collectable:
            steps.append(FilmStep("uncollectable"))
        place = heap.generation_of(running.stop.lists, [running.interpreter], self._address)
        if place is None:
            return [*steps, FilmStep("untracked")]
        return [*steps, FilmStep("survives", generation=place[1])]

    def _lives(self, stop: Stop) -> bool:
        # Where its reference count was not watched: as far as its memory tells.
        try:
            same = stop.runtime.memory.u64(self._address + stop.runtime.build.ob_type) == self._type
            return same and describe.refcount(stop, self._address) > 0
        except (DecodeError, MemoryFault):
            return False

    def _type_changed(self, change: Change) -> bool:
        # Freed memory is overwritten, unless it is kept for the next object of the type; __class__ may be assigned.
        stop = Stop(self._context.build())
        type_ = stop.runtime.memory.u64(self._address + stop.runtime.build.ob_type)
        if stop.types.is_type(type_):
            self._type = type_
            return True
        self._freed_early = reason(change.stack(FRAMES))
        return False

    @property
    def lost(self) -> GcFilm | None:
        """The film of an object that was freed before any collection has examined it."""
        if self._thread is not None or self._freed_early is None:
            return None
        return GcFilm(
            self._row, "freed", self._generation, None, None, "", [], None, None,
            [FilmStep("freed", stack=_rows(self._freed_early))], [],
        )


def _rows(stack: list[NativeFrame]) -> list[NativeFrameRow]:
    return [NativeFrameRow(frame.function, frame.file, frame.line) for frame in stack]
