"""The interpreters that the live tests run on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# A suite started in the background ignores these, and so would every program that a test starts.
for _number, _handler in (
    (signal.SIGINT, signal.default_int_handler), (signal.SIGQUIT, signal.SIG_DFL), (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, _handler)
sys.path.insert(0, str(ROOT))  # tests.support, however pytest was started
collect_ignore = ["programs"]  # what the tests run
BUILD = ROOT / "tests" / "cpython" / "build"
# Layouts are asked anew of the debug info, not of what an earlier refdbg has kept; the builds stay where they are.
os.environ.setdefault(
    "REFDBG_CACHE", str(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "refdbg"))
)
_LAYOUTS = tempfile.TemporaryDirectory()
os.environ["XDG_CACHE_HOME"] = _LAYOUTS.name

# Test id → the name that tests/cpython/build knows; None: Debian's python3.11-dbg.
INTERPRETERS = {
    "3.9-debug": "3.9",
    "3.11-debug": None,
    "3.11-trace-refs": "3.11-trace-refs",
    "3.13-debug": "3.13",
}


def _more() -> dict[str, str]:
    # REFDBG_PYTHONS: a path list of debug builds that join the matrix.
    paths = filter(None, os.environ.get("REFDBG_PYTHONS", "").split(os.pathsep))
    return {f"{Path(path).resolve().parent.name}-{Path(path).name}": path for path in paths}


def missing(reason: str) -> None:
    """Skip the test, or fail it where everything must be there (REFDBG_REQUIRE)."""
    if os.environ.get("REFDBG_REQUIRE"):
        pytest.fail(reason)
    pytest.skip(reason)


@cache
def built(name: str) -> str | None:
    """The python that tests/cpython/build provides; it is built only where it must be there."""
    cache = Path(os.environ["REFDBG_CACHE"])
    if not os.environ.get("REFDBG_REQUIRE") and not list((cache / "cpython").glob(f"{name}-*/finished")):
        return None
    done = subprocess.run([BUILD, name], stdout=subprocess.PIPE, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def python_of(test_id: str) -> str:
    """The interpreter of a test id, or of a name that tests/cpython/build knows; skips when it is missing."""
    if test_id in _more():
        return _more()[test_id]
    name = INTERPRETERS.get(test_id, test_id)
    path = shutil.which("python3.11-dbg") if name is None else built(name)
    if path is None:
        missing(f"no {test_id} interpreter: " + (f"run {BUILD} {name}" if name else "apt-get install python3.11-dbg"))
    return str(path)


def newest_free_threaded() -> str:
    """A free-threaded debug build from 3.14 on: one in REFDBG_PYTHONS, else 3.14t of tests/cpython/build.

    Skips where there is none, also where everything must be there: building it takes too long for the suite.
    """
    ask = "import sys; assert sys.version_info >= (3, 14) and not sys._is_gil_enabled(); sys.gettotalrefcount()"
    made = Path(os.environ["REFDBG_CACHE"], "cpython").glob("3.14t-*/finished")
    for path in (*_more().values(), *(str(each.parent / "build" / "python") for each in made)):
        if subprocess.run([path, "-c", ask], check=False, capture_output=True).returncode == 0:
            return path
    pytest.skip(f"no free-threaded debug build of 3.14 or later: run {BUILD} 3.14t, or name one in REFDBG_PYTHONS")


@pytest.fixture(scope="session", params=[*INTERPRETERS, *_more()], ids=lambda name: f"gdb-{name}")
def interpreter(request: pytest.FixtureRequest) -> str:
    """The path of each interpreter to test on, for a test under gdb."""
    if shutil.which("gdb") is None:
        missing("no gdb: apt-get install gdb")
    return python_of(str(request.param))


@pytest.fixture(scope="session")
def python311() -> str:
    """Debian's python3.11-dbg, where one interpreter is enough."""
    if shutil.which("gdb") is None:
        missing("no gdb: apt-get install gdb")
    return python_of("3.11-debug")


@pytest.fixture(scope="session")
def build() -> Callable[[str], str]:
    """The python of a recipe of tests/cpython/build; skips when it is not built."""

    def path(name: str) -> str:
        found = built(name)
        if found is None:
            missing(f"no {name} interpreter: run {BUILD} {name}")
        return str(found)

    return path
