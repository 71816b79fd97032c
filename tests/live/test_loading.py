"""Loading refdbg into gdb and lldb: from a checkout, by every kind of path, and from an installed package."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.conftest import missing
from tests.support import debugger

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "gdb" / "refdbg.py"


def gdb(arguments: Sequence[str | Path], folder: Path, home: Path | None = None) -> str:
    """What gdb prints."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(home or "/nonexistent"), "LANG": "C.UTF-8"}
    done = subprocess.run(
        ["gdb", "-q", "-batch", *arguments], cwd=folder, env=environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, check=False,
    )
    return done.stdout


def assert_loaded(text: str) -> None:
    """`refdbg help` listed the commands, and nothing failed."""
    assert "gc" in text and "census" in text, text
    assert "Traceback" not in text and "rror" not in text.replace("errors", ""), text


@pytest.mark.parametrize("place", ["elsewhere", "root", "gdb", "tests"])
def test_source_from_any_folder(place: str, tmp_path: Path) -> None:
    folder = {"elsewhere": tmp_path, "root": ROOT, "gdb": ROOT / "gdb", "tests": ROOT / "tests"}[place]
    relative = os.path.relpath(SCRIPT, folder)
    for path in (SCRIPT, relative):
        assert_loaded(gdb(["-nx", "-ex", f"source {path}", "-ex", "refdbg help"], folder))


def test_gdb_x_and_symlink(tmp_path: Path) -> None:
    assert_loaded(gdb(["-nx", "-x", SCRIPT, "-ex", "refdbg help"], tmp_path))
    (tmp_path / "link.py").symlink_to(SCRIPT)
    assert_loaded(gdb(["-nx", "-x", "link.py", "-ex", "refdbg help"], tmp_path))
    assert_loaded(gdb(["-nx", "-ex", "source link.py", "-ex", "refdbg help"], tmp_path))


def test_loading_twice(tmp_path: Path) -> None:
    assert_loaded(gdb(["-nx", "-x", SCRIPT, "-x", SCRIPT, "-ex", "refdbg help"], tmp_path))


def test_installed_package(tmp_path: Path) -> None:
    """`pip install`, `refdbg gdbinit` into a gdbinit, and a command that needs a dependency, in a plain gdb."""
    source = tmp_path / "source"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".git", ".venv", "*.egg-info", "build"))
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    subprocess.run([environment / "bin" / "pip", "install", "--quiet", source], check=True)
    line = subprocess.run([environment / "bin" / "refdbg", "gdbinit"], check=True, stdout=subprocess.PIPE, text=True)
    (tmp_path / ".gdbinit").write_text(line.stdout)
    text = gdb(
        ["-ex", "break Py_RunMain", "-ex", "run", "-ex", "refdbg status", "-ex", "refdbg census --limit 3",
         "--args", "python3.11-dbg", "-c", "pass"],
        tmp_path, home=tmp_path,
    )
    assert "3.11" in text and "wrapper_descriptor" in text, text
    assert str(environment) in line.stdout
    assert str(ROOT) not in text


def test_a_missing_dependency_is_one_clear_line(tmp_path: Path) -> None:
    for name in ("gdb", "refdbg"):
        shutil.copytree(ROOT / name, tmp_path / name)
    text = gdb(
        ["-nx", "-x", tmp_path / "gdb" / "refdbg.py", "-ex", "break Py_RunMain", "-ex", "run", "-ex", "refdbg census",
         "-ex", "python print('gdb goes on')", "--args", "python3.11-dbg", "-c", "pass"],
        tmp_path,
    )
    answer = text[text.index("refdbg:"):].splitlines()
    assert "'pyelftools' is missing" in answer[0]
    assert "pip install" in answer[1]
    assert answer[2] == "gdb goes on"


def test_shell_help() -> None:
    for words, expected in (
        (["help"], "census"), (["help", "gc", "stop"], "--generation"), (["gdbinit", "now"], "sys.path"),
        (["--version"], "refdbg 0"), ([], "refdbg-run"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", "from refdbg.launch.shell import main; main()", *words],
            cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True,
        )
        assert expected in done.stdout


# LLDB


def lldb(arguments: Sequence[str | Path], folder: Path, **more: str) -> str:
    """What lldb prints."""
    program = debugger.lldb()
    if program is None:
        missing("no lldb: apt-get install lldb-19")
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LANG": "C.UTF-8", **more}
    done = subprocess.run(
        [str(program), "--batch", *arguments], cwd=folder, env=environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, check=False,
    )
    return done.stdout


LLDB_SCRIPT = ROOT / "lldb" / "refdbg_lldb.py"


@pytest.mark.parametrize("place", ["elsewhere", "root", "lldb"])
def test_import_into_lldb_from_any_folder(place: str, tmp_path: Path) -> None:
    folder = {"elsewhere": tmp_path, "root": ROOT, "lldb": ROOT / "lldb"}[place]
    for path in (LLDB_SCRIPT, os.path.relpath(LLDB_SCRIPT, folder)):
        assert_loaded(lldb(["-x", "-o", f"command script import {path}", "-o", "refdbg help"], folder))


def test_import_into_lldb_by_link_home_and_twice(tmp_path: Path) -> None:
    (tmp_path / "link.py").symlink_to(LLDB_SCRIPT)
    for path in ("link.py", "~/link.py"):
        once = ["-o", f"command script import {path}"]
        assert_loaded(lldb(["-x", *once, *once, "-o", "refdbg help"], tmp_path, HOME=str(tmp_path)))


def test_lldbinit(tmp_path: Path) -> None:
    (tmp_path / ".lldbinit").write_text(f"command script import {LLDB_SCRIPT}\n")
    text = lldb(
        ["-o", "breakpoint set -n Py_RunMain", "-o", "run", "-o", "refdbg census --limit 3", "--", "python3.11-dbg",
         "-c", "pass"],
        tmp_path, HOME=str(tmp_path),
    )  # fmt: skip
    assert "wrapper_descriptor" in text, text


def test_an_lldb_with_a_broken_python_path(tmp_path: Path) -> None:
    # What Debian 12's lldb-14 has: a module lldb that is not lldb's.
    empty = "script import sys, types; sys.modules['lldb'] = types.ModuleType('lldb')"
    text = lldb(["-x", "-o", empty, "-o", f"command script import {LLDB_SCRIPT}"], tmp_path)
    assert "does not find its own Python module" in text and "apt-get install lldb-19" in text
