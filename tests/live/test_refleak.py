"""refdbg-run --refleak: what each repetition leaks, and why; baselines and exit statuses."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import built, missing, python_of
from tests.support.run import ENVIRONMENT, TIMEOUT, Ended, refdbg_run, run

PROGRAMS = Path(__file__).parents[1] / "programs"
REPEATED = PROGRAMS / "repeated.py"

# build, test, verdict and words of the first finding: with the numbers of a regrtest run of that build
TESTS = [
    ("thread", ("test_threading", "-m", "SubinterpThreadingTests"), "missing-visit", "lock_traverse never visits it"),
    ("ast-never", ("test_ast", "-m", "test_subinterpreter"), "state-reference", "`PyInterpreterState.ast` still holds"),
    ("ast-late", ("test_ast", "-m", "test_subinterpreter"), "late-garbage", "`PyInterpreterState.ast` was released"),
    ("gc-never", ("test_atexit", "-m", "test_callbacks_leak"), "state-reference", "codec_search_path` still holds"),
    ("signal-static", ("test_interpreters", "-m", "CreateTests"), "static-reference", "`IntHandler`"),
]  # fmt: skip


def repeated(python: str, kind: str, *options: str) -> Ended:
    """A run of tests/programs/repeated.py."""
    return run([python, REPEATED, kind], ["--refleak", *options])


def printed(ended: Ended) -> list[int]:
    """The growths that the program has printed."""
    return [int(word) for word in ended.out.split()]


def patched(name: str) -> str:
    """The path of a build of tests/cpython."""
    python = built(name)
    if python is None:
        missing(f"no {name}: run tests/cpython/build {name}")
    return str(python)


def check_growth(repetitions: dict[str, Any]) -> None:
    """The parts of a growth are its sum, and the objects are in them."""
    growth = repetitions["growth"]
    assert growth["references"] == repetitions["references"][growth["repetition"] - 1]
    assert sum(line["references"] for line in growth["lines"]) == growth["references"]
    assert "unattributed" not in {line["what"] for line in growth["lines"]}
    new = next((line["references"] for line in growth["lines"] if line["what"] == "new objects"), 0)
    assert sum(row["references"] for row in growth["by_type"]) == new


@pytest.mark.parametrize(("kind", "verdict", "words"), [
    ("keep", "state-reference", r"modules\['__main__'\].*\['kept'\].* keeps list \[<__main__\.Thing object"),
    ("lose_new", "lost-reference", "__main__.Thing .*a reference that nobody holds"),
    ("keep_old", "state-reference", r"\['kept'\].* keeps \d references? more to __main__\.Thing .* in each repetition"),
    ("lose_old", "lost-reference", "__main__.Thing .*each repetition adds 1 reference that nobody holds"),
])  # fmt: skip
def test_a_leak_is_explained(interpreter: str, kind: str, verdict: str, words: str) -> None:
    ended = repeated(interpreter, kind)
    (repetitions,) = ended.report["repetitions"]
    assert repetitions["references"][1:] == printed(ended)
    assert repetitions["verdict"] == "leak"
    check_growth(repetitions)
    assert [f for f in ended.report["findings"] if f["verdict"] == verdict and re.search(words, f["message"])]
    assert repetitions["findings"] == [finding["signature"] for finding in ended.report["findings"]]


def test_a_count_of_none_that_grows_is_named() -> None:
    found = repeated(python_of("3.11-debug"), "lose_old").report["findings"]
    assert {f["message"] for f in found} >= {"_Py_NoneStruct: each repetition adds 1 reference that nobody holds."}
    assert len([f for f in found if f["verdict"] == "lost-reference"]) == 2  # and nothing else


@pytest.mark.parametrize(("kind", "verdict"), [("keep_once", "stops"), ("up_and_down", "noise"), ("nothing", "stops")])
def test_what_is_no_leak_is_none(interpreter: str, kind: str, verdict: str) -> None:
    ended = repeated(interpreter, kind)
    (repetitions,) = ended.report["repetitions"]
    assert repetitions["references"][1:] == printed(ended)
    assert repetitions["verdict"] == verdict
    assert ended.report["findings"] == []


@pytest.mark.parametrize(("build", "test", "verdict", "words"), TESTS, ids=[case[0] for case in TESTS])
def test_the_numbers_are_regrtests(build: str, test: tuple[str, ...], verdict: str, words: str, tmp_path: Path) -> None:
    python = patched(f"3.11-leak-{build}")
    ended = run([python, "-m", "test", "-R", "3:3", *test], ["--refleak"], cwd=tmp_path)
    leaked = re.search(rb"leaked \[(\d+), (\d+), (\d+)\] references", ended.err)
    assert leaked, ended.err.decode()[-2000:]
    (repetitions,) = ended.report["repetitions"]
    assert (repetitions["test"], repetitions["warmups"]) == (test[0], 3)
    assert repetitions["references"][3:] == [int(number) for number in leaked.groups()]
    check_growth(repetitions)
    first = ended.report["findings"][0]
    assert first["verdict"] == verdict
    assert words in first["message"]
    explained = sum(f["explains"]["references"] * f["repetitions"] for f in ended.report["findings"])
    assert 0.7 < explained / repetitions["growth"]["references"] <= 1
    assert not [f for f in ended.report["findings"] if f["verdict"] == "lost-reference"]


def test_the_chain_of_modules_is_named() -> None:
    ended = run([patched("3.11-leak-weakref"), PROGRAMS / "leak_weakref.py"], ["--refleak"])
    first = ended.report["findings"][0]
    assert first["verdict"] == "state-reference"
    assert first["holder"]["symbol"].startswith("PyInterpreterState.modules['_weakref'].")
    assert any("module _weakref was made 5 times" in each["text"] for each in first["evidence"])
    assert first["explains"]["references"] > 0.95 * ended.report["repetitions"][0]["growth"]["references"]


@pytest.mark.parametrize("build", ["3.9", "3.11", "3.13"])
def test_a_clean_build_has_no_leak(build: str, tmp_path: Path) -> None:
    ended = run(
        [patched(build), "-m", "test", "-R", "3:3", "test_threading", "-m", "SubinterpThreadingTests"], ["--refleak"],
        cwd=tmp_path,
    )
    assert ended.status == 0
    (repetitions,) = ended.report["repetitions"]
    assert repetitions["verdict"] in ("steady", "noise")
    assert ended.report["findings"] == []


def test_another_marker(tmp_path: Path) -> None:
    program = tmp_path / "marked.py"
    program.write_text("import os\nkept = []\nfor i in range(6):\n    kept.append([])\n    os.getppid()\n")
    ended = run([python_of("3.11-debug"), program], ["--refleak", "--marker", "os_getppid"])
    (repetitions,) = ended.report["repetitions"]
    assert repetitions["marker"] == "os_getppid"
    assert "['kept']" in ended.report["findings"][0]["message"]
    ended = run([python_of("3.11-debug"), program], ["--refleak"])
    assert ended.report["repetitions"] == []
    assert any("never called sys_gettotalrefcount" in warning for warning in ended.report["warnings"])
    ended = run([python_of("3.11-debug"), program], ["--refleak", "--marker", "no_such_function"])
    assert "no_such_function" in str(ended.report)


@pytest.mark.parametrize("leaks", [True, False])
def test_a_marker_in_a_release_build(leaks: bool, tmp_path: Path) -> None:
    program = tmp_path / "marked.py"
    keep = "kept.append([])" if leaks else "[].append([])"
    program.write_text(f"import time\nkept = []\nfor i in range(6):\n    {keep}\n    time.sleep(0)\n")
    ended = run([patched("3.13-release"), program], ["--refleak", "--marker", "time_sleep"])
    (repetitions,) = ended.report["repetitions"]
    assert repetitions["references"][1:] == [int(leaks)] * 5
    assert repetitions["verdict"] == ("leak" if leaks else "steady")
    assert ["['kept']" in finding["message"] for finding in ended.report["findings"]] == [True] * leaks
    assert any("counts no references" in warning for warning in ended.report["warnings"])


def test_where_the_objects_of_a_subinterpreter_were_made(tmp_path: Path) -> None:
    program = tmp_path / "ends.py"
    program.write_text(
        "import _testcapi, sys\nfor i in range(6):\n"
        "    _testcapi.run_in_subinterp('import ctypes\\nclass Thing: pass\\nthing = Thing()\\n'\n"
        "        'ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))')\n"
        "    sys.gettotalrefcount()\n"
    )
    # 3.9 and 3.11 wait forever in Py_NewInterpreter() when tracemalloc is on.
    ended = run([patched("3.13"), program], ["--refleak", "--allocations"])
    (repetitions,) = ended.report["repetitions"]
    assert repetitions["verdict"] == "leak"
    check_growth(repetitions)  # each repetition takes version tags for its types, too: they are no references
    (finding,) = ended.report["findings"]
    assert (finding["verdict"], finding["subject"]["type"]) == ("lost-reference", "__main__.Thing")
    assert "allocated at <string>:3" in [each["text"] for each in finding["evidence"] if each["kind"] == "allocation"]


def test_children_are_left_alone(tmp_path: Path) -> None:
    program = tmp_path / "forks.py"
    program.write_text(
        "import gc, os, sys\nkept = []\n"
        "for i in range(6):\n"
        "    if not os.fork():\n        sys.gettotalrefcount()\n        os._exit(0)\n"
        "    os.wait()\n    kept.append([])\n    gc.collect()\n    sys.gettotalrefcount()\n"
    )
    ended = run([python_of("3.11-debug"), program], ["--refleak"])
    assert ended.status == 0
    assert ended.report["repetitions"][0]["references"][1:] == [1] * 5
    ended = run([python_of("3.11-debug"), "-m", "test", "-j2", "-R", "3:3", "test_x"], ["--refleak"])
    assert ended.status == 2
    assert b"child processes" in ended.err


def test_gdb_and_lldb_agree() -> None:
    python = python_of("3.11-debug")
    gdb, lldb = (repeated(python, "lose_new", "--debugger", name).report for name in ("gdb", "lldb"))
    assert gdb["repetitions"] == lldb["repetitions"]
    assert [f["signature"] for f in gdb["findings"]] == [f["signature"] for f in lldb["findings"]]


def status_of(*words: str) -> tuple[int, str]:
    """The exit status of refdbg-run, and what it and the program said."""
    done = subprocess.run(
        refdbg_run(*words), capture_output=True, text=True, env=ENVIRONMENT, timeout=TIMEOUT, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_only_new_leaks_fail(tmp_path: Path) -> None:
    python, known = python_of("3.11-debug"), str(tmp_path / "known.txt")
    lose, keep = ([python, str(REPEATED), kind] for kind in ("lose_new", "keep"))
    status, said = status_of("--refleak", "--baseline", known, *lose)
    assert (status, "there is no baseline" in said) == (2, True)
    assert status_of("--refleak", "--error-exitcode", "9", *lose)[0] == 9
    status, said = status_of("--refleak", "--baseline", known, "--update-baseline", *lose)
    assert (status, "1 leaks were added" in said) == (0, True)
    status, said = status_of("--refleak", "--baseline", known, "--error-exitcode", "9", *lose)
    assert (status, "(known, likely)" in said) == (0, True)
    assert status_of("--refleak", "--baseline", known, "--error-exitcode", "9", *keep)[0] == 9
    nothing = [python, str(REPEATED), "nothing"]
    assert status_of("--refleak", "--baseline", known, "--error-exitcode", "9", *nothing)[0] == 0
    assert status_of("--error-exitcode", "9", "/bin/true")[0] == 2  # no Python: nothing is known


def test_the_statuses_of_a_bisection(tmp_path: Path) -> None:
    python = python_of("3.11-debug")
    (finding,) = repeated(python, "lose_new").report["findings"]
    words = ("--bisect-run", finding["signature"], "--refleak")
    assert status_of(*words, python, str(REPEATED), "lose_new")[0] == 1
    assert status_of(*words, python, str(REPEATED), "nothing")[0] == 0
    for program in (["/bin/true"], ["./nothing"], [str(tmp_path)]):
        assert status_of(*words, *program)[0] == 125
    for code in ("import os; os.abort()", "1 1"):
        assert status_of(*words, python, "-c", code)[0] == 125
    assert status_of("--bisect-run", "nonsense", python, "-c", "pass")[0] == 125
    assert status_of("--bisect-run", "", python, "-c", "pass")[0] == 125
    assert status_of(*words[:2], python, "-c", "import os; os._exit(0)")[0] == 125


def test_a_program_that_hangs_is_ended() -> None:
    python = python_of("3.11-debug")
    ended = run(
        [python, "-c", "import sys, time\nfor i in range(9): sys.gettotalrefcount()\ntime.sleep(100)"],
        ["--refleak", "--timeout", "12"],
    )
    assert ended.status == 124
    assert "12 s (--timeout)" in ended.report["partial"]
    assert len(ended.report["repetitions"][0]["references"]) == 9
    assert ended.report["target"]["crash"]["python"][0]["line"] == 3
    deaf = "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGABRT])\nsignal.pause()"
    if os.environ.get("REFDBG_REQUIRE"):  # half a minute
        ended = run([python, "-c", deaf], ["--timeout", "8"])
        assert (ended.status, ended.report["target"]["signal"]) == (124, signal.SIGKILL.name)


@pytest.mark.parametrize("words", [
    ("--timeout", "0"), ("--timeout", "soon"), ("--error-exitcode", "0"), ("--error-exitcode", "256"),
    ("--update-baseline",), ("--marker", "f"),
])  # fmt: skip
def test_wrong_options_are_refused(words: tuple[str, ...]) -> None:
    status, said = status_of(*words, "/bin/true")
    assert status == 2
    assert words[0] in said


def test_a_baseline_that_cannot_be_written_is_refused_first() -> None:
    status, said = status_of("--update-baseline", "--baseline", "/dev/null/known", "/bin/echo", "ran")
    assert status == 2
    assert said.startswith("refdbg-run: cannot write /dev/null/known")


def test_signatures_are_the_same_in_two_builds() -> None:
    apt = shutil.which("python3.11-dbg")
    if apt is None:
        missing("no python3.11-dbg")
    reports = [run([str(python), "-c", "import decimal, ctypes"]).report for python in (apt, patched("3.11"))]
    mine, other = ({f["signature"] for f in report["findings"]} for report in reports)
    assert mine
    assert mine == other


def test_a_build_that_counts_no_references_is_refused() -> None:
    status, said = status_of("--refleak", "/usr/bin/python3", "-c", "print('ran')")
    assert (status, "ran" in said) == (0, True)
    assert "counts no references" in said
