"""Why what is new stays: the verdicts on objects that a running program has made and not let go."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field

from refdbg.answers import HolderPath
from refdbg.commands.explain import distinct
from refdbg.commands.last_collection import LastCollection
from refdbg.commands.left_over import VERDICTS, Keeper, LeftOver
from refdbg.commands.references import References
from refdbg.commands.why import best_way
from refdbg.cpython import describe
from refdbg.cpython.fields import CARRIERS
from refdbg.cpython.holders import SURE, strength
from refdbg.cpython.owned import Owned
from refdbg.cpython.places import runtime_name
from refdbg.cpython.referrers import Referrers
from refdbg.cpython.stop import Stop
from refdbg.graph.objects import Objects
from refdbg.records import Finding
from refdbg.verdicts import grown


def explain_growth(
    stop: Stop, new: Objects, limit: int, apart: Container[int] = frozenset()
) -> tuple[list[Finding], list[str]]:
    """Who holds the objects *new*, and notes on what the findings do not explain. Raises RefdbgError.

    *limit*: how many objects a finding lists; *apart*: what is held through these is none's leak (``PyObject *``).
    """
    references = References(stop)

    def keeper(owner: int) -> Keeper | None:
        way = best_way(stop, references, owner)
        return _keeper(stop, way, apart) if way is not None else None

    left = LeftOver(stop, new, 0, keeper)
    held = left.explain(limit)
    stays = left.stays(held.rest)
    notes = list(held.notes)
    if len(held.rest) > len(stays):
        notes.append(f"{len(held.rest) - len(stays)} new objects are garbage that the next collection frees.")
    if not len(stays):
        return held.findings, notes
    collection = LastCollection(stop, stop.tracked(), stop, stays, left.held(stays))
    kept, more = collection.findings(0, limit)
    return held.findings + kept, notes + more


def _keeper(stop: Stop, way: HolderPath, apart: Container[int]) -> Keeper | None:
    # How a program would spell the way.
    verdict = VERDICTS.get(way.holder.kind)
    if verdict is None or any(step.object.address in apart for step in way.steps[:2]):  # a cell is one step
        return None
    name, of, whose = way.holder.label.partition(" of ")
    labels = [step.label for step in way.steps[1:]]
    if not CARRIERS.isdisjoint([name.rpartition(".")[2], *labels]):
        return None  # a table of weak references, a cache
    for label in labels:
        name += label if label.startswith("[") else f".{label}"
    path = name if verdict == "state-reference" else name + of + whose
    word = stop.statics.word_at(way.holder.place) if verdict == "static-reference" else None
    return Keeper(verdict, path, word.library if word else "")


@dataclass(frozen=True)
class Words:
    """In how many words of the process some objects stand, by address (``PyObject *``).

    *sure*: objects, states, variables and frames; *unsure*: stacks and memory of C code, where old words linger;
    *owners*: in how many of an object, by that object's address and the other's.
    """

    sure: Counter[int] = field(default_factory=Counter)
    unsure: Counter[int] = field(default_factory=Counter)
    owners: Counter[tuple[int, int]] = field(default_factory=Counter)

    def more_than(self, then: Words, address: int) -> int:
        """How many more there are of one object than there were *then*; unsure ones that are gone held nothing."""
        more = max(self.unsure[address] - then.unsure[address], 0)
        return self.sure[address] - then.sure[address] + more

    def kept_since(self, then: Words) -> dict[int, Counter[int]]:
        """By the objects that held it *then*, and hold more of it now: how many more references to each object."""
        found: defaultdict[int, Counter[int]] = defaultdict(Counter)
        for (owner, address), number in then.owners.items():
            if self.owners[owner, address] > number:
                found[owner][address] = self.owners[owner, address] - number
        return found


def words(stop: Stop, addresses: Iterable[int]) -> Words:
    """The words that refer to each of the *addresses* (``PyObject *``) and may own that reference."""
    referrers = Referrers(stop, Owned(stop.texts, lambda: stop.heap), stop.known)
    found = Words()
    for address, holders in referrers.of_many(list(addresses)).items():
        for holder in holders:
            if holder.kind != "borrowed":
                (found.sure if holder.exact or strength(holder) == SURE else found.unsure)[address] += 1
            if holder.kind == "object" and holder.exact:
                found.owners[holder.owner, address] += 1
    return found


def explain_kept(
    stop: Stop, kept: Mapping[int, Mapping[int, int]], apart: Container[int] = frozenset()
) -> list[Finding]:
    """The verdicts on objects that were there before and keep more of others that were, in each repetition.

    By the address of the one that keeps: by that of the other, how many references more (``PyObject *``).
    """
    references = References(stop)
    found = []
    for owner, targets in kept.items():
        way = best_way(stop, references, owner)
        keeper = _keeper(stop, way, apart) if way is not None else None
        if keeper is not None:
            most = sorted(targets, key=lambda address: -targets[address])
            found.append(grown.kept(
                keeper.verdict, keeper.path, keeper.library, describe.row(stop, owner),
                [describe.row(stop, address) for address in most], sum(targets.values()),
            ))
    return distinct(found)


def explain_gains(stop: Stop, gained: Mapping[int, int]) -> list[Finding]:
    """The verdicts on objects that were there before and *gained* references that stand in no word of the process.

    By address (``PyObject *``): how many in each repetition.
    """
    return distinct([
        grown.finding(describe.row(stop, address), static_name(stop, address), each) for address, each in gained.items()
    ])


def static_name(stop: Stop, address: int) -> str:
    """The C variable that an object (``PyObject *``) is, "" where it is none of its own."""
    name = "" if address in stop.heap.index else runtime_name(stop.runtime, address) or ""
    return "" if "+" in name else name
