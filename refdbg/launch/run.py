"""`refdbg-run [options] PROGRAM ARGS…`: run a program under the debugger, unnoticed, and report at its end.

The program is our own child: it is started stopped, the debugger attaches to it, and its
descriptors, environment, signals, process group and exit status are those of a plain run.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import glob
import json
import os
import re
import resource
import shutil
import signal
import sys
import time
from typing import Any, NamedTuple, NoReturn

from refdbg import __version__
from refdbg.cpython.events import GET_TOTAL
from refdbg.dependencies import ROOT
from refdbg.errors import MissingDependency
from refdbg.launch import outputs
from refdbg.launch.baseline import BadBaseline, is_signature, new_leaks, read, update

_PTRACE_TRACEME, _PTRACE_DETACH = 0, 17
_PR_SET_PTRACER = 0x59616D61
_PR_SET_PTRACER_ANY = (1 << 64) - 1
_SI_KERNEL = 0x80
# Python ignores these in every process; a program expects the default.
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
_NOT_FORWARDED = {signal.SIGCHLD, signal.SIGKILL, signal.SIGSTOP}
NOT_STARTED = 127
TIMED_OUT = 124  # as timeout(1)
NOT_WRITTEN = "the report cannot be written"
CANNOT_TELL = 125  # what `git bisect run` takes for "skip this one"
NOT_EXECUTABLE = 126
USAGE = 2
_LOG = "debugger.log"
_WORKERS = re.compile(r"-[a-zA-Z]*j\d*$|--mul")  # regrtest's -j, also among other letters
_GRACE = 30.0  # seconds that the debugger has to look at a program that --timeout ends
_FOREVER = 1e6
_TRACES, _FRAMES = b"PYTHONTRACEMALLOC", b"25"  # --allocations

_GATHER = {
    "gdb": """\
import sys
sys.path.insert(0, {root!r})
from refdbg.debuggers.gdb import GdbSession
from refdbg.launch.gather import main
main(GdbSession())
""",
    "lldb": """\
import sys
sys.path.insert(0, {root!r})
def __lldb_init_module(debugger, _names):
    from refdbg.launch.gather import main, refuse
    try:
        from refdbg.debuggers.lldb import LldbSession
    except ImportError as error:
        refuse(str(error))
    main(LldbSession(debugger))
