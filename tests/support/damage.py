"""Sourced in gdb at the oracle's stop: damages the words of objects in refdbg's copy of the memory, then reads them.

The environment names the files: TOLD, the oracle's lines; FOUND, where the findings go as JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import time
import traceback

from refdbg.commands.context import Context
from refdbg.cpython import describe
from refdbg.cpython.owned import Owned
from refdbg.cpython.stop import Stop
from refdbg.debuggers.gdb import GdbSession
from refdbg.errors import RefdbgError
from refdbg.target.memory import Memory

TRIES = 1200
SECONDS = 3.0
HOSTILE = (0, 1, 8, 2**64 - 1, 2**63, 2**47 - 8, 2**32, 2**25, 1000)


def patch(memory: Memory, address: int, value: int) -> None:
    """Overwrite a word in the page cache."""
    for index, byte in enumerate(value.to_bytes(8, "little")):
        number, offset = (address + index) >> 12, (address + index) & 0xFFF
        page = memory.page(number)
        if offset < len(page):
            memory.pages[number] = page[:offset] + bytes([byte]) + page[offset + 1 :]


def read_all(stop: Stop, address: int) -> None:
    """Everything that refdbg reads of an object. Only RefdbgError may come of it, and not of a text."""
    stop.texts.repr(address)
    stop.texts.repr(address, 30, 10_000)
    stop.texts.type_name(address)
    stop.texts.string(address)
    for read in (Owned(stop.texts).references, lambda each: describe.object_info(stop, each)):
        with contextlib.suppress(RefdbgError):
            read(address)
    with contextlib.suppress(RefdbgError):
        describe.subclasses(stop, address)


def main() -> None:
    context = Context.of(GdbSession())
    build = context.build()
    memory = build.target.memory
    with open(os.environ["TOLD"], encoding="utf-8") as file:
        addresses = [json.loads(line)["id"] for line in file]
    chance = random.Random(1)
    failures: list[str] = []
    slow: list[str] = []
    tried = noticed = 0
    for _ in range(TRIES):
        memory.forget()
        address = chance.choice(addresses)
        hostile = [*HOSTILE, address, address + 8, chance.choice(addresses)]
        stop = Stop(build)
        before = stop.texts.repr(address)
        words = max(min(describe.size(stop, address), 1024) // 8, 2)
        done = []
        for _ in range(chance.choice((1, 1, 1, 2, 4))):
            offset = 8 * chance.randrange(-4, words + 1)
            if chance.random() < 0.3:  # in what the object points to: a table of keys, a buffer of items
                target = memory.integer(address + 8 * chance.randrange(words), 8)
                if memory.read_some(target, 64):
                    patch(memory, target + 8 * chance.randrange(8), chance.choice(hostile))
            value = chance.choice(hostile)
            patch(memory, address + offset, value)
            done.append(f"{offset:+d}={value:#x}")
        tried += 1
        stop = Stop(build)
        noticed += stop.texts.repr(address) != before
        start = time.monotonic()
        try:
            read_all(stop, address)
        except Exception:
            failures.append(f"{address:#x} {done}\n{traceback.format_exc()[-1500:]}")
        if time.monotonic() - start > SECONDS:
            slow.append(f"{address:#x} {done}: {time.monotonic() - start:.1f} s")
    memory.forget()
    with open(os.environ["FOUND"], "w", encoding="utf-8") as file:
        json.dump({"tried": tried, "noticed": noticed, "failures": failures, "slow": slow}, file)


if __name__ == "__main__":
    main()
