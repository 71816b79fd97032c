"""What a program leaves over in each repetition of what it does: regrtest's `-R`, or any loop that counts references.

Runs inside the debugger. The program stops where it asks for the total after a repetition. When one repetition has
grown, every object is looked at, and the interpreters that end in the next one are watched: only that one is slow. What
else that has left is explained if it is still there after one more.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from refdbg.analysis import repetitions
from refdbg.commands.allocated import by_type, with_allocations
from refdbg.commands.grown import Words, explain_gains, explain_growth, explain_kept, static_name, words
from refdbg.cpython import describe, regrtest
from refdbg.cpython.census import by_kind, kinds, sorts
from refdbg.cpython.collection import Running, watch_calls
from refdbg.cpython.events import GET_TOTAL
from refdbg.cpython.heap import Pages
from refdbg.cpython.regrtest import Repetition
from refdbg.cpython.runtime import Build
from refdbg.cpython.stop import Stop
from refdbg.cpython.total import contributions, reported_total, totals
from refdbg.errors import NotPython, SymbolNotFound
from refdbg.graph.objects import Coverage, Objects
from refdbg.launch.ends import Ends, weight
from refdbg.launch.per_test import Births, Gains, PerTest, from_tests, test_rows
from refdbg.records import Finding, Growth, Repetitions, TestRow, TotalLine
from refdbg.target import Hit, Session, Target

_POINTS = 4  # one that grows needs the total before it; then the one that is watched, and one more
_ROWS = 20
_SKIPPED = "tracemalloc is on: CPython's own tests skip what makes subinterpreters (test.support.run_in_subinterp)."
_UNCOUNTED = (
    "a release build counts no references: the numbers are sums of the counts that refdbg has read, of immortal "
    "objects none."
)
_NUMBER = re.compile(r"\d+")
_GAINED = 200  # objects of which it is searched whether what they gain is held


@dataclass
class _Point:
    # The objects at the end of a repetition, static ones by address with their counts, and the lines of the total.
    objects: Objects
    statics: dict[int, int]
    lines: dict[str, int]


@dataclass
class _Series:
    # The repetitions of one test.
    test: str
    warmups: int
    totals: list[int] = field(default_factory=list)
    points: list[_Point] = field(default_factory=list)  # since one has grown: the last three
    ended: Ends | None = None  # what the repetition before the last has shown
    gained: dict[int, int] = field(default_factory=dict)  # what may gain references in each repetition
    words: Words = field(default_factory=Words)  # in how many words these stood
    births: Births | None = None  # in the repetition that was watched
    gains: Gains | None = None  # in the one after it
    explained: bool = False
    growth: Growth | None = None
    tests: list[TestRow] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def growths(self) -> list[int]:
        """By how much the total grew in each repetition but the first."""
        return [after - before for before, after in zip(self.totals, self.totals[1:])]


class Refleak:
    """Watches the repetitions of one program, from when it is made."""

    def __init__(self, session: Session, build: Callable[[Target], Build], limit: int, marker: str = GET_TOTAL) -> None:
        """*marker*: the C function that the program calls after each repetition.

        Raises NotPython when the program has none.
        """
        self._session = session
        self._build = build
        self._limit = limit
        self._marker = marker
        self._done: list[_Series] = []
        self._ends: Ends | None = None
        self._per_test: PerTest | None = None
        self._traced = False
        self.coverage = Coverage()
        try:
            watch_calls(session, build, marker, self._reached)
        except SymbolNotFound as error:
            if marker == GET_TOTAL:
                raise NotPython(
                    "this Python counts no references: it has no sys.gettotalrefcount()",
                    "Use a debug build (Debian: python3.11-dbg; from source: ./configure --with-pydebug), or --marker: "
                    "a C function that the program calls after each repetition (time_sleep for time.sleep(0)).",
                ) from error
            raise NotPython(
                f"the program has no function {marker}, or it never returns (optimised: it jumps into another one)",
                "--marker names a C function of the interpreter: of time.sleep() it is time_sleep.",
            ) from error

    def forget(self) -> None:
        """Another program runs now: what was recorded is not about it."""
        self._done.clear()
        self._disarm()

    @property
    def objects(self) -> int:
        """How many objects a repetition leaves, all tests together."""
        return sum(row.objects for series in self._done if series.growth for row in series.growth.by_type)

    def under_way(self, thread: int) -> Running | None:
        """The collection that the thread (kernel id) is in the middle of, where that is watched."""
        return self._ends.under_way(thread) if self._ends else None

    def parts(self) -> dict[str, Any]:
        """Its own parts of a report."""
        return {"collections": [], "interpreters": [], "totals": None, "repetitions": self.records()}

    def notes(self, traits: Mapping[str, bool], crashed: bool) -> list[str]:
        """Why no repetition was seen, if none was. *traits*: the build's."""
        if self._traced:
            return [_SKIPPED]
        if crashed or not traits or traits["free_threaded"]:
            return []
        if self._done:
            return [] if traits["debug"] else [_UNCOUNTED]
        return [
            f"the program has never called {self._marker}: no repetition was seen. With regrtest use -R 3:3 and no -j: "
            "child processes are not followed."
        ]

    def findings(self) -> list[Finding]:
        """The verdicts of all tests; of equal signatures the first test's."""
        found: dict[str, Finding] = {}
        for series in self._done:
            for finding in series.findings:
                found.setdefault(finding.signature, finding)
        return list(found.values())

    def records(self) -> list[Repetitions]:
        """What each test has shown, in their order."""
        return [self._record(series) for series in self._done]

    def _record(self, series: _Series) -> Repetitions:
        growths = series.growths()
        counted = growths[max(series.warmups - 1, 0) :]
        verdict = repetitions.verdict(counted if series.test else growths)
        notes = list(series.notes)
        if verdict == repetitions.LEAK and series.explained and not series.findings:
            notes.append("no finding explains this growth.")
        if verdict == repetitions.LEAK and not series.explained:
            notes.append(
                f"{len(series.totals)} repetitions are too few to explain it: {_POINTS} are needed. With regrtest use "
                "-R 3:3."
            )
        return Repetitions(
            series.test, self._marker, series.warmups, [None, *growths], verdict, series.growth,
            series.tests, [finding.signature for finding in series.findings], notes,
        )

    def _series(self, at: Repetition | None) -> _Series:
        test, number, warmups = (at.test, at.number, at.warmups) if at is not None else ("", -1, 0)
        newest = self._done[-1] if self._done else None
        if newest is None or newest.test != test or number == 0:
            self._disarm()
            newest = _Series(test, warmups)
            self._done.append(newest)
        return newest

    def _reached(self, hit: Hit) -> bool:
        stop = Stop(self._build(hit.target))
        stop.runtime.build.pages = stop.runtime.build.pages or Pages()  # many stops follow
        if stop.runtime.finalizing(next(iter(stop.runtime.interpreters()))):
            return False
        self._traced = stop.traces.tracing
        at = regrtest.repetition(stop)
        series = self._series(at)
        point = None
        if stop.runtime.traits.debug:
            series.totals.append(reported_total(stop))
        else:  # nobody counts: every object is looked at each time
            point = _point(stop)
            series.totals.append(sum(point.lines.values()))
        grown = series.growths()
        if not grown or grown[-1] < 1:  # not in each repetition
            series.ended = None
            self._disarm()
            return False
        early = at is not None and at.number <= min(at.warmups - 1, at.total - _POINTS)
        if series.explained or (early and self._ends is None):
            return False
        series.points = [*series.points[-2:], point or _point(stop)]
        self.coverage.add(stop.heap.objects.coverage)
        last = self._per_test.test if self._per_test else ""
        if self._ends is not None:
            series.ended = ended = self._ends
            self._disarm()
            if series.births is not None:
                series.births.look(stop, last)
            series.gained = {}
            if not ended.left_by_subinterpreters:  # else what their state held of older objects looks lost
                series.gained, series.words = self._candidates(series, stop)
                series.gains = Gains(stop, series.gained)
                self._per_test = PerTest(self._session, self._build, series.gains.look)
        elif series.ended is not None:
            if series.gains is not None:
                series.gains.look(stop, last)
            self._disarm()
            self._explain(series, series.ended, stop, at.variables if at is not None else frozenset())
            series.ended = None
        else:
            self._ends = Ends(self._session, self._build, self._limit, only_at_ends=True)
            series.births = Births(stop.heap.objects)
            self._per_test = PerTest(self._session, self._build, series.births.look)
        return False

    def _candidates(self, series: _Series, stop: Stop) -> tuple[dict[int, int], Words]:
        # What has gained most, and in how many words that stands.
        before, after = series.points[-2:]
        found = _most(_gained(before, after, repetitions.change(before.objects, after.objects)), _GAINED)
        return found, words(stop, found)

    def _disarm(self) -> None:
        if self._ends is not None:
            self._ends.delete()
            self._ends = None
        if self._per_test is not None:
            self._per_test.delete()
            if self._per_test.last and self._done:
                self._done[-1].notes.append(f"which test left what was told apart up to {self._per_test.last}.")
            self._per_test = None

    def _explain(self, series: _Series, ends: Ends, stop: Stop, variables: Container[int]) -> None:
        # *variables*: what the test runner's own hold (``PyObject *``).
        series.explained = True
        then, middle, now = series.points
        earlier = repetitions.change(then.objects, middle.objects)
        later = repetitions.change(middle.objects, now.objects)
        stays = [
            row for row in repetitions.surviving(middle.objects, earlier.new, now.objects)
            if not _only_held_by(variables, stop, middle.objects.addresses[row])  # the totals themselves
        ]
        old, new = kinds(stop, middle.objects, stays), kinds(stop, now.objects, later.new)
        left, again = Counter(old.values()), Counter(new.values())
        made_again = set(sorts(stop, now.objects, later.new).values())  # a new class has another name each time
        # What only takes the place of others of its type (a counter, a cache that is filled anew) does not leak.
        more = Counter(now.objects.types)
        more.subtract(then.objects.types)
        leaked = [
            row for row, sort in sorts(stop, middle.objects, stays).items()
            if sort in made_again and more[middle.objects.types[row]] > 0
        ]
        series.growth = Growth(
            len(series.totals) - 1, series.growths()[-2], _lines(then, middle, leaked),
            by_kind(middle.objects, leaked, old), all(again[kind] >= number for kind, number in left.items()),
            _older(stop, _gained(then, middle, earlier)),
            by_type(stop, {middle.objects.addresses[row]: old[row] for row in leaked}),
        )
        series.findings = ends.findings()
        series.notes += _alike(ends.unexplained())
        alive = stop.heap.index
        mine = [
            alive[middle.objects.addresses[row]] for row in leaked
            if middle.objects.addresses[row] not in ends.left_by_subinterpreters
        ]
        own: list[Finding] = []
        if mine:
            own, notes = explain_growth(stop, now.objects.pick(mine), self._limit, variables)
            series.notes += notes
        gains = []
        if series.gained:
            gains = _explain_older(series, stop, _gained(middle, now, later), later.new, variables)
        if ends.left_by_subinterpreters:
            series.notes.append(
                "whether references to objects that were there before are lost is not known: interpreters have ended "
                "that may have held them."
            )
        if series.births is not None:
            known = {middle.objects.addresses[row] for row in leaked}
            own = [from_tests(each, series.births.tests_of(row for row in each.objects if row.address in known))
                   for each in own]
            gains = [from_tests(each, series.gains.tests_of(each.objects[0].address, each.explains.references))
                     for each in gains if series.gains is not None]
            series.tests = test_rows(middle.objects, leaked, gains, series.births, series.gains) if series.test else []
        series.findings += with_allocations(stop, own) + gains
        series.findings.sort(key=weight, reverse=True)
        series.points = []


