"""gdb and lldb give the same answers: on one stopped process, on its core file, and in the reports of whole runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import missing, python_of
from tests.support.debugger import Answer, attached, lldb, on_core
from tests.support.run import ENVIRONMENT, ROOT, Running, run
from tests.support.same import differences, normalised

PROGRAMS = ROOT / "tests" / "programs"
PROGRAM = """\
import sys, threading
class Node: pass
keep = [Node() for _ in range(50)]
held = {"the key": Node()}
loop = Node(); loop.itself = loop
threading.Thread(target=threading.Event().wait, daemon=True).start()
def inner(argument):
    print(id(argument), flush=True)
    sys.stdin.readline()
inner(held["the key"])
"""
ASKED = (
    "status", "census --limit 1000", "census --tracked", "object {node}", "type dict", "objects Node", "leaks",
    "balance {node}", "balance &PyDict_Type", "why {node}", "cycles", "cycles {node}", "retained", "retained {node}",
    "referents {node}", "referrers {node}", "referrers PyBaseObject_Type --limit 100000", "frames --locals --all",
    "gc again", "gc film {node} --now", "visits Node", "visits dict", "gc unreachable", "object 16",
    "objects Nod",
)  # fmt: skip
# (the build's recipe, or a test id; the program)
REPORTS = {
    "thread": ("3.11-leak-thread", "leak_thread.py"),
    "abc": ("3.11-leak-abc-no-type", "leak_abc.py"),
    "ast": ("3.11-leak-ast-late", "leak_ast.py"),
    "gc": ("3.11-leak-gc-never", "leak_gc.py"),
    "signal": ("3.11-leak-signal-handlers", "leak_signal_handlers.py"),
    "weakref": ("3.11-leak-weakref", "leak_weakref.py"),
}
DECIMAL = ["3.9-debug", "3.11-debug", "3.11-trace-refs", "3.13-debug"]


@pytest.fixture(scope="module", autouse=True)
def _both_debuggers() -> None:
    if lldb() is None:
        missing("no lldb: apt-get install lldb-19")


@pytest.fixture(scope="module", params=["3.9-debug", "3.13-debug"])
def answers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What both say of one process and of its core file."""
    folder = tmp_path_factory.mktemp("same")
    python = python_of(request.param)
    program, core = folder / "program.py", folder / "core"
    program.write_text(PROGRAM)
    running = Running([python, program])
    node = running.line()
    commands = [f"refdbg {each.format(node=node)} --json" for each in ASKED]
    pid = running.process.pid
    found: dict[str, list[Answer]] = {"gdb live": attached("gdb", pid, [*commands, f"gcore {core}"], folder)[:-1]}
    found["lldb live"] = attached("lldb", pid, commands, folder)
    running.write("")
    assert running.end().status == 0  # both debuggers have let it go on
    for debugger in ("gdb", "lldb"):
        found[f"{debugger} core"] = on_core(debugger, python, core, commands, folder)
    yield found


@pytest.mark.parametrize("what", ["live", "core"])
def test_every_command(answers: dict[str, list[Answer]], what: str) -> None:
    different = []
    for one, other in zip(answers[f"gdb {what}"], answers[f"lldb {what}"]):
        texts = [answer.text.replace("gdb 13.1", "DEBUGGER") for answer in (one, other)]
        texts[1] = texts[1].replace("lldb 19.1.7", "DEBUGGER")
        if texts[0] != texts[1]:
            different.append(f"{one.command}\n-- gdb\n{texts[0][:1500]}\n-- lldb\n{texts[1][:1500]}")
    assert not different, "\n".join(different)
    assert sum(answer.text.startswith("{") for answer in answers[f"lldb {what}"]) == len(ASKED) - 3  # three refuse


def _reports(python: str, arguments: list[str | Path]) -> list[Any]:
    reports = []
    program: list[str | Path] = ["setarch", "-R", python, *arguments]
    environment = {**ENVIRONMENT, "PYTHONHASHSEED": "1"}
    run(program, wrapped=False, env=environment)  # the first run may write .pyc files
    for debugger in ("gdb", "lldb"):
        # Addresses decide about the order of some sets, and their length where a repr is cut.
        ended = run(program, ["--debugger", debugger, "--objects", "30"], env=environment)
        assert ended.status == 0
        assert ended.report["target"]["debugger"].startswith(debugger)
        reports.append(ended.report)
    return reports


def _assert_same(reports: list[Any]) -> None:
    different = differences(*map(normalised, reports))
    assert not different, "\n".join(different[:20])
    signatures = [[each["signature"] for each in report["findings"]] for report in reports]
    assert signatures[0] == signatures[1]


@pytest.mark.parametrize("name", DECIMAL)
def test_reports_of_decimal(name: str) -> None:
    reports = _reports(python_of(name), ["-X", "showrefcount", "-c", "import decimal"])
    _assert_same(reports)
    assert bool(reports[0]["findings"]) == ("3.13" not in name)


@pytest.mark.parametrize("name", REPORTS)
def test_reports_of_leaks(name: str, build: Callable[[str], str]) -> None:
    recipe, program = REPORTS[name]
    reports = _reports(build(recipe), [PROGRAMS / program])
    _assert_same(reports)
    assert reports[0]["collections"]
