"""refdbg-run changes nothing of what a program has, does and ends by: each case runs with it and without."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.run import ENVIRONMENT, ROOT, Ended, Running, both, printed_total, run

SURROUNDINGS = ROOT / "tests" / "programs" / "surroundings.py"


def _same(program: list[str | Path], **more: Any) -> Ended:
    """Runs it both ways; fails when they differ. Returns the run that was watched."""
    plain, watched = both(program, **more)
    assert watched.plain == plain.plain
    target = watched.report["target"]
    if plain.status < 0:
        assert (target["exit_status"], target["signal"]) == (None, signal.Signals(-plain.status).name)
    else:
        assert (target["exit_status"], target["signal"]) == (plain.status, None)
    return watched


def _surroundings(python: str, **more: Any) -> dict[str, Any]:
    plain, watched = (json.loads(ended.out) for ended in both([python, SURROUNDINGS], **more))
    assert watched == plain
    return dict(watched)


def test_input_output_and_arguments(interpreter: str) -> None:
    echo = "import sys; sys.stdout.write(sys.stdin.read()); print(sys.argv, file=sys.stderr); sys.exit(3)"
    ended = _same([interpreter, "-X", "utf8", "-c", echo, "--json", "-", "ä b", ""], input="päper\n".encode() * 20_000)
    assert ended.out == "päper\n".encode() * 20_000
    assert ended.err.decode() == "['-c', '--json', '-', 'ä b', '']\n"
    assert ended.report["interpreters"][0]["left_over"] is not None


def test_surroundings(python311: str, tmp_path: Path) -> None:
    found = _surroundings(python311, cwd=tmp_path, umask=0o027, input=b"in")
    assert (found["folder"], found["umask"], found["stdin"]) == (str(tmp_path), 0o027, "in")
    assert "LINES" not in found["environment"] and "COLUMNS" not in found["environment"]


def test_a_minimal_environment(python311: str) -> None:
    found = _surroundings(python311, env={})
    assert found["kernel's environment"] == ""
    assert set(found["environment"]) <= {"LC_CTYPE"}  # the program's own locale coercion (PEP 538)


def test_variables_reach_the_program(python311: str) -> None:
    given = {
        "LINES": "7", "COLUMNS": "33", "LD_LIBRARY_PATH": "/nowhere", "PYTHONHASHSEED": "5", "PYTHONPATH": "/nowhere",
        "PYTHONDONTWRITEBYTECODE": "1", "PYTHONINSPECT": "", "REFDBG_X": "a=b=c", "EMPTY": "",
    }  # fmt: skip
    found = _surroundings(python311, env={**ENVIRONMENT, **given})
    assert given.items() <= found["environment"].items()


def test_variables_for_python_are_for_the_program_only(python311: str) -> None:
    # Interactive after the program's end: only the program, not refdbg-run.
    _same([python311, "-c", "pass"], env={**ENVIRONMENT, "PYTHONINSPECT": "1"}, input=b"print('typed')\n")


def test_open_files(python311: str) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"through the pipe")
    os.close(writing)
    code = f"import os; print(os.read({reading}, 99))"
    try:
        watched = run([python311, "-c", code], pass_fds=[reading])
        assert watched.out == b"b'through the pipe'\n"
        found = _surroundings(python311, pass_fds=[reading])
        assert found["descriptors"][str(reading)] == "pipe"
    finally:
        os.close(reading)


@pytest.mark.parametrize("closed", [0, 1, 2])
def test_closed_standard_files(python311: str, closed: int, tmp_path: Path) -> None:
    note = tmp_path / "note"
    code = f"import os; open({str(note)!r}, 'w').write(str(sorted(os.listdir('/proc/self/fd'))))"
    notes = []
    for wrapped in (False, True):
        run([python311, "-c", code], wrapped=wrapped, preexec_fn=lambda: os.close(closed))
        notes.append(note.read_text())
    assert notes[0] == notes[1]


def _blocked_and_ignored() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2, signal.SIGTERM, signal.SIGCHLD, signal.SIGTRAP})
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)


def test_blocked_and_ignored_signals(python311: str) -> None:
    found = _surroundings(python311, preexec_fn=_blocked_and_ignored)
    assert set(found["mask"]) >= {signal.SIGUSR2, signal.SIGTERM, signal.SIGCHLD}
    ignored = int(found["signals"]["SigIgn"], 16)
    assert ignored >> (signal.SIGHUP - 1) & 1 and ignored >> (signal.SIGQUIT - 1) & 1


def test_child_signals_ignored_by_the_caller(python311: str) -> None:
    def ignore() -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)

    ended = _same([python311, "-c", "print('alive'); raise SystemExit(4)"], preexec_fn=ignore)
    assert ended.status == 4


def test_limits_and_priority(python311: str) -> None:
    def lower() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, 300))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.nice(3)

    found = _surroundings(python311, preexec_fn=lower)
    assert found["limits"]["RLIMIT_NOFILE"] == [200, 300]
    assert found["priority"] == 3


@pytest.mark.parametrize("status", [0, 3, 255])
def test_exit_status(python311: str, status: int) -> None:
    assert _same([python311, "-c", f"raise SystemExit({status})"]).status == status


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGSEGV", "SIGABRT", "SIGTRAP", "SIGUSR1", "SIGPIPE"])
def test_death_by_signal(python311: str, name: str) -> None:
    code = f"import os, signal; signal.signal(signal.SIGPIPE, signal.SIG_DFL); os.kill(os.getpid(), signal.{name})"
    assert _same([python311, "-c", code]).status == -signal.Signals[name]


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGTRAP", "SIGINT", "SIGALRM", "SIGCHLD"])
def test_a_handled_signal(python311: str, name: str) -> None:
    code = (
        f"import os, signal; signal.signal(signal.{name}, lambda number, frame: print('got', number))\n"
        f"for _ in range(3): os.kill(os.getpid(), signal.{name})\n"
    )
    ended = _same([python311, "-c", code])
    assert ended.out == f"got {signal.Signals[name].value}\n".encode() * 3
    assert ended.report["target"]["crash"] is None
    assert "at_end" in ended.report["interpreters"][0]["moments"]


def _without_addresses(text: bytes) -> bytes:
    return re.sub(rb"0x[0-9a-f]+", b"0x", text)


FAULTHANDLER = "import faulthandler, ctypes; faulthandler.enable(); ctypes.string_at(0)"


def test_faulthandler_speaks_as_ever(python311: str) -> None:
    plain, ended = both([python311, "-c", FAULTHANDLER])
    assert ended.status == plain.status == -signal.SIGSEGV
    assert _without_addresses(ended.err) == _without_addresses(plain.err)
    assert b"Fatal Python error: Segmentation fault" in ended.err
    assert ended.report["target"]["crash"]["signal"] == "SIGSEGV"


def test_signals_are_forwarded(python311: str, tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\n"
        "for name in ('SIGUSR1', 'SIGTERM', 'SIGHUP'):\n"
        "    signal.signal(getattr(signal, name), lambda n, _: os.write(1, f'{signal.Signals(n).name}\\n'.encode()))\n"
        "print('ready', flush=True)\n"
        "while True: signal.pause()\n"
    )
    program = Running([python311, "-c", code], tmp_path / "report.json")
    assert program.line() == "ready"
    for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGHUP):
        program.signal(number)
        assert program.line() == number.name
    program.signal(signal.SIGINT)
    ended = program.end()
    assert b"KeyboardInterrupt" in ended.err
    assert ended.status == -signal.SIGINT
    assert ended.report["interpreters"][0]["left_over"] is not None


def test_stopped_and_continued(python311: str, tmp_path: Path) -> None:
    # gdb does not let a traced program rest in SIGSTOP; it must do no other harm.
    code = "import os, sys; print(os.getpid(), flush=True); sys.stdin.readline(); print('on', flush=True)"
    program = Running([python311, "-c", code], tmp_path / "report.json")
    pid = int(program.line())
    for number in (signal.SIGSTOP, signal.SIGTSTP, signal.SIGCONT):
        os.kill(pid, number)
    program.write("")
    assert program.line() == "on"
    ended = program.end()
    assert ended.status == 0
    assert ended.report["interpreters"][0]["left_over"] is not None



FORKS = """
import os, signal, subprocess, sys, multiprocessing
def work(n):
    return n * n
