"""Release builds: every object without block headers, steps of a collection that were inlined, stripped files."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from refdbg.commands.account import accounts
from refdbg.cpython.owned import Owned
from refdbg.cpython.referrers import Referrers
from refdbg.cpython.runtime import Build
from refdbg.cpython.stop import Stop
from refdbg.launch.session import of_process
from tests.support.debugger import Answer, run_gdb, run_lldb
from tests.support.run import ENVIRONMENT, Running, run

TESTS = Path(__file__).parents[1]
ORACLE = TESTS / "programs" / "release_oracle.py"
NOISE = 100  # objects that the program makes and drops while it counts
SHORT = 8  # of those, what it has counted and dropped since: bound methods of C, the lists in use
# What pyenv has built: with debug info, optimised, in a shared library. Found by chance: another machine has none.
PYENV = sorted(
    (path for path in Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv", "versions").glob("3.*/bin/python3.*")
     if re.fullmatch(r"python3\.(8|9|1[0-3])", path.name)),
    key=lambda path: int(path.name.rpartition(".")[2]),
)  # fmt: skip
OWN = "3.13-release"
BUILT = [OWN, "3.13t-release"]  # by the project's own script


@pytest.fixture(scope="module", params=[*BUILT, *([path.parents[1].name for path in PYENV] or ["pyenv"])])
def release(request: pytest.FixtureRequest, build: Callable[[str], str]) -> str:
    """Each release build that the machine has."""
    if request.param in BUILT:
        return build(request.param)
    path = next((path for path in PYENV if path.parents[1].name == request.param), None)
    if path is None:
        pytest.skip("pyenv has no interpreter on this machine")
    return str(path)


@pytest.fixture(scope="module")
def own(build: Callable[[str], str]) -> str:
    """One of those that the project's own script has built."""
    return build(OWN)


def _waiting(python: str, folder: Path) -> tuple[Running, dict[str, Any]]:
    told = folder / "told"
    program = Running([python, ORACLE, told])
    assert program.line() == "ready"
    return program, json.loads(told.read_text())


@pytest.fixture(scope="module")
def seen(release: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stop, dict[str, Any]]]:
    """What refdbg sees of the oracle, which is stopped for that, and what it has told of itself."""
    program, told = _waiting(release, tmp_path_factory.mktemp("release"))
    try:
        yield Stop(Build(of_process(program.process.pid))), told
    finally:
        program.end()


def test_what_the_collector_tracks(seen: tuple[Stop, dict[str, Any]]) -> None:
    stop, told = seen
    assert stop.runtime.version == told["version"]
    (main,) = stop.runtime.interpreters()
    lists = {each.name: set(stop.lists.walk(each.head).addresses) for each in stop.lists.generations(main)}
    frozen = lists.pop("permanent")  # get_objects() leaves it out
    found = set().union(*lists.values())
    tracked = set(told["tracked"])
    assert len(tracked - found) < SHORT
    assert len(found - tracked - frozen) < NOISE


def test_every_object(seen: tuple[Stop, dict[str, Any]]) -> None:
    stop, told = seen
    heap = stop.heap
    reachable = {int(address): name for address, name in told["reachable"].items()}
    names = {
        address: stop.texts.type_name(type_).rpartition(".")[2]
        for address, type_ in zip(heap.objects.addresses, heap.objects.types)
    }
    images, target = stop.runtime.target.images(), stop.runtime.target
    missing = [
        (hex(address), name) for address, name in reachable.items()
        if address not in names and images.library_at(address) is None and target.symbol_at(address) is None
    ]
    assert len(missing) < SHORT, missing[:20]
    both = names.keys() & reachable.keys()
    wrong = [address for address in both if names[address] != reachable[address].rpartition(".")[2]]
    assert len(wrong) < NOISE, [(names[address], reachable[address]) for address in wrong[:5]]
    types = Counter(names.values())
    assert types["Node"] == 100 and types["Slotted"] == 1
    assert heap.objects.coverage.complete, heap.objects.coverage.notes
    assert list(heap.blocks.starts) == sorted(heap.blocks.starts)
    counts = dict(zip(heap.objects.addresses, heap.objects.refcounts))
    assert counts[told["large"]] == told["refcounts"]["large"]
    # With its first thread a free-threaded 3.13 makes types immortal. The program has taken one off for its argument.
    immortal = stop.runtime.is_immortal(counts[told["Node"]])
    assert immortal == stop.runtime.traits.free_threaded
    assert counts[told["Node"]] - immortal == told["refcounts"]["Node"]


