"""Which test method leaves what: the process is looked at whenever one begins.

A method's share is what has changed until the next one begins, or regrtest cleans up. What sets up another class or
module in between has a share of its own.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from refdbg.cpython.collection import watch_calls, where_supported
from refdbg.cpython.regrtest import SUBCLASSES, cleaning_up
from refdbg.cpython.runtime import Build
from refdbg.cpython.stop import Stop
from refdbg.cpython.test_methods import CLOCK, NOT_ITERABLE, coming, fixtures, starting
from refdbg.errors import SymbolNotFound
from refdbg.graph.objects import Objects
from refdbg.records import Evidence, Finding, ObjectRow, TestRow
from refdbg.target import Breakpoint, Hit, Session, Target

_NAMED = 4
_SECONDS = 20.0  # of a repetition that may go into telling its tests apart


class PerTest:
    """From when it is made until it is deleted. *test*: the one that runs, or the fixtures of a class; "" before the
    first and after the last.
    """

    def __init__(
        self, session: Session, build: Callable[[Target], Build], look: Callable[[Stop, str], None]
    ) -> None:
        """*look(stop, test)* is called when a test begins, and after the last one: *test* ran until then."""
        self._build = build
        self._look = look
        self._spent = 0.0
        self._method = ""  # the newest test method
        self.test = ""
        self.last = ""  # the last test that was told apart, "" when all were
        self._watches: list[Breakpoint] = []
        with suppress(SymbolNotFound):  # no test runner without it
            self._watches = [
                *watch_calls(session, build, CLOCK, self._begins),
                session.break_on(SUBCLASSES, where_supported(build, self._called)),
            ]
            self._watches.append(session.break_on((NOT_ITERABLE,), where_supported(build, self._asked)))

    def delete(self) -> None:
        """Stop watching."""
        for watch in self._watches:
            watch.delete()
        self._watches = []

    def _begins(self, hit: Hit) -> bool:
        stop = Stop(self._build(hit.target))
        test = starting(stop)
        self._method = test or self._method
        self._next(stop, test)
        return False

    def _asked(self, hit: Hit) -> bool:
        stop = Stop(self._build(hit.target))
        test = coming(stop)
        self._next(stop, fixtures(self._method, test) if test else "")
        return False

    def _next(self, stop: Stop, test: str) -> None:
        # *test* begins, "" where none does.
        if test and not self.last:
            began = time.process_time()
            self._look(stop, self.test)
            self._spent += time.process_time() - began
            if self._spent > _SECONDS:
                self.last, test = self.test, ""
            self.test = test

    def _called(self, hit: Hit) -> bool:
        if self.test:
            stop = Stop(self._build(hit.target))
            if cleaning_up(stop):
                self._look(stop, self.test)
                self.test = ""
        return False


class Births:
    """In which test each object was made that is alive."""

    def __init__(self, objects: Objects) -> None:
        """*objects*: those that are alive before the first one."""
        self._alive = _types(objects)
        self._born: dict[int, str] = {}

    def look(self, stop: Stop, test: str) -> None:
        """The *test* is over."""
        alive = _types(stop.heap.objects)
        self._born = {address: was for address, was in self._born.items() if address in alive}
        for address, type_ in alive.items():
            if self._alive.get(address) != type_:
                self._born[address] = test
        self._alive = alive

    def test_of(self, address: int) -> str:
        """The test that made the object, "" where none did (``PyObject *``)."""
        return self._born.get(address, "")

    def tests_of(self, objects: Iterable[ObjectRow]) -> list[str]:
        """The tests that made the objects, the one that made most first."""
        found = Counter(self.test_of(row.address) for row in objects)
        return [test for test, _ in found.most_common() if test]


class Gains:
    """In which test objects gained references."""

    def __init__(self, stop: Stop, addresses: Iterable[int]) -> None:
        """*addresses*: of the objects that are asked about (``PyObject *``)."""
        self._counts = _counts(stop, addresses)
        self._by_test: defaultdict[int, Counter[str]] = defaultdict(Counter)

    def look(self, stop: Stop, test: str) -> None:
        """The *test* is over."""
        now = _counts(stop, self._counts)
        for address, count in now.items():
            self._by_test[address][test] += count - self._counts[address]
        self._counts = now

    def tests_of(self, address: int, gained: int) -> list[str]:
        """The tests that each added as much as all together: one, unless the object's count goes up and down."""
        return [test for test, number in self._by_test[address].items() if test and number == gained]


def from_tests(finding: Finding, tests: Sequence[str]) -> Finding:
    """The finding, with the names of the tests that it comes from as evidence."""
    if not tests:
        return finding
    more = f" and {len(tests) - _NAMED} other tests" if len(tests) > _NAMED else ""
    return replace(finding, evidence=[
        *finding.evidence, Evidence("test", f"it comes from {', '.join(tests[:_NAMED])}{more}")
    ])


def test_rows(
    objects: Objects, added: Sequence[int], lost: Sequence[Finding], births: Births, gains: Gains | None
) -> list[TestRow]:
    """What each test has left: the *added* rows of the objects, and references of older ones that were *lost*."""
    rows: dict[str, TestRow] = {}

    def add(test: str, new: int, references: int, older: int) -> None:
        row = rows.get(test, TestRow(test, 0, 0, 0))
        rows[test] = TestRow(test, row.objects + new, row.references + references, row.older + older)

    for row in added:
        add(births.test_of(objects.addresses[row]), 1, objects.refcounts[row], 0)
    for each in lost:
        tests = gains.tests_of(each.objects[0].address, each.explains.references) if gains is not None else []
        add(tests[0] if len(tests) == 1 else "", 0, 0, each.explains.references)
    return sorted(rows.values(), key=lambda row: (not row.test, -row.references - row.older, row.test))


def _types(objects: Objects) -> dict[int, int]:
    return dict(zip(objects.addresses, objects.types))


def _counts(stop: Stop, addresses: Iterable[int] | Mapping[int, int]) -> dict[int, int]:
    counts, memory = stop.runtime.build.counts, stop.runtime.memory
    return {address: counts.of(memory, address) & 0xFFFF_FFFF for address in addresses}
