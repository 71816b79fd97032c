"""The known references of all objects, read at once, against those of each object by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.live.test_traverse import PROGRAMS, check


@pytest.mark.parametrize("program", ["storage.py", "many_modules.py", "many_types.py"])
def test_they_are_the_same(interpreter: str, program: str, tmp_path: Path) -> None:
    found = check(interpreter, "known", [PROGRAMS / program], tmp_path)
    assert found["references"] > found["objects"] / 2
    assert found["others"] < 0.2 * found["objects"]
    assert found["different"] == []