""",
}
_COMMAND = {
    "gdb": ("-nx", "-nh", "-q", "-batch", "-x", "{script}"),
    "lldb": ("--no-lldbinit", "--batch", "--source-quietly", "-o", "command script import {script}"),
}


def parser() -> argparse.ArgumentParser:
    """The command line of refdbg-run."""
    root = argparse.ArgumentParser(
        prog="refdbg-run",
        usage="refdbg-run [options] PROGRAM [ARGUMENTS...]",
        description="Run a program; at its end report what its garbage collector collected, finalized and left over. "
        "The program's own input, output and exit status are those of a plain run; the report goes to stderr, or to "
        "each FILE that is named for it.",
        epilog=f"Exit status: the program's own; {NOT_STARTED} when it was not found, {NOT_EXECUTABLE} when it is not "
        f"executable, {TIMED_OUT} when it was ended by --timeout, {USAGE} when refdbg-run itself was used wrongly or "
        f"cannot work here; N of --error-exitcode N. With --bisect-run 1, 0 or {CANNOT_TELL}.",
    )
    outputs.add_options(root)
    root.add_argument("--objects", metavar="N", type=_count, default=10,
                      help="how many objects to list one by one, per collection and at the end (default 10)")
    root.add_argument("--check", action="store_true",
                      help="replay what each collection decides, and report where it decided otherwise (slow)")
    root.add_argument("--refleak", action="store_true",
                      help="explain what each repetition leaks in a program that calls sys.gettotalrefcount() after "
                      "each, as regrtest's -R 3:3 does")
    root.add_argument("--marker", metavar="FUNCTION", default=None,
                      help="with --refleak: the C function that the program calls after each repetition, instead")
    root.add_argument("--allocations", action="store_true",
                      help=f"run the program with {_TRACES.decode()}={_FRAMES.decode()}, unless that is set: findings "
                      "say at which Python stack their objects were made. CPython's tests skip what makes "
                      "subinterpreters then, and before 3.12 making one may never return")
    root.add_argument("--timeout", metavar="SECONDS", type=_seconds,
                      help="end the program after so long, and report what was seen so far and where it stood")
    root.add_argument("--baseline", metavar="FILE", help="the signatures of known leaks, one a line")
    root.add_argument("--update-baseline", action="store_true", help="add the leaks of this run to the baseline")
    root.add_argument("--error-exitcode", metavar="N", type=_status,
                      help="exit with N when there is a leak that is not in the baseline; one that is only possible "
                      "does not count")
    root.add_argument("--bisect-run", metavar="SIGNATURE",
                      help=f"for `git bisect run`: exit with 1 when the leak is there, 0 when it is not, {CANNOT_TELL} "
                      "when it is not but the program failed, or could not be watched to its end")
    root.add_argument("--blame", metavar="TYPE|SIGNATURE|ADDRESS",
                      help="run the program twice, at the same addresses: find a left-over object of this type, of the "
                      "finding with this signature, or at this address, then record who changes its reference count")
    root.add_argument("--debugger", metavar="gdb|lldb|PATH", default="gdb",
                      help="the debugger to use (default: gdb); a PATH whose last part contains lldb is an lldb")
    root.add_argument("--version", action="version", version=f"refdbg {__version__}")
    root.add_argument("program", metavar="PROGRAM")
    root.add_argument("arguments", metavar="ARGUMENTS", nargs=argparse.REMAINDER)
    return root


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of objects: 0 or more")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if not 0 < seconds < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return seconds


def _status(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 256:
        raise argparse.ArgumentTypeError(f"{text!r} is no exit status: 1 to 255")
    return int(text)


def main() -> NoReturn:
    """The console script."""
    orders = parser().parse_args()
    known = _check(orders)
    files = outputs.files_of(orders)
    written = {**files, "baseline": orders.baseline} if orders.update_baseline else files
    if (why_not := outputs.refusal(written)) is not None:
        _fail(USAGE, why_not)
    program = _program(orders)
    debugger = _debugger(orders.debugger)
    marker = orders.marker or GET_TOTAL if orders.refleak else None
    # Not tempfile: importing it takes as long as starting Python.
    folder = os.path.join(os.environ.get("TMPDIR") or "/tmp", f"refdbg-{os.getpid()}-{os.urandom(8).hex()}")
    os.mkdir(folder, 0o700)
    timed_out = False
    try:
        wanted = {"objects": orders.objects, "check": orders.check, "marker": marker}
        argv = [orders.program, *orders.arguments]
        inherited = _inherited()
        if orders.allocations:
            inherited = inherited._replace(environment={_TRACES: _FRAMES, **inherited.environment})
        if orders.blame is not None:
            from refdbg.launch.blame import Refused, run_twice

            def once(more: dict[str, Any], environment: dict[bytes, bytes]) -> tuple[int, dict[str, Any]]:
                nonlocal timed_out
                like_us = inherited._replace(environment={**environment, **inherited.environment})
                status, report, ended = _run(
                    program, argv, debugger, {**wanted, **more}, folder, like_us, orders.timeout
                )
                timed_out = timed_out or ended
                return status, report

            try:
                status, report = run_twice(once, orders.blame, folder)
            except Refused as error:
                _fail(USAGE, str(error))
        else:
            status, report, timed_out = _run(program, argv, debugger, wanted, folder, inherited, orders.timeout)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for finding in report.get("findings", ()):
        if finding["signature"] in known:
            finding["known"] = True
    try:
        _publish(report, files)
    except (OSError, MissingDependency) as error:  # a full disk, a closed pipe: the program's own status stays
        _say(f"refdbg-run: {NOT_WRITTEN}: {error}")
    verdict = _judge(orders, known, report)
    if verdict is None and timed_out:
        verdict = TIMED_OUT
    if verdict is not None:
        os._exit(verdict)
    _end(status)


def _program(orders: argparse.Namespace) -> str:
    program: str | None = shutil.which(orders.program)
    if program is not None:
        return program
    found, missing = (CANNOT_TELL, CANNOT_TELL) if orders.bisect_run else (NOT_EXECUTABLE, NOT_STARTED)
    if os.path.isdir(orders.program):
        _fail(found, f"{orders.program} is a folder; name a program in it")
    if os.path.isfile(orders.program):
        _fail(found, f"{orders.program} is not executable; `chmod +x {orders.program}`?")
    _fail(missing, f"program not found: {orders.program}; is the path right?")


def _check(orders: argparse.Namespace) -> frozenset[str]:
    # Returns the signatures of the baseline.
    if orders.update_baseline and not orders.baseline:
        _fail(USAGE, "--update-baseline needs --baseline FILE")
    if orders.marker and not orders.refleak:
        _fail(USAGE, "--marker is for --refleak")
    if orders.bisect_run is not None and not is_signature(orders.bisect_run):
        _fail(CANNOT_TELL, f"{orders.bisect_run!r} is no signature: a report prints one under each finding")
    if orders.blame is not None and not orders.blame.strip():
        _fail(USAGE, "--blame needs a type, a signature or an address")
    regrtest = {"test", "test.regrtest", "test.__main__"}.intersection(orders.arguments)
    workers = next((each for each in orders.arguments if _WORKERS.match(each)), None)
    if orders.refleak and regrtest and workers:
        _fail(USAGE, f"with {workers} the tests run in child processes, which are not followed: leave it out")
    if not orders.baseline or (orders.update_baseline and not os.path.exists(orders.baseline)):
        return frozenset()
    try:
        return read(orders.baseline)
    except BadBaseline as error:
        _fail(USAGE, error.text())


def is_whole(report: dict[str, Any]) -> bool:
    """Whether everything was seen: the main interpreter's end, or repetitions enough to tell."""
    if report.get("error") or report["partial"] or not report["target"]["python"] or report["target"]["signal"]:
        return False
    if "repetitions" in report:
        told = [each for each in report["repetitions"] if each["verdict"] != "too few"]
        return bool(told) and all(each["findings"] for each in told if each["verdict"] == "leak")
    return any(end["id"] == 0 and end["left_over"] is not None for end in report["interpreters"])


