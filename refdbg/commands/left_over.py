"""Who holds what is left over at an interpreter's end: joins the decoded process, the analysis and the verdicts."""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate, compress, islice, repeat
from operator import add, eq, sub

from refdbg.analysis.balance import Trust
from refdbg.analysis.collector import Release
from refdbg.analysis.retention import Share, shares
from refdbg.commands.account import Account, accounts, trust, visitors_of
from refdbg.commands.finding_graph import NODES, Holding, Sources, finding_graph, spread
from refdbg.cpython import describe
from refdbg.cpython.collection import object_rows
from refdbg.cpython.owned import Owned, Reference
from refdbg.cpython.referrers import Holder, Referrers
from refdbg.cpython.stop import AbandonedFrame, Stop, module_definition
from refdbg.cpython.total import is_interned
from refdbg.cpython.traverse import Traverse
from refdbg.cpython.untracked import GivenUp
from refdbg.dependencies import vectors
from refdbg.errors import MemoryFault
from refdbg.graph.edges import Edges, Marks
from refdbg.graph.objects import Objects
from refdbg.graph.rows import NO_ROW, Rows
from refdbg.records import Explains, Finding, FindingGraph, TotalLine
from refdbg.target import Variable
from refdbg.verdicts.outside import Outside, finding

VERDICTS = {
    "static": "static-reference", "runtime": "state-reference", "interpreter": "state-reference",
    "thread": "state-reference", "block": "native-reference", "stack": "stack-reference",
    "memory": "native-reference", "frame": "stack-reference", "abandoned frame": "stack-reference",
}
_KERNEL_ID = re.compile(r" \(kernel id \d+\)")  # another one in each run
_ROOTS_DRAWN = 8  # of what one holder holds


@dataclass(frozen=True)
class LetGo:
    """Holders that are taken away: their *words*, by address, and the *references* to each object (``PyObject *``)."""

    words: frozenset[int] = frozenset()
    references: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Keeper:
    """What keeps an object alive: the *verdict* on its kind, its name and *path*, and the library of a C variable."""

    verdict: str
    path: str
    library: str


@dataclass(frozen=True)
class Explained:
    """The findings, the notes on what they do not explain, and the objects that nothing from outside holds.

    *weak*: how many objects only words hold that are often stale, on stacks and in memory of nobody known. *let_go*:
    where the rest stays even without the holders of the findings: these words, by address, and how many references
    they and the lost ones are of each object (``PyObject *``).
    """

    findings: list[Finding]
    notes: list[str]
    rest: Objects
    weak: int
    let_go: LetGo


@dataclass(frozen=True)
class _Group:
    # One holder from outside. *owner*: a C variable, a state's field, a thread; *library*: its file's name. *weak*: the
    # words are on stacks, or in memory that nobody is known to use; *sure*: they were seen to be a thread's frames.
    # *older*: the object that holds (``PyObject *``), where it is none of those left over.
    verdict: str
    owner: str
    library: str = ""
    weak: bool = False
    sure: bool = False
    older: int = 0


_OWNERS = {
    "kept by design": "fields of static objects", "held by other objects": "objects that are not left over",
    "static-reference": "C variables", "state-reference": "interpreter state", "native-reference": "memory of C code",
    "stack-reference": "frames and stacks", "lost-reference": "nobody", "given up": "collectors that have ended",
    "not read": "nobody, or what cannot be read",
}
_DESIGN = _Group("kept by design", "")
_OTHERS = _Group("held by other objects", "")
_NOT_READ = _Group("not read", "")  # no word was found, and not all memory could be read
_GIVEN_UP = _Group("given up", "")
_NO_FINDING = (_DESIGN, _OTHERS, _NOT_READ, _GIVEN_UP)
_ELSEWHERE = 3  # objects that are not left over and hold most
_KEEPERS = 8  # objects whose keeper is searched: those that hold most


