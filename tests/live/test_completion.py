"""What TAB offers in gdb and lldb."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import missing
from tests.support.debugger import lldb, run_gdb, run_lldb

LINES = {
    "c": ["census", "cycles"],
    "gc s": ["gc stop"],
    "gc stop --": [
        f"gc stop --{option}" for option in ("at", "generation", "help", "json", "objects", "off", "type")
    ],
    "gc stop --at ": ["gc stop --at begin", "gc stop --at clear", "gc stop --at end", "gc stop --at finalize"],
    "gc stop --type __main__.N": ["gc stop --type __main__.Node", "gc stop --type __main__.Nothing"],
    "retained __main__.No": ["retained __main__.Node", "retained __main__.Nothing"],
    "objects collections.d": ["objects collections.defaultdict", "objects collections.deque"],
    "object PyDict_Typ": ["object PyDict_Type"],
    "help gc u": ["help gc unreachable"],
}  # fmt: skip


def test_gdb(interpreter: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("import collections\nclass Node: pass\nclass Nothing: pass\nascii(1)\n")
    answers = run_gdb(interpreter, program, [f"complete refdbg {line}" for line in LINES], folder=tmp_path)
    for answer, expected in zip(answers, LINES.values()):
        assert answer.text.splitlines() == [f"refdbg {line}" for line in expected], answer.command


def test_gdb_without_a_process(python311: str, tmp_path: Path) -> None:
    lines = ["complete refdbg lea", "complete refdbg objects di"]
    leaks, objects = run_gdb(python311, "", lines, stop_at=None, folder=tmp_path)
    assert leaks.text == "refdbg leaks"
    assert "Traceback" not in objects.text


def test_lldb(python311: str, tmp_path: Path) -> None:
    # lldb 19 asks no Python command what may follow: it completes the subcommands, which are commands of its own.
    if lldb() is None:
        missing("no lldb: apt-get install lldb-19")
    offered = (
        "script words = lldb.SBStringList(); "
        "_ = lldb.debugger.GetCommandInterpreter().HandleCompletion('refdbg {0}', len('refdbg {0}'), 0, 99, words); "
        "print(' '.join(words.GetStringAtIndex(row) for row in range(1, words.GetSize())))"
    )
    lines = [offered.format(start) for start in ("c", "gc s", "objects di")]
    answers = run_lldb(python311, "", lines, stop_at=None, folder=tmp_path)
    assert [answer.text for answer in answers] == ["census cycles", "stop", ""]
