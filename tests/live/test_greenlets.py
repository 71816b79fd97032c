"""Suspended greenlets: their stacks are listed, and what leads back to them through their frames is a finding."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import missing, newest_free_threaded, python_of
from tests.support.debugger import Answer, attached, lldb, run_gdb
from tests.support.run import ENVIRONMENT, ROOT, Ended, Running, printed_total, run

PROGRAMS = ROOT / "tests" / "programs"
PROGRAM = PROGRAMS / "leak_greenlets.py"
FIXED, LEAKING = "3.5.6", "3.5.0"
BUILDS = ["3.11-debug", "3.13-debug"]
# The newer release visits its frames on CPython 3.15 only, and does not compile on a free-threaded build.
AT_EXIT = [*((build, LEAKING) for build in (*BUILDS, "3.13t")), ("3.13-debug", FIXED)]
SWITCHING = "greenlet::PythonState::operator<<", "greenlet::Greenlet::g_switch_finish"
# What greenlet calls while it makes one, starts it, switches, and ends it.
MIDDLE = (
    "green_new", "greenlet::UserGreenlet::UserGreenlet", "greenlet::UserGreenlet::g_initialstub",
    *SWITCHING, "greenlet::PythonState::did_finish",
)  # fmt: skip


@cache
def provided(what: str, python: str) -> str:
    """The folder of greenlet in a version, or of gevent; skips where it cannot be had."""
    build = ROOT / "tests" / "greenlet" / "build"
    done = subprocess.run(
        [sys.executable, str(build), what, python], capture_output=True, text=True, check=False, timeout=600
    )
    if done.returncode:
        missing(f"no {what} for {python}: {done.stderr[-400:]}")
    return done.stdout.strip()


def environment(*folders: str) -> dict[str, str]:
    return {**ENVIRONMENT, "PYTHONPATH": ":".join(folders), "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}


@cache
def ended(test_id: str, version: str, how: str, *options: str) -> Ended:
    """The program's run to its end, without a stop."""
    python = python_of(test_id)
    command = [python, "-X", "showrefcount", PROGRAM, how]
    found = run(command, options, env=environment(provided(version, python)))
    assert found.status == 0, found.err
    return found