class LeftOver:
    """The objects that are left over at a stop, with the balance of each."""

    def __init__(
        self, stop: Stop, left: Objects, interpreter: int, keeper: Callable[[int], Keeper | None] | None = None
    ) -> None:
        """*keeper*: what keeps an object alive that is not left over (``PyObject *``), and holds one that is; without
        it such holders are only counted. Raises RefdbgError.
        """
        self.stop = stop
        self._keeper = keeper
        self._keepers: dict[int, _Group] = {}  # by the object that holds
        self._asked: set[int] = set()  # of these objects the keeper is searched
        self._left = left
        self.objects = len(left)
        self.interpreter = interpreter
        heap = stop.heap
        self._row_of = heap.index if left is heap.objects else Rows(left.addresses)
        # Immortal objects are in no total, and nobody's references to them are counted.
        immortal = stop.runtime.immortal_count
        self._immortal = [
            row for row, count in enumerate(left.refcounts if immortal is not None else ())
            if stop.runtime.is_immortal(count)
        ]
        self._counts = [0 if immortal is not None and count >= immortal else count for count in left.refcounts]
        self._known = stop.known
        self._referrers = Referrers(stop, Owned(stop.texts, lambda: stop.heap), self._known)
        rows = self._row_of.of(self._known.targets)
        self._accounts: dict[int, Account] = {}  # of the objects whose known owners are not as many as references
        self._edges, self._direct = self._graph(rows)
        self._held = self._references(rows)

    def explain(self, limit: int, only: str = "") -> Explained:
        """Who holds them. *limit*: how many objects a finding lists; *only*: findings of this verdict."""
        taken = Marks(len(self._left))
        design = self._edges.flood([*self._direct.get(_DESIGN, ()), *self._immortal], taken).marks
        others = self._edges.flood(self._direct.get(_OTHERS, ()), taken).marks
        for group in (_NOT_READ, _GIVEN_UP):
            self._edges.flood(self._direct.get(group, ()), taken)
        groups = sorted(self._direct.keys() - set(_NO_FINDING), key=lambda group: (group.owner, group.library))
        mortal = sum(map(bool, compress(self._counts, design)))
        found: list[Share] = []
        # A thread that runs on explains more than what its C code has in memory. Weak words are often stale: they
        # explain what nothing else does.
        for tier in ((True, False), (False, False), (False, True)):
            held_by = {
                number: list(self._direct[group])
                for number, group in enumerate(groups) if (group.sure, group.weak) == tier
            }
            found += shares(held_by, self._edges, self._held, taken)
            for share in found:
                taken.set(share.rows, 1)
        # What stays even when every holder lets go is kept by something that no count shows: the last collection tells.
        stuck: set[int] = set()
        if found and not only:
            stuck = set().union(*(share.rows for share in found)) - self._released
            stuck.difference_update(*(share.roots for share in found))
            taken.set(stuck, 0)
        findings = [
            self._finding(groups[share.holder], share.rows - stuck, limit)
            for share in found if only in ("", groups[share.holder].verdict)
        ]
        notes = []
        if mortal:
            direct = self._direct.get(_DESIGN, Counter())
            references = sum(direct.values()) + sum(compress(self._held, design))
            notes.append(
                f"{references} references of {mortal} objects are kept by design: static types and other static "
                f"objects hold them{self._designers(direct)}{self._became_immortal()}."
            )
        if self._immortal and not self.stop.runtime.traits.debug:  # a debug build frees the interned ones
            notes.append(
                f"{len(self._immortal)} immortal objects are left over by design: a release build never frees them, "
                "and who refers to them is not counted."
            )
        if any(others):
            references = sum(self._direct[_OTHERS].values()) + sum(compress(self._held, others))
            notes.append(
                f"{references} references of {sum(others)} objects: objects that are not left over hold them"
                f"{self._holders_elsewhere()}."
            )
        notes += self.given_up()
        notes += self.not_read()
        weak = sum(len(share.rows) for share in found if groups[share.holder].weak)
        rest = self._left.pick(row for row, mark in enumerate(taken.marks) if not mark)
        return Explained(findings, notes, rest, weak, self._let_go() if stuck else LetGo())

    def given_up(self) -> list[str]:
        """A note where interpreters that have ended left objects that are never freed."""
        found = self._direct.get(_GIVEN_UP)
        if not found:
            return []
        return [
            f"{len(found)} objects were left over by interpreters that have ended: their collectors gave them up, each "
            "with a reference that nobody holds (gc_fini_untrack, on purpose). What had kept them refdbg-run tells."
        ]

    def not_read(self) -> list[str]:
        """A note where references stand in no word, and not every word could be read."""
        found = self._direct.get(_NOT_READ)
        if not found:
            return []
        return [
            f"{sum(found.values())} references of {len(found)} objects stand in no word that was read, and not all "
            "memory could be read: whether they are lost is not known."
        ]

    def _became_immortal(self) -> str:
        # With the first thread of a free-threaded build (3.13, gh-117783) code, functions and types become immortal.
        if not self.stop.runtime.traits.free_threaded:
            return ""
        starts = self._edges.starts
        holding = sum(starts[row] < starts[row + 1] for row in self._immortal)
        return f", and so do {holding} objects that became immortal" if holding else ""

    def _let_go(self) -> LetGo:
        words = {
            holder.place for group, direct in self._direct.items() if group not in _NO_FINDING
            for row in direct for holder in self._holders(group, row)
        }
        return LetGo(frozenset(words), {self._left.addresses[row]: n for row, n in self._all_direct.items()})

    def owners(self) -> list[TotalLine]:
        """Who holds the references to the objects, each reference once."""
        found: Counter[str] = Counter({"left-over objects": len(self._edges.targets)})
        for group, direct in self._direct.items():
            found[_OWNERS[group.verdict]] += sum(direct.values())
        return [TotalLine(what, number) for what, number in found.items()]

    def behind(self, rest: Objects, roots: Objects) -> Objects:
        """Those of the objects *rest* that the *roots* reach, themselves included."""
        reached = self._edges.reach([self._row_of[address] for address in roots.addresses if address in self._row_of])
        return rest.pick(row for row, address in enumerate(rest.addresses) if self._row_of[address] in reached)

    def stays(self, rest: Objects) -> Objects:
        """Those of the objects *rest* that a collection would not free."""
        freed = self._release.garbage
        return rest.pick(row for row, address in enumerate(rest.addresses) if self._row_of[address] not in freed)

    def held(self, rest: Objects) -> dict[int, int]:
        """How many references each of the objects *rest* holds (``PyObject *``)."""
        return {address: self._held[self._row_of[address]] for address in rest.addresses}

    def _graph(self, rows: array[int]) -> tuple[Edges, dict[_Group, Counter[int]]]:
        # The references between the objects, and how many each object has from each holder outside. *rows*: of what
        # the known references refer to.
        closed = self._closed(rows)
        edges = Edges(self._known.starts, rows).only(closed)
        direct: defaultdict[_Group, Counter[int]] = defaultdict(Counter)
        if self._left is not self.stop.heap.objects:
            mine = self.stop.heap.index.of(self._left.addresses)
            known = Counter(edges.targets)
            edges = edges.pick(mine)
            known.subtract(edges.targets)
            held = {row: number for row, number in known.items() if number}
            if self._keeper is None:
                direct[_OTHERS].update(held)
            else:  # which objects these are, their accounts tell
                for row in held:
                    closed[row] = 0
                edges = edges.only(closed)
        self._accounts = accounts(
            self._referrers,
            {address: count for address, count, done in zip(self._left.addresses, self._counts, closed)
             if count and not done},
        )
        self._accounts.update(self._with_visits())
        if self._keeper is not None:
            owners = Counter(
                holder.owner for account in self._accounts.values() for holder in account.standing()
                if holder.kind == "object" and holder.owner not in self._row_of
            )
            self._asked = {owner for owner, _ in owners.most_common(_KEEPERS)}
        given_up = GivenUp(self.stop)
        outgoing: defaultdict[int, list[int]] = defaultdict(list)
        for address, account in self._accounts.items():
            row = self._row_of[address]
            for holder in account.standing():
                owner = self._row_of.get(holder.owner)
                if owner != NO_ROW and holder.kind == "object":
                    outgoing[owner].append(row)
                else:
                    direct[self._group(holder, row)][row] += 1
            if account.balance.lost:
                lost = account.balance.lost
                if given_up.has(address, self._left.types[row]):
                    direct[_GIVEN_UP][row] = 1
                    lost -= 1
                blind = self.stop.heap.objects.coverage.unreadable
                group = _NOT_READ if blind else _Group("lost-reference", self._victim(row))
                if lost:
                    direct[group][row] += lost
        return edges.plus(outgoing), {group: rows for group, rows in direct.items() if rows}

    def _with_visits(self) -> dict[int, Account]:
        # The accounts of what seems lost, or held from outside by a word that need not own: a tp_traverse may report
        # references that stand in no such word (tagged pointers, a block that a library packs, a table of handles).
        doubtful = [
            address for address, account in self._accounts.items()
            if account.balance.lost or any(
                holder.kind != "object" and not holder.exact and self._group(holder, self._row_of[address]) != _DESIGN
                for holder in account.standing()
            )
        ]
        visitors = visitors_of(self.stop, doubtful)
        return {
            address: self._accounts[address].with_visits(visitors[address]) for address in doubtful
            if visitors[address]
        }

    def _closed(self, rows: array[int]) -> bytearray:
        # By row: whether as many words are known to own as the object has references. No other word owns one then.
        np = vectors(len(rows))
        if np is not None:
            number = np.bincount(np.frombuffer(rows, "i8") + 1, minlength=len(self._left) + 1)[1:]
            counts = np.array(self._counts, "i8")
            return bytearray(((number == counts) & (counts != 0)).astype("u1").tobytes() + b"\0")
        known = [0] * (len(self._left) + 1)  # the last one is what is not left over
        for row in rows:
            known[row] += 1
        closed = bytearray(map(eq, known, self._counts))
        for row, count in enumerate(self._counts):
            if not count:
                closed[row] = 0
        closed.append(0)
        return closed

    def _group(self, holder: Holder, row: int) -> _Group:
        if holder.kind == "object" and self.stop.statics.object_at(holder.owner) is None:
            return self._kept_by(holder.owner)
        if holder.kind == "object" or (holder.exact and not (holder.kind == "frame" and self._keeper)):
            return _DESIGN  # frames keep what they use; of what is new that is worth a word
        verdict = VERDICTS[holder.kind]
        if holder.kind == "static":
            word = self.stop.statics.word_at(holder.place)
            if is_interned(self.stop, self._left.addresses[row], self._left.types[row]):
                return _DESIGN  # a C identifier (Include/internal/pycore_object.h and cpython/object.h, _Py_Identifier)
            if word is not None:
                return _Group(verdict, word.symbol or f"{word.address:#x}", word.library)
        if verdict == "state-reference":
            # One for each member of the state, however many fields that has: PyInterpreterState.ast.
            return _Group(verdict, ".".join(holder.label.split(" of ", 1)[0].split("[")[0].split(".")[:2]))
        frame = self._abandoned(holder, row)
        if frame is not None:
            return _Group("stack-reference", frame.thread, sure=True)
        owner = self._victim(row) if verdict == "native-reference" else _KERNEL_ID.sub("", holder.label)
        return _Group(verdict, owner, weak=trust(holder) is Trust.STACK)

    def _kept_by(self, owner: int) -> _Group:
        if self._keeper is None or owner not in self._asked:
            return _OTHERS
        if owner not in self._keepers:
            found = self._keeper(owner)
            self._keepers[owner] = (
                _OTHERS if found is None else _Group(found.verdict, found.path, found.library, older=owner)
            )
        return self._keepers[owner]

    def _abandoned(self, holder: Holder, row: int) -> AbandonedFrame | None:
        # The frame that the holder is a part of, or (until 3.10) that a C stack holds.
        known = self.stop.abandoned
        if holder.place in known.words:
            return known.words[holder.place][1]
        return known.objects.get(self._left.addresses[row]) if trust(holder) is Trust.STACK else None

    def _depth(self, holder: Holder | None, row: int) -> tuple[bool, int]:
        # The program's own variables come first, those of the innermost frame before others.
        frame = self._abandoned(holder, row) if holder else None
        if holder is None or frame is None:
            return True, 0
        return not holder.label.startswith("local "), list(self.stop.abandoned.objects.values()).index(frame)

    def _path(self, holder: Holder, row: int) -> str:
        frame = self._abandoned(holder, row)
        return frame.where if frame is not None and holder.place not in self.stop.abandoned.words else holder.label

    def _victim(self, row: int) -> str:
        return victim(self.stop, self._referrers, self._left.addresses[row], self._left.types[row])

    def _references(self, targets: array[int]) -> list[int]:
        # What each object holds: references to other left-over objects, and to those that are counted elsewhere.
        # *targets*: rows of what the known references refer to.
        known = self._known
        others: Iterable[int] = known.others
        owned = Edges(known.starts, known.targets)
        if self._left is not self.stop.heap.objects:
            rows = self.stop.heap.index.of(self._left.addresses)
            others = [row for row, heap_row in enumerate(rows) if heap_row in known.others]
            owned = owned.pick(rows)
            targets = self._row_of.of(owned.targets)
        # No loop of Python's runs for each object, or reference.
        starts = self._edges.starts
        np = vectors(len(targets))
        if np is not None:
            outside = np.frombuffer(owned.targets, "u8")[np.frombuffer(targets, "i8") < 0]
            each, which = np.unique(outside, return_inverse=True)
            flags = np.zeros(len(targets), bool)
            flags[np.frombuffer(targets, "i8") < 0] = np.array([*map(self._is_counted, each.tolist())], bool)[which]
            before = np.concatenate([[0], np.cumsum(flags)])
            ends = before[np.frombuffer(owned.starts, "u8")]
            found: list[int] = (np.diff(ends) + np.diff(np.frombuffer(starts, "i8"))).tolist()
        else:
            known_outside = set(compress(owned.targets, map((0).__gt__, targets)))
            counted = {target: self._is_counted(target) for target in known_outside}
            before = array("Q", accumulate(map(counted.get, owned.targets, repeat(False)), initial=0))
            number = array("Q", map(before.__getitem__, owned.starts))  # how many such references, before each row
            found = list(map(add, map(sub, number[1:], number), map(sub, starts[1:], starts)))
        for row in others:
            found[row] += sum(
                reference.exact and reference.target not in self._row_of and self._is_counted(reference.target)
                for reference in self._referrers.references(self._left.addresses[row])
            )
        return found

    def _is_counted(self, address: int) -> bool:
        try:
            count = self.stop.runtime.count(address)
            if not self.stop.types.is_type(self.stop.runtime.memory.u64(address + self.stop.runtime.build.ob_type)):
                return False  # it is freed: interned strings are, whoever holds them (free-threaded)
        except MemoryFault:
            return False  # its memory went with another interpreter
        return count > 0 and not self.stop.runtime.is_immortal(count)

    def _designers(self, direct: Iterable[int]) -> str:
        # The static objects that hold most.
        owners: Counter[str] = Counter()
        for row in direct:
            for holder in self._accounts[self._left.addresses[row]].standing():
                if holder.owner and holder.owner not in self._row_of:
                    symbol = self.stop.statics.word_at(holder.owner)
                    if symbol:
                        owners[symbol.library] += 1
        listed = ", ".join(f"{number} by those of {name}" for name, number in owners.most_common(4))
        return f" ({listed})" if listed else ""

    def _holders_elsewhere(self) -> str:
        # Those of them that hold most of what is left over.
        known, addresses = self._known, self.stop.heap.objects.addresses
        wanted = frozenset(self._left.addresses[row] for row in self._direct[_OTHERS])
        owners = Counter(
            addresses[bisect_right(known.starts, index) - 1]
            for index in compress(range(len(known.targets)), map(wanted.__contains__, known.targets))
        )
        owners.update(
            holder.owner for address in wanted & self._accounts.keys()
            for holder in self._accounts[address].standing() if holder.kind == "object"
        )
        most = [each for each in owners.most_common() if self._row_of.get(each[0]) == NO_ROW][:_ELSEWHERE]
        rows = [(describe.row(self.stop, owner), number) for owner, number in most]
        return f": {', '.join(f'{row.type} {row.repr} ({number})' for row, number in rows)}" if rows else ""

    def _finding(self, group: _Group, rows: frozenset[int], limit: int) -> Finding:
        direct = self._direct[group]
        roots = sorted(direct, key=lambda row: -self._held[row])
        if group.sure:
            roots.sort(key=lambda row: self._depth(self._first_holder(group, row), row))
        balances = [self._accounts[self._left.addresses[row]].balance for row in roots]
        holders = [self._first_holder(group, row) for row in roots[:limit]]
        variables = [self._variable(holder) if group.library and holder else None for holder in holders]
        paths = [
            variable.path if variable else group.owner if group.older
            else self._path(holder, row) if holder else "nobody"
            for row, holder, variable in zip(roots, holders, variables)
        ]
        declared = next((variable for variable in variables if variable), None)
        only = direct == self._all_direct
        freed = (self._released if only else self._release.of(direct)) & rows
        alone = len(freed) == len(rows)
        if not alone and not only:
            freed = self._released & rows
        words = sum(direct.values())
        found = finding(Outside(
            generations=tuple(self._generations(rows)),
            repeats=self.stop.runtime.traits.repeats,
            verdict=group.verdict,
            owner=group.owner,
            weak=group.weak,
            paths=tuple(paths),
            directly=object_rows(self.stop, self._left.pick(roots[:limit]), limit),
            number=len(roots),
            references=sum(each.count for each in balances),
            rest=sum(each.count - each.owned for each in balances),
            words=words,
            spare=sum(each.spare for each in balances),
            behind=Explains(len(rows), words + sum(self._held[row] for row in rows)),
            freed=Explains(len(freed), words + sum(self._held[row] for row in freed)),
            alone=alone,
            interpreter=self.interpreter,
            library=group.library,
            library_path=next((each.path for each in self.stop.statics.libraries if each.name == group.library), ""),
            file=declared.file if declared else None,
            line=declared.line if declared else None,
            function=declared.function if declared else "",
            older=describe.row(self.stop, group.older) if group.older else None,
        ))
        return replace(found, graph=self._drawn(group, roots, paths, rows))

    def _drawn(
        self, group: _Group, roots: Sequence[int], paths: Sequence[str], rows: frozenset[int]
    ) -> FindingGraph:
        # The holder, what it holds, and the nearest of what hangs behind.
        addresses = self._left.addresses
        shown = roots[:_ROOTS_DRAWN]
        kind = group.verdict.removesuffix("-reference")
        holding = [
            Holding("nobody" if kind == "lost" else kind, path, addresses[row])
            for row, path in zip(shown, [*paths, *[group.owner] * len(shown)])
        ]
        near = islice(spread(self._edges.of, shown, rows), NODES)
        total = len(rows.union(shown))
        return finding_graph(self._sources, holding, [], [addresses[row] for row in shown],
                             [addresses[row] for row in near], total)

    @cached_property
    def _sources(self) -> Sources:
        addresses, row_of = self._left.addresses, self._row_of
        visited = self._visited

        def owned(address: int) -> list[Reference]:
            counted = {addresses[row] for row in self._edges.of(row_of[address])}
            return [each for each in self._referrers.references(address) if each.target in counted]

        return Sources(
            self.stop,
            lambda address: object_rows(self.stop, self._left.pick([row_of[address]]), 1)[0],
            owned,
            lambda address: [addresses[row] for row in visited.of(row_of[address])],
        )

    def _generations(self, rows: Iterable[int]) -> Iterator[str]:
        # Modules that were made more than once: their exec functions ran again over what the first run had set.
        kinds = self.stop.texts.kinds
        modules = {type_ for type_ in set(self._left.types) if kinds.name(type_) == "module"}
        made: Counter[int] = Counter()
        names = {}
        for row in rows:
            if self._left.types[row] not in modules:
                continue
            address = self._left.addresses[row]
            definition = module_definition(self.stop, address, self._left.types[row])
            if definition:
                made[definition] += 1
                names[definition] = self._victim(row)
        if self._keeper is not None:  # earlier ones are left over, too
            made = Counter({definition: self._modules_of(definition) for definition in made})
        for definition, number in made.items():
            if number > 1:
                yield f"{number} module objects from one PyModuleDef: {names[definition]} was made {number} times"

    def _modules_of(self, definition: int) -> int:
        # How many modules were made from a PyModuleDef.
        kinds = self.stop.texts.kinds
        objects = self.stop.heap.objects
        modules = {type_ for type_ in set(objects.types) if kinds.name(type_) == "module"}
        return sum(
            type_ in modules and module_definition(self.stop, address, type_) == definition
            for address, type_ in zip(objects.addresses, objects.types)
        )

    def _holders(self, group: _Group, row: int) -> Iterator[Holder]:
        account = self._accounts[self._left.addresses[row]]
        return (holder for holder in account.standing() if self._group(holder, row) == group)

    def _first_holder(self, group: _Group, row: int) -> Holder | None:
        return min(self._holders(group, row), key=lambda holder: self._depth(holder, row), default=None)

    def _variable(self, holder: Holder) -> Variable | None:
        word = self.stop.statics.word_at(holder.place)
        return self.stop.runtime.target.variable(word.c_symbol) if word else None

    @cached_property
    def _all_direct(self) -> Counter[int]:
        # Every reference that a finding's holder has.
        found: Counter[int] = Counter()
        for group, direct in self._direct.items():
            if group not in _NO_FINDING:
                found.update(direct)
        return found

    @cached_property
    def _released(self) -> set[int]:
        # What goes when all of them let go.
        return self._release.of(self._all_direct)

    @cached_property
    def _visited(self) -> Edges:
        left, stop = self._left, self.stop
        if left is stop.heap.objects:
            return stop.visited_edges
        return Traverse(stop).visits(left.addresses, left.types).edges(self._row_of)

    @cached_property
    def _release(self) -> Release:
        collectable = {type_ for type_ in set(self._left.types) if self.stop.types[type_].is_gc}
        return Release(self._counts, self._edges, self._visited, self._left.of_types(collectable))


def victim(stop: Stop, referrers: Referrers, address: int, type_: int) -> str:
    """What names an object (``PyObject *``) in every run: its own qualified name, else its type and what it holds."""
    texts = stop.texts
    if stop.types.is_type(address):
        return texts.type_name(address)
    references = {reference.label: reference.target for reference in referrers.references(address)}
    for label in ("__qualname__", "__name__", "md_name"):
        name = texts.string(references[label]) if label in references else None
        if name:
            return f"{texts.type_name(type_)} {name}"
    return f"{texts.type_name(type_)} {', '.join(sorted(references.keys() - {'ob_type'})[:8])}".rstrip()
