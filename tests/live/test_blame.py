"""Who took the reference that nobody gives back: refdbg-run --blame, and refdbg watch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import missing
from tests.live.test_extensions import TESTS, extensions
from tests.support.debugger import lldb, run_gdb, run_lldb
from tests.support.run import Ended, run

PROGRAM = TESTS / "programs" / "leak_blamed.py"
SOURCE = TESTS / "extensions" / "blamed.c"
THING = "__main__.Thing"
DEBUGGERS = {"gdb": run_gdb, "lldb": run_lldb}
# What x86-64 passes as the first argument after the module.
ARGUMENT = "$rsi"


def blame(python: str, way: str, wanted: str = THING, *options: str, more: tuple[str, ...] = ()) -> Ended:
    return run([python, PROGRAM, extensions(python), way, *more], ["--blame", wanted, *options])


def line_of(words: str, source: Path = SOURCE) -> int:
    (line,) = [number for number, text in enumerate(source.read_text().splitlines(), 1) if words in text]
    return line


def functions(nodes: list[dict[str, Any]]) -> list[str]:
    found = []
    for node in nodes:
        found += [node["call"]["function"], *functions(node["calls"])]
    return found


def check(ended: Ended, way: str) -> dict[str, Any]:
    function, words = {"fetched": ("fetch", "forgotten: Py_DECREF(found)")}.get(
        way, ("keep", "forgotten: Py_DECREF(object)")
    )
    assert (ended.status, ended.out, ended.err) == (0, b"out\n", b"")
    found = ended.report["blame"]
    assert found["error"] is None and found["notes"] == []
    result: dict[str, Any] = found["result"]
    assert result["verified"] and result["state"] == "alive"
    assert result["object"] == found["object"] and result["object"]["type"] == THING
    (left,) = result["balance"]["remaining"]
    assert left["references"] == 1
    assert (left["site"]["function"], left["site"]["line"]) == (function, line_of(words))
    assert left["site"]["file"].endswith("/tests/extensions/blamed.c")  # built in another checkout, maybe
    balance = result["balance"]
    assert balance["increments"] - balance["decrements"] == 1 and balance["hidden"] == balance["decrements"]
    assert not {"hold", "look", "come_and_go"} & set(functions(balance["tree"]))
    if way != "from_a_thread":
        python = [call for call in left["path"] if call["python"]]
        assert [call["function"] for call in python] == ["<module>", way]
        argument = "holder" if way == "fetched" else "thing"
        assert python[1]["line"] == line_of(f"    blamed.{function}({argument})", PROGRAM)
    return result


@pytest.mark.parametrize("way", ["kept", "fetched"])
def test_the_first_path_is_the_forgotten_reference(way: str, interpreter: str) -> None:
    check(blame(interpreter, way), way)


@pytest.mark.parametrize("way", ["kept", "fetched"])
def test_the_same_under_lldb(way: str, python311: str) -> None:
    if lldb() is None:
        missing("no lldb: apt-get install lldb-19")
    check(blame(python311, way, THING, "--debugger", str(lldb())), way)


def test_an_address_that_was_used_before(python311: str) -> None:
    """The object of run one is the n-th that was made at its address; the others come and go there."""
    result = check(blame(python311, "kept"), "kept")
    assert result["incarnation"] > 5
    # The others' changes were seen, and are in no sum.
    assert result["writes"] > 2 * (result["balance"]["increments"] + result["balance"]["decrements"])


def test_another_threads_stack(python311: str) -> None:
    result = check(blame(python311, "from_a_thread"), "from_a_thread")
    path = [call["function"] for call in result["balance"]["remaining"][0]["path"]]
    assert path[-3:] == ["Thread.run", "from_a_thread.<locals>.<lambda>", "keep"]


def test_by_signature_and_by_address(python311: str) -> None:
    first = blame(python311, "kept")
    (signature,) = [each["signature"] for each in first.report["findings"] if each["verdict"] == "lost-reference"]
    again = blame(python311, "kept", signature)
    assert check(again, "kept")["object"] == first.report["blame"]["object"]
    address = blame(python311, "kept", hex(first.report["blame"]["object"]["address"]))
    assert check(address, "kept")["object"] == first.report["blame"]["object"]
    assert "at the address" in address.report["blame"]["why"]


def test_a_list_that_an_error_path_forgets(interpreter: str) -> None:
    program = [interpreter, TESTS / "programs" / "leak_error_path.py", extensions(interpreter)]
    found = run(program, ["--blame", "list"]).report["blame"]
    assert found["result"]["verified"]
    (left,) = found["result"]["balance"]["remaining"]
    source = SOURCE.with_name("error_path.c")
    assert (left["site"]["function"], left["site"]["line"]) == ("parse", line_of("PyList_New(0)", source))


def test_a_type_that_is_left_over(python311: str) -> None:
    found = blame(python311, "kept", "type").report["blame"]
    assert found["result"]["verified"] and found["object"]["repr"] == f"<class '{THING}'>"
    left = found["result"]["balance"]
    assert sum(each["references"] for each in left["remaining"]) == found["object"]["refcount"]


@pytest.mark.parametrize(
    "wanted, words",
    [
        ("no.Such", "--blame no.Such: no object of such a type is left over, and no such type. Left over are"),
        ("lost-reference:0", "--blame lost-reference:0: no object is left over that a finding of this signature is"),
        ("0x7ff0", "--blame 0x7ff0: no object is left over at this address"),
    ],
)
def test_what_is_not_left_over(wanted: str, words: str, python311: str) -> None:
    ended = blame(python311, "kept", wanted)
    assert ended.status == 0 and ended.out == b"out\n"
    assert ended.report["blame"]["error"].startswith(words) and ended.report["blame"]["result"] is None
    assert words in ended.err.decode()
    assert ended.report["findings"]


def test_nothing_is_left_over_and_the_status_stays(python311: str) -> None:
    ended = run([python311, "-c", "print('once'); raise SystemExit(3)"], ["--blame", "int"])
    assert (ended.status, ended.out) == (3, b"once\n")
    assert "--blame int: no object of such a type is left over" in ended.report["blame"]["error"]


@pytest.mark.parametrize("address", ["0xyz", "0x10", "0x7ffff7bf6fe1", "0xffffffffffffffff0"])
def test_no_address(address: str, python311: str) -> None:
    ended = run([python311, "-c", "print('never')"], ["--blame", address])
    assert (ended.status, ended.out, ended.report) == (2, b"", {})
    assert b"no object can have this address" in ended.err


SPLIT = """\
import sys
sys.path.insert(0, sys.argv[1])
import blamed
class Thing: pass
def kept():
    thing = Thing()
    print(hex(id(thing)), flush=True)
    blamed.hold(thing)
    blamed.keep(thing)
    thing.own = [thing, thing]
