"""`refdbg visits`, `refdbg gc again`: what the collector sees, by running the real tp_traverse in an emulator."""

from __future__ import annotations

import argparse
from collections import Counter
from typing import Any

from refdbg.analysis import audit
from refdbg.analysis.collector import replay
from refdbg.answers import FieldVisits, GcAgain, ObjectVisits, TypeVisits
from refdbg.commands.context import Context
from refdbg.commands.drawing import add_drawing
from refdbg.commands.inspect import is_one_of_many, number, object_address, type_address
from refdbg.commands.visits_graph import object_graph, type_graph
from refdbg.cpython import describe
from refdbg.cpython.census import by_type
from refdbg.cpython.collection import finalizers, object_rows
from refdbg.cpython.owned import Owned, Reference
from refdbg.cpython.stop import Stop
from refdbg.cpython.traverse import Traverse, undecided_types
from refdbg.cpython.untracked import collected
from refdbg.errors import CommandError, DecodeError, MemoryFault, RefdbgError, SeveralTypes
from refdbg.graph.objects import Objects
from refdbg.graph.rows import Rows

_VISITS = """Checks a tp_traverse function.

The tp_traverse of a type tells the garbage collector what an object refers to (Py_VISIT). Where it forgets a
reference that the object owns, no cycle through that reference is ever collected. This command runs the real
tp_traverse on a copy of the process's memory and holds what it visits against the references that the object has.

  refdbg visits collections.deque   a type: all its objects, field by field
  refdbg visits self                an object: a PyObject * of the C program, or an address

A name that a type and a C variable share is the type's; for the variable write (PyObject *)name. The address of a
type is an object too: this checks what the type itself refers to.

A reference that is NOT VISITED is owned for certain unless it is marked:
  may be borrowed   the C struct declares a pointer to an object; whether it owns, only the C code says
  a guess           a word that equals an object's address: void *, or a struct without debug info
  its object is visited, for another field
                    two fields hold one object that is visited once; it may be the other one that is forgotten"""


