"""Why a collection kept what is left over: the state at its entry (A) against what survives at the end (B)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice

from refdbg.analysis.balance import balance
from refdbg.analysis.collector import Replay, replay
from refdbg.commands.account import Account, trust, unvisited
from refdbg.commands.finding_graph import NODES, Holding, Sources, finding_graph, spread, way_back
from refdbg.commands.left_over import LetGo, victim
from refdbg.commands.over_visit import over_visits
from refdbg.commands.suspended_stacks import Stacks
from refdbg.cpython.collection import object_rows
from refdbg.cpython.fields import CARRIERS, OPAQUE
from refdbg.cpython.greenlets import frame_visitor
from refdbg.cpython.owned import MODULE_STATE, Owned, Reference
from refdbg.cpython.referrers import Holder, Referrers
from refdbg.cpython.stop import Stop, module_traverse
from refdbg.cpython.storage import owned_edges
from refdbg.cpython.traverse import Traverse, undecided_types
from refdbg.errors import MemoryFault
from refdbg.graph.edges import Edges
from refdbg.graph.objects import Objects
from refdbg.graph.paths import transposed
from refdbg.graph.rows import NO_ROW
from refdbg.records import Evidence, Explains, Finding, FindingGraph, ObjectRow
from refdbg.target.mangled import plain_name
from refdbg.verdicts import outside, untraversed_frame
from refdbg.verdicts.kept_root import OWN_TYPE, KeptRoots, Reason, finding

_ROOTS = 2000  # roots that are itemised
_ROOTS_DRAWN = 8
_OTHER_OWNERS = 64  # objects of a type that are asked whether a field of theirs owns
_FEW = 1000  # objects whose references are asked for one by one


@dataclass(frozen=True)
class _Root:
    # A kept object that the collector had a reason to keep, and those reasons.
    row: int
    gc_refs: int
    reasons: Counter[Reason]
    owners: dict[Reason, list[int]]
    by_design: int
    guessed: int = 0  # words of C stacks among those that stand for the reasons
    undeclared: Counter[Reason] = field(default_factory=Counter)  # their words that may only borrow
    spare: int = 0  # other words that could own in place of the last one


class LastCollection:
    """The heap at the entry of an interpreter's last collection, and what of it is left over at the end."""

    def __init__(
        self, then: Stop, tracked: Objects, now: Stop, left_over: Objects, held: Mapping[int, int],
        let_go: LetGo | None = None,
    ) -> None:
        """*then*, *tracked*: the capture and what the interpreter's collector tracked; *now*, *left_over*: at the end.

        *held*: how many references each left-over object (``PyObject *``) holds; *let_go*: holders that other findings
        are about.
        Raises EmulationError, MissingDependency.
        """
        self._borrowing: dict[tuple[int, str], bool | None] = {}  # by type and field; None: not known
        self._alive: set[int] = set()  # left-over rows that outside holders keep
        self.late: dict[str, int] = {}  # by signature: the field of the interpreter's state that was released too late
        self._then, self._now = then, now
        self._objects = then.heap.objects
        self._row_of = then.heap.index
        self._counts = list(self._objects.refcounts)
        self._let_go = let_go or LetGo()
        for address, number in self._let_go.references.items():
            if address in self._row_of:
                self._counts[self._row_of[address]] -= number
        self._immortal = then.runtime.immortal_count
        self._referrers = Referrers(then, Owned(then.texts, lambda: then.heap))
        self._visits, self._edges = then.visits, then.visited_edges
        self._tracked = [row for row in self._row_of.of(tracked.addresses) if row != NO_ROW]
        self._left = {
            self._row_of[address]: held[address]
            for address, type_, _count in left_over.rows()
            if address in self._row_of and self._objects.types[self._row_of[address]] == type_
        }
        # What survives and was made after the capture: no collection has looked at it.
        self._later = len(left_over) - len(self._left)
        self._later_references = sum(held[address] for address in left_over.addresses) - sum(self._left.values())
        self._stacks = Stacks(
            then, self._left, self._counts, self._referrers, self._visits, lambda: owned_edges(then)
        )
        self._undecided = (
            undecided_types(then, self._visits, self._objects.types, self._inside) if self._visits.undecided else {}
        )

    @cached_property
    def _inside(self) -> frozenset[int]:
        return frozenset(self._tracked)

    @cached_property
    def _replay(self) -> Replay:
        return replay(self._counts, self._edges, self._tracked, self._immortal)

    def findings(self, interpreter: int, limit: int) -> tuple[list[Finding], list[str]]:
        """The reasons as findings, and notes on what they do not explain."""
        suspects = {self._objects.addresses[row]: row for row in self._roots()}
        holders = {
            address: [holder for holder in words if holder.place not in self._let_go.words]
            for address, words in self._referrers.of_many(list(suspects)).items()
        }
        roots = [self._itemise(row, holders[address]) for address, row in suspects.items()]
        # What a state or a variable kept holds whatever it holds, visited or not: that hides nothing.
        self._alive = self._behind(
            root.row for root in roots
            if root.by_design or any(reason.kind not in ("object", "frame") for reason in root.reasons)
        )
        if self._alive:
            roots = [
                self._itemise(root.row, holders[self._objects.addresses[root.row]]) if root.row in self._alive else root
                for root in roots
            ]
        groups: defaultdict[Reason, list[_Root]] = defaultdict(list)
        by_design: list[int] = []
        for root in roots:
            for reason in root.reasons:
                groups[reason].append(root)
            if not root.reasons and root.by_design:
                by_design.append(root.row)
        groups = self._merged(groups)
        reach = {
            # Of many alike not every root is itemised: a stack that leads back to its owner keeps it in any case.
            reason: self._behind([*(root.row for root in group), *self._stacks.closed(reason)])
            for reason, group in groups.items()
        }
        weight = {reason: sum(self._left[row] for row in rows) for reason, rows in reach.items()}
        taken: set[int] = set()
        found = []
        # What several reasons keep is the most specific one's; to free it takes all of them.
        for reason in sorted(groups, key=lambda reason: (weight[reason], reason.owner, reason.field)):
            rows = reach[reason] - taken
            if sum(self._left[row] for row in rows):
                taken |= rows
                kept_by = self._finding(reason, groups, rows, interpreter, limit)
                found.append(replace(kept_by, graph=self._drawn(reason, groups[reason], rows)))
                if reason.kind == "state" and not reason.still_held:
                    self.late[found[-1].signature] = reason.offset
        notes = []
        kept = self._behind(by_design) - taken
        references = sum(self._left[row] for row in kept)
        if references:
            notes.append(
                f"interpreter {interpreter}: {references} references in {len(kept)} objects are held by static types "
                "and other static objects only: kept by design."
            )
        rest = [row for row in self._left if row not in taken and row not in kept]
        references = sum(self._left[row] for row in rest) + self._later_references
        if references:
            notes.append(
                f"interpreter {interpreter}: {references} references in {len(rest) + self._later} objects "
                "are not explained yet."
            )
        found += over_visits(self._then, self._objects, self._visits, self._tracked, interpreter)
        notes += [
            f"interpreter {interpreter}: what {name} objects visit is undecided ({why})."
            for name, why in self._undecided.items()
        ]
        return found, notes

    def _roots(self) -> list[int]:
        # Kept objects with gc_refs > 0 from which visits lead to what is left over. A weak reference to a left-over
        # object is no root: it goes with its referent (tp_subclasses, caches).
        if not self._left:
            return []
        todo = list(self._left)
        seen = set(todo)
        kept = self._replay.kept
        while todo:
            for row in self._visitors.of(todo.pop()):
                if row not in seen and row in kept:
                    seen.add(row)
                    todo.append(row)
        weakref = self._then.runtime.target.address_of("_PyWeakref_RefType")
        roots = [
            row for row in seen
            if row in kept and self._replay.gc_refs[row] > 0
            and weakref not in self._then.types.mro(self._objects.types[row])
        ]
        return roots[:_ROOTS]

    def _behind(self, roots: Iterable[int]) -> set[int]:
        visited = self._edges.reach(list(roots)) & self._left.keys()
        if not visited:
            return set()
        near = self._near.reach([self._number[row] for row in visited])
        if len(near) == len(self._left):  # most often; all references of the heap cost much
            return set(self._left)
        return self._owned.reach(list(visited)) & self._left.keys()

    @cached_property
    def _number(self) -> dict[int, int]:
        # What is left over, counted.
        return {row: number for number, row in enumerate(self._left)}

    @cached_property
    def _near(self) -> Edges:
        # The known references of what is left over to each other, where that is little; by those numbers.
        edges = Edges.empty()
        for row in self._left:
            if len(self._left) <= _FEW:
                for each in self._referrers.references(self._objects.addresses[row]):
                    number = self._number.get(self._row_of.get(each.target)) if each.exact else None
                    if number is not None:
                        edges.add(number)
            edges.close_row()
        return edges

    def _itemise(self, row: int, holders: Sequence[Holder]) -> _Root:
        # The words that hold the object, less those that a collected object's traverse reports, up to its gc_refs.
        address = self._objects.addresses[row]
        own = unvisited(holders, lambda owner: self._visits_of(owner, address))
        unreported = self._not_spoken_for(row, own, holders)
        gc_refs = self._replay.gc_refs[row]
        account = balance(gc_refs, [trust(holder) for holder in unreported])
        reasons: Counter[Reason] = Counter()
        owners: defaultdict[Reason, list[int]] = defaultdict(list)
        undeclared: Counter[Reason] = Counter()
        by_design = guessed = 0
        for holder in Account(unreported, account).standing():
            owner = self._row_of.get(holder.owner, -1)
            borrows = self._only_borrows(holder, owner, address) if owner >= 0 else False
            lost = borrows is True
            if not lost and (owner in self._alive or holder.label in CARRIERS):
                continue
            if not lost and owner in self._replay.kept and not (owner in self._left and self._in_one_cycle(owner, row)):
                continue  # it holds the object, but lives for another reason
            if row in self._visits.ignored:  # whoever holds it, the collector keeps it
                reason = self._stacks.reason(row)
            elif self._stacks.holds(holder):
                reason = self._stacks.reason(owner)
            elif lost:
                lost_on = victim(self._then, self._referrers, address, self._objects.types[row])
                reason = Reason("nobody", lost_on, holder.label, True)
            else:
                reason = self._reason(holder, owner, address)
                by_design += reason is None and holder.exact
            if reason is None:
                continue
            guessed += holder.suspended and not holder.exact
            reasons[reason] += 1
            if reason.kind == "object":
                undeclared[reason] += borrows is None or not (holder.exact or holder.declared)
            if owner >= 0 and not lost:
                owners[reason].append(owner)
        return _Root(row, gc_refs, reasons, dict(owners), by_design, guessed, undeclared, account.spare)

    def _not_spoken_for(self, row: int, unreported: list[Holder], holders: Sequence[Holder]) -> list[Holder]:
        # Without what another object's traverse reports in an owner's stead: what lies in the instance for its dict, a
        # container for the nodes that it is made of.
        found = list(unreported)
        words = Counter(holder.owner for holder in holders if holder.kind == "object")
        for visitor, number in Counter(self._visitors.of(row)).items():
            more = number - words[self._objects.addresses[visitor]]
            if visitor not in self._inside or more <= 0:
                continue
            own = self._owned.of(visitor)
            near = self._owned.reach(own, self._inside).union(own)
            spoken = [holder for holder in found if holder.exact and self._row_of.get(holder.owner, -1) in near]
            for holder in spoken[:more]:
                found.remove(holder)
        return found

    @cached_property
    def _owned(self) -> Edges:
        # What only an unvisited reference leads to (a type's name, a code object) goes with its owner.
        return self._stacks.edges

    @cached_property
    def _visitors(self) -> Edges:
        return transposed(self._edges)

    def _visits_of(self, owner: int, address: int) -> int:
        # How often a collected object visits another one (``PyObject *``).
        row = self._row_of.get(owner, -1)
        if row not in self._inside or self._row_of[address] in self._visits.ignored:
            return 0
        return list(self._visits.of(row)).count(address)

    def _in_one_cycle(self, owner: int, row: int) -> bool:
        # Whether the object reaches its owner: only then can the reference, unvisited, keep both.
        return self._stacks.component[owner] == self._stacks.component[row]

    def _reason(self, holder: Holder, owner: int, address: int) -> Reason | None:
        if owner >= 0:
            type_ = self._then.types[self._objects.types[owner]]
            name, function = self._then.texts.type_name(type_.address), type_.traverse
            base = self._then.types[type_.base] if type_.base else None
            inherited = (
                base is not None and base.traverse == function
                and base.basicsize <= holder.place - holder.owner < type_.basicsize
            )
            if holder.label.startswith(MODULE_STATE):
                name, function = module_traverse(self._then, holder.owner)
            symbol = self._then.runtime.target.symbol_at(function) if function else None
            traverse = plain_name(symbol.name) if symbol else ""
            return Reason(
                "object", name, holder.label, True, traverse=traverse, has_gc=type_.is_gc, own_type=type_.is_heap,
                inherited=inherited,
                opaque=self._then.texts.kinds.name(type_.address) in OPAQUE,
            )
        if holder.exact:
            return None
        if holder.kind in ("interpreter", "thread", "runtime"):
            path = holder.label.split(" of ", 1)[0]
            struct, _, name = path.partition(".")
            still_held = self._still_held(holder.place, address)
            return Reason("state", struct, name.split(".")[0], still_held, offset=holder.offset)
        word = self._then.statics.word_at(holder.place) if holder.kind == "static" else None
        if word is None or not word.symbol:
            return None
        variable = self._then.runtime.target.variable(word.c_symbol)
        path = variable.path if variable else word.symbol
        source = f"{variable.file}:{variable.line}" if variable else ""
        still_held = self._still_held(holder.place, address)
        # One for each variable, however many members it has.
        name = path.split(".")[0].split("[")[0]
        return Reason("static", word.symbol.split(".")[0], name, still_held, word.library, source)

    def _only_borrows(self, holder: Holder, owner: int, address: int) -> bool | None:
        # Whether other objects of the type hold something by the same field that has no room for one more owner, or the
        # type's destructor leaves it alone: then the field is a pointer to a parent or the like, and what stands for it
        # here is a lost reference. None where the destructor does not tell.
        type_ = self._objects.types[owner]
        if holder.exact or holder.suspended or holder.label == OWN_TYPE or holder.label.startswith(MODULE_STATE):
            return False
        key = type_, holder.label
        if key not in self._borrowing:
            alike = (row for row, other in enumerate(self._objects.types) if other == type_)
            targets = {
                each.target for row in islice(alike, _OTHER_OWNERS)
                for each in self._referrers.references(self._objects.addresses[row])
                if each.label == holder.label and not each.exact and each.target in self._row_of
            }
            self._borrowing[key] = any(
                self._has_no_room(target, words) for target, words in self._referrers.of_many(targets).items()
            ) or self._keeps(self._objects.addresses[owner], address)
        return self._borrowing[key]

    def _keeps(self, owner: int, address: int) -> bool | None:
        # Whether the owner's destructor would leave the object's reference, though it runs to its end.
        with closing(Traverse(self._then)) as traverse:
            released = traverse.releases(owner, address)
        return None if released is None else not released

    def _has_no_room(self, address: int, holders: Sequence[Holder]) -> bool:
        # Whether all references have owners that are known, or visit it. (More of them than references: some do not.)
        row = self._row_of[address]
        doubtful = unvisited(holders, lambda owner: self._visits_of(owner, address))
        known = sum(holder.kind != "borrowed" for holder in holders) - sum(not holder.exact for holder in doubtful)
        return known == self._counts[row]

    def _still_held(self, place: int, address: int) -> bool:
        try:
            return self._now.runtime.memory.u64(place) == address
        except MemoryFault:
            return False

    def _merged(self, groups: dict[Reason, list[_Root]]) -> defaultdict[Reason, list[_Root]]:
        # A type without a traverse function is one reason, whatever fields it owns; its own type leads.
        merged: defaultdict[Reason, list[_Root]] = defaultdict(list)
        for reason, roots in groups.items():
            if reason.kind == "object" and reason.own_type and not (reason.traverse and reason.has_gc):
                reason = replace(reason, field=OWN_TYPE, inherited=False)
            merged[reason] += [root for root in roots if root not in merged[reason]]
        return merged

    def _finding(
        self, reason: Reason, groups: dict[Reason, list[_Root]], rows: set[int], interpreter: int, limit: int
    ) -> Finding:
        kept = self._evidence(reason, groups, rows, interpreter, limit)
        if reason.kind == "nobody":
            counts = [self._counts[root.row] for root in groups[reason]]
            lost = outside.finding(outside.Outside(
                verdict="lost-reference", owner=reason.owner, paths=("nobody",) * len(kept.roots), directly=kept.roots,
                number=len(counts), references=sum(counts), rest=kept.itemised, words=kept.itemised, spare=kept.spare,
                behind=kept.explained, freed=kept.freed, alone=kept.alone, interpreter=interpreter,
                repeats=self._then.runtime.traits.repeats,
            ))
            pointer = Evidence(
                "pointer",
                f"{reason.field.lstrip('.')} of an object points to it without owning it: other objects' do, or their "
                "tp_dealloc does not release it",
            )
            return replace(lost, evidence=[*lost.evidence, pointer])
        if reason.kind != "frame":
            return finding(kept)
        owners = [row for row in self._stacks.of(reason) if row in self._left]
        kept = replace(kept, owners=self._object_rows(owners, limit))
        means = frame_visitor(self._then.runtime)
        places = len({self._stacks.places(row) for row in owners})
        guessed = sum(root.guessed for root in groups[reason])
        return untraversed_frame.finding(kept, self._stacks.told(owners[0]), len(owners), places, guessed, means)

    def _evidence(
        self, reason: Reason, groups: dict[Reason, list[_Root]], rows: set[int], interpreter: int, limit: int
    ) -> KeptRoots:
        roots = groups[reason]
        itemised = sum(count for root in roots for other, count in root.reasons.items() if _same(other, reason))
        others = sum(sum(root.reasons.values()) for root in roots) - itemised
        owners = _owners(reason, roots)
        freed = self._freed({reason: roots}, rows)
        alone = len(freed) == len(rows) and not self._let_go.words
        if len(freed) < len(rows):
            freed = self._freed(groups, rows)
        explained = Explains(len(rows), sum(self._left[row] for row in rows))
        return KeptRoots(
            reason=reason,
            roots=self._object_rows([root.row for root in roots], limit),
            owners=self._object_rows(owners, limit),
            gc_refs=sum(root.gc_refs for root in roots),
            itemised=itemised,
            undeclared=sum(
                count for root in roots for other, count in root.undeclared.items() if _same(other, reason)
            ),
            spare=sum(root.spare for root in roots),
            others=others,
            explained=explained,
            freed=Explains(len(freed), sum(self._left[row] for row in freed)),
            alone=alone,
            interpreter=interpreter,
        )

    def _drawn(self, reason: Reason, roots: Sequence[_Root], rows: set[int]) -> FindingGraph:
        # The first owners and roots, the way that closes their cycle, and the nearest of what hangs behind.
        addresses = self._objects.addresses
        shown = [root.row for root in roots[:_ROOTS_DRAWN]]
        owners = (self._stacks.of(reason) if reason.kind == "frame" else _owners(reason, roots))[:_ROOTS_DRAWN]
        holding = [
            Holding(reason.kind, f"{reason.owner}.{reason.field}" if reason.kind == "state" else reason.field,
                    addresses[row])
            for row in shown if reason.kind not in ("object", "frame")
        ]
        before = spread(self._edges.of, shown, self._left)
        ways = [row for owner in owners for row in way_back(before, owner)]
        near = [*ways, *islice((row for row in before if row in rows), NODES)]
        forgotten = {addresses[owner] for owner in owners}
        labels = {
            other.field for root in roots for other in root.reasons if _same(other, reason) and root.row in shown
        }

        def owned(address: int) -> list[Reference]:
            visits = frozenset(self._visits.of(self._row_of[address]))
            return [
                each for each in self._referrers.references(address)
                if each.exact or each.target in visits or (address in forgotten and each.label in labels)
                or (each.suspended and self._stacks.is_counted(each))
            ]

        sources = Sources(
            self._then,
            lambda address: object_rows(self._then, self._objects.pick([self._row_of[address]]), 1)[0],
            owned,
            lambda address: self._visits.of(self._row_of[address]),
        )
        return finding_graph(sources, holding, [addresses[owner] for owner in owners],
                             [addresses[row] for row in shown], [addresses[row] for row in near],
                             len(rows.union(shown, owners)))

    def _freed(self, groups: dict[Reason, list[_Root]], rows: set[int]) -> list[int]:
        # Those of *rows* that the collector frees when the missing visits are made and the holders hold no more.
        counts = list(self._counts)
        collected = list(self._tracked)
        extra: defaultdict[int, list[int]] = defaultdict(list)
        for reason, roots in groups.items():
            if reason.kind == "frame":
                for row, targets in self._stacks.visits_of_fixed(self._stacks.of(reason)).items():
                    extra[row] += targets
                continue
            for root in roots:
                for other, count in root.reasons.items():
                    if not _same(other, reason):
                        continue
                    if reason.kind != "object":
                        counts[root.row] -= count
                    for owner in root.owners.get(other, []):
                        extra[owner].append(root.row)
        edges = self._edges.plus(extra)
        # With their owners, the collector would track the dicts and tuples that it does not, for what they hold.
        collected += self._visitors.reach([owner for owner in extra if owner not in self._inside], self._inside)
        decision = replay(counts, edges, collected, self._immortal)
        kept = edges.reach(list(decision.kept))
        alive = [row for row in kept if row in self._left]
        if alive:
            kept = self._owned.reach(alive) | kept
        kept &= rows
        gone = self._fall_with({*decision.unreachable, *(rows - kept)}, kept)
        return [row for row in rows if row not in kept or row in gone]

    def _fall_with(self, gone: set[int], kept: set[int]) -> set[int]:
        # *gone*, and those of the rows *kept* that lose their last reference then: a type's table of subclasses.
        holders = self._referrers.of_many([self._objects.addresses[row] for row in kept])
        owners = {
            self._row_of[address]: [self._row_of.get(holder.owner, -1) for holder in found if holder.exact]
            for address, found in holders.items()
        }
        falling = set(gone)
        while True:
            more = {
                row for row in kept - falling
                if len(owners[row]) == self._counts[row] and falling.issuperset(owners[row])
            }
            if not more:
                return falling
            falling |= more

    def _object_rows(self, rows: Sequence[int], limit: int) -> list[ObjectRow]:
        return object_rows(self._then, self._objects.pick(rows[:limit]), limit)


def _owners(reason: Reason, roots: Iterable[_Root]) -> list[int]:
    # The objects that own the roots by the reason's field.
    return list(dict.fromkeys(
        owner for root in roots for other, rows in root.owners.items() if _same(other, reason) for owner in rows
    ))


def _same(other: Reason, reason: Reason) -> bool:
    # Whether a root's own reason is the one that stands for it since `_merged`.
    return other == reason or replace(other, field=OWN_TYPE, inherited=False) == reason