kept()
"""


def test_split_counts(build: Callable[[str], str], tmp_path: Path) -> None:
    """Of a free-threaded build. The collector merges the two parts of the counts."""
    python = build("3.13t")
    program = tmp_path / "program.py"
    program.write_text(SPLIT)
    command = [python, program, extensions(python)]
    found = run(command, ["--blame", THING]).report["blame"]
    assert found["notes"] == [] and found["result"]["verified"]
    assert found["result"]["object"]["type"] == THING
    remaining = found["result"]["balance"]["remaining"]
    assert remaining[0]["site"]["function"] == "keep" and remaining[0]["references"] == 1
    assert not {"merge_refcount", "gc_restore_tid"} & set(functions(found["result"]["balance"]["tree"]))


def test_a_second_run_that_differs(python311: str, tmp_path: Path) -> None:
    ended = blame(python311, "other", more=(str(tmp_path / "mark"),))
    found = ended.report["blame"]
    assert ended.status == 0 and found["error"] is None
    assert not found["result"]["verified"]
    assert "in run two" in found["notes"][0] or "run two differs" in found["notes"][0]


def test_a_program_that_python_is_started_by(python311: str) -> None:
    command = f"exec {python311} {PROGRAM} {extensions(python311)} kept"
    check(run(["/bin/sh", "-c", command], ["--blame", THING]), "kept")


def test_standard_input_is_there_again(python311: str, tmp_path: Path) -> None:
    file = tmp_path / "input"
    file.write_text("a line\n" * 3)
    code = f"import sys; sys.path.insert(0, {extensions(python311)!r}); import blamed\n" \
           "class Thing: pass\nsys.stdin.readline() and blamed.keep(Thing())"  # fmt: skip
    with file.open() as stream:
        ended = run([python311, "-c", code], ["--blame", THING], input=None, stdin=stream)
    assert ended.report["blame"]["result"]["verified"]
    assert ended.report["blame"]["result"]["balance"]["remaining"][0]["site"]["function"] == "keep"


WATCHED = """\
import sys
sys.path.insert(0, sys.argv[1])
import blamed
class Thing: pass
def work():
    thing = Thing()
    ascii(thing)
    for _ in range(10):
        blamed.hold(thing)
        blamed.keep(thing)
    ascii(1)
    del thing