def _explain_older(
    series: _Series, stop: Stop, gained: Mapping[int, int], new: Sequence[int], variables: Container[int]
) -> list[Finding]:
    # What was there before and has gained in two repetitions: words that own it now and did not then, of objects that
    # were there, too; and when it has gained as much in both, what no word owns.
    again = {address: each for address, each in series.gained.items() if gained.get(address, 0) > 0}
    held = words(stop, again)
    made = {stop.heap.objects.addresses[row] for row in new}
    kept = {owner: more for owner, more in held.kept_since(series.words).items() if owner not in made}
    lost = {address: each - held.more_than(series.words, address) for address, each in again.items()}
    return explain_kept(stop, kept, variables) + explain_gains(stop, {
        address: each for address, each in lost.items() if each > 0 and gained[address] == series.gained[address]
    })


def _only_held_by(variables: Container[int], stop: Stop, address: int) -> bool:
    return address in variables and stop.heap.objects.refcounts[stop.heap.index[address]] == 1


def _alike(notes: Sequence[str]) -> list[str]:
    # Notes that differ in their numbers only are one: every interpreter leaves alike.
    groups: dict[str, list[str]] = {}
    for note in notes:
        groups.setdefault(_NUMBER.sub("", note), []).append(note)
    return [
        group[-1] + (f" ({len(group) - 1} more interpreters alike)" if len(group) > 1 else "")
        for group in groups.values()
    ]


