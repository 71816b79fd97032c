"""The file of known leaks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from refdbg.launch import baseline

ONE, TWO, GUESS = "missing-visit:0a3d1a5dcbd1", "lost-reference:e7cedf653580-2", "native-reference:000000000000"


def report(*found: tuple[str, str]) -> dict[str, Any]:
    """A report with findings of (signature, confidence)."""
    return {"findings": [{"signature": s, "confidence": c, "message": "it\nleaks"} for s, c in found]}


def test_what_is_added_is_known_from_then_on(tmp_path: Path) -> None:
    file = str(tmp_path / "known.txt")
    found = report((ONE, "proven"), (TWO, "likely"), (GUESS, "possible"))
    assert baseline.update(file, found) == 2
    assert baseline.read(file) == {ONE, TWO}
    assert baseline.new_leaks(found, baseline.read(file)) == []
    assert baseline.update(file, found) == 0


def test_what_stands_there_stays(tmp_path: Path) -> None:
    file = tmp_path / "known.txt"
    file.write_text(f"# ours\n{TWO} # since 2019")
    assert baseline.update(str(file), report((ONE, "proven"))) == 1
    assert file.read_text() == f"# ours\n{TWO} # since 2019\n{ONE}  # it leaks\n"


def test_a_guess_is_no_new_leak() -> None:
    assert baseline.new_leaks(report((GUESS, "possible")), frozenset()) == []
    assert [f["signature"] for f in baseline.new_leaks(report((GUESS, "likely")), frozenset())] == [GUESS]


@pytest.mark.parametrize("line", ["nonsense", "missing-visit", "missing-visit:xyz", f"{ONE} {TWO}"])
def test_another_file_is_no_baseline(tmp_path: Path, line: str) -> None:
    file = tmp_path / "known.txt"
    file.write_text(f"\n{line}\n")
    with pytest.raises(baseline.BadBaseline, match=r"line 2.*no signature"):
        baseline.read(str(file))


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(baseline.BadBaseline, match="there is no baseline"):
        baseline.read(str(tmp_path / "none"))
    with pytest.raises(baseline.BadBaseline, match="cannot be written"):
        baseline.update(str(tmp_path / "none" / "file"), report((ONE, "proven")))
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(baseline.BadBaseline, match="cannot be read"):
        baseline.read(str(tmp_path / "bytes"))
