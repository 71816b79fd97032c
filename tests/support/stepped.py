"""Sourced in gdb at a call of the evaluator: reads the frames at each of its first machine instructions.

The environment names the file FOUND, where each answer goes once, as JSON: [the Python functions, whether the C
functions are there, note].
"""

from __future__ import annotations

import argparse
import json
import os

import gdb
from refdbg.answers import Stacks
from refdbg.commands.context import Context
from refdbg.commands.frames import show
from refdbg.debuggers.gdb import GdbSession

STEPS, MORE = 1200, 30  # at most, and when the called function has appeared
ORDERS = argparse.Namespace(limit=1000, suspended=False, all=False, thread=None, locals=True, native=True)

context = Context.of(GdbSession())
found = []
left, called = STEPS, ""
while left > 0:
    left -= 1
    context.refresh()
    answer = show(context, ORDERS)
    assert isinstance(answer, Stacks)
    (stack,) = answer.threads
    functions = [frame.function for frame in stack.frames if not frame.native]
    whole = "builtin_sorted" in [frame.function for frame in stack.frames if frame.native]
    if [functions, whole, stack.note] not in found:
        found.append([functions, whole, stack.note])
    called = called or functions[0]
    if functions[0] != called:
        left, called = min(left, MORE), functions[0]
    gdb.execute("stepi", to_string=True)
with open(os.environ["FOUND"], "w", encoding="utf-8") as file:
    json.dump(found, file)
