"""One defect is one finding, and none is none: on every kind of build, and with every allocator."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.live.test_extensions import extensions
from tests.support.run import ENVIRONMENT, run

TESTS = Path(__file__).parents[1]
REFDBG = [sys.executable, "-c", "from refdbg.launch.shell import main; main()"]
LOSE = "import collections, ctypes; lost = {}; ctypes.pythonapi.Py_IncRef(ctypes.py_object(lost))"
DEQUE = LOSE.format("collections.deque(float(n) for n in range(400))")
ORDERED = LOSE.format("collections.OrderedDict((n + 0.5, 1000 + n) for n in range(300))")
THREAD = "import threading; thread = threading.Thread(target=print); thread.start(); thread.join()"
ALIVE = (
    "import collections, decimal, pickle, io\n"
    "kept = collections.OrderedDict((n + 0.5, [n]) for n in range(300)), pickle.Pickler(io.BytesIO()), [{}] * 99\n"
    "print('ready', flush=True)\ninput()"
)


@pytest.mark.parametrize("program", [DEQUE, ORDERED], ids=["deque", "OrderedDict"])
@pytest.mark.parametrize(("name", "allocator"), [
    ("3.13", ""), ("3.13", "malloc"), ("3.13-release", ""), ("3.13-release", "malloc"),
    ("3.13-release", "malloc_debug"), ("3.13t", ""),
])  # fmt: skip
def test_one_lost_reference(name: str, allocator: str, program: str, build: Callable[[str], str]) -> None:
    more = {"PYTHONMALLOC": allocator} if allocator else {}
    found = run([build(name), "-c", program], env={**ENVIRONMENT, **more}).report["findings"]
    assert [each["verdict"] for each in found] == ["lost-reference"]
    assert found[0]["subject"]["type"].startswith("collections.")
    assert found[0]["explains"]["objects"] > 300  # with what it holds


@pytest.mark.parametrize("name", ["3.13", "3.13-release", "3.13t"])
def test_a_thread_is_no_leak(name: str, build: Callable[[str], str]) -> None:
    assert run([build(name), "-c", THREAD]).report["findings"] == []


def _leaks(python: str, code: str, **env: str) -> dict[str, Any]:
    return _asked([python, "-c", code], **env)


def _asked(program: list[str], **env: str) -> dict[str, Any]:
    # What `refdbg --pid N leaks` says of the program, once that has printed a line.
    with subprocess.Popen(
        program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**ENVIRONMENT, **env}
    ) as running:
        assert running.stdout is not None
        running.stdout.readline()
        done = subprocess.run(
            [*REFDBG, "--pid", str(running.pid), "leaks", "--json"], capture_output=True, text=True, check=True
        )
        running.kill()
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize(("name", "traced"), [
    ("3.13", ""), ("3.13-release", ""), ("3.13t", ""), ("3.13t-release", ""), ("3.13", "1"), ("3.13t", "1"),
])  # fmt: skip
def test_what_is_alive_is_not_lost(name: str, traced: str, build: Callable[[str], str]) -> None:
    answer = _leaks(build(name), ALIVE, PYTHONTRACEMALLOC=traced)
    assert [each["message"] for each in answer["findings"]] == []
    assert answer["objects"] > 10_000  # they were looked at


@pytest.mark.parametrize("name", ["3.11", "3.13", "3.13t"])
def test_a_reference_that_only_tp_traverse_finds_is_not_lost(name: str, build: Callable[[str], str]) -> None:
    python = build(name)
    program = [python, str(TESTS / "programs" / "hidden_owner.py"), extensions(python)]
    assert [each["message"] for each in _asked(program)["findings"]] == []
    lost = run([*program, "lose"], input=b"\n").report["findings"]
    assert [each["verdict"] for each in lost] == ["lost-reference"]
    assert lost[0]["subject"]["type"] == "list" and lost[0]["message"].count("a reference that nobody holds") == 1
    assert lost[0]["explains"]["objects"] > 8  # and all behind it


@pytest.mark.parametrize("name", ["3.11", "3.13t"])
def test_a_borrowed_pointer_does_not_stand_for_a_lost_reference(name: str, build: Callable[[str], str]) -> None:
    python = build(name)
    program = [python, str(TESTS / "programs" / "hidden_owner.py"), extensions(python), "parent"]
    found = _asked(program)["findings"]
    # The other nodes' parents have no room for a reference of their children.
    assert [(each["verdict"], each["subject"]["type"]) for each in found] == [("lost-reference", "hidden_owner.Node")]
    assert found[0]["counterfactual"]["freed_objects"] == found[0]["explains"]["objects"] == 2


@pytest.mark.parametrize("name", ["3.11", "3.13", "3.13t"])
def test_what_no_destructor_releases_is_borrowed(name: str, build: Callable[[str], str]) -> None:
    python = build(name)
    program = [python, str(TESTS / "programs" / "hidden_owner.py"), extensions(python), "parent"]
    # At the end no other nodes are left that could tell.
    found = run(program, input=b"\n").report["findings"]
    assert [(each["verdict"], each["confidence"]) for each in found] == [("lost-reference", "likely")]
    assert "parent of an object points to it without owning it" in found[0]["evidence"][-1]["text"]


NAMELESS = """
import ctypes
names = {}
exec("class " + "N" * 300_000 + ": pass", names)
kept = [names["N" * 300_000]() for _ in range(6)]
del names
ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))
"""


@pytest.mark.parametrize("name", ["3.13", "3.13t"])
def test_objects_of_a_class_whose_name_was_freed(name: str, build: Callable[[str], str]) -> None:
    """The interpreter frees interned names (since 3.12), and classes that outlive it point there still."""
    report = run([build(name), "-X", "showrefcount", "-c", NAMELESS]).report
    assert report["totals"]["references_unattributed"] == 0
    (found,) = report["findings"]
    assert (found["verdict"], found["subject"]["type"]) == ("lost-reference", "list")
    assert found["explains"]["objects"] == report["interpreters"][0]["left_over"]["objects"] > 7


LATER = """
import _testcapi
_testcapi.run_in_subinterp("import _json, threading, _socket; x = threading.Lock()")
import _ctypes, _elementtree, _asyncio
"""


def test_static_types_of_libraries_that_are_loaded_later_keep_by_design(build: Callable[[str], str]) -> None:
    """The kernel puts them below those that were there when an interpreter's end was looked at."""
    found = run([build("3.11"), "-c", LATER]).report
    assert [each["message"] for each in found["findings"] if "tp_dict" in str(each["evidence"])] == []
    assert any("by those of _ctypes" in note for note in found["warnings"])


ENDED = """
import _testcapi
for _ in range(2):
    _testcapi.run_in_subinterp("import asyncio, enum, ast")
print("ready", flush=True)
input()
"""


def test_what_ended_interpreters_left_is_not_lost(build: Callable[[str], str]) -> None:
    """Their collectors leave a reference to each on purpose (gc_fini_untrack)."""
    answer = _leaks(build("3.11"), ENDED)
    assert any("objects were left over by interpreters that have ended" in note for note in answer["notes"])
    lost = [each["subject"]["repr"] for each in answer["findings"]]
    # _testcapi makes one too many; the statics of _socket and _asyncio were overwritten by the next interpreter's.
    assert [each for each in lost if not re.search("HeapCType|socket|weakref", each)] == []
