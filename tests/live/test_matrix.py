"""A slice of `make matrix`: what no other test runs under lldb."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.conftest import missing
from tests.matrix import looked_at
from tests.support.debugger import lldb


@pytest.mark.parametrize("name", ["3.9", "3.13", "3.13t", "3.13-release"])
def test_under_lldb(name: str, build: Callable[[str], str]) -> None:
    if lldb() is None:
        missing("no lldb: apt-get install lldb-19")
    row = looked_at(name, build(name), str(lldb()))
    assert row.debugger.startswith("lldb")
    assert row.good, row
