"""A free-threaded build: its objects, its counts, its collector's decisions, and what it leaves over."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import missing, newest_free_threaded
from tests.live.test_extensions import extensions
from tests.live.test_traverse import PROGRAMS, check
from tests.support.debugger import run_gdb
from tests.support.run import ENVIRONMENT, Ended, run


@pytest.fixture(scope="module", params=["3.13t", "3.14t"])
def python(request: pytest.FixtureRequest, build: Callable[[str], str]) -> str:
    """The free-threaded builds. That of 3.14 takes minutes more to make: `make matrix` makes it, the suite does not."""
    if shutil.which("gdb") is None:
        missing("no gdb: apt-get install gdb")
    return build("3.13t") if request.param == "3.13t" else newest_free_threaded()


@cache
def ended(*command: str | Path, options: tuple[str, ...] = ()) -> Ended:
    """A program's run, in the one environment of all."""
    return run([str(each) for each in command], options, env={**ENVIRONMENT, "PYTHONHASHSEED": "0"})


# Objects


def test_objects_and_blocks(python: str, tmp_path: Path) -> None:
    """From mimalloc's pages: what gc.get_objects() gave, and the blocks that the debug hooks' headers show."""
    found = check(python, "free-threaded", [PROGRAMS / "free_threaded.py", tmp_path / "told"], tmp_path)
    assert found["tracked"] > 10_000 and found["twice"] == 0
    assert found["not found"] == 0
    # The list that it gave is not among its own objects; the rest is what the program has written its file with.
    assert 2 <= found["more"]["list"] <= 3 and sum(found["more"].values()) < 12, found["more"]
    assert all(name in ("list", "dict") or name.startswith(("_io.", "encodings.")) for name in found["more"])
    assert found["collector's number"] == found["tracked"] - sum(found["more"].values())
    assert found["blocks"] > 50_000 and found["different blocks"] == 0 and found["sorted"]
    assert found["not in the heap"] == 0
    assert found["notes"] == []
    assert found["counts"] == found["told"]
    assert found["abandoned"]  # there are segments that nobody has taken over
    assert found["states"]["local"] > 1000 and found["states"]["merged"] > 1000


DAMAGED = "&((_PyThreadStateImpl *)_PyRuntime.main_tstate)->mimalloc.heaps[2]"
DAMAGE = {  # what is overwritten → what is said of it; $page: one of objects that are tracked, which has free blocks
    "$page->free = (mi_block_t *)8": "list of free blocks",
    "$page->local_free = $page->free": "list of free blocks",
    "$page->keys[0] = 1234567": "list of free blocks",
    "$page->used = 60000": "counts 60000 blocks in use",
    "$page->xblock_size = 0x7ffffff8": "is damaged",
    "$page->capacity = 65535": "is damaged",
    "$page->next = $page": "runs in a circle",
    "$page->next = (mi_page_t *)0xdddddddddddddd00": "breaks off at 0xdddddddddddddd00",
    "$heap->thread_delayed_free = (mi_block_t *)0xdddddddddddddd00": "what other threads have freed",
}
FIND = f"""\
import gdb
heap = gdb.parse_and_eval("{DAMAGED}")
gdb.set_convenience_variable("heap", heap)
for queue in range(10, 60):
    page = heap["pages"][queue]["first"]
    if page and page["free"] and int(page["used"]) > 5:
        gdb.set_convenience_variable("page", page)
        break
"""


