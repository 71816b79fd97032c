"""Sourced in gdb at a stop: damages words of frames, generators and tasks in refdbg's copy of the memory.

The environment variable FOUND names the file where the findings go as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
import traceback

from refdbg.commands.context import Context
from refdbg.commands.frames import show
from refdbg.cpython.generators import Generators
from refdbg.cpython.stop import Stop
from refdbg.cpython.tasks import Tasks
from refdbg.debuggers.gdb import GdbSession
from refdbg.errors import RefdbgError
from tests.support.damage import HOSTILE, patch

TRIES = 40
SECONDS = 5.0


def orders(suspended: bool, native: bool) -> argparse.Namespace:
    return argparse.Namespace(limit=500, suspended=suspended, all=True, thread=None, locals=True, native=native)


def places(stop: Stop) -> list[tuple[int, int]]:
    """Where what is read begins, and how many words it has."""
    generators = Generators(stop.runtime, stop.types, stop.frames)
    tasks = Tasks(stop.texts, generators)
    found = []
    for address, type_, _ in stop.tracked().rows():
        generator = generators.at(address) if type_ in generators.kinds else None
        if generator is not None:
            found += [(address, 30), (generator.frame, 16)]
            found += [(frame.code, 24) for frame in stop.frames.walk_from(generator.frame, 1).frames]
        elif tasks.at(address, type_) is not None:
            found.append((address, 28))
    for interpreter in stop.runtime.interpreters():
        for thread in stop.runtime.threads(interpreter):
            found += [(thread.address, 32)] + [(place, 8) for place in stop.frames.evaluators(thread)]
            for frame in stop.frames.stack(thread):
                found += [(frame.address, 16), (frame.code, 24)]
    return found


def main() -> None:
    context = Context.of(GdbSession())
    memory = context.build().target.memory
    where = places(context.stop)
    words = [address for address, _ in where]
    chance = random.Random(3)
    failures: list[str] = []
    slow: list[str] = []
    context.refresh()
    healthy = str(show(context, orders(True, False))), str(show(context, orders(False, False)))
    changed = refused = 0
    for number in range(TRIES):
        context.refresh()
        done = []
        for _ in range(chance.choice((1, 1, 1, 2, 4))):
            address, count = chance.choice(where)
            address += 8 * chance.randrange(count)
            value = chance.choice([*HOSTILE, address, address + 8, chance.choice(words)])
            patch(memory, address, value)
            done.append(f"{address:#x}={value:#x}")
        start = time.monotonic()
        answers = []
        for each in (orders(True, False), orders(False, number % 8 == 0)):
            try:
                answers.append(str(show(context, each)))
            except RefdbgError:
                refused += 1
                answers.append("")
            except Exception:
                failures.append(f"{done}\n{traceback.format_exc()[-1500:]}")
        changed += number % 8 != 0 and tuple(answers) != healthy
        if time.monotonic() - start > SECONDS:
            slow.append(f"{done}: {time.monotonic() - start:.1f} s")
    memory.forget()
    report = {"places": len(where), "changed": changed, "refused": refused, "failures": failures, "slow": slow}
    with open(os.environ["FOUND"], "w", encoding="utf-8") as file:
        json.dump(report, file)


main()