def free():
    thing = Thing()
    ascii(thing)
    del thing
    ascii(2)
work()
free()
"""


@pytest.mark.parametrize("debugger", DEBUGGERS)
@pytest.mark.parametrize("name", ["3.11", "3.13t"])
def test_watch(debugger: str, name: str, python311: str, build: Callable[[str], str], tmp_path: Path) -> None:
    """On split counts, too."""
    if debugger == "lldb" and lldb() is None:
        missing("no lldb: apt-get install lldb-19")
    python = python311 if name == "3.11" else build(name)
    program = tmp_path / "program.py"
    program.write_text(WATCHED)
    commands = [
        "refdbg watch", f"refdbg watch {ARGUMENT} --json", "continue", "refdbg watch --json", "refdbg watch",
        "continue", f"refdbg watch {ARGUMENT}", "continue", "refdbg watch --stop --json", "refdbg watch",
    ]  # fmt: skip
    none, begun, _, seen, text, _, other, _, freed, gone = DEBUGGERS[debugger](
        python, program, commands, [extensions(python)], folder=tmp_path
    )
    assert "no object is watched" in none.text and "no object is watched" in gone.text
    assert begun.record["object"]["type"] == THING and "watching" in begun.record["notes"][0]
    start = begun.record["balance"]["start"]
    assert start == begun.record["object"]["refcount"]
    first = seen.record["balance"]["remaining"][0]
    assert (first["references"], first["site"]["function"]) == (10, "keep")
    assert first["site"]["line"] == line_of("forgotten: Py_DECREF(object)")
    assert [call["function"] for call in first["path"]] == ["<module>", "work", "keep"]
    # Given back are the references of the call of ascii() only.
    assert seen.record["object"]["refcount"] == seen.record["balance"]["start"] + 10
    assert "1. +10 in keep" in text.text and "Py_INCREF(object);" in text.text
    assert "watching" in other.text
    assert freed.record["state"] == "freed" and freed.record["notes"] == ["the object was freed"]
    assert freed.record["balance"]["remaining"] == []


def test_watch_where_nothing_runs(python311: str, tmp_path: Path) -> None:
    core = tmp_path / "core"
    program = tmp_path / "program.py"
    program.write_text("ascii([])\n")
    run_gdb(python311, program, [f"generate-core-file {core}"], folder=tmp_path)
    from tests.support.debugger import on_core

    (answer,) = on_core("gdb", python311, core, ["refdbg watch &PyDict_Type"], tmp_path)
    assert "nothing runs here, so no reference count changes" in answer.text


STACKS = """\
python
import gdb
from refdbg.commands.context import Context
from refdbg.debuggers.gdb import GdbChange, GdbTarget
target = GdbTarget(gdb.selected_inferior())
change = GdbChange(target)
fast, complete = target.unwinder.calls(*change._registers, 512)
slow = [address for address, _ in change._walk(512)]
print('compared', complete, len(slow), fast[:len(slow)] == slow, len(fast) - len(slow) < 4)
end
"""


def test_stacks_are_those_of_the_debugger(interpreter: str, tmp_path: Path) -> None:
    """The unwinder's return addresses against gdb's, which stops at main."""
    program = tmp_path / "program.py"
    program.write_text("def deep(n):\n    return sorted([n], key=lambda n: deep(n - 1)) if n else ascii(n)\ndeep(9)\n")
    script = tmp_path / "compare.gdb"
    script.write_text(STACKS)
    places = ["list_dealloc", "PyObject_GetAttr", "_PyObject_Free", "dict_dealloc"]
    commands = [f"source {script}"]
    for place in places:
        commands += [f"tbreak {place}", "continue", f"source {script}", "stepi 3", f"source {script}"]
    answers = run_gdb(interpreter, program, commands, folder=tmp_path)
    compared = [each.text.split() for each in answers if each.text.startswith("compared")]
    assert len(compared) > 6
    for complete, depth, same, near in [row[1:] for row in compared]:
        assert (complete, same, near) == ("True", "True", "True")
        assert int(depth) > 2
