"""What suspended stacks own, in the graph of a collection: which of their references close a cycle."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Sequence
from functools import cached_property

from refdbg.analysis.balance import balance
from refdbg.commands.account import Account, trust
from refdbg.cpython.greenlets import C_STACK, FRAMES
from refdbg.cpython.owned import Reference
from refdbg.cpython.referrers import Holder, Referrers
from refdbg.cpython.stop import Stop
from refdbg.cpython.traverse import Visited
from refdbg.graph.components import components
from refdbg.graph.edges import Edges
from refdbg.graph.paths import shortest_cycle
from refdbg.graph.rows import NO_ROW
from refdbg.target.mangled import plain_name
from refdbg.verdicts.kept_root import Reason
from refdbg.verdicts.untraversed_frame import HeldBy, Stack, StackFrame

_CYCLE = 12  # steps that are written out


class Stacks:
    """The suspended stacks of a stop whose owners are among its objects."""

    def __init__(
        self,
        stop: Stop,
        left: Container[int],
        counts: Sequence[int],
        referrers: Referrers,
        visits: Visited,
        owned: Callable[[], Edges],
    ) -> None:
        """Of owners among the rows *left*. *counts*: by row of the heap's objects; *owned*: the references that are
        known, or guessed in objects.

        Raises RefdbgError.
        """
        self._stop = stop
        self._referrers = referrers
        self._visits = visits
        self._known_edges = owned
        self._row_of = stop.heap.index
        rows = (self._row_of.get(address) for address in stop.suspended.stacks)
        self.rows = [row for row in rows if row in left]
        self._owns: defaultdict[int, list[tuple[int, Reference]]] = defaultdict(list)  # by row: what its stack owns
        if self.rows:
            self._take(counts)

    def _take(self, counts: Sequence[int]) -> None:
        # Of the words on C stacks those that the reference counts have room for.
        addresses = self._stop.heap.objects.addresses
        words = {
            each.place: (row, each)
            for row in self.rows
            for each in self._referrers.references(addresses[row])
            if self._of_stack(each.place) and self._row_of.get(each.target) != NO_ROW
        }
        for target, holders in self._referrers.of_many({each.target for _, each in words.values()}).items():
            used = [holder for holder in holders if holder.kind != "borrowed"]
            row = self._row_of[target]
            account = Account(used, balance(counts[row], [trust(holder) for holder in used]))
            for holder in account.standing():
                if holder.place in words:
                    owner, reference = words[holder.place]
                    self._owns[owner].append((row, reference))

    def _of_stack(self, place: int) -> bool:
        return self._stop.suspended.owner_at(place)[1] in (C_STACK, FRAMES)

    def holds(self, holder: Holder) -> bool:
        """Whether the word is on a suspended stack."""
        return holder.kind == "object" and self._of_stack(holder.place)

    @cached_property
    def edges(self) -> Edges:
        """The references between the objects, with those of the stacks."""
        more = {
            row: [target for target, reference in owned if not reference.exact] for row, owned in self._owns.items()
        }
        return self._known_edges().plus(more)

    @cached_property
    def component(self) -> Sequence[int]:
        """By row, the number of the component that the object is in."""
        return components(self.edges).number

    def _closing(self, row: int) -> list[tuple[int, Reference]]:
        # What the stack of an object owns and leads back to that.
        return [each for each in self._owns[row] if self.component[each[0]] == self.component[row]]

    @cached_property
    def _reasons(self) -> dict[int, Reason]:
        found = {}
        objects, stop = self._stop.heap.objects, self._stop
        for row in self.rows:
            type_ = stop.types[objects.types[row]]
            base = stop.types[stop.texts.kinds.of(type_.address).base]  # it must visit them, whatever derives from it
            symbol = stop.runtime.target.symbol_at(base.traverse) if base.traverse else None
            closing = {reference.place for _, reference in self._closing(row)}
            held = stop.suspended.held(objects.addresses[row])
            functions = [
                f"{each.frame.function}()"
                for each in held
                if each.frame and any(reference.place in closing for reference in each.references)
            ]
            if not functions:  # its C stack closes the cycle, or nothing of it does
                functions = [f"{each.frame.function}()" for each in held if each.frame][:1]
            found[row] = Reason(
                "frame",
                stop.texts.type_name(type_.address),
                ", ".join(functions) or "C stack",
                True,
                traverse=plain_name(symbol.name) if symbol else "",
            )
        return found

    def reason(self, row: int) -> Reason | None:
        """The reason that the stack of the object at *row* is, None where it has none."""
        return self._reasons.get(row)

    def of(self, reason: Reason) -> list[int]:
        """The rows of the objects whose stacks are this reason."""
        return [row for row, other in self._reasons.items() if other == reason]

    def closed(self, reason: Reason) -> list[int]:
        """Those of them that their own stack leads back to."""
        return [row for row in self.of(reason) if self._closing(row)]

    def visits_of_fixed(self, rows: Iterable[int]) -> dict[int, list[int]]:
        """By row, the visits that there would be besides if the objects *rows* visited their stacks and took part."""
        found: defaultdict[int, list[int]] = defaultdict(list)
        for row in rows:
            found[row] += [target for target, _ in self._owns[row]]
            for visitor in self._overlooked[row]:
                found[visitor].append(row)
        return dict(found)

    @cached_property
    def _overlooked(self) -> dict[int, list[int]]:
        # Who visits the objects, as long as that counts for nothing.
        found: dict[int, list[int]] = {row: [] for row in self.rows}
        addresses = {self._stop.heap.objects.addresses[row]: row for row in self.rows if row in self._visits.ignored}
        for place, target in enumerate(self._visits.targets if addresses else ()):
            if target in addresses:
                found[addresses[target]].append(bisect_right(self._visits.starts, place) - 1)
        return found

    @cached_property
    def _counted(self) -> frozenset[int]:
        return frozenset(reference.place for owned in self._owns.values() for _, reference in owned)

    def is_counted(self, reference: Reference) -> bool:
        """Whether a count stands for the word on a stack."""
        return reference.place in self._counted

    def places(self, row: int) -> tuple[tuple[str, int], ...]:
        """File and line of each frame of the stack of the object at *row*."""
        held = self._stop.suspended.held(self._stop.heap.objects.addresses[row])
        return tuple((each.frame.file, each.frame.line) for each in held if each.frame is not None)

    def told(self, row: int) -> Stack:
        """The stack of the object at *row*, and how it closes the cycle."""
        stop = self._stop
        address = stop.heap.objects.addresses[row]
        closing = {reference.place: (target, reference) for target, reference in self._closing(row)}
        frames = []
        for each in stop.suspended.held(address):
            if each.frame is None:
                continue
            holding = [
                HeldBy(reference.label.rsplit(" of ", 1)[0], self._way(row, closing[reference.place][0]))
                for reference in each.references
                if reference.place in closing
            ]
            frames.append(StackFrame(each.frame.function, each.frame.file, each.frame.line, holding))
        in_frames = {reference.place for each in stop.suspended.held(address) for reference in each.references}
        slots = [
            HeldBy(reference.label, self._way(row, target))
            for place, (target, reference) in closing.items()
            if place not in in_frames
        ]
        return Stack(frames, slots, row in self._visits.ignored)

    def _way(self, row: int, target: int) -> str:
        # How what the stack holds leads back to its owner.
        rows = shortest_cycle(self.edges, row, second=target)
        if target == row or not rows:
            return "itself"
        objects = self._stop.heap.objects
        text = ""
        steps = rows[1:]
        for number, source in enumerate(steps[:_CYCLE]):
            following = objects.addresses[steps[number + 1] if number + 1 < len(steps) else row]
            label = next(
                (
                    each.label
                    for each in self._referrers.references(objects.addresses[source])
                    if each.target == following
                ),
                "?",
            )
            name = self._stop.texts.type_name(objects.types[source])
            text += f"{name} ({label}) → "
        return text + ("… → " if len(steps) > _CYCLE else "") + "itself"