if __name__ == '__main__':
    seen = []
    signal.signal(signal.SIGCHLD, lambda *_: seen.append(1))
    pid = os.fork()
    if not pid:
        sys.exit(7)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    print(subprocess.run([sys.executable, '-c', 'import gc; print(gc.collect() >= 0); raise SystemExit(5)']).returncode)
    print(os.spawnv(os.P_WAIT, '/bin/true', ['true']))
    print(bool(seen))
    for way in 'fork', 'spawn':
        with multiprocessing.get_context(way).Pool(2) as pool:
            print(pool.map(work, range(5)))
"""


def test_children_run_untouched(interpreter: str, tmp_path: Path) -> None:
    program = tmp_path / "forks.py"
    program.write_text(FORKS)
    ended = _same([interpreter, "-u", program])
    assert ended.out.startswith(b"7\nTrue\n5\n0\nTrue\n")
    assert ended.out.count(b"[0, 1, 4, 9, 16]") == 2
    assert ended.report["interpreters"][0]["left_over"] is not None
    assert ended.report["target"]["argv"][-1] == str(program)


def test_children_outlive_the_program(python311: str) -> None:
    code = "import os, sys\nif os.fork(): os._exit(0)\nos.setsid(); sys.stdin.read(); print('late', flush=True)"
    ended = _same([python311, "-c", code])
    assert (ended.status, ended.out) == (0, b"late\n")


def test_exec_of_another_python(python311: str, interpreter: str) -> None:
    code = f"import os, sys; os.execv({interpreter!r}, [{interpreter!r}, '-X', 'showrefcount', '-c', 'print(1)'])"
    ended = run([python311, "-c", code])
    assert (ended.status, ended.out) == (0, b"1\n")
    report = ended.report
    assert Path(report["target"]["executable"]).resolve() == Path(interpreter).resolve()
    version = subprocess.check_output([interpreter, "-c", "import sys; print(sys.version.split()[0])"], text=True)
    assert report["target"]["python"] == version.strip().rstrip("+")
    assert report["totals"]["references_reported"] == printed_total(ended)
    assert report["totals"]["references_unattributed"] == 0


def test_exec_of_something_else(python311: str) -> None:
    ended = _same([python311, "-c", "import os; os.execv('/bin/echo', ['echo', 'hello'])"])
    assert ended.out == b"hello\n"
    assert any("not finalized" in warning for warning in ended.report["warnings"])


def test_a_script_with_a_first_line(python311: str, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(f"#!{python311}\nimport sys; print(sys.argv)\n")
    script.chmod(0o755)
    ended = _same([script, "x"])
    assert ended.report["target"]["python"].startswith("3.11")


def test_a_shell_that_execs_python(python311: str) -> None:
    ended = _same(["/bin/sh", "-c", f"echo start; exec {python311} -X showrefcount -c 'import argparse'"])
    assert ended.report["totals"]["references_reported"] == printed_total(ended) > 0


def test_printed_totals_are_the_same(interpreter: str) -> None:
    seeded = {**ENVIRONMENT, "PYTHONHASHSEED": "1"}
    program: list[str | Path] = [interpreter, "-X", "showrefcount", "-c", "import decimal"]
    run(program, wrapped=False, env=seeded)  # the first run may write .pyc files
    ended = _same(program, env=seeded)
    assert ended.report["totals"]["references_reported"] == printed_total(ended)


def test_build_tree_and_shared_library(build: Callable[[str], str]) -> None:
    for name in ("3.9", "3.13", "3.11-trace-refs"):
        python = Path(build(name))
        ended = run(["./python", "-X", "showrefcount", "-c", "import sys; print(sys.argv)"], cwd=python.parent)
        assert (ended.status, ended.out) == (0, b"['-c']\n")
        assert ended.report["totals"]["references_reported"] == printed_total(ended)
        assert ended.report["totals"]["references_unattributed"] == 0


def test_text_report_follows_the_programs_own_words(python311: str, tmp_path: Path) -> None:
    from tests.support.run import refdbg_run

    program = [python311, "-X", "showrefcount", "-c", "import sys; print('own', file=sys.stderr)"]
    done = subprocess.run([*refdbg_run(), *program], capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("own\n[0 refs, 0 blocks]\n== refdbg ==")
    assert "Nothing is left over." in done.stderr
    file = tmp_path / "report.txt"
    done = subprocess.run([*refdbg_run("--text", str(file)), *program], capture_output=True, text=True,
                          env=ENVIRONMENT, check=False)  # fmt: skip
    assert done.stderr == "own\n[0 refs, 0 blocks]\n"
    assert file.read_text().startswith("== refdbg ==")
