"""Runs inside gdb (`gdb -x`): what only a script there can check.

The environment variable REFDBG_CHECK is JSON: {"what": …, "told": …, "output": …}.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

import gdb
from refdbg.commands.account import accounts
from refdbg.cpython.describe import kinds_of_counts
from refdbg.cpython.heap import debug_blocks
from refdbg.cpython.owned import Owned
from refdbg.cpython.referrers import Referrers
from refdbg.cpython.runtime import Build
from refdbg.cpython.stop import Stop
from refdbg.cpython.traverse import Traverse
from refdbg.debuggers.gdb import GdbSession
from refdbg.graph.objects import Coverage
from refdbg.target.layout import StructView


def visits(told: str) -> dict[str, Any]:
    """Every object's visits against the gc.get_referents that the program wrote (JSON lines: [id, [ids…]])."""
    gdb.execute("set breakpoint pending on")
    gdb.execute("break builtin_ascii")
    gdb.execute("run")
    with open(told, encoding="utf-8") as file:
        truth = dict(map(json.loads, file))
    stop = Stop(Build(GdbSession().target()))
    addresses = list(truth)
    types = [stop.runtime.memory.u64(address + stop.runtime.build.ob_type) for address in addresses]
    found = Traverse(stop).visits(addresses, types)
    different = [
        [stop.texts.repr(address), stop.texts.type_name(types[row]), found.undecided.get(row, "")]
        for row, address in enumerate(addresses)
        if Counter(found.of(row)) != Counter(truth[address])
    ]
    traversed = {stop.types[type_].traverse for type_ in types}
    return {"objects": len(addresses), "types": len(set(types)), "functions": len(traversed), "different": different}


def balance(_told: str) -> dict[str, Any]:
    """The objects whose reference count the words of the process do not explain, when the program calls ascii()."""
    gdb.execute("set breakpoint pending on")
    gdb.execute("break builtin_ascii")
    gdb.execute("run")
    stop = Stop(Build(GdbSession().target()))
    objects = stop.heap.objects
    counts = {address: count for address, _, count in objects.rows() if not stop.runtime.is_immortal(count)}
    found = {
        address: account.balance
        for address, account in accounts(Referrers(stop, Owned(stop.texts, lambda: stop.heap)), counts).items()
    }
    return {
        "objects": len(found),
        "known": sum(one.owned == one.count for one in found.values()),
        "wrong": [
            [stop.texts.repr(address), one.lost, one.surplus]
            for address, one in found.items() if one.lost or one.surplus
        ],
    }


def known(_told: str) -> dict[str, Any]:
    """The objects whose known references differ when all are read at once, when the program calls ascii()."""
    gdb.execute("set breakpoint pending on")
    gdb.execute("break builtin_ascii")
    gdb.execute("run")
    stop = Stop(Build(GdbSession().target()))
    owned = Owned(stop.texts, lambda: stop.heap)
    found = stop.known
    different = []
    for row, address in enumerate(stop.heap.objects.addresses):
        if row not in found.others:
            some = slice(found.starts[row], found.starts[row + 1])
            exact = [(each.place, each.target) for each in owned.references(address) if each.exact]
            if sorted(exact) != sorted(zip(found.places[some], found.targets[some])):
                different.append([stop.texts.type_name(stop.heap.objects.types[row]), stop.texts.repr(address)])
    return {
        "objects": len(found.starts) - 1, "others": len(found.others), "references": len(found.targets),
        "different": different,
    }


def free_threaded(told: str) -> dict[str, Any]:
    """All objects and blocks of a free-threaded build, against what tests/programs/free_threaded.py tells."""
    gdb.execute("break builtin_ascii")
    gdb.execute("run")
    with open(told, encoding="utf-8") as file:
        truth = json.load(file)
    stop = Stop(Build(GdbSession().target()))
    tracked, heap = stop.tracked(), stop.heap
    types, counts = dict(zip(tracked.addresses, tracked.types)), dict(zip(tracked.addresses, tracked.refcounts))
    mine = {start: row for start, *row in zip(heap.blocks.starts, heap.blocks.sizes, heap.blocks.apis)}
    headers = {start: row for start, *row in debug_blocks(stop.runtime, Coverage())}
    (interpreter,) = stop.runtime.interpreters()
    state = StructView(stop.runtime.memory, interpreter.address, stop.runtime.build.interpreter)
    return {
        "tracked": len(tracked),
        "twice": len(tracked) - len(types),
        "not found": len(set(truth["objects"]) - types.keys()),
        "more": Counter(stop.texts.type_name(types[each]) for each in types.keys() - set(truth["objects"])),
        "collector's number": state["gc.long_lived_total"],
        "blocks": len(mine),
        "different blocks": sum(mine.get(start) != headers.get(start) for start in mine.keys() | headers.keys()),
        "sorted": list(heap.blocks.starts) == sorted(heap.blocks.starts),
        "not in the heap": sum(address not in heap.index for address in types),
        "notes": tracked.coverage.notes + heap.blocks.coverage.notes,
        "counts": [counts.get(address) for address, _ in truth["counts"]],
        "told": [count for _, count in truth["counts"]],
        "states": kinds_of_counts(stop, tracked),
        "abandoned": bool(state["mimalloc.abandoned_pool.abandoned"] or
                          state["mimalloc.abandoned_pool.abandoned_visited"]),
    }


orders = json.loads(os.environ["REFDBG_CHECK"])
gdb.execute("set pagination off")
gdb.execute("set confirm off")
checks = {"visits": visits, "balance": balance, "known": known, "free-threaded": free_threaded}
answer = checks[orders["what"]](orders["told"])
with open(orders["output"], "w", encoding="utf-8") as output:
    json.dump(answer, output)
if gdb.selected_inferior().pid:
    gdb.execute("kill")
