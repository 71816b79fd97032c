"""What the collector decides on objects, replayed; and whether CPython's own collector decides alike."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from refdbg.analysis.collector import Replay, replay
from refdbg.cpython.collection import Running
from refdbg.cpython.stop import Stop
from refdbg.cpython.traverse import Traverse, undecided_types
from refdbg.cpython.untracked import collected
from refdbg.graph.edges import Edges
from refdbg.graph.objects import Objects
from refdbg.graph.paths import transposed
from refdbg.graph.rows import Rows
from refdbg.records import Collection

_NAMED = 5  # objects of a warning


@dataclass
class Decision:
    """The collector's decision on *objects*. *visits*: their visits of each other, by row; *undecided*: the names of
    types of which these are not known."""

    objects: Objects
    visits: Edges
    replay: Replay
    undecided: list[str]

    @cached_property
    def row_of(self) -> dict[int, int]:
        """Rows by address (``PyObject *``)."""
        return {address: row for row, address in enumerate(self.objects.addresses)}

    @cached_property
    def visitors(self) -> Edges:
        """By row, the rows that visit it."""
        return transposed(self.visits)


def decide(stop: Stop, objects: Objects) -> Decision:
    """Replay a collection of *objects*. Raises EmulationError, MissingDependency."""
    traverse = Traverse(stop)
    visited = traverse.visits(objects.addresses, objects.types)
    visits = visited.edges(Rows(objects.addresses))
    decided = replay(objects.refcounts, visits, range(len(objects)), stop.runtime.immortal_count)
    return Decision(objects, visits, decided, list(undecided_types(stop, visited, objects.types)))


@dataclass
class _Compared:
    decision: Decision
    differences: list[str] = field(default_factory=list)
    subtracted: bool = False


class Agreement:
    """Replays each collection when the collector begins to look for garbage, and compares what it then finds.

    Its methods are what a Listener needs. *checked*: collections so far; *warnings*: the disagreements.
    """

    def __init__(self) -> None:
        self.checked = 0
        self.warnings: list[str] = []
        self._compared: dict[int, _Compared] = {}  # by thread
        self._named: set[str] = set()

    def examine(self, running: Running) -> None:
        """The collector is about to look for garbage. Raises EmulationError, MissingDependency."""
        self._compared.pop(running.thread, None)
        self._compared[running.thread] = _Compared(
            decide(running.stop, collected(running.stop, running.examined or Objects()))
        )

    def subtracted(self, running: Running) -> None:
        """It has subtracted the visits from all counts."""
        compared = self._compared.get(running.thread)
        if compared is None or compared.subtracted:
            return  # for the second time: of what the finalizers were called for
        compared.subtracted = True
        decision, lists = compared.decision, running.stop.lists
        own = {decision.row_of[address]: lists.gc_refs(address) for address in running.subtracted.addresses
               if address in decision.row_of}
        different = [row for row, count in own.items() if count != decision.replay.gc_refs[row]]
        if different:
            names = [
                f"{described(running.stop, decision.objects.addresses[row])} "
                f"(gc_refs {own[row]}, replayed {decision.replay.gc_refs[row]})" for row in different
            ]
            text = f"after the visits were subtracted {self._list(names)} had another gc_refs than in the replay"
            visitors = _common_visitors(running.stop, decision, different)
            if visitors:
                text += f", and what visits {'it' if len(different) == 1 else 'each of them'} is: {', '.join(visitors)}"
            compared.differences.append(text)

    def deduced(self, running: Running) -> None:
        """It has found what is unreachable."""
        compared = self._compared.get(running.thread)
        if compared is None or running.deduced is None:
            return
        decision = compared.decision
        own = set(running.deduced.addresses)
        replayed = {decision.objects.addresses[row] for row in decision.replay.unreachable}
        for only, what in (
            (replayed - own, "it kept {}, unreachable in the replay"),
            (own - replayed, "it found {} unreachable, reachable in the replay"),
        ):
            if only:
                names = [described(running.stop, address) for address in sorted(only)]
                compared.differences.append(what.format(self._list(names)))
        if compared.differences and decision.undecided:
            compared.differences.append(
                f"what {', '.join(decision.undecided)} objects visit is undecided, which may be the reason"
            )

    def ended(self, running: Running, record: Collection) -> None:
        """The collection is over."""
        compared = self._compared.pop(running.thread, None)
        if compared is None or running.deduced is None:
            return
        self.checked += 1
        if compared.differences:
            where = f" in {record.frame.function} ({record.frame.file}:{record.frame.line})" if record.frame else ""
            self.warnings.append(
                f"collection #{record.number} of generation {record.generation} ({record.reason}{where}) decided "
                f"otherwise than the replayed collector: {'; '.join(compared.differences)}."
            )

    def summary(self) -> str:
        """How many collections were checked, and how many disagreed."""
        if not self.checked:
            return "No collection was replayed."
        number = f"{self.checked} collection{' was' if self.checked == 1 else 's were'} replayed"
        return f"{number}; {f'{len(self.warnings)} decided otherwise' if self.warnings else 'all decided alike'}."

    def _list(self, names: list[str]) -> str:
        # Each object is named once: it is kept again by every later collection.
        new = [name for name in names if name not in self._named][:_NAMED]
        self._named.update(new)
        rest = len(names) - len(new)
        if not new:
            return f"{rest} objects (see above)"
        return ", ".join(new) + (f" and {rest} more" if rest else "")


def described(stop: Stop, address: int) -> str:
    """The object (``PyObject *``) in a sentence."""
    text = stop.texts.repr(address)
    name = stop.texts.type_name(stop.texts.type_of(address).address)
    return f"{name} {text}" + ("" if f"{address:#x}" in text else f" at {address:#x}")


def _common_visitors(stop: Stop, decision: Decision, rows: list[int]) -> list[str]:
    # The types of which an object visits each of the rows: the collector may have left these visits out.
    types = [{decision.objects.types[visitor] for visitor in decision.visitors.of(row)} for row in rows]
    return sorted(stop.texts.type_name(type_) for type_ in set.intersection(*types))