def test_blocks_are_as_many_as_the_allocator_counts(seen: tuple[Stop, dict[str, Any]]) -> None:
    stop, told = seen
    blocks = stop.heap.blocks
    small = sum(any(start <= each < end for start, end in blocks.divided) for each in blocks.starts)
    assert small <= told["blocks"] + NOISE
    # Until 3.11 what malloc gives is counted, too; mimalloc gives every size.
    assert small >= told["blocks"] - NOISE - 2000 * (not stop.runtime.traits.free_threaded)


def test_the_empty_tuple_is_its_free_lists(seen: tuple[Stop, dict[str, Any]]) -> None:
    """Else one of its references looks lost."""
    stop, told = seen
    account = accounts(Referrers(stop, Owned(stop.texts, lambda: stop.heap), stop.known), {told["empty"]: 1 << 20})
    found = [each for each in account[told["empty"]].holders if "free_list" in each.label]
    assert [each.exact for each in found] == ([True] if stop.runtime.version_info < (3, 11) else [])


@pytest.fixture(scope="module")
def extensions() -> Callable[[str], str]:
    """The folder of the planted modules, compiled for an interpreter."""

    def folder(python: str) -> str:
        done = subprocess.run(
            [sys.executable, TESTS / "extensions" / "build", python], capture_output=True, text=True, timeout=600,
            check=True,
        )
        return done.stdout.splitlines()[-1]

    return folder


def _report(python: str, name: str, folder: str) -> dict[str, Any]:
    ended = run([python, TESTS / "programs" / f"leak_{name}.py", folder], env={**ENVIRONMENT, "PYTHONHASHSEED": "0"})
    assert ended.status == 0 and ended.report["partial"] is None, ended.err
    return ended.report


def test_what_outlives_its_tp_clear(release: str, extensions: Callable[[str], str]) -> None:
    """Needs each step of a collection: in most of these builds two of them are inlined."""
    if "3.8" in Path(release).name:
        pytest.skip("the planted modules are written for 3.9 and later")
    report = _report(release, "forgotten_clear", extensions(release))
    found = {each["subject"]["type"]: each for each in report["findings"] if each["verdict"] == "uncollectable"}
    assert set(found) == {"forgotten_clear.Box", "forgotten_clear.Pair"}
    assert all(each["confidence"] == "proven" for each in found.values())
    assert "Add `Py_CLEAR(self->second);` to box_clear." in found["forgotten_clear.Box"]["fix"]
    assert any(each["finalizers"] or each["cleared"] for each in report["collections"])
    assert report["totals"] is None  # nothing is printed that it could be checked by
    (main,) = report["interpreters"]
    assert main["left_over"]["objects"] > 300
    assert not [note for note in report["warnings"] if "no debug info" in note]


@pytest.mark.parametrize(("name", "verdict", "words", "confidence"), [
    ("static_cache", "static-reference", "C variable `cache` of static_cache", "proven"),
    ("forgotten_field", "missing-visit", "forgotten_field.Pair: second is owned, and pair_traverse never", "proven"),
    ("error_path", "lost-reference", "list [1, 2]", "likely"),
    ("over_visit", "over-visit", "over_visit.Watcher: watcher_traverse visits .watched", "proven"),
])  # fmt: skip
def test_the_verdicts_are_those_of_a_debug_build(
    own: str, extensions: Callable[[str], str], name: str, verdict: str, words: str, confidence: str
) -> None:
    first = _report(own, name, extensions(own))["findings"][0]
    assert (first["verdict"], first["confidence"]) == (verdict, confidence)
    assert words in first["message"]


def test_a_check_that_cannot_be_made(release: str) -> None:
    """Also where the interpreter is a shared library, which is not there at the start."""
    warnings = run([release, "-c", "pass"], ["--check"]).report["warnings"]
    assert [each for each in warnings if "no collection can be checked: how the collector decides cannot" in each]
    assert not [each for each in warnings if "replayed" in each]


