"""Frame stacks as text."""

from __future__ import annotations

from pathlib import Path

from refdbg.answers import StackFrame, Stacks, ThreadStack
from refdbg.render import as_text


def _stacks(*frames: StackFrame, note: str = "", native: int | None = 42) -> Stacks:
    return Stacks([ThreadStack(1, 0x1000, native, 0, True, False, list(frames), note)], [])


def test_unreadable_sources_and_unknown_lines(tmp_path: Path) -> None:
    text = as_text(_stacks(StackFrame("f", "<string>", 1), StackFrame("g", str(tmp_path), 0), note="it ends"), 80)
    assert text.splitlines()[1:] == ['  File "<string>", line 1, in f', f'  File "{tmp_path}", line ?, in g',
                                     "  [it ends]"]


def test_repeated_frames_are_counted_unless_their_locals_differ() -> None:
    same = [StackFrame("f", "<string>", 1)] * 100
    assert "[the same frame 97 more times]" in as_text(_stacks(*same), 80)
    assert as_text(_stacks(*same), 80).count("in f") == 3
    different = [StackFrame("f", "<string>", 1, {"n": str(n)}) for n in range(100)]
    assert as_text(_stacks(*different), 80).count("in f") == 100


def test_long_locals_are_cut_to_the_width() -> None:
    text = as_text(_stacks(StackFrame("f", "<string>", 1, {"name": "'" + "x" * 500 + "'"})), 60)
    (line,) = [line for line in text.splitlines() if "name" in line]
    assert len(line) == 60
    assert line.endswith("…")


def test_colour_only_when_wanted(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text("def f():\n    return [1]\n")
    record = _stacks(StackFrame("f", str(file), 2))
    assert "    return [1]" in as_text(record, 80)
    assert "\x1b[" not in as_text(record, 80)
    assert "\x1b[" in as_text(record, 80, colour=True)


def test_names_cannot_disturb_the_terminal(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text("x = '\x1b[31m'\n")
    frames = [StackFrame("f\n\x1b[2J", "\udcff\0.py", 1, {"é": "'𝄞'"}), StackFrame("g", str(file), 1)]
    text = as_text(_stacks(*frames), 80)
    assert '  File "\\udcff\\x00.py", line 1, in f\\n\\x1b[2J\n      é = \'𝄞\'\n' in text
    assert "    x = '\\x1b[31m'" in text
    assert text.encode()
    assert "\x1b[31m" not in as_text(_stacks(frames[1]), 80, colour=True)


def test_nothing() -> None:
    assert as_text(Stacks([], []), 80) == "no Python thread"
    assert "no Python frames" in as_text(_stacks(), 80)
    assert "kernel id not known" in as_text(_stacks(native=None), 80)


def test_arguments_are_marked_and_c_functions_named() -> None:
    frames = [StackFrame("f", "<string>", 1, {"a": "1", "b": "2"}, arguments=["a"]),
              StackFrame("g", "lib.so", 0, native=True)]
    assert as_text(_stacks(*frames), 80).splitlines()[1:] == [
        '  File "<string>", line 1, in f', "      arg a = 1", "          b = 2", '  File "lib.so", in g (C)']
