"""Line tables against what the running Python says of its own code objects, and tables of older releases."""

from __future__ import annotations

import argparse
import inspect
import random
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest

from refdbg.cpython import lines

FORMS: list[Any] = [lines.locations, lines.line_ranges, lines.lnotab]


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


@pytest.mark.skipif(sys.version_info < (3, 10), reason="co_lines() came with 3.10")
@pytest.mark.parametrize("module", [argparse, inspect, random], ids=lambda module: module.__name__)
def test_the_running_python(module: types.ModuleType) -> None:
    form = lines.locations if sys.version_info >= (3, 11) else lines.line_ranges
    compared = 0
    for code in _codes(compile(inspect.getsource(module), "x", "exec")):
        for start, end, line in code.co_lines():
            for offset in range(start, end, 2):
                assert lines.line_at(form, code.co_linetable, code.co_firstlineno, offset) == line
                compared += 1
    assert compared > 1000


def test_lnotab() -> None:
    # The example of Objects/lnotab_notes.txt, 300 bytes and 200 lines apart in the middle.
    table = bytes([0, 1, 6, 1, 44, 5, 255, 0, 45, 127, 0, 73, 11, 1])
    expected = {0: 1, 5: 1, 6: 2, 49: 2, 50: 7, 349: 7, 350: 207, 360: 207, 361: 208, 5000: 208}
    assert {offset: lines.line_at(lines.lnotab, table, 0, offset) for offset in expected} == expected
    assert lines.line_at(lines.lnotab, bytes([0, 5, 2, 256 - 3]), 10, 2) == 12  # lines may go back
    assert lines.line_at(lines.lnotab, b"", 10, 4) == 10


def test_line_ranges() -> None:
    table = bytes([4, 1, 6, 128, 2, 256 - 1, 254, 127, 4, 1])
    expected = {-1: 10, 0: 11, 3: 11, 4: None, 9: None, 10: 10, 12: 137, 265: 137, 266: 138, 270: None}
    assert {offset: lines.line_at(lines.line_ranges, table, 10, offset) for offset in expected} == expected


def test_before_the_first_instruction() -> None:
    for form in FORMS:
        assert lines.line_at(form, b"", 7, -2) == 7


def test_the_last_line() -> None:
    assert lines.last_line(lines.lnotab, bytes([0, 1, 6, 1, 44, 5, 2, 256 - 3]), 10) == 17  # lines may go back
    assert lines.last_line(lines.line_ranges, bytes([4, 1, 6, 128, 2, 256 - 1]), 10) == 11
    for form in FORMS[:2]:
        assert lines.last_line(form, b"", 7) == 7

    def function() -> list[int]:
        return [
            1,
        ]

    code = function.__code__
    if sys.version_info >= (3, 10):
        form = lines.locations if sys.version_info >= (3, 11) else lines.line_ranges
        assert lines.last_line(form, code.co_linetable, code.co_firstlineno) == max(
            line for *_, line in code.co_lines() if line
        )


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_junk_raises_nothing(form: Any) -> None:
    source = random.Random(1)
    for _ in range(500):
        table = source.randbytes(source.randrange(40))
        for offset in (-2, 0, 6, 200, 1 << 40, -(1 << 40)):
            line = lines.line_at(form, table, 5, offset)
            assert line is None or isinstance(line, int)