def _judge(orders: argparse.Namespace, known: frozenset[str], report: dict[str, Any]) -> int | None:
    # The exit status that the findings decide, None where it is the program's own.
    whole = is_whole(report)
    if orders.bisect_run is not None:
        if any(finding["signature"] == orders.bisect_run for finding in report.get("findings", ())):
            return 1
        return 0 if whole and report["target"]["exit_status"] == 0 else CANNOT_TELL
    if orders.update_baseline:
        try:
            number = update(orders.baseline, report)
            _say(f"refdbg-run: {number} leaks were added to {orders.baseline}")
        except BadBaseline as error:
            _fail(USAGE, error.text())
    elif orders.error_exitcode:
        unexplained = any(
            each["verdict"] == "leak" and not each["findings"] for each in report.get("repetitions", ())
        )
        if unexplained or new_leaks(report, known):
            return int(orders.error_exitcode)
        if not whole:
            _say("refdbg-run: the program was not watched to its end: whether it leaks is not known")
            return USAGE
    return None


def _debugger(name: str) -> str:
    found = shutil.which(name)
    if found is None and name == "lldb":  # Debian's packages have a version in every name
        folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
        found = max(
            (path for folder in folders for path in glob.glob(f"{glob.escape(folder)}/lldb-[0-9]*")
             if path.rpartition("-")[2].isdecimal()),
            key=lambda path: int(path.rpartition("-")[2]), default=None,
        )  # fmt: skip
    if found is None:
        package = "lldb-19" if "lldb" in name else "gdb"
        _fail(USAGE, f"debugger not found: {name}; install one with `apt-get install {package}`, or give --debugger "
                     "its path")  # fmt: skip
    return found