@pytest.fixture(scope="module")
def stripped(own: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Beside the build, as it finds its library by its place: without symbols, and without section headers as well."""
    assert shutil.which("strip")
    plain = Path(own).with_name("python-stripped")
    bare = Path(own).with_name("python-bare")
    # Without the build id: by that, what was learnt of the debug info would be found again.
    subprocess.run(["strip", "-s", "-R", ".note.gnu.build-id", "-o", plain, own], check=True)
    data = bytearray(plain.read_bytes())
    struct.pack_into("<Q", data, 0x28, 0)  # e_shoff
    struct.pack_into("<HH", data, 0x3C, 0, 0)  # e_shnum, e_shstrndx
    bare.write_bytes(data)
    bare.chmod(0o755)
    yield {"stripped": str(plain), "bare": str(bare)}
    plain.unlink()
    bare.unlink()


def _refdbg(pid: int, *words: str, status: int = 0) -> str:
    code = "from refdbg.launch.shell import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "--pid", str(pid), *words], capture_output=True, text=True, timeout=120,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout if status == 0 else done.stdout + done.stderr


@pytest.mark.parametrize("which", ["stripped", "bare"])
def test_a_stripped_build(stripped: dict[str, str], which: str, tmp_path: Path) -> None:
    program, told = _waiting(stripped[which], tmp_path)
    try:
        pid = program.process.pid
        status = json.loads(_refdbg(pid, "status", "--json"))
        assert status["python"] == told["version"] and "_Py_DebugOffsets" in status["layout_source"]
        census = json.loads(_refdbg(pid, "census", "--limit", "1000", "--json"))
        assert any("stripped" in note for note in census["notes"])
        found: Counter[str] = Counter()
        for row in census["by_type"]:
            found[row["type"].rpartition(".")[2]] += row["objects"]
        different = (found - Counter(told["types"])) + (Counter(told["types"]) - found)
        assert found["Node"] == 100 and different.total() < NOISE, different
        frames = _refdbg(pid, "frames", "--locals")
        assert "in told\n    sys.stdin.readline()" in frames and "in <module>" in frames
        assert f"file = '{tmp_path}"[:40] in frames
        row = json.loads(_refdbg(pid, "objects", "__main__.Slotted", "--json"))["rows"][0]
        assert row["refcount"] == 1
        if which == "stripped":
            assert "this Python is stripped" in _refdbg(pid, "leaks", status=2)
    finally:
        program.end()


def test_a_stripped_build_in_gdb(stripped: dict[str, str], tmp_path: Path) -> None:
    commands = ["refdbg census --limit 1000 --json", "refdbg frames", "refdbg gc log", "refdbg type dict"]
    census, frames, log, type_ = run_gdb(
        stripped["stripped"], ORACLE, commands, [str(tmp_path / "told")], stop_at="getppid", folder=tmp_path
    )
    rows = {row["type"]: row["objects"] for row in census.record["by_type"]}
    assert rows["__main__.Node"] == 100
    assert "in told" in frames.text and "this Python is stripped" in log.text and "PyDict_Type" in type_.text


def test_one_that_is_starting_is_refused(stripped: dict[str, str], tmp_path: Path) -> None:
    (answer,) = run_gdb(
        stripped["stripped"], ORACLE, ["refdbg census"], [str(tmp_path / "told")], stop_at="PyType_Ready",
        folder=tmp_path,
    )
    assert "Has it started?" in answer.text and "Traceback" not in answer.text


def test_the_program_of_another_build(own: str, python311: str, tmp_path: Path) -> None:
    program, _told = _waiting(own, tmp_path)
    try:
        commands = ["set exec-file-mismatch off", f"attach {program.process.pid}", "refdbg status", "detach"]
        answer = run_gdb(python311, ORACLE, commands, stop_at=None, folder=tmp_path)[2]
        assert f"is another build than process {program.process.pid} runs" in answer.text
        assert "Traceback" not in answer.text and "generation" not in answer.text
    finally:
        program.end()


@pytest.mark.parametrize("debugger", [run_gdb, run_lldb])
def test_statics_that_the_linkers_optimiser_has_renamed(
    debugger: Callable[..., list[Answer]], tmp_path: Path
) -> None:
    """Where the allocator's arenas are (arenas.lto_priv.0): else only malloc's blocks are seen."""
    python = Path("/usr/bin/python3.11")  # Debian's: LTO, its debug info is in python3.11-dbg
    if not python.exists():
        pytest.skip(f"this machine has no {python}")
    program = tmp_path / "plain.py"
    program.write_text("ascii('here')\n")
    every, tracked = debugger(
        str(python), program, ["refdbg census --json", "refdbg census --tracked --json"], folder=tmp_path,
        stop_at="PyObject_ASCII",
    )
    assert every.record["objects"] > 1.5 * tracked.record["objects"] > 2000
