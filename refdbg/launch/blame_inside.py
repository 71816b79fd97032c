"""What `refdbg-run --blame` does inside the debugger: run one chooses the object, run two records its changes."""

from __future__ import annotations

import signal
import zlib
from array import array
from dataclasses import dataclass
from typing import Any

from refdbg.analysis.blame import balance
from refdbg.commands.context import Context
from refdbg.commands.watch import shown
from refdbg.cpython import describe, events
from refdbg.cpython.changes import Recorder
from refdbg.cpython.stop import Stop, is_supported
from refdbg.errors import RefdbgError, SymbolNotFound
from refdbg.graph.objects import Objects
from refdbg.launch.gather import INTERRUPT, Gatherer, watch
from refdbg.records import Blame, ObjectRow
from refdbg.render import plain
from refdbg.target import Hit, Session, Target

_SHOWN = 12  # types, signatures in a message


def report_of(session: Session, orders: dict[str, Any]) -> dict[str, Any]:
    """The report of run one with the chosen object under ``blame``, or of run two. Raises RefdbgError."""
    blame = orders["blame"]
    if "wanted" in blame:
        return Chooser(session, orders).run()
    return {"blame": Second(session, orders["pid"], blame["victim"]).run()}


def layout_of(stop: Stop) -> dict[str, int]:
    """What two runs have in common when their objects are at the same addresses; {} where that cannot be known."""
    if not is_supported(stop.runtime.build):
        return {}
    objects = stop.heap.objects
    words = array("Q", objects.addresses)
    return {"objects": len(words), "checksum": zlib.crc32(array("Q", objects.types).tobytes(), zlib.crc32(words))}


@dataclass(frozen=True)
class _Candidate:
    object: ObjectRow
    why: str


class Chooser(Gatherer):
    """Run one: the report as ever, and which of the left-over objects is meant."""

    def __init__(self, session: Session, orders: dict[str, Any]) -> None:
        super().__init__(
            session, orders["pid"], orders["objects"], lambda own: watch(orders, own, self._look_through)
        )
        self._wanted: str = orders["blame"]["wanted"]
        self._layout: dict[str, int] = {}
        self._found: list[_Candidate] = []
        self._left_types: dict[str, int] = {}
        self._random = False  # the program's objects are at other addresses in each run
        self._unseen = ""  # why nothing is known to be left over, and an address is believed

    def run(self) -> dict[str, Any]:
        report = super().run()
        chosen = self._chosen(report)
        report["blame"] = {
            "wanted": self._wanted, "object": None, "why": "", "layout": self._layout, "error": None, "result": None,
            "notes": [],
        }  # fmt: skip
        if chosen is None:
            report["blame"]["error"] = self._nothing(report)
        elif self._random:
            report["blame"]["error"] = (
                f"--blame {self._wanted}: a free-threaded release build places its objects at random, so a second run "
                "would have none at the same address. Run the program with a debug build (--with-pydebug)."
            )
        else:
            notes = [f"what run one has left over is not known: {self._unseen}"] if self._unseen else []
            report["blame"] |= {"object": plain(chosen.object), "why": chosen.why, "notes": notes}
        return report

    def _started(self, hit: Hit) -> bool:
        super()._started(hit)
        stop = Stop(self.context.build(hit.target))
        self._layout = layout_of(stop)
        self._random = not stop.runtime.traits.repeats
        return False

    def _look_through(self, stop: Stop, left: Objects, number: int) -> None:
        wanted = self._wanted.removeprefix("builtins.")
        where = f" of interpreter {number}" if number else ""
        address = int(wanted, 16) if wanted.startswith("0x") else None
        names = {type_: stop.texts.type_name(type_) for type_ in set(left.types)}
        instances = []
        for each, type_, count in left.rows():
            self._left_types[names[type_]] = self._left_types.get(names[type_], 0) + 1
            if each == address:
                self._found.append(_Candidate(describe.row(stop, each), f"left over{where} at the address"))
            elif names[type_] == wanted:
                instances.append((count, each))
            elif stop.types.is_type(each) and stop.texts.type_name(each) == wanted:
                self._found.append(_Candidate(describe.row(stop, each), f"the type itself is left over{where}"))
        if instances:
            why = f"of {len(instances)} left over{where} the one with the most references"
            self._found.append(_Candidate(describe.row(stop, max(instances)[1]), why))

    def _chosen(self, report: dict[str, Any]) -> _Candidate | None:
        wanted = self._wanted.removeprefix("builtins.")
        # What somebody holds needs no blame: a lost reference first.
        for finding in sorted(report["findings"], key=lambda each: each["verdict"] != "lost-reference"):
            for row in finding["objects"]:
                if finding["signature"] == wanted or row["type"] == wanted:
                    return _Candidate(ObjectRow(**row), f"finding {finding['signature']} is about this object")
        if wanted.startswith("0x") and not self._left_types:
            self._unseen = self._reason(report)
            return _Candidate(ObjectRow(int(wanted, 16), "?", "?", 0), "the last object that was made at this address")
        # An instance rather than the type; what is left over last is the newest.
        return max(self._found, key=lambda each: each.object.type == wanted, default=None)

    def _reason(self, report: dict[str, Any]) -> str:
        # Why nothing is known to be left over.
        return str(report["partial"] or next(iter(report["warnings"]), ""))

    def _nothing(self, report: dict[str, Any]) -> str:
        wanted = self._wanted
        if not self._left_types and not report["findings"]:
            reason = self._reason(report)
            return f"nothing is known to be left over, so there is nothing to blame for {wanted}" + (
                f": {reason}" if reason else ""
            )
        signatures = [finding["signature"] for finding in report["findings"]]
        if ":" in wanted or wanted.startswith("0x"):
            what = "at this address" if wanted.startswith("0x") else "that a finding of this signature is about"
            known = f"The findings are {', '.join(signatures[:_SHOWN])}." if signatures else "There is no finding."
            return f"--blame {wanted}: no object is left over {what}. {known}"
        types = sorted(self._left_types, key=lambda name: -self._left_types[name])
        return (
            f"--blame {wanted}: no object of such a type is left over, and no such type. Left over are "
            f"{', '.join(types[:_SHOWN])}{' and more' if len(types) > _SHOWN else ''}."
        )


