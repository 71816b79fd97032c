"""Why a collection kept what is left over: the state at its entry (A) against what survives at the end (B)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from refdbg.analysis.collector import replay
from refdbg.cpython.collection import object_rows
from refdbg.cpython.edges import owned_edges
from refdbg.cpython.owned import Owned
from refdbg.cpython.referrers import Holder, Referrers
from refdbg.cpython.statics import StaticWord
from refdbg.cpython.stop import Stop
from refdbg.cpython.traverse import Traverse
from refdbg.errors import MemoryFault
from refdbg.graph.edges import Edges
from refdbg.graph.objects import Objects
from refdbg.records import Explains, Finding, ObjectRow
from refdbg.target import Symbol
from refdbg.verdicts.kept_root import OWN_TYPE, KeptRoots, Reason, finding

_ROOTS = 200  # roots that are itemised: each takes a search of the whole memory


@dataclass(frozen=True)
class _Root:
    # A kept object that the collector had a reason to keep, and those reasons.
    row: int
    gc_refs: int
    reasons: Counter[Reason]
    owners: dict[Reason, list[int]]
    by_design: int


class LastCollection:
    """The heap at the entry of an interpreter's last collection, and what of it is left over at the end."""

    def __init__(self, then: Stop, tracked: Objects, now: Stop, left_over: Objects) -> None:
        """*then*, *tracked*: the capture and what the interpreter's collector tracked; *now*, *left_over*: at the end.

        Raises EmulationError, MissingDependency.
        """
        self._then, self._now = then, now
        self._objects = then.heap.objects
        self._row_of = {address: row for row, address in enumerate(self._objects.addresses)}
        self._counts = list(self._objects.refcounts)
        self._immortal = then.runtime.immortal_count
        self._referrers = Referrers(then, Owned(then.texts, lambda: then.heap))
        traverse = Traverse(then)
        self._visits = traverse.visits(self._objects.addresses, self._objects.types)
        self._edges = self._visits.edges(self._objects.addresses)
        # What only an unvisited reference leads to (a type's name, a code object) goes with its owner.
        self._owned = owned_edges(then, then.heap)
        self._tracked = [self._row_of[address] for address in tracked.addresses if address in self._row_of]
        self._inside = frozenset(self._tracked)
        self._replay = replay(self._counts, self._edges, self._tracked, self._immortal)
        self._left = {
            self._row_of[address]: count
            for address, type_, count in left_over.rows()
            if address in self._row_of and self._objects.types[self._row_of[address]] == type_
        }
        # What survives and was made after the capture: no collection has looked at it.
        self._later = len(left_over) - len(self._left)
        self._later_references = sum(left_over.refcounts) - sum(self._left.values())
        self._undecided = traverse.undecided_types(self._visits, self._objects.types, self._inside)

    def findings(self, interpreter: int, limit: int) -> tuple[list[Finding], list[str]]:
        """The reasons as findings, and notes on what they do not explain."""
        roots = [self._itemise(row) for row in self._roots()]
        groups: defaultdict[Reason, list[_Root]] = defaultdict(list)
        by_design: list[int] = []
        for root in roots:
            for reason in root.reasons:
                groups[reason].append(root)
            if not root.reasons and root.by_design:
                by_design.append(root.row)
        groups = self._merged(groups)
        reach = {reason: self._behind(root.row for root in group) for reason, group in groups.items()}
        weight = {reason: sum(self._left[row] for row in rows) for reason, rows in reach.items()}
        taken: set[int] = set()
        found = []
        # What several reasons keep is the most specific one's; to free it takes all of them.
        for reason in sorted(groups, key=lambda reason: (weight[reason], reason.owner, reason.field)):
            rows = reach[reason] - taken
            if sum(self._left[row] for row in rows):
                taken |= rows
                found.append(finding(self._evidence(reason, groups, rows, interpreter, limit)))
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
        if self._undecided:
            notes.append(f"interpreter {interpreter}: what {', '.join(self._undecided)} objects visit is undecided.")
        return found, notes

    def _roots(self) -> list[int]:
        # Kept objects with gc_refs > 0 from which visits lead to what is left over. A weak reference to a left-over
        # object is no root: it goes with its referent (tp_subclasses, caches).
        backward: defaultdict[int, list[int]] = defaultdict(list)
        for row in self._replay.kept:
            for target in self._edges.of(row):
                backward[target].append(row)
        todo = list(self._left)
        seen = set(todo)
        while todo:
            for row in backward[todo.pop()]:
                if row not in seen:
                    seen.add(row)
                    todo.append(row)
        weakref = self._then.runtime.target.address_of("_PyWeakref_RefType")
        roots = [
            row for row in seen
            if row in self._replay.kept and self._replay.gc_refs[row] > 0
            and weakref not in self._then.types.mro(self._objects.types[row])
        ]
        return sorted(roots, key=lambda row: -len(self._edges.reach([row]) & self._left.keys()))[:_ROOTS]

    def _behind(self, roots: Iterable[int]) -> set[int]:
        visited = self._edges.reach(list(roots)) & self._left.keys()
        return self._owned.reach(list(visited)) & self._left.keys()

    def _itemise(self, row: int) -> _Root:
        # Every word that holds the object, less those that a collected object's traverse reports.
        address = self._objects.addresses[row]
        reported: Counter[int] = Counter()
        reasons: Counter[Reason] = Counter()
        owners: defaultdict[Reason, list[int]] = defaultdict(list)
        by_design = 0
        # An owner's known references are served first by its visits, its own type last.
        holders = self._referrers.of(address)
        holders.sort(key=lambda holder: (holder.label == OWN_TYPE, not holder.exact))
        for holder in holders:
            owner = self._row_of.get(holder.owner, -1)
            if holder.kind == "object" and owner in self._inside:
                reported[owner] += 1
                if reported[owner] <= Counter(self._visits.of(owner))[address]:
                    continue
                if owner in self._replay.kept:
                    continue  # it holds the object, but lives for another reason
            word = self._then.statics.word_at(holder.place, address) if holder.kind in ("static", "memory") else None
            reason = self._reason(holder, owner, address, word)
            if reason is None:
                by_design += word is not None and (word.inside is not None or word.cache)
                continue
            reasons[reason] += 1
            if owner >= 0:
                owners[reason].append(owner)
        return _Root(row, self._replay.gc_refs[row], reasons, dict(owners), by_design)

    def _reason(self, holder: Holder, owner: int, address: int, word: StaticWord | None) -> Reason | None:
        if holder.kind == "object" and owner >= 0:
            type_ = self._then.types[self._objects.types[owner]]
            name = self._then.texts.type_name(type_.address)
            if not (holder.exact or holder.label == OWN_TYPE) or not type_.is_heap:
                return None
            symbol = self._then.runtime.target.symbol_at(type_.traverse) if type_.traverse else None
            traverse = symbol.name if symbol else ""
            return Reason("object", name, holder.label, True, traverse=traverse, has_gc=type_.is_gc)
        if holder.kind in ("interpreter", "thread"):
            path = holder.label.split(" of ", 1)[0]
            struct, _, field = path.partition(".")
            return Reason("state", struct, field.split(".")[0], self._still_held(holder.place, address))
        if word is None or not word.symbol or word.inside is not None or word.cache:
            return None
        if self._then.is_runtime_state(holder.place):
            return None
        variable = self._then.runtime.target.variable(Symbol(word.symbol, word.offset, word.library))
        path = variable.path if variable else word.symbol
        source = f"{variable.file}:{variable.line}" if variable else ""
        still_held = self._still_held(holder.place, address)
        return Reason("static", word.symbol.split(".")[0], path, still_held, word.library, source)

    def _still_held(self, place: int, address: int) -> bool:
        try:
            return self._now.runtime.memory.u64(place) == address
        except MemoryFault:
            return False

    def _merged(self, groups: dict[Reason, list[_Root]]) -> defaultdict[Reason, list[_Root]]:
        # A type without a traverse function is one reason, whatever fields it owns; its own type leads.
        merged: defaultdict[Reason, list[_Root]] = defaultdict(list)
        for reason, roots in groups.items():
            if reason.kind == "object" and not (reason.traverse and reason.has_gc):
                reason = replace(reason, field=OWN_TYPE)
            merged[reason] += [root for root in roots if root not in merged[reason]]
        return merged

    def _evidence(
        self, reason: Reason, groups: dict[Reason, list[_Root]], rows: set[int], interpreter: int, limit: int
    ) -> KeptRoots:
        roots = groups[reason]
        itemised = sum(count for root in roots for other, count in root.reasons.items() if _same(other, reason))
        others = sum(sum(root.reasons.values()) for root in roots) - itemised
        owners = list(dict.fromkeys(
            owner for root in roots for other, rows_ in root.owners.items() if _same(other, reason) for owner in rows_
        ))
        freed = self._freed({reason: roots}, rows)
        alone = len(freed) == len(rows)
        if not alone:
            freed = self._freed(groups, rows)
        explained = Explains(len(rows), sum(self._left[row] for row in rows))
        return KeptRoots(
            reason=reason,
            roots=self._object_rows([root.row for root in roots], limit),
            owners=self._object_rows(owners, limit),
            gc_refs=sum(root.gc_refs for root in roots),
            itemised=itemised,
            others=others,
            explained=explained,
            freed=Explains(len(freed), sum(self._left[row] for row in freed)),
            alone=alone,
            interpreter=interpreter,
        )

    def _freed(self, groups: dict[Reason, list[_Root]], rows: set[int]) -> list[int]:
        # Those of *rows* that the collector frees when the missing visits are made and the holders hold no more.
        counts = list(self._counts)
        collected = list(self._tracked)
        extra: defaultdict[int, list[int]] = defaultdict(list)
        for reason, roots in groups.items():
            for root in roots:
                for other, count in root.reasons.items():
                    if not _same(other, reason):
                        continue
                    if reason.kind != "object":
                        counts[root.row] -= count
                    for owner in root.owners.get(other, []):
                        extra[owner].append(root.row)
        edges = Edges.empty()
        for row in range(len(counts)):
            for target in (*self._edges.of(row), *extra.get(row, ())):
                edges.add(target)
            edges.close_row()
        collected += [owner for owner in extra if owner not in self._inside]
        decision = replay(counts, edges, collected, self._immortal)
        kept = edges.reach(list(decision.kept))
        kept = self._owned.reach([row for row in kept if row in self._left]) | kept
        return [row for row in rows if row not in kept]

    def _object_rows(self, rows: Sequence[int], limit: int) -> list[ObjectRow]:
        return object_rows(self._then, self._objects.pick(rows[:limit]), limit)


def _same(other: Reason, reason: Reason) -> bool:
    # Whether a root's own reason is the one that stands for it since `_merged`.
    return other == reason or replace(other, field=OWN_TYPE) == reason
