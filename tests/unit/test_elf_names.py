"""The names that the source has, from those that compilers and the linker's optimiser give."""

from __future__ import annotations

import pytest

from refdbg.target.elf import _source_name


@pytest.mark.parametrize(("symbol", "name"), [
    ("arenas.lto_priv.0", "arenas"), ("interned.lto_priv", "interned"), ("plain", "plain"),
    ("silly_list.1", "silly_list.1"),  # a static of a function
    ("_ZL6shared", "shared"), ("_ZL6shared.lto_priv.3", "shared"), ("_ZL7shared", "_ZL7shared"),
    ("_ZL1fv", "_ZL1fv"), ("_ZN1a1bE", "_ZN1a1bE"),
])  # fmt: skip
def test_source_names(symbol: str, name: str) -> None:
    assert _source_name(symbol.encode()) == name