class Second:
    """Run two: records what happens to the reference count at one address."""

    def __init__(self, session: Session, pid: int, victim: dict[str, Any]) -> None:
        self._session = session
        self._context = Context.of(session)
        self._pid = pid
        self._wanted = ObjectRow(**victim["object"])
        self._layout = victim["layout"]
        self._recorder: Recorder | None = None
        self._target: Target | None = None
        self._end: ObjectRow | None = None
        self._names: dict[int, str] = {}  # of types, by address
        self._same_layout = True
        self.notes: list[str] = []
        session.on_error = self.notes.append

    def run(self) -> dict[str, Any]:
        """Let the program run to its end. Raises RefdbgError."""
        session = self._session
        signal.signal(INTERRUPT, signal.SIG_IGN)  # the program gets the Ctrl-C itself, and ends or goes on
        session.attach(self._pid)
        session.with_libraries()
        session.break_on(events.FIRST, self._first)
        for role, on_hit in (
            (events.RUN_MAIN, self._started), (events.GC_FINI, self._names_go), (events.THE_END, self._ends)
        ):
            try:
                session.break_on(role, on_hit)
            except SymbolNotFound as error:  # inlined
                self.notes.append(f"{error}: what would be seen there is missing")
        while not session.resume().ended:
            pass
        if self._recorder is None:
            raise RefdbgError("no CPython was seen to start")
        return {"result": plain(self._result(self._recorder)), "notes": self.notes}

    def _first(self, hit: Hit) -> bool:
        if hit.target is not self._target:  # after an exec it is about the new program
            self._target = hit.target
            self._recorder = Recorder(self._session, self._context.build(hit.target), self._wanted.address, alive=False)
        return False

    def _started(self, hit: Hit) -> bool:
        own = layout_of(Stop(self._context.build(hit.target)))
        if self._layout and own != self._layout:
            self._same_layout = False
            self.notes.append(
                f"run two differs from run one before the program's first line: {own['objects']} objects, not "
                f"{self._layout['objects']}, or other addresses"
            )
        return False

    def _names_go(self, hit: Hit) -> bool:
        # Of heap types: they are released soon.
        if self._recorder is not None and self._recorder.alive:
            type_ = self._recorder.type
            self._names[type_] = shown(self._context.build(hit.target), self._recorder).type
        return False

    def _ends(self, hit: Hit) -> bool:
        if self._recorder is not None and self._recorder.alive:
            self._end = shown(self._context.build(hit.target), self._recorder, self._names)
        return False

    def _result(self, recorder: Recorder) -> Blame:
        end, wanted = self._end, self._wanted
        verified = end is not None and self._same_layout and end.type == wanted.type
        if not recorder.incarnation:
            self.notes.append(f"in run two no object was made at {wanted.address:#x}")
        elif end is None:
            self.notes.append(
                f"in run two no object is left over at {wanted.address:#x}: this is the last one that was made there"
            )
        elif end.type != wanted.type and wanted.type != "?":
            self.notes.append(
                f"run two differs from run one: at {wanted.address:#x} it has left over {end.type}, not {wanted.type}"
            )
        if verified and end is not None and end.refcount != wanted.refcount:
            self.notes.append(f"its reference count is {end.refcount}; at the end of run one it was {wanted.refcount}")
        if recorder.finished:
            self.notes.append(recorder.finished)
        if recorder.added_at_end:
            self.notes.append(
                f"not shown: _PyGC_Fini, which gives up what is left over, has added {recorder.added_at_end} reference"
            )
        return Blame(
            end or wanted, "alive" if recorder.alive else "freed", recorder.incarnation, verified, recorder.writes,
            balance(recorder.changes(), recorder.start), [],
        )