@pytest.fixture(scope="module")
def answers(python: str, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """Of an intact process: status, census, object, leaks …; then status and census after each damage."""
    folder = tmp_path_factory.mktemp("free-threaded")
    script = folder / "find.py"
    script.write_text(FIND)
    program = folder / "program.py"
    program.write_text(
        "import gc\n"
        "class Node:\n    def method(self): pass\n"
        "nodes = [Node() for _ in range(3000)]\n"
        "for node in nodes: node.me = [node]\n"
        "del nodes[::2], node\n"
        "gc.collect()\ngc.disable()\n"
        "ascii(Node.method)\n"
    )
    commands = ["refdbg object obj --json", "refdbg object obj", "refdbg census --json", "refdbg gc again --json",
                "refdbg leaks --json", "refdbg status --json", "refdbg gc film obj", f"source {script}"]  # fmt: skip
    for damage in DAMAGE:
        place, value = damage.split(" = ")
        commands += [f"set $place = &({place})", "set $old = *$place", f"set var *$place = {value}",
                     "refdbg status --json", "refdbg census --json", "set var *$place = $old"]  # fmt: skip
    commands.append("refdbg status --json")
    return run_gdb(python, program, commands, folder=folder)


def test_split_counts(answers: list[Any]) -> None:
    function, text, census, again, leaks, status, film = answers[:7]
    split = function.record["split"]
    assert split["deferred"] and split["thread"] and {"tracked", "deferred"} <= set(split["bits"])
    # Held by the type's dict, and by the call's stack and arguments; the deferred reference is nobody's.
    assert function.record["refcount"] == split["local"] + split["shared"] - 1 >= 1
    assert "1 of them deferred: only a collection frees it" in text.text
    assert census.record["counts"]["deferred"] > 100 and census.record["counts"]["immortal"] > 1000
    assert sum(census.record["counts"].values()) == census.record["objects"]
    assert again.record["by_type"] == [] and again.record["tracked"] > 5000
    assert leaks.record["findings"] == [] and leaks.record["garbage"] == 0
    assert [row["name"] for row in status.record["interpreters"][0]["generations"]] == ["all", "permanent"]
    assert "--now" in film.text and "cannot be filmed" in film.text


@pytest.mark.parametrize("damage", list(DAMAGE))
def test_damaged_pages(answers: list[Any], damage: str) -> None:
    """The walk ends, counts what it lost, and says so."""
    whole = answers[5].record
    assert whole["notes"] == answers[-1].record["notes"] == []
    first = 8 + 6 * list(DAMAGE).index(damage)
    status, census = answers[first + 3 : first + 5]
    number = whole["interpreters"][0]["generations"][0]["tracked"]
    assert DAMAGE[damage] in "\n".join(status.record["notes"])
    assert 0 < status.record["interpreters"][0]["generations"][0]["tracked"] <= 1.5 * number
    assert census.record["objects"] > 1000


# The collector


def test_every_decision_is_replayed_alike(python: str, tmp_path: Path) -> None:
    told = tmp_path / "truth.json"
    found = ended(python, PROGRAMS / "collections_oracle.py", told, options=("--check", "--objects", "100"))
    assert found.status == 0, found.err.decode()
    truth = [case for case in json.loads(told.read_text()) if case["name"] != "allocation"]
    records = [
        record for record in found.report["collections"]
        if record["reason"] == "gc.collect()" and record["frame"] and record["frame"]["function"] == "collect"
    ]
    assert [record["generation"] for record in records] == [case["generation"] for case in truth]
    for record, case in zip(records, truth):
        assert record["cleared"] + record["uncollectable"] == case["returned"], case["name"]
        assert record["unreachable"] == record["cleared"] + record["uncollectable"] + record["resurrected"]
    (checked,) = [note for note in found.report["warnings"] if "replayed" in note]
    assert int(checked.split()[0]) >= len(records) + 3 and checked.endswith("; all decided alike.")


# What is left over


def is_newer(report: dict[str, Any]) -> bool:
    """Whether it is of 3.14 or later."""
    return tuple(map(int, report["target"]["python"].split(".")[:2])) >= (3, 14)


def left_over(python: str, code: str) -> tuple[dict[str, Any], int]:
    """The report, and the total that the interpreter itself printed."""
    found = ended(python, "-X", "showrefcount", "-c", code)
    assert found.report["partial"] is None
    return found.report, int(found.err.split(b"[")[1].split()[0])


@pytest.mark.parametrize("module", ["decimal", "asyncio"])
def test_clean_modules(python: str, module: str) -> None:
    report, printed = left_over(python, f"import {module}")
    assert printed == 0 == report["totals"]["references_reported"]
    assert report["findings"] == [] == report["warnings"]
    assert report["interpreters"][0]["left_over"]["objects"] == 0


@pytest.mark.parametrize(("module", "variable"), [
    ("curses", "PyCursesError"), ("_testsinglephase", "global_state"), ("_testcapi", None),
])  # fmt: skip
def test_modules_that_leave_something(python: str, module: str, variable: str | None) -> None:
    report, printed = left_over(python, f"import {module}")
    if module == "curses" and is_newer(report):
        assert (printed, report["findings"], report["warnings"]) == (0, [], [])
        return
    totals, left = report["totals"], report["interpreters"][0]["left_over"]
    assert totals["references_reported"] == printed > 0
    assert totals["references_unattributed"] == 0
    assert left["references"] == {line["what"]: line["references"] for line in totals["lines"]}["heap objects"]
    assert {(f["verdict"], f["confidence"]) for f in report["findings"]} <= {("static-reference", "proven")}
    named = [f for f in report["findings"] if variable and f"C variable `{variable}`" in f["message"]]
    assert bool(named) == bool(variable) == bool(report["findings"])
    explained = sum(f["explains"]["objects"] for f in report["findings"])
    designed = [int(note.split()[3]) for note in report["warnings"] if "kept by design" in note]
    assert explained + sum(designed) == left["objects"]


@pytest.mark.parametrize(("name", "verdict"), [
    ("forgotten_field", "missing-visit"), ("over_visit", "over-visit"), ("forgotten_clear", "uncollectable"),
])  # fmt: skip
def test_planted_extensions(python: str, name: str, verdict: str) -> None:
    report = ended(python, PROGRAMS / f"leak_{name}.py", extensions(python)).report
    if name == "over_visit" and is_newer(report):
        assert report["findings"] == []  # it first marks what is on the stacks: what the frame holds is not counted
        return
    assert report["findings"][0]["verdict"] == verdict
    assert name in report["findings"][0]["message"]
    assert report["totals"]["references_unattributed"] == 0


def test_the_control_is_silent(python: str) -> None:
    """Also of the code of a generator that the last collection has finished, and that does not visit it."""
    assert ended(python, PROGRAMS / "leak_static_cache.py", extensions(python), "control").report["findings"] == []


# What becomes immortal with the first thread, later, and never (gc.freeze()); a subinterpreter's objects do not.
IMMORTAL = """
import threading, _interpreters
each = _interpreters.create()
_interpreters.exec(each, "import json, threading")
thread = threading.Thread(target=list); thread.start(); thread.join()
import decimal
class Later: pass
_interpreters.destroy(each)
"""
FROZEN = "import gc, threading; gc.freeze(); thread = threading.Thread(target=list); thread.start(); thread.join()"


@pytest.mark.parametrize(("code", "least"), [(IMMORTAL, 5000), (FROZEN, 0)], ids=["threads", "frozen"])
def test_objects_that_became_immortal(python: str, code: str, least: int) -> None:
    """What they had counted stays in the total that the interpreter prints."""
    report, printed = left_over(python, code)
    if is_newer(report):
        assert (printed, report["findings"]) == (0, []) or code == FROZEN
        return
    assert printed == report["totals"]["references_reported"] > 5000
    assert report["totals"]["references_unattributed"] == 0
    lines = {line["what"]: line["references"] for line in report["totals"]["lines"]}
    assert lines["objects that became immortal"] >= least and report["findings"] == []
    assert ("became immortal" in "\n".join(report["warnings"])) == bool(least)


# References that are in no count, from 3.14 on


@pytest.fixture(scope="module")
def deferred(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What commands answer where frames hold objects without counting them, and gdb's output when it has gone on."""
    if shutil.which("gdb") is None:
        missing("no gdb: apt-get install gdb")
    item = "((PyListObject *)obj)->ob_item"
    commands = ["refdbg gc again --json", "refdbg leaks --json", f"refdbg balance {item}[0] --json",
                f"refdbg balance {item}[1] --json", "refdbg frames --locals --json", "refdbg frames --locals",
                f"refdbg object {item}[0] --json", "continue"]  # fmt: skip
    folder = tmp_path_factory.mktemp("deferred")
    return run_gdb(newest_free_threaded(), PROGRAMS / "deferred.py", commands, folder=folder)


def test_what_is_garbage_despite_deferred_references(deferred: list[Any]) -> None:
    again, leaks = deferred[0].record, deferred[1].record
    assert again["unreachable"] == int(deferred[7].text.split("[Inferior")[0].split()[-1]) > 30
    assert leaks["findings"] == [] == leaks["notes"]


def test_deferred_references_are_balanced(deferred: list[Any]) -> None:
    kind, function, counted = deferred[2].record, deferred[3].record, deferred[6].record
    for each in (kind, function):
        assert each["lost"] == 0 and each["owned"] == each["object"]["refcount"]
    labels = [holder["label"] for holder in kind["holders"]]
    assert labels.count("local kind") == 6  # of five generators, and of a frame object
    assert counted["refcount"] == kind["object"]["refcount"] - 6
    split = counted["split"]
    assert counted["refcount"] == split["local"] + split["shared"] + split["by_threads"] - 1 and split["deferred"]


def test_frames_mark_deferred_references(deferred: list[Any]) -> None:
    running = deferred[4].record["threads"][0]["frames"][0]
    assert (running["function"], running["deferred"]) == ("running", ["kind"])
    assert "kind (deferred) = <class '__main__.running.<locals>.Only'>" in deferred[5].text


def test_deferred_references_of_c_code(tmp_path: Path) -> None:
    if shutil.which("gdb") is None:
        missing("no gdb: apt-get install gdb")
    of = "((PyWeakReference *)obj)->wr_object"
    commands = ["refdbg gc again --json", f"refdbg balance {of} --json", f"refdbg why {of}", "refdbg leaks --json",
                "set $next = &((_PyThreadStateImpl *)_PyRuntime.main_tstate)->c_stack_refs->next->next",
                "set $old = *$next", "set var *$next = (_PyCStackRef *)0xdead0000", "refdbg gc again --json",
                "set var *$next = $old", "continue"]  # fmt: skip
    answers = run_gdb(newest_free_threaded(), PROGRAMS / "deferred_by_c.py", commands, folder=tmp_path)
    again, balance, why, leaks, *_, damaged, _, rest = answers
    assert rest.text.split("[Inferior")[0].split()[-2:] == ["0", "False"]
    assert again.record["unreachable"] == damaged.record["unreachable"] == 0
    assert (balance.record["lost"], balance.record["owned"]) == (0, balance.record["object"]["refcount"])
    (holder,) = [holder for holder in balance.record["holders"] if holder["label"].startswith("C function in thread")]
    assert holder["kind"] == "frame"
    assert "1. running frame C function in thread 0 of interpreter 0" in why.text
    assert (leaks.record["garbage"], leaks.record["findings"]) == (0, [])
