"""`refdbg leaks`, `refdbg balance`: references that nobody holds, and garbage that no collection frees, right now."""

from __future__ import annotations

import argparse
from contextlib import suppress
from dataclasses import replace
from typing import Any

from refdbg.answers import BalanceHolder, BalanceOf, Leaks
from refdbg.commands.account import accounts, trust, visitors_of
from refdbg.commands.allocated import with_allocations
from refdbg.commands.context import Context
from refdbg.commands.freed_in_use import freed_while_in_use
from refdbg.commands.inspect import number, object_address
from refdbg.commands.last_collection import LastCollection
from refdbg.commands.left_over import LeftOver
from refdbg.cpython import describe
from refdbg.cpython.allocator import has_debug_headers
from refdbg.cpython.mimalloc import check_counts
from refdbg.cpython.owned import Owned
from refdbg.cpython.referrers import Referrers
from refdbg.errors import CommandError, RefdbgError
from refdbg.records import Finding


def add_commands(subcommands: Any) -> None:
    """Add this module's subcommands."""
    leaks = subcommands.add_parser(
        "leaks", help="what leaks now: references that nobody holds, and garbage that no collection would free"
    )
    leaks.add_argument("--objects", type=number, default=5, metavar="N", help="list N objects of each finding")
    leaks.add_argument("--all", action="store_true", help="list what C variables, states and stacks hold, too")
    leaks.set_defaults(run=show_leaks, beside=True)
    balance = subcommands.add_parser(
        "balance", help="an object's reference count against every word of the process that holds it"
    )
    balance.add_argument("expression", nargs="+", metavar="OBJ", help="an address or an expression of the debugger")
    balance.set_defaults(run=show_balance)


def show_leaks(context: Context, arguments: argparse.Namespace) -> Leaks:
    """The findings at this stop. Raises RefdbgError."""
    stop = context.stop
    check_counts(stop.runtime)
    objects, tracked = stop.heap.objects, stop.tracked()
    if not len(objects) and stop.runtime.target.regions():  # without these none is found
        raise CommandError(
            "Python has no objects here: it has not been initialised yet, or has been finalized",
            "Let it run on, or see what is left over at its end: refdbg-run PROGRAM.",
        )
    stop.begin_visits()
    everything = LeftOver(stop, objects, 0)
    limit = max(arguments.objects, 1)  # a finding names the first
    held = everything.explain(limit, "" if arguments.all else "lost-reference")
    notes = [
        *objects.coverage.notes, *everything.given_up(), *everything.not_read(), *stop.statics.coverage.notes,
        *stop.suspended.notes,
    ]
    for interpreter in stop.runtime.interpreters():
        if stop.lists.collecting(interpreter):
            notes.append(
                f"interpreter {interpreter.number} is in the middle of a collection: what that takes for garbage is "
                "in no list, and is not judged here."
            )
    leaked = everything.stays(held.rest)
    collection = LastCollection(stop, tracked, stop, leaked, everything.held(leaked))
    kept, more = collection.findings(0, limit)
    used = freed_while_in_use(stop, 0, limit)
    findings = sorted(held.findings + kept, key=lambda finding: -finding.explains.references)
    if not has_debug_headers(stop.runtime):
        # Freed blocks keep their words, which are taken for owners of others; and not all storage has a known owner.
        findings = [
            replace(each, confidence="possible") if each.verdict == "lost-reference" else each for each in findings
        ]
    findings = used + with_allocations(stop, [asked_here(finding) for finding in findings])
    return Leaks(len(objects), held.weak, len(held.rest), len(leaked), findings, notes + more)


def asked_here(finding: Finding) -> Finding:
    """The finding with a next command that asks about its objects: they are still there, unlike at an end."""
    if finding.verdict in ("missing-visit", "untraversed-frame") or not finding.objects:
        return finding
    command = "balance" if finding.verdict == "lost-reference" else "why"
    return replace(finding, next=f"refdbg {command} {finding.objects[0].address:#x}")


def show_balance(context: Context, arguments: argparse.Namespace) -> BalanceOf:
    """One object's account. Raises RefdbgError."""
    stop = context.stop
    address = object_address(context, arguments.expression)
    row = replace(describe.row(stop, address), refcount=stop.held(address))
    referrers = Referrers(stop, Owned(stop.texts, lambda: stop.heap))
    if stop.runtime.is_immortal(row.refcount):
        return BalanceOf(row, True, [], 0, 0, 0, 0)
    account = accounts(referrers, {address: row.refcount})[address]
    if account.balance.owned < row.refcount:
        with suppress(RefdbgError):  # a recording has no machine code; the words are an answer, too
            account = account.with_visits(visitors_of(stop, [address])[address])
    found = account.balance
    taken = set(found.taken)
    holders = []
    for position, holder in enumerate(account.holders):
        owner = describe.row(stop, holder.owner) if holder.owner else None
        counts = holder.exact or position in taken
        holders.append(BalanceHolder(holder.kind, holder.label, owner, trust(holder).name.lower(), counts))
    holders.sort(key=lambda each: not each.counts)
    return BalanceOf(row, False, holders, found.owned, found.spare, found.lost, found.surplus)