def add_commands(subcommands: Any) -> None:
    """Add this module's subcommands."""
    visits = subcommands.add_parser(
        "visits", help="check a tp_traverse: which references of an object, or of a type's objects, it forgets",
        description=_VISITS, formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    visits.add_argument("expression", nargs="+", metavar="TYPE|OBJECT",
                        help="a type's name (deque, collections.deque; NAME@ADDRESS: one of several), or a debugger "
                        "expression of an object")
    visits.add_argument("--limit", type=number, default=10_000, metavar="N",
                        help="look at no more than N objects of a type (default: 10000)")
    add_drawing(visits, show_visits)


def add_gc_actions(actions: Any) -> None:
    """Add this module's actions below `gc`."""
    again = actions.add_parser("again", help="what a full collection would find now (nothing runs in the process)")
    again.add_argument("--objects", type=number, default=20, metavar="N", help="list the first N objects")
    again.set_defaults(run=collect_again)


def show_visits(context: Context, arguments: argparse.Namespace) -> ObjectVisits | TypeVisits:
    """The audit of one object, or of a type's objects."""
    address, is_type = _subject(context, arguments.expression)
    return _type_visits(context, address, arguments.limit) if is_type else _object_visits(context, address)


def _subject(context: Context, words: list[str]) -> tuple[int, bool]:
    # A type by its full name, else an object, else a type by the end of its name.
    stop = context.stop
    text = " ".join(words)
    problem: RefdbgError | None = None
    if is_one_of_many(text):
        return type_address(context, words), True
    if text.removeprefix("builtins.") not in {stop.texts.type_name(type_) for type_ in describe.all_types(stop)}:
        try:
            return object_address(context, words), False
        except RefdbgError as error:
            problem = error
    try:
        return type_address(context, words), True
    except SeveralTypes:
        raise
    except RefdbgError as error:
        if isinstance(problem, CommandError):  # gdb does not know the expression either
            raise CommandError(f"{text!r} is no type's name, and as an expression: {problem}", error.hint) from error
        raise problem or error from None


def _object_visits(context: Context, address: int) -> ObjectVisits:
    stop = context.stop
    type_ = stop.texts.type_of(address)
    visited = Traverse(stop).visits([address], [type_.address])
    if 0 in visited.undecided:
        raise CommandError(f"the tp_traverse of {type_.name} cannot be emulated: {visited.undecided[0]}",
                           "What it visits is undecided; `refdbg referents` shows what the object owns.")
    found = audit.audit(_owned(context, address), visited.of(0))
    static = stop.types.is_type(address) and not stop.types[address].is_heap  # which tp_is_gc leaves out
    fields = [
        FieldVisits(match.owned.label, 1, int(match.visited), match.owned.exact, match.owned.declared,
                    int(match.elsewhere), [describe.row(stop, match.owned.target)])
        for match in found.matched if match.matters
    ]
    extra = [describe.row(stop, target) for target in found.extra]
    row, traverse = describe.row(stop, address), _traverse_name(stop, type_.traverse)
    title = f"What {traverse} visits" if traverse else f"{row.type} has no tp_traverse"
    return ObjectVisits(row, traverse, type_.is_gc and not static, fields, found.excused, extra,
                        object_graph(title, row, fields, extra))


def _type_visits(context: Context, address: int, limit: int) -> TypeVisits:
    stop = context.stop
    type_ = stop.types[address]
    objects, _scope = describe.objects_in_scope(stop, False)
    found = [each for each, kind, _ in objects.rows() if kind == address]
    chosen = found[:limit]
    visited = Traverse(stop).visits(chosen, [address] * len(chosen))
    audits = [
        audit.audit(_owned(context, each), visited.of(row))
        for row, each in enumerate(chosen) if row not in visited.undecided
    ]
    fields = [
        FieldVisits(row.label, row.owned, row.visited, row.exact, row.declared, row.elsewhere,
                    [describe.row(stop, target) for target in row.unvisited])
        for row in audit.by_field(audits)
    ]
    name, traverse = stop.texts.type_name(address), _traverse_name(stop, type_.traverse)
    title = f"What {traverse} visits" if traverse else f"{name} has no tp_traverse"
    return TypeVisits(
        name, traverse, type_.is_gc, type_.is_heap, len(audits), len(found), dict(Counter(visited.undecided.values())),
        fields, dict(sum((Counter(one.excused) for one in audits), Counter())),
        sum(len(one.extra) for one in audits), type_graph(title, name, len(audits), fields),
    )


def _owned(context: Context, address: int) -> list[audit.Owned]:
    stop = context.stop
    owned = Owned(stop.texts, lambda: stop.heap)
    return [
        audit.Owned(reference.label, reference.target, reference.exact, reference.declared,
                    _excuse(stop, reference), reference.suspended)
        for reference in owned.references(address) if not reference.stale
    ]


def _excuse(stop: Stop, reference: Reference) -> str:
    if reference.running:
        return "running"
    try:
        type_ = stop.texts.type_of(reference.target)
        if stop.texts.kinds.is_atomic(type_.address):
            return "atomic"
        return "" if type_.is_gc else "uncollected"
    except (DecodeError, MemoryFault):
        return ""


def _traverse_name(stop: Stop, traverse: int) -> str:
    if not traverse:
        return ""
    symbol = stop.runtime.target.symbol_at(traverse)
    return symbol.name if symbol else f"{traverse:#x}"


def collect_again(context: Context, arguments: argparse.Namespace) -> GcAgain:
    """The collector replayed on everything that is tracked now, all interpreters apart."""
    stop = context.stop
    traverse = Traverse(stop)
    unreachable = Objects()
    examined, undecided = 0, 0
    notes = describe.collecting_notes(stop)
    if notes:
        notes.append("what only that garbage refers to looks kept here")
    for interpreter in stop.runtime.interpreters():
        tracked = Objects()
        for generation in stop.lists.generations(interpreter):
            if generation.name != "permanent":
                tracked.extend(stop.lists.walk(generation.head))
        examined += len(tracked)
        tracked = collected(stop, tracked)
        visited = traverse.visits(tracked.addresses, tracked.types)
        decision = replay(
            tracked.refcounts, visited.edges(Rows(tracked.addresses)), range(len(tracked)), stop.runtime.immortal_count
        )
        negative = {tracked.addresses[row]: row for row in decision.negative}
        unreachable.extend(tracked.pick(decision.unreachable))
        undecided += len(visited.undecided)
        for row in object_rows(stop, tracked.pick(decision.negative), arguments.objects):
            notes.append(
                f"visited {row.refcount - decision.gc_refs[negative[row.address]]} times, with {row.refcount} "
                f"references: {row.type} at {row.address:#x}: {row.repr}; the collector may free it while it is in use"
            )
        if len(decision.negative) > arguments.objects:
            notes.append(f"{len(decision.negative)} objects in all are visited more often than their count allows")
        for name, why in undecided_types(stop, visited, tracked.types).items():
            notes.append(f"what {name} objects visit is undecided ({why}): whatever only they refer to looks kept")
        notes += tracked.coverage.notes
    for finalizer in finalizers(stop, unreachable):
        where = f" ({finalizer.file}:{finalizer.line})" if finalizer.file else ""
        notes.append(
            f"{finalizer.function}{where} would be called for {finalizer.objects} of them: "
            "what it brings back to life is not freed"
        )
    return GcAgain(
        examined, len(unreachable), by_type(stop, unreachable), object_rows(stop, unreachable, arguments.objects),
        undecided, notes,
    )
