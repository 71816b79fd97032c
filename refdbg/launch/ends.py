"""Watches the collector and the ends of interpreters, and says why they leave over what they do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from refdbg.cpython.census import kinds
from refdbg.cpython.collection import CollectionWatch, Listener, Running, garbage, outlived
from refdbg.cpython.finalization import FinalizationWatch, LastEntry
from refdbg.cpython.runtime import Build, Interpreter
from refdbg.cpython.stop import Stop
from refdbg.errors import DecisionInlined
from refdbg.graph.objects import Coverage, Objects
from refdbg.records import Collection, Evidence, Finding, TotalLine
from refdbg.target import Breakpoint, Change, NativeFrame, Session, Target

if TYPE_CHECKING:
    from refdbg.commands.decision import Agreement
    from refdbg.commands.left_over import LeftOver
    from refdbg.commands.not_cleared import Outlived
    from refdbg.commands.not_freed import NotFreed

_MAKER = "interpreter"  # the evidence of who made it
_MAKERS = 5  # of the interpreters that leak alike, besides the newest


_RELEASE_FRAMES = 14  # of the C stack that has released what an interpreter's state held


@dataclass
class _Seen:
    # What one program has shown so far.
    collections: list[Collection] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    released: dict[str, list[NativeFrame]] = field(default_factory=dict)  # by signature: who did it, too late
    not_freed: NotFreed | None = None
    outlived: Outlived | None = None
    explained: dict[tuple[Any, ...], set[str]] = field(default_factory=dict)  # by what was left over: the signatures
    alike: int = 0  # interpreters that have left over the same as one that was explained


class Ends:
    """From when it is made until it is deleted."""

    def __init__(
        self, session: Session, build: Callable[[Target], Build], limit: int, check: bool = False,
        look: Callable[[Target], None] = lambda target: None,
        left: Callable[[Stop, Objects, int], None] | None = None, only_at_ends: bool = False,
    ) -> None:
        """*limit*: how many objects are listed one by one; *check*: replay each collection's decision.

        *look* is called with the process at each collection, *left* with what each interpreter leaves over and its
        number. *only_at_ends*: of collections watch those only in which an interpreter is finalized, and examine one of
        the interpreters that leave over the same. Raises NotPython.
        """
        self._session = session
        self._limit = limit
        self._look = look
        self._left = left
        self._only_at_ends = only_at_ends
        self._seen = _Seen()
        self._agreement: Agreement | None = None
        self._left_by_subinterpreters: set[int] = set()
        self._late: dict[str, int] = {}  # by signature: the field of an interpreter's state to watch
        self._late_watches: list[Breakpoint] = []
        self._balanced: LeftOver | None = None
        listener = Listener(begin=self._begins, finalize=self._finalizing, clear=self._clearing, end=self._ended)
        self._watch = CollectionWatch(
            session, build, self._with_check(listener) if check else listener, limit, only_at_ends
        )
        if check:
            self._check_decisions()
        self._endings = FinalizationWatch(session, build, limit, self._explain, self._owners)

    def delete(self) -> None:
        """Stop watching."""
        self._watch.delete()
        self._endings.delete()
        self._forget_late()

    def forget(self) -> None:
        """Another program runs now: what was recorded is not about it."""
        self._seen = _Seen()
        self._watch.count = 0
        self._endings.forget()

    def under_way(self, thread: int) -> Running | None:
        """The collection that the thread (kernel id) is in the middle of."""
        return self._watch.under_way(thread)

    @property
    def coverage(self) -> Coverage:
        """What could not be read where interpreters ended."""
        return self._endings.coverage

    @property
    def objects(self) -> int:
        """How many objects are left over."""
        return sum(end.left_over.objects for end in self._endings.endings() if end.left_over)

    @property
    def left_by_subinterpreters(self) -> frozenset[int]:
        """What interpreters but the main one have left over (``PyObject *``)."""
        return frozenset(self._left_by_subinterpreters)

    def parts(self) -> dict[str, Any]:
        """Its own parts of a report."""
        ends = self._endings
        return {"collections": self._seen.collections, "interpreters": ends.endings(), "totals": ends.totals}

    def notes(self, traits: Mapping[str, bool], crashed: bool) -> list[str]:
        """What the findings do not explain, and what could not be watched.

        *traits*: the build's, {} when it was not seen to start.
        """
        found = self.unexplained()
        if self._watch.missing and traits:
            found.append(
                f"this build has no {' and no '.join(self._watch.missing)} (optimised away): which objects "
                "a collection finalizes and clears is not known. Use a debug build (Debian: python3.11-dbg)."
            )
        if traits:
            found += self._endings.missing()
        watched = not traits.get("free_threaded") or bool(self._seen.collections)  # not all of these can be
        last = "at_end" if traits.get("debug") else "before_clear"  # an optimised build may go another way from there
        if traits and not crashed and watched and not any(last in end.moments for end in self._endings.endings()):
            found.append(
                "the interpreter was not finalized (os._exit, a signal, or exec): what it leaves over is not known."
            )
        return found

    def unexplained(self) -> list[str]:
        """What the findings do not explain."""
        checked = [*self._agreement.warnings, self._agreement.summary()] if self._agreement is not None else []
        alike = []
        if self._seen.alike:
            who = "another interpreter" if self._seen.alike == 1 else f"{self._seen.alike} more interpreters"
            alike.append(f"{who} left over as many objects of each kind: counted with one before, not examined again.")
        died = self._seen.not_freed.notes(self._ended_all) if self._seen.not_freed is not None else []
        return self._seen.notes + alike + died + self._endings.warnings + checked

    def findings(self) -> list[Finding]:
        """The verdicts so far."""
        seen = self._seen
        found = []
        for each in seen.findings:
            stack = seen.released.get(each.signature)
            if stack:
                from refdbg.verdicts.kept_root import released_by

                source = f"{stack[0].file}:{stack[0].line}" if stack[0].file else ""
                each = released_by(each, stack[0].function, [frame.function for frame in stack[1:]], source)
            found.append(each)
        if seen.outlived is not None:
            found += seen.outlived.findings()
        if seen.not_freed is not None:
            found += seen.not_freed.findings(self._ended_all)
        return found

    @property
    def _ended_all(self) -> bool:
        # Whether it is known what the last interpreter has left over.
        return any(end.id == 0 and end.left_over is not None for end in self._endings.endings())

    def _with_check(self, listener: Listener) -> Listener:
        from refdbg.commands.decision import Agreement  # only a run that asks for it pays for it

        self._agreement = found = Agreement()
        return replace(listener, examine=found.examine, subtracted=found.subtracted, deduced=found.deduced)

    def _check_decisions(self) -> None:
        try:
            self._watch.watch_decision()
        except DecisionInlined as error:
            self._cannot_check(error)

    def _cannot_check(self, error: DecisionInlined) -> None:
        self._agreement = None
        self._seen.notes.append(f"no collection can be checked: {error}. {error.hint}")

    def _begins(self, running: Running) -> bool:
        self._look(running.stop.runtime.target)
        if self._agreement is not None and self._watch.undecidable is not None:
            self._cannot_check(self._watch.undecidable)
        self._endings.collection_begins(running)
        if running.phase == "finalization":
            self._watch_late(running.interpreter)
        return False

    def _forget_late(self) -> None:
        for watch in self._late_watches:
            watch.delete()
        self._late_watches = []

    def _watch_late(self, interpreter: Interpreter) -> None:
        # What earlier interpreters released too late this one releases too: after which collection, and by whom.
        self._forget_late()
        released = self._seen.released
        for signature, offset in self._late.items():
            if signature not in released:
                def changed(change: Change, signature: str = signature) -> None:
                    released[signature] = change.stack(_RELEASE_FRAMES)

                placed = self._session.watch_word(interpreter.address + offset, changed)
                if placed is not None:
                    self._late_watches.append(placed)

    def _finalizing(self, running: Running) -> bool:
        if len(running.unreachable) and running.stack:  # no frame runs when the interpreter ends
            from refdbg.commands.over_visit import at_finalization

            for found in at_finalization(running.stop, running.unreachable, running.interpreter.number):
                if all(found.signature != old.signature for old in self._seen.findings):
                    self._seen.findings.append(found)
        return False

    def _clearing(self, running: Running) -> bool:
        if running.brought_back:
            self._not_freed().brought_back(running)
        return False

    def _not_freed(self) -> NotFreed:
        if self._seen.not_freed is None:
            from refdbg.commands.not_freed import NotFreed  # only a run with such objects pays for it

            self._seen.not_freed = NotFreed(self._limit)
        return self._seen.not_freed

    def _ended(self, running: Running, record: Collection) -> bool:
        self._seen.collections.append(record)
        if len(garbage(running.stop, running.interpreter)) > running.garbage_before:
            self._not_freed().ended(running)
        alive = outlived(running, record.uncollectable)
        if alive:
            from refdbg.commands.not_cleared import Outlived  # only a run with such objects pays for it

            self._seen.outlived = self._seen.outlived or Outlived(self._limit)
            self._seen.outlived.ended(running, record.number, alive)
        if self._agreement is not None:
            self._agreement.ended(running, record)
        return False

    def _explain(self, number: int, last: LastEntry | None, now: Stop, left_over: Objects) -> None:
        from refdbg.commands.explain import explain  # only a run that leaves something over pays for it

        if self._left is not None:
            self._left(now, left_over, number)
        seen = self._seen
        earlier = self._left_by_subinterpreters
        if number:
            earlier.update(left_over.addresses)
        else:
            known = sum(1 for address in left_over.addresses if address in earlier)
            left_over = left_over.pick(
                row for row, address in enumerate(left_over.addresses) if address not in earlier
            )
            if known:
                seen.notes.append(f"{known} objects were left over by subinterpreters: see there.")
        if seen.not_freed is not None:
            seen.not_freed.left_over(left_over)
        alike = self._kinds(now, left_over) if number and self._only_at_ends else ()
        if alike in seen.explained:
            seen.alike += 1
            findings = [found for found in seen.findings if found.signature in seen.explained[alike]]
        else:
            claims = [each.claim for each in (seen.outlived, seen.not_freed) if each is not None]
            why = explain(self._left_over(now, left_over, number), last, self._limit, claims)
            self._late.update(why.late)
            findings = why.findings
            seen.notes += why.notes
            if alike:
                seen.explained[alike] = {found.signature for found in findings}
            if now.allocations.known:
                from refdbg.commands.allocated import with_allocations  # only a run with tracemalloc pays for it

                findings = with_allocations(now, findings)
        made = self._made(number)
        earlier_findings = {found.signature: found for found in seen.findings}
        for each in findings:
            # Every subinterpreter leaks alike: the newest finding stands for all, the first ones have more noise.
            same = earlier_findings.get(each.signature)
            each = replace(each, evidence=each.evidence + made)
            if same is not None:
                seen.findings.remove(same)
                others = [more for more in same.evidence if more.kind == _MAKER and more not in each.evidence]
                each = replace(each, evidence=(each.evidence + others)[: len(each.evidence) + _MAKERS])
                each = replace(each if number else same, repetitions=same.repetitions + 1)
            seen.findings.append(each)

    def _kinds(self, stop: Stop, objects: Objects) -> tuple[Any, ...]:
        # The same for two interpreters that have left over the same: how many of which kind, with how many references.
        return sum(objects.refcounts), *sorted(Counter(kinds(stop, objects, range(len(objects))).values()).items())

    def _made(self, number: int) -> list[Evidence]:
        maker = self._endings.makers.pop(number, None)
        if maker is None or not maker.frames:
            return []
        frames = [f"{frame.file}:{frame.line} in {frame.function}" for frame in maker.frames]
        text = f"the interpreter was made at {', called from '.join(frames)}"
        if maker.at is not None:
            text = f"the interpreter was made in {maker.test} ({maker.at.file}:{maker.at.line})"
        at = maker.at or maker.frames[0]
        return [Evidence(_MAKER, text, {"file": at.file, "line": at.line})]

    def _owners(self, stop: Stop) -> list[TotalLine]:
        return self._left_over(stop, stop.heap.objects, 0).owners()

    def _left_over(self, stop: Stop, objects: Objects, number: int) -> LeftOver:
        # Where the total is printed, the same is asked for twice.
        from refdbg.commands.left_over import LeftOver

        known = self._balanced
        if known is None or known.stop is not stop or known.objects != len(objects):
            known = self._balanced = LeftOver(stop, objects, number)
        return known


def weight(finding: Finding) -> int:
    """How many references it explains, in all interpreters together."""
    return finding.explains.references * finding.repetitions