def frame_findings(findings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [each for each in findings if each["verdict"] == "untraversed-frame"]


@pytest.fixture(scope="module", params=BUILDS)
def build(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# At exit


@pytest.mark.parametrize(("build", "version"), AT_EXIT)
def test_the_leak_at_exit(build: str, version: str) -> None:
    found = ended(build, version, "leak", "--check")
    first = found.report["findings"][0]
    assert first["verdict"] == "untraversed-frame"
    assert first["message"].startswith("greenlet.greenlet: 10 of them are suspended in inner() (")
    assert "called by worker() (" in first["message"]
    assert "green_traverse does not visit" in first["message"]
    told = [each["text"].strip() for each in first["evidence"]]
    assert "local node of inner() leads back: __main__.Node (__dict__['greenlet']) → itself" in told
    assert "local node of worker() leads back: __main__.Node (__dict__['greenlet']) → itself" in told
    place = next(each["location"] for each in first["evidence"] if each["kind"] == "frame")
    assert place["file"] == first["holder"]["file"] == str(PROGRAM)
    assert "suspended here" in PROGRAM.read_text().splitlines()[place["line"] - 1]
    assert "drop `node` in inner()" in first["fix"] and "_PyGC_VisitFrameStack()" in first["fix"]
    assert first["counterfactual"]["freed_references"] == first["explains"]["references"]
    # The collector was replayed right: it overlooks who refers to a greenlet that is suspended.
    assert not [note for note in found.report["warnings"] if "decided otherwise" in note]
    # What the same program leaves when they are ended: nearly all of the difference is explained.
    without = printed_total(ended(build, LEAKING, "ended"))
    difference = printed_total(found) - without
    assert 0.9 * difference <= first["explains"]["references"] <= difference


def test_the_signature_is_the_same_everywhere() -> None:
    assert len({ended(*each, "leak", "--check").report["findings"][0]["signature"] for each in AT_EXIT}) == 1


@pytest.mark.parametrize(("build", "how"), [("3.11-debug", "ended"), ("3.13-debug", "ended"), ("3.13-debug", "apart")])
def test_no_cycle_is_no_finding(build: str, how: str) -> None:
    found = ended(build, LEAKING, how)
    assert found.out == b"0\n"
    assert not frame_findings(found.report["findings"])


# At a stop


@pytest.fixture(scope="module")
def stopped(build: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """What the program says of itself, and what gdb, lldb and refdbg alone say of it."""
    if shutil.which("gdb") is None:
        missing("no gdb: apt-get install gdb")
    if lldb() is None:
        missing("no lldb: apt-get install lldb-19")
    python, folder = python_of(build), tmp_path_factory.mktemp("greenlets")
    running = Running([python, PROGRAM, "leak", "stop"], env=environment(provided(LEAKING, python)))
    assert running.line() == "10"
    told = json.loads(running.line())
    pid = running.process.pid
    listing = "refdbg frames --suspended --json"
    commands = [listing, "refdbg leaks --json", f"refdbg visits {told['deep']:#x} --json", "refdbg frames --suspended"]
    answers = {each.command: each for each in attached("gdb", pid, commands, folder)}
    found: dict[str, Any] = {"gdb": answers, "told": told, "pid": pid}
    found["lldb"] = {}
    if build == "3.13-debug":
        found["lldb"] = {each.command: each for each in attached("lldb", pid, commands[:2], folder)}
    found["alone"] = {command: Answer(command, alone(pid, command)) for command in commands[:2]}
    running.write("")
    last = running.end()
    assert last.status == 0, last.err
    return told, found


def alone(pid: int, command: str) -> str:
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from refdbg.launch.shell import main; main()"
    words = ["--pid", str(pid), *command.split()[1:]]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_suspended_greenlet_is_listed(stopped: tuple[dict[str, Any], dict[str, Any]]) -> None:
    told, found = stopped
    record = found["gdb"]["refdbg frames --suspended --json"].record
    listed = {each["address"]: each for each in record["stacks"] if each["kind"] == "greenlet"}
    stacks = {address: each for address, each in listed.items() if each["state"] == "suspended"}
    assert len(stacks) == 10 + 2 + 1  # and the one that the thread began with
    assert [each["state"] for each in listed.values() if each["address"] not in stacks] == ["not started"]
    leaked = [(each["function"], each["line"]) for each in stacks[told["seen"]]["frames"]]
    assert leaked[0] == ("inner", told["inner"]) and leaked[1][0] == "worker"
    same = [each for each in stacks.values() if [(row["function"], row["line"]) for row in each["frames"]] == leaked]
    assert len(same) == 11
    through = [each["function"].rpartition(".")[2] for each in stacks[told["deep"]]["frames"]]
    assert through == ["deep", "outer", "through_generators"]
    assert stacks[told["deep"]]["frames"][0]["line"] == told["generator"]
    (main,) = [each for each in stacks.values() if each["name"] == "main"]
    assert [each["function"] for each in main["frames"]] == ["<module>"]
    text = found["gdb"]["refdbg frames --suspended"].text
    assert "[10 more like this: 0x" in text


def test_the_leak_at_a_stop(stopped: tuple[dict[str, Any], dict[str, Any]]) -> None:
    record = stopped[1]["gdb"]["refdbg leaks --json"].record
    (finding,) = record["findings"]
    assert finding["verdict"] == "untraversed-frame"
    assert finding["message"].startswith("greenlet.greenlet: 10 of them")
    assert finding["next"] == "refdbg frames --suspended --locals"
    # Each greenlet and its dict, its node, its arguments and its innermost frame object; no generator, no coroutine.
    assert record["leaked"] == finding["explains"]["objects"] == 50
    assert record["garbage"] - record["leaked"] >= 6
    roles = {node["role"] for node in finding["graph"]["nodes"]}
    assert {"culprit", "subject"} <= roles
    unvisited = {edge["label"] for edge in finding["graph"]["edges"] if edge["visited"] is False}
    assert "local node of inner()" in unvisited


def test_it_is_the_same_without_gdb(stopped: tuple[dict[str, Any], dict[str, Any]]) -> None:
    found = stopped[1]
    for command, answer in found["gdb"].items():
        for other in ("lldb", "alone"):
            if command in found[other]:
                assert found[other][command].record == answer.record


def test_a_generator_visits_its_own_frame(stopped: tuple[dict[str, Any], dict[str, Any]]) -> None:
    told, found = stopped
    record = found["gdb"][f"refdbg visits {told['deep']:#x} --json"].record
    fields = {each["field"]: each for each in record["fields"]}
    assert any("through_generators()" in label for label in fields)
    assert not any("deep()" in label or "outer()" in label for label in fields)


def test_of_a_thread_that_has_ended(build: str, tmp_path: Path) -> None:
    """Its suspended greenlet is listed until greenlet is asked for its state, which throws the stack away."""
    python, program = python_of(build), tmp_path / "ended.py"
    program.write_text(
        "import greenlet, threading\n"
        "kept = []\n"
        "def run():\n"
        "    greenlet.getcurrent().parent.switch()\n"
        "def thread():\n"
        "    kept.append(greenlet.greenlet(run))\n"
        "    kept[0].switch()\n"
        "ended = threading.Thread(target=thread)\n"
        "ended.start(); ended.join()\n"
        "new = greenlet.greenlet(run)\n"
        "ascii('first')\n"
        "assert kept[0].dead\n"
        "ascii('second')\n"
    )
    asked = "refdbg frames --suspended --json"
    commands = [f"set environment PYTHONPATH {provided(LEAKING, python)}", "break builtin_ascii", "run", asked,
                "continue", asked]
    answers = [each.record for each in run_gdb(python, program, commands, folder=tmp_path, stop_at=None)
               if each.command == asked]
    listed = [sorted((each["state"], [row["function"] for row in each["frames"]]) for each in record["stacks"]
                     if each["kind"] == "greenlet" and each["name"] != "main") for record in answers]
    assert listed == [[("not started", []), ("suspended", ["run"])], [("not started", [])]]


def test_in_the_middle_of_a_switch(build: str, tmp_path: Path) -> None:
    """A greenlet that is being made, started, switched or ended breaks nothing."""
    python = python_of(build)
    asked = ["refdbg frames --suspended --json", "refdbg leaks --json"]
    commands = [f"set environment PYTHONPATH {provided(LEAKING, python)}", "break builtin_ascii", "run"]
    for function in MIDDLE:
        commands += [f"tbreak {function}", "continue", "bt 1", asked[0]]
        if function in SWITCHING:
            commands.append(asked[1])
    answers = run_gdb(python, program(tmp_path), commands, folder=tmp_path, stop_at=None)
    stops = [each.text for each in answers if each.command == "bt 1"]
    reached = [function for function, text in zip(MIDDLE, stops) if function.rpartition("::")[2] in text]
    assert len(reached) >= 4, stops
    for answer in answers:
        if answer.command in asked:
            assert isinstance(answer.record, dict)  # JSON, no error
        if answer.command == asked[1]:
            assert not frame_findings(answer.record["findings"])


def program(folder: Path) -> Path:
    found = folder / "switching.py"
    found.write_text(
        "import greenlet\n"
        "def run():\n"
        "    kept = greenlet.getcurrent()\n"
        "    kept.parent.switch()\n"
        "first = greenlet.greenlet(run); first.switch()\n"
        "ascii('here')\n"
        "for _ in range(9):\n"
        "    second = greenlet.greenlet(run); second.switch(); second.switch(); first.switch()\n"
    )
    return found


def test_without_debug_info_it_is_said(tmp_path: Path) -> None:
    python = python_of("3.11-debug")
    stripped = tmp_path / "stripped"
    shutil.copytree(Path(provided(LEAKING, python), "greenlet"), stripped / "greenlet")
    # What is known by its build id, from another run, would be known.
    subprocess.run(
        ["strip", "--remove-section=.note.gnu.build-id", str(stripped / "greenlet" / "_greenlet.so")], check=True
    )
    running = Running([python, PROGRAM, "leak", "stop"], env=environment(str(stripped)))
    running.line(), running.line()
    record = json.loads(alone(running.process.pid, "refdbg frames --suspended --json"))
    leaks = json.loads(alone(running.process.pid, "refdbg leaks --json"))
    running.write("")
    assert running.end().status == 0
    assert not [each for each in record["stacks"] if each["kind"] == "greenlet"]
    (note,) = record["notes"]
    assert note.startswith(
        "16 greenlets whose library has no debug info: their stacks, and what these hold, are not known"
    )
    assert note in leaks["notes"]
    assert not frame_findings(leaks["findings"])


def test_the_leak_where_frames_borrow() -> None:
    """Free-threaded, from 3.14 on: inner() borrows its argument from worker(), whose local closes the cycle."""
    python = newest_free_threaded()
    command = [python, "-X", "showrefcount", PROGRAM, "leak"]
    found = run(command, [], env=environment(provided(LEAKING, python)))
    assert found.status == 0 and found.report["totals"]["references_unattributed"] == 0
    first = found.report["findings"][0]
    assert first["verdict"] == "untraversed-frame"
    assert first["message"].startswith("greenlet.greenlet: 10 of them are suspended below worker() (")
    told = [each["text"].strip() for each in first["evidence"]]
    assert "local node of worker() leads back: __main__.Node (__dict__['greenlet']) → itself" in told
    assert first["explains"]["references"] > 0.8 * printed_total(found)


@pytest.mark.parametrize("how", ["deferred", "counted"])
def test_what_will_be_freed_while_in_use(how: str, tmp_path: Path) -> None:
    """Free-threaded, from 3.14 on: what the frame uses without counting goes, and the process dies when it goes on."""
    python = newest_free_threaded()
    folder, program = provided(LEAKING, python), PROGRAMS / "greenlet_in_use.py"
    commands = ["refdbg leaks --json", "refdbg frames --suspended --locals", "continue"]
    inside = ["env", f"PYTHONPATH={folder}"]
    leaks, frames, end = run_gdb(python, program, commands, [how], folder=tmp_path, inside=inside)
    found = frame_findings(leaks.record["findings"])
    assert "kind (deferred) = <class '__main__.Kind'>" in frames.text
    assert "called (deferred) = <function function" in frames.text and "number = [1]" in frames.text
    if how == "counted":
        assert found == [] and "(1, [1])" in end.text and "exited normally" in end.text
        return
    assert "SIGSEGV" in end.text or "SIGABRT" in end.text
    (finding,) = found
    assert finding["confidence"] == "proven" and finding["explains"]["objects"] == 2
    assert "greenlet.greenlet: one is suspended in worker() (" in finding["message"]
    assert "the next collection frees 2 objects that they use without counting" in finding["message"]
    told = [each["text"] for each in finding["evidence"]]
    assert told[0] == "local kind of worker(): type <class '__main__.Kind'> will be freed while in use"
    assert told[1].startswith("local called of worker(): function <function function at 0x")


def test_gevent(tmp_path: Path) -> None:
    python = python_of("3.11-debug")
    folders = provided(LEAKING, python), provided("gevent", python)
    running = Running([python, PROGRAMS / "leak_gevent.py"], env=environment(*folders))
    assert running.line() == "5"
    record = json.loads(alone(running.process.pid, "refdbg leaks --json"))
    running.write("")
    assert running.end().status == 0
    (finding,) = frame_findings(record["findings"])
    assert record["findings"][0] == finding
    assert finding["message"].startswith("gevent._gevent_cgreenlet.Greenlet: 5 of them are suspended in work() (")
    assert "green_traverse does not visit" in finding["message"]
    told = [each["text"].strip() for each in finding["evidence"]]
    assert "local job of work() leads back: __main__.Job (__dict__['greenlet']) → itself" in told
    assert finding["counterfactual"]["freed_references"] == finding["explains"]["references"]


def test_the_hub_of_gevent_at_exit() -> None:
    """Its own frame keeps it: that is no false alarm, for the finding is gone, and what it names, when the hub ends."""
    python = python_of("3.11-debug")
    where = environment(provided(LEAKING, python), provided("gevent", python))
    suspended, over = (
        run([python, "-X", "showrefcount", PROGRAMS / "gevent_hub.py", how], env=where)
        for how in ("suspended", "ended")
    )
    (finding,) = frame_findings(suspended.report["findings"])
    assert finding["message"].startswith("gevent.hub.Hub: one is suspended in Hub.run() (")
    assert "local self of Hub.run() leads back: itself" in [each["text"].strip() for each in finding["evidence"]]
    assert frame_findings(over.report["findings"]) == []
    assert printed_total(over) < printed_total(suspended)
    for each, left in ((suspended, True), (over, False)):
        kinds = {row["type"] for row in each.report["interpreters"][0]["left_over"]["by_type"]}
        assert ("gevent.hub.Hub" in kinds) == left