def _fail(status: int, message: str) -> NoReturn:
    _say(f"refdbg-run: {message}")
    raise SystemExit(status)


def _say(text: str) -> None:
    # stderr is None when it was closed before refdbg-run started.
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(text, file=sys.stderr, flush=True)


class _Inherited(NamedTuple):
    # What a plain run would have from its parent: the environment, the signal mask, what becomes of SIGCHLD.
    environment: dict[bytes, bytes]
    mask: set[Any]
    children: Any


def _inherited() -> _Inherited:
    # os.environb has what Python itself may have set (LC_CTYPE, PEP 538); the kernel kept what we were given.
    with open("/proc/self/environ", "rb") as file:
        block = file.read()
    environment = dict(entry.split(b"=", 1) for entry in block.split(b"\0") if b"=" in entry)
    return _Inherited(environment, signal.pthread_sigmask(signal.SIG_BLOCK, ()), signal.getsignal(signal.SIGCHLD))


def _run(
    program: str, argv: list[str], debugger: str, wanted: dict[str, Any], folder: str, inherited: _Inherited,
    timeout: float | None,
) -> tuple[int, dict[str, Any], bool]:
    # Returns the program's wait status, the report, and whether the program was ended for its slowness.
    watched = signal.valid_signals() - _NOT_FORWARDED | {signal.SIGCHLD}
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # where it is ignored, nobody can be waited for
    signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    environment = inherited.environment
    pid = _start_stopped(program, argv, environment, inherited.mask, inherited.children)
    output = os.path.join(folder, "report.json")
    tool = _start_debugger(debugger, {**wanted, "pid": pid, "output": output}, environment, folder)
    from refdbg.render.report import prepare  # what the report needs is imported while the program runs

    prepare()
    status, timed_out = _wait(pid, tool, watched, timeout)
    try:
        with open(output, encoding="utf-8") as file:
            report: dict[str, Any] = json.load(file)
    except (OSError, ValueError):
        report = {"error": "the debugger ended without a report. Its last words:\n" + _tail(folder)}
    target = report.get("target")
    if timed_out:
        report["partial"] = f"the program was ended after {timeout:g} s (--timeout)"
    if target is not None:
        target["argv"] = argv
        target["exit_status"] = os.WEXITSTATUS(status) if os.WIFEXITED(status) else None
        target["signal"] = _signal_name(os.WTERMSIG(status)) if os.WIFSIGNALED(status) else None
        if target["signal"] is None:
            target["crash"] = None  # a signal that the program handled
    return status, report, timed_out


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # one of the real-time signals, of which only the first and the last have names
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"


def _tail(folder: str) -> str:
    try:
        with open(os.path.join(folder, _LOG), encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        lines = []
    return "\n".join(f"  {line}" for line in lines[-20:]) or "  (none)"


def _start_stopped(
    program: str, argv: list[str], environment: dict[bytes, bytes], mask: set[Any], children: Any
) -> int:
    # The child stops at the first instruction of the program, before any of it has run.
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    pid = os.fork()
    if pid == 0:
        try:
            libc.ptrace(_PTRACE_TRACEME, 0, None, None)
            libc.prctl(_PR_SET_PTRACER, ctypes.c_ulong(_PR_SET_PTRACER_ANY), 0, 0, 0)
            for number in _IGNORED_BY_PYTHON:
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGCHLD, children)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            os.execve(program, argv, environment)
        except OSError as error:
            os.write(2, f"refdbg-run: cannot start {program}: {error.strerror}\n".encode())
        finally:
            os._exit(NOT_EXECUTABLE)
    _, status = os.waitpid(pid, 0)
    if not os.WIFSTOPPED(status):
        raise SystemExit(os.waitstatus_to_exitcode(status))
    libc.ptrace(_PTRACE_DETACH, pid, None, ctypes.c_void_p(signal.SIGSTOP))
    return pid