def _point(stop: Stop) -> _Point:
    if stop.runtime.traits.debug:
        found = totals(stop, "")
        lines = {line.what: line.references for line in found.lines}
        if found.references_unattributed:
            lines["unattributed"] = found.references_unattributed
    else:
        lines = {line.what: line.references for line in contributions(stop)}
    return _Point(stop.heap.objects, {found.address: found.added for found in stop.statics.objects}, lines)


def _gained(before: _Point, after: _Point, change: repetitions.Change) -> dict[int, int]:
    # By address, how many references objects of the heap and static ones have more than *before*.
    found = dict(change.gained)
    for address, count in after.statics.items():
        if count != before.statics.get(address, count):
            found[address] = count - before.statics[address]
    return found


def _most(gained: Mapping[int, int], limit: int) -> dict[int, int]:
    # Those that have gained most, and have not lost.
    most = sorted(gained.items(), key=lambda item: -item[1])[:limit]
    return {address: each for address, each in most if each > 0}


def _older(stop: Stop, gained: Mapping[int, int]) -> list[TotalLine]:
    found = []
    for address, each in _most(gained, _ROWS).items():
        row = describe.row(stop, address)
        found.append(TotalLine(static_name(stop, address) or f"{row.type} {row.repr}", each))
    return found


def _lines(before: _Point, after: _Point, leaked: Sequence[int]) -> list[TotalLine]:
    # What the growth of the total is made of.
    parts = {what: after.lines.get(what, 0) - before.lines.get(what, 0) for what in {**before.lines, **after.lines}}
    new = sum(after.objects.refcounts[row] for row in leaked)
    found = [
        TotalLine("new objects", new), TotalLine("other objects", parts.pop("heap objects", 0) - new),
        *(TotalLine(what, references) for what, references in parts.items()),
    ]
    return [line for line in found if line.references]
