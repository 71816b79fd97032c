"""Programs that are no Python, crash or vanish; bad orders; damaged memory: one clear message, nothing else changes."""

from __future__ import annotations

import os
import pty
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.debugger import Answer, run_gdb
from tests.support.run import ENVIRONMENT, ROOT, Ended, Running, both, refdbg_run, run, validated


def _refused(*words: str | Path) -> tuple[int, str]:
    """The status of refdbg-run and its only message."""
    command = [*refdbg_run(), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def _warnings(ended: Ended) -> str:
    return "\n".join(ended.report["warnings"])


# Bad orders


def test_program_not_found(tmp_path: Path) -> None:
    for name in ("no-such-program", tmp_path / "nothing"):
        status, text = _refused(name)
        assert (status, len(text.splitlines())) == (127, 1)
        assert f"program not found: {name}" in text


def test_program_not_executable(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("print(1)\n")
    status, text = _refused(script)
    assert (status, len(text.splitlines())) == (126, 1)
    assert "not executable" in text and "chmod +x" in text


def test_program_is_a_folder(tmp_path: Path) -> None:
    status, text = _refused(tmp_path)
    assert (status, len(text.splitlines())) == (126, 1)
    assert f"{tmp_path} is a folder" in text


def test_program_of_no_known_format(tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_text("no program\n")
    file.chmod(0o755)
    status, text = _refused(file)
    assert (status, len(text.splitlines())) == (126, 1)
    assert f"cannot start {file}: Exec format error" in text


def test_no_program() -> None:
    status, text = _refused()
    assert status == 2
    assert "PROGRAM" in text


@pytest.mark.parametrize("value", ["-1", "x", "1.5", ""])
def test_a_bad_number_of_objects(value: str) -> None:
    status, text = _refused("--objects", value, "/bin/true")
    assert status == 2
    assert "--objects" in text and "_count" not in text


def test_no_objects_listed(python311: str) -> None:
    """What a finding is about it says all the same."""
    ended = run([python311, "-c", "import decimal"], options=["--objects", "0"])
    assert "DecimalTuple" in ended.report["findings"][0]["message"] and ended.report["partial"] is None


def test_report_that_cannot_be_written(tmp_path: Path) -> None:
    for option in ("--json", "--text"):
        for file in (tmp_path / "missing" / "report", tmp_path):
            status, text = _refused(option, file, "/bin/echo", "ran")
            assert (status, len(text.splitlines())) == (2, 1)
            assert f"cannot write {file}" in text


def test_a_full_disk_keeps_the_status(python311: str) -> None:
    done = subprocess.run(
        [*refdbg_run("--text", "/dev/full"), python311, "-c", "raise SystemExit(5)"],
        capture_output=True, text=True, env=ENVIRONMENT, check=False,
    )  # fmt: skip
    assert done.returncode == 5
    assert "No space left on device" in done.stderr and "Traceback" not in done.stderr


def test_nobody_reads_the_report(python311: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([*refdbg_run(), python311, "-c", "raise SystemExit(5)"], stderr=writing, env=ENVIRONMENT,
                          check=False)  # fmt: skip
    os.close(writing)
    assert done.returncode == 5


def test_no_gdb() -> None:
    status, text = _refused("--debugger", "/nonexistent", "/bin/echo", "ran")
    assert (status, len(text.splitlines())) == (2, 1)
    assert "apt-get install gdb" in text


def test_a_debugger_that_ends_at_once() -> None:
    # The program must run all the same.
    done = subprocess.run([*refdbg_run("--debugger", "/bin/false"), "/bin/sh", "-c", "echo ran; exit 6"],
                          capture_output=True, text=True, env=ENVIRONMENT, check=False)  # fmt: skip
    assert (done.returncode, done.stdout) == (6, "ran\n")
    assert "the debugger ended without a report" in done.stderr and "Traceback" not in done.stderr


# Programs without a CPython, or without its debug info


@pytest.mark.parametrize("program", [["/bin/true"], ["/bin/sleep", "0"], ["/bin/sh", "-c", "exit 3"]])
def test_not_python(program: list[str]) -> None:
    plain, ended = both(program)
    assert ended.plain == plain.plain
    assert "no CPython was seen" in _warnings(ended)
    assert (ended.report["target"]["python"], ended.report["totals"], ended.report["interpreters"]) == ("", None, [])


def test_children_that_are_python_are_not_followed(python311: str) -> None:
    ended = run(["/bin/sh", "-c", f"{python311} -c 'print(1)'; exit 4"])
    assert (ended.status, ended.out) == (4, b"1\n")
    assert "not children" in _warnings(ended)


def test_without_debug_info(build: Callable[[str], str], tmp_path: Path) -> None:
    # A stripped copy beside the original: a build-tree python finds its library through its own folder.
    strip = shutil.which("strip")
    if strip is None:
        pytest.skip("no strip: apt-get install binutils")
    home = Path(build("3.13"))
    for option in ("--strip-all", "--strip-debug"):
        python = home.with_name(f"python-stripped-{os.getpid()}")
        subprocess.run([strip, option, "-o", python, home], check=True)
        try:
            plain, ended = both([python, "-X", "showrefcount", "-c", "print(1); raise SystemExit(3)"])
        finally:
            python.unlink()
        assert ended.plain == plain.plain
        assert ended.status == 3
        assert "no debug info" in _warnings(ended) and "python3.11-dbg" in _warnings(ended)
        assert ended.report["interpreters"] == []


def test_a_release_build() -> None:
    python = "/usr/bin/python3"
    code = "import gc\nfor _ in range(9):\n    a = []\n    a.append(a)\ndel a\nprint(gc.collect())\nraise SystemExit(3)"
    plain, ended = both([python, "-c", code])
    assert ended.plain == plain.plain == (3, b"9\n", b"")
    assert ended.report["warnings"]
    assert ended.report["totals"] is None
    if ended.report["target"]["python"]:  # its debug info is here (python3.11-dbg brings it along)
        assert [r["cleared"] for r in ended.report["collections"] if r["reason"] == "gc.collect()"] == [9]
        assert "not finalized" not in _warnings(ended)
    else:
        assert "no debug info" in _warnings(ended)


# Crashes and ends without finalization

SEGFAULT = "import ctypes\ndef inner():\n    ctypes.string_at(0)\ndef outer():\n    inner()\nouter()\n"


def test_crash(interpreter: str, tmp_path: Path) -> None:
    program = tmp_path / "crash.py"
    program.write_text(SEGFAULT)
    plain, ended = both([interpreter, program])
    assert ended.plain == plain.plain
    assert ended.status == -signal.SIGSEGV
    target = ended.report["target"]
    assert (target["signal"], target["crash"]["signal"]) == ("SIGSEGV", "SIGSEGV")
    python = [(frame["function"], frame["line"]) for frame in target["crash"]["python"]]
    assert python[0][0] == "string_at"
    assert python[1:] == [("inner", 3), ("outer", 5), ("<module>", 6)]
    native = [frame["function"] for frame in target["crash"]["native"]]
    assert "strlen" in native[0]
    assert {"string_at", "_PyEval_EvalFrameDefault"} <= set(native)
    assert any(frame["file"] and frame["file"].endswith("_ctypes.c") and frame["line"] for frame in
               target["crash"]["native"])  # fmt: skip
    assert ended.report["collections"]
    assert ended.report["interpreters"] == []
    assert target["python"]


def test_crash_in_a_thread(interpreter: str, tmp_path: Path) -> None:
    program = tmp_path / "crash.py"
    program.write_text(
        "import ctypes, threading\ndef worker():\n    ctypes.string_at(0)\n"
        "t = threading.Thread(target=worker)\nt.start()\nt.join()\n"
    )
    ended = run([interpreter, program])
    assert ended.status == -signal.SIGSEGV
    crash = ended.report["target"]["crash"]
    assert crash["thread"] != ended.report["target"]["pid"]
    assert ("worker", 3) in [(frame["function"], frame["line"]) for frame in crash["python"]]


def test_crash_beside_other_threads(interpreter: str, tmp_path: Path) -> None:
    """Whose end may come while the debugger still lets one after the other run."""
    program = tmp_path / "crash.py"
    program.write_text(
        "import ctypes, threading, time\ndef other():\n    time.sleep(1000)\n"
        "for _ in range(20):\n    threading.Thread(target=other, daemon=True).start()\n"
        "time.sleep(.5)\ndef inner():\n    ctypes.string_at(0)\ninner()\n"
    )
    ended = run([interpreter, program])
    assert ended.status == -signal.SIGSEGV
    crash = ended.report["target"]["crash"]
    assert crash["thread"] == ended.report["target"]["pid"]
    python = [(frame["function"], frame["line"]) for frame in crash["python"]]
    assert python[-2:] == [("inner", 8), ("<module>", 9)]


def test_crash_as_text(python311: str, tmp_path: Path) -> None:
    program = tmp_path / "crash.py"
    program.write_text(SEGFAULT)
    done = subprocess.run([*refdbg_run(), python311, str(program)], capture_output=True, text=True, env=ENVIRONMENT,
                          check=False)  # fmt: skip
    assert done.returncode == -signal.SIGSEGV
    assert "SIGSEGV" in done.stderr and f"inner ({program}:3)" in done.stderr
    assert "string_at at " in done.stderr


def test_a_crash_of_the_finalization(interpreter: str) -> None:
    code = (
        "import ctypes\nclass Bomb:\n    def __del__(self, boom=ctypes.string_at): boom(0)\n"
        "bomb = Bomb()\nbomb.me = bomb\n"
    )
    plain, ended = both([interpreter, "-c", code])
    assert ended.plain == plain.plain
    assert ended.status == -signal.SIGSEGV
    python = [frame["function"] for frame in ended.report["target"]["crash"]["python"]]
    assert "__del__" in [function.rpartition(".")[2] for function in python]
    assert "last_collection" in ended.report["interpreters"][0]["moments"]


def test_abort(python311: str) -> None:
    plain, ended = both([python311, "-c", "import os; os.abort()"])
    assert ended.plain == plain.plain
    crash = ended.report["target"]["crash"]
    assert crash["signal"] == "SIGABRT"
    assert [frame["function"] for frame in crash["python"]] == ["<module>"]
    assert any(frame["function"] in ("raise", "__GI_raise", "__pthread_kill_implementation") or "abort" in
               frame["function"] for frame in crash["native"][:4])  # fmt: skip


def test_fatal_error(python311: str) -> None:
    plain, ended = both([python311, "-c", "import _testcapi; _testcapi.fatal_error(b'planted')"])
    assert ended.status == plain.status == -signal.SIGABRT
    assert b"Fatal Python error: test_fatal_error: planted" in ended.err
    assert ended.report["target"]["crash"]["python"]


@pytest.mark.parametrize(("code", "status"), [
    ("import os; os._exit(9)", 9),
    ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
    ("import os, signal; signal.pthread_kill(__import__('threading').get_ident(), signal.SIGTERM)", -signal.SIGTERM),
])  # fmt: skip
def test_ends_without_finalization(interpreter: str, code: str, status: int) -> None:
    plain, ended = both([interpreter, "-c", code])
    assert ended.plain == plain.plain
    assert ended.status == status
    assert ended.report["collections"]
    assert ended.report["interpreters"] == []
    assert "not finalized" in _warnings(ended)
    assert ended.report["target"]["crash"] is None


def test_killed_from_outside(python311: str, tmp_path: Path) -> None:
    code = "import os, sys; print(os.getpid(), flush=True); sys.stdin.read()"
    program = Running([python311, "-c", code], tmp_path / "report.json")
    os.kill(int(program.line()), signal.SIGKILL)
    ended = program.end()
    assert ended.status == -signal.SIGKILL
    assert ended.report["target"]["signal"] == "SIGKILL"
    assert "not finalized" in _warnings(ended)


def test_killed_inside_a_collection(python311: str, tmp_path: Path) -> None:
    code = (
        "import gc, os, signal\nclass Last:\n    def __del__(self): os.kill(os.getpid(), signal.SIGKILL)\n"
        "last = Last(); last.me = last; del last; gc.collect()"
    )
    ended = run([python311, "-c", code])
    assert ended.status == -signal.SIGKILL
    assert "error" not in ended.report


# Ctrl-C


class _Terminal:
    """A program on a terminal of its own."""

    def __init__(self, command: Sequence[str]) -> None:
        self.shown = b""
        self._seen = 0
        program = shutil.which(command[0])
        assert program is not None
        self.pid, self._terminal = pty.fork()
        if self.pid == 0:
            os.execve(program, command, {**ENVIRONMENT, "TERM": "dumb"})

    def __enter__(self) -> _Terminal:
        return self

    def __exit__(self, *_error: object) -> None:
        os.close(self._terminal)

    def wait_for(self, pattern: bytes) -> bytes:
        """Read until the pattern is there, in what was not waited for before; its first group."""
        while not (found := re.compile(pattern, re.DOTALL).search(self.shown, self._seen)):
            assert self._read(), self.shown.decode(errors="replace")
        self._seen = found.end()
        return found[1]

    def _read(self) -> bool:
        try:
            data = os.read(self._terminal, 65536)
        except OSError:  # the terminal's other end is closed
            return False
        self.shown += data
        return bool(data)

    def type(self, text: bytes) -> None:
        os.write(self._terminal, text)

    def cpu_ticks(self) -> int:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    def end(self) -> int:
        """Read to the end; the status as in subprocess."""
        while self._read():
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def _interrupted(program: Sequence[str], file: Path) -> tuple[int, bytes, dict[str, Any]]:
    """Ctrl-C when it says that it is ready: its status, all that was shown, and the report."""
    with _Terminal([*refdbg_run("--json", str(file)), *program]) as terminal:
        terminal.wait_for(b"(ready)")
        terminal.type(b"\x03")
        status = terminal.end()
    return status, terminal.shown, validated(file.read_bytes())


def test_ctrl_c_is_for_the_program(python311: str, tmp_path: Path) -> None:
    code = (
        "import sys\ntry:\n    print('ready', flush=True)\n    sys.stdin.readline()\n"
        "except KeyboardInterrupt:\n    print('caught', flush=True)\nsys.exit(11)"
    )
    status, shown, report = _interrupted([python311, "-c", code], tmp_path / "report.json")
    assert status == 11
    assert shown.count(b"caught") == 1
    assert report["partial"] is None
    assert report["interpreters"][0]["left_over"] is not None


def test_ctrl_c_ends_a_program(python311: str, tmp_path: Path) -> None:
    code = "import sys; print('ready', flush=True); sys.stdin.readline()"
    status, shown, report = _interrupted([python311, "-c", code], tmp_path / "report.json")
    assert status == -signal.SIGINT
    assert shown.count(b"KeyboardInterrupt") == 1
    assert report["target"]["signal"] == "SIGINT"
    assert report["interpreters"][0]["left_over"] is not None


MANY = (
    "import gc, sys\ngc.disable()\nkept = [[] for _ in range(2_000_000)]\n"
    "try:\n    print('ready', flush=True)\n    sys.stdin.readline()\n    gc.collect(0)\n"
    "except KeyboardInterrupt:\n    print('caught', flush=True)\nimport os; os._exit(12)"
)


def test_ctrl_c_during_a_walk(python311: str, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    code = MANY.replace("'ready'", "'ready', os.getpid(), '.'").replace("import gc", "import os, gc")
    with _Terminal([*refdbg_run("--json", str(file)), python311, "-c", code]) as terminal:
        pid = int(terminal.wait_for(rb"ready (\d+) \."))
        terminal.type(b"\n")
        _until_it_rests(pid)  # in gc_collect_main, where refdbg walks through two million objects
        terminal.type(b"\x03")
        status = terminal.end()
    assert status == 12
    assert terminal.shown.count(b"caught") == 1
    report = validated(file.read_bytes())
    assert report["partial"] == "interrupted at gc_collect_main"
    assert report["collections"]


def test_ctrl_c_that_the_program_has_had(python311: str, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    code = (
        "import gc, os, sys\ngc.disable()\nkept = [[] for _ in range(1_000_000)]\n"
        "try:\n    print('ready', os.getpid(), '.', flush=True)\n    sys.stdin.readline()\n"
        "except KeyboardInterrupt:\n    gc.collect(0)\nos._exit(12)"
    )
    with _Terminal([*refdbg_run("--json", str(file)), python311, "-c", code]) as terminal:
        pid = int(terminal.wait_for(rb"ready (\d+) \."))
        os.kill(terminal.pid, signal.SIGSTOP)  # refdbg-run is slow to hear of it
        terminal.type(b"\x03")
        _until_it_rests(pid)  # the program has caught it, and collects
        os.kill(terminal.pid, signal.SIGCONT)
        status = terminal.end()
    assert status == 12
    report = validated(file.read_bytes())
    assert report["partial"] is None
    assert report["collections"][-1]["tracked"] > 1_000_000


def _until_it_rests(pid: int) -> None:
    # In the debugger's hands, and still there after the debugger has had every chance to let it go.
    seen = 0
    while seen < 5000:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        seen = seen + 1 if state == "t" else 0


def test_ctrl_c_at_the_prompt(python311: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("kept = [[] for _ in range(2_000_000)]\nascii('')\n")
    command = ["gdb", "-nx", "-q", "-iex", "set auto-load no", "-iex", "set breakpoint pending on", "-iex",
               "set style enabled off", "-iex", "set width 0", "-iex", "set pagination off", "-iex", "set confirm off",
               "-ex", f"source {ROOT}/gdb/refdbg.py", "-ex", "break builtin_ascii", "-ex", "run",
               "--args", python311, str(program)]  # fmt: skip
    with _Terminal(command) as terminal:
        terminal.wait_for(rb"Breakpoint 1, (builtin_ascii).*\(gdb\) $")
        terminal.type(b"\x03")
        terminal.wait_for(rb"(Quit)\r?\n.*\(gdb\) $")
        before = terminal.cpu_ticks()
        terminal.type(b"refdbg census\n")
        while terminal.cpu_ticks() < before + 20:  # 0.2 s into a command that takes seconds
            pass
        terminal.type(b"\x03")
        terminal.wait_for(rb"refdbg: (interrupted); nothing was changed[^\n]*\n.*\(gdb\) $")
        terminal.type(b"refdbg status\n")
        terminal.wait_for(rb"python +(3\.11)\S+\r?\n.*\(gdb\) $")
        terminal.type(b"kill\nquit\n")
        assert terminal.end() == 0


# At gdb's prompt


def _gdb(
    python: str, folder: Path, program: str, *commands: str, stop_at: str | None = "builtin_ascii"
) -> list[Answer]:
    file = folder / "program.py"
    file.write_text(program)
    return run_gdb(python, file, commands, stop_at=stop_at, folder=folder)


COMMANDS = ("refdbg status", "refdbg census", "refdbg object 0x1000", "refdbg frames", "refdbg objects dict",
            "refdbg gc unreachable", "refdbg referrers 0x1000")  # fmt: skip


def _one_clear_error(answer: Answer) -> str:
    lines = answer.text.splitlines()
    assert lines and lines[0].startswith("refdbg: "), answer
    assert len(lines) <= 3, answer
    assert "internal error" not in answer.text and "Traceback" not in answer.text
    return answer.text


def test_before_the_program_runs(interpreter: str, tmp_path: Path) -> None:
    *answers, last = _gdb(interpreter, tmp_path, "", *COMMANDS, "print 6 * 7", stop_at=None)
    for answer in answers:
        assert "no process" in _one_clear_error(answer)
    assert last.text == "$1 = 42"


def test_after_the_program_has_ended(python311: str, tmp_path: Path) -> None:
    *answers, last = _gdb(python311, tmp_path, "ascii('')", "continue", *COMMANDS, "print 6 * 7")
    for answer in answers[1:]:
        assert "no process" in _one_clear_error(answer)
    assert last.text == "$1 = 42"


def test_in_a_process_that_is_no_python(tmp_path: Path) -> None:
    commands = ["starti", *COMMANDS, "print 6 * 7", "kill"]
    *answers, last, _ = run_gdb("/bin/true", "", commands, stop_at=None, folder=tmp_path)
    for answer in answers[1:]:
        assert "_PyRuntime" in _one_clear_error(answer)
    assert last.text == "$1 = 42"


@pytest.mark.parametrize("address", ["0", "0x10", "1", "-1", "0xffffffffffffffff", "0x7fffffffffff", "$sp", "&environ",
                                     "&_PyRuntime", "main", "nosuchsymbol", "1 +", ""])  # fmt: skip
def test_an_address_that_is_no_object(python311: str, tmp_path: Path, address: str) -> None:
    *answers, last = _gdb(
        python311, tmp_path, "ascii('')", f"refdbg object {address}", f"refdbg referents {address}",
        f"refdbg type {address}", "print 6 * 7",
    )  # fmt: skip
    for answer in answers:
        _one_clear_error(answer)
    assert last.text == "$1 = 42"


# Damage: a disposable process whose memory is overwritten

_HEAD = "_PyRuntime.interpreters.main->gc.generations[2].head"
_FIRST = f"((PyGC_Head *){_HEAD}._gc_next)"
_TYPE = f"((PyObject *)({_FIRST} + 1))->ob_type"
# What is overwritten → objects of generation 2 that the walk then finds (None: all), and what it says.
DAMAGE = {
    f"{_FIRST}->_gc_next = {_HEAD}._gc_next": (1, "runs in a circle"),
    f"((PyGC_Head *){_FIRST}->_gc_next)->_gc_next = {_HEAD}._gc_next": (2, "runs in a circle"),
    f"{_FIRST}->_gc_next = 0": (1, "breaks off at 0x0"),
    f"{_FIRST}->_gc_next = 0xdddddddddddddddc": (1, "breaks off at 0xdddddddddddddddc"),
    f"{_FIRST}->_gc_next = 0x7ffffffff000": (1, "breaks off at 0x7ffffffff000"),
    f"{_HEAD}._gc_next = 8": (0, "breaks off at 0x8"),
    f"{_HEAD}._gc_next = 0": (0, "has lost its first link"),
    f"{_TYPE} = 0": (None, ""),
    f"{_TYPE} = (void *)0x1234567890": (None, ""),
    f"{_TYPE} = (void *)&_Py_NoneStruct": (None, ""),
    f"{_TYPE} = (void *){_FIRST}": (None, ""),
    f"((PyObject *)({_FIRST} + 1))->ob_refcnt = 0x7fffffffffffffff": (None, ""),
}
_COLLECTED = "import gc\ngc.disable()\ngc.collect()\nascii('')\n"


_CHECKS = ("refdbg status --json", "refdbg census --tracked --json", "refdbg census", "refdbg objects dict",
           f"refdbg object {_FIRST} + 1", "refdbg referrers &_Py_NoneStruct --limit 3", "refdbg frames",
           "print 6 * 7")  # fmt: skip


@pytest.fixture(scope="module")
def damaged(interpreter: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Answer]]:
    """The answers to the checks in an intact process, and after each damage, which is then undone."""
    commands = list(_CHECKS)
    for damage in DAMAGE:
        place, value = damage.split(" = ")
        commands += [f"set $place = (unsigned long *)&({place})", "set $old = *$place",
                     f"set var *$place = (unsigned long)({value})", *_CHECKS, "set var *$place = $old"]  # fmt: skip
    answers = _gdb(interpreter, tmp_path_factory.mktemp("damage"), _COLLECTED, *commands)
    intact, rest = answers[: len(_CHECKS)], answers[len(_CHECKS) :]
    size = len(_CHECKS) + 4
    parts = [rest[start + 3 : start + size - 1] for start in range(0, len(rest), size)]
    return {"": intact, **dict(zip(DAMAGE, parts))}


@pytest.mark.parametrize("damage", ["", *DAMAGE])
def test_damaged_memory(damaged: dict[str, list[Answer]], damage: str) -> None:
    whole = damaged[""][0].record["interpreters"][0]["generations"][2]["tracked"]
    assert whole > 1000
    status, census, *others, last = damaged[damage]
    number, words = DAMAGE.get(damage, (None, ""))
    found = status.record["interpreters"][0]["generations"][2]["tracked"]
    assert found == (whole if number is None else number)
    for record in (status.record, census.record):
        assert words in "\n".join(record["notes"])
        assert bool(record["notes"]) == bool(words)
    for answer in others:
        assert answer.text
        assert "internal error" not in answer.text and "Traceback" not in answer.text
    assert last.text.endswith(" = 42")