def _start_debugger(debugger: str, orders: dict[str, Any], environment: dict[bytes, bytes], folder: str) -> int:
    # In a session of its own: the terminal's Ctrl-C is for the program. Without the program's PYTHON*
    # variables, which the debugger's own Python would obey.
    own = {name: value for name, value in environment.items() if not name.startswith(b"PYTHON")}
    own[b"REFDBG_GATHER"] = json.dumps(orders).encode()
    script = os.path.join(folder, "gather.py")
    kind = "lldb" if "lldb" in os.path.basename(debugger) else "gdb"
    with open(script, "w", encoding="utf-8") as file:
        file.write(_GATHER[kind].format(root=ROOT))
    command = [debugger, *(word.format(script=script) for word in _COMMAND[kind])]
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            null = os.open(os.devnull, os.O_RDONLY)
            out = os.open(os.path.join(folder, _LOG), os.O_WRONLY | os.O_CREAT, 0o600)
            for source, number in ((null, 0), (out, 1), (out, 2)):
                os.dup2(source, number)
            for signal_ in _IGNORED_BY_PYTHON:
                signal.signal(signal_, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            os.execve(debugger, command, own)
        finally:
            os._exit(NOT_EXECUTABLE)
    return pid


def _wait(pid: int, tool: int, watched: set[Any], timeout: float | None) -> tuple[int, bool]:
    # Until both have ended. Signals sent to us are for the program, whose wait status is returned; and whether it
    # was ended when it had run for *timeout* seconds.
    status: int | None = None
    tool_runs = True
    last_words = [signal.SIGKILL, signal.SIGABRT]  # the debugger sees where it aborts
    timed_out = False
    deadline = time.monotonic() + timeout if timeout else 0.0
    while status is None or tool_runs:
        wait = max(deadline - time.monotonic(), 0) if deadline and status is None and last_words else _FOREVER
        info = signal.sigtimedwait(watched, wait)
        if info is None:
            if wait < _FOREVER:
                timed_out = True
                resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))
                os.kill(pid, last_words.pop())
                deadline = time.monotonic() + _GRACE
            continue
        if info.si_signo != signal.SIGCHLD:
            if info.si_code == _SI_KERNEL:  # typed at the terminal: the program has it too
                if info.si_signo == signal.SIGINT and tool_runs:
                    os.kill(tool, signal.SIGUSR1)
            elif status is None:
                os.kill(pid, info.si_signo)
        while True:
            try:
                ended, how = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if ended == pid:
                status = how
            elif ended == tool:
                tool_runs = False
            elif not ended:
                break
        if not tool_runs and status is None:
            # The debugger gave up: let the program go on without it.
            os.kill(pid, signal.SIGCONT)
            _, status = os.waitpid(pid, 0)
    return status, timed_out


def _publish(report: dict[str, Any], files: dict[str, str]) -> None:
    outputs.write(report, files)
    if not files:
        from refdbg.render.report import report_text

        _say(report_text(report, shutil.get_terminal_size((120, 24)).columns))
    elif "error" in report:
        _say(f"refdbg-run: {report['error']}")
    elif report.get("blame", {}).get("error"):
        _say(f"refdbg-run: {report['blame']['error']}")


def _end(status: int) -> NoReturn:
    # As the program ended: by the same status or the same signal.
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the program's core is enough
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        os.kill(os.getpid(), number)
    os._exit(os.WEXITSTATUS(status))  # not SystemExit: PYTHONINSPECT is meant for the program
