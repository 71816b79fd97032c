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
from refdbg.cpython.owned import Owned
from refdbg.cpython.referrers import Referrers
from refdbg.cpython.runtime import Build
from refdbg.cpython.stop import Stop
from refdbg.cpython.traverse import Traverse
from refdbg.debuggers.gdb import GdbSession


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


orders = json.loads(os.environ["REFDBG_CHECK"])
gdb.execute("set pagination off")
gdb.execute("set confirm off")
answer = {"visits": visits, "balance": balance, "known": known}[orders["what"]](orders["told"])
with open(orders["output"], "w", encoding="utf-8") as output:
    json.dump(answer, output)
if gdb.selected_inferior().pid:
    gdb.execute("kill")
