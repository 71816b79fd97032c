"""Core files, snapshots and running processes without a debugger: the answers are those that gdb gave at the stop."""

from __future__ import annotations

import gzip
import json
import lzma
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from refdbg.launch.session import of_process
from tests.live.test_extensions import extensions
from tests.support.cores import kernel_core
from tests.support.debugger import on_core, run_gdb
from tests.support.terminal import Terminal

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
PROGRAM = TESTS / "programs" / "recorded.py"
REFDBG = [sys.executable, "-c", "from refdbg.launch.shell import main; main()"]

ASKED = (
    "status", "census --limit 1000", "census --tracked --limit 1000", "objects Node --limit 100", "object {obj}",
    "type dict", "frames --all --locals", "referents {obj}", "referrers {obj}", "why {obj}", "cycles", "cycles {obj}",
    "retained --limit 100", "retained Node", "visits Node", "visits {obj}", "visits dict", "balance {obj}", "gc again",
    "leaks",
)  # fmt: skip


def refdbg(*words: str | Path, status: int = 0, stdin: str = "", **environment: str) -> str:
    """What `refdbg WORDS` prints."""
    done = subprocess.run(
        [*REFDBG, *map(str, words)], input=stdin, capture_output=True, text=True, check=False, cwd=ROOT, timeout=300,
        env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == status, done.stdout + done.stderr
    assert "internal error" not in done.stdout + done.stderr and "Traceback" not in done.stderr
    return done.stdout + done.stderr


def answers(address: str, *target: str | Path) -> dict[str, Any]:
    """What a target answers to all of ASKED, at one prompt. *address*: of the object that is asked about."""
    lines = "".join(f"{asked.format(obj=address)} --json\n" for asked in ASKED)
    rest = refdbg(*target, stdin=lines).strip()
    records = []
    while rest:
        record, end = json.JSONDecoder().raw_decode(rest)
        records.append(record)
        rest = rest[end:].lstrip()
    return dict(zip(ASKED, records))


class Stop:
    """One stop: what gdb answered, and the files that were written there."""

    def __init__(self, python: str, folder: Path) -> None:
        self.core, self.snapshot, self.silent = (folder / name for name in ("core", "s.refdbg", "silent.refdbg"))
        address, *answers = run_gdb(
            python, PROGRAM,
            ["output (long)obj", *(f"refdbg {asked.format(obj='obj')} --json" for asked in ASKED),
             f"gcore {self.core}", f"refdbg snapshot {self.snapshot}", f"refdbg snapshot --no-values {self.silent}"],
            folder=folder,
        )  # fmt: skip
        self.object = address.text
        self.live = {asked: answer.record for asked, answer in zip(ASKED, answers)}


@pytest.fixture(scope="module")
def stop(interpreter: str, tmp_path_factory: pytest.TempPathFactory) -> Stop:
    """The stop in builtin_ascii of tests/programs/recorded.py."""
    return Stop(interpreter, tmp_path_factory.mktemp("recorded"))


def _comparable(record: Any, asked: str) -> Any:
    if asked == "status":
        return {key: value for key, value in record.items() if key not in ("live", "debugger", "build_id")}
    return record


@pytest.mark.parametrize("kind", ["core", "snapshot"])
def test_a_file_answers_as_gdb_did(stop: Stop, kind: str) -> None:
    found = answers(stop.object, getattr(stop, kind))
    for asked in ASKED:
        assert _comparable(found[asked], asked) == _comparable(stop.live[asked], asked), asked


# A running process.


@pytest.fixture
def running(interpreter: str, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """The program, asleep."""
    code = PROGRAM.read_text().replace("ascii(argument)", "print(hex(id(argument)), flush=True); event.wait()")
    (tmp_path / "asleep.py").write_text(code)
    with subprocess.Popen([interpreter, tmp_path / "asleep.py"], stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def _state(pid: int) -> tuple[str, str]:
    status = Path(f"/proc/{pid}/status").read_text()
    return re.findall(r"State:\s+(\w)", status)[0], re.findall(r"TracerPid:\s+(\d+)", status)[0]


def test_a_process_answers_as_its_core_file(running: subprocess.Popen[str], tmp_path: Path) -> None:
    assert running.stdout is not None
    address = running.stdout.readline().strip()
    while _state(running.pid)[0] != "S":
        pass
    own = answers(address, "--pid", str(running.pid))
    assert _state(running.pid) == ("S", "0")
    subprocess.run(["gcore", "-o", tmp_path / "core", str(running.pid)], check=True, capture_output=True)
    core = answers(address, tmp_path / f"core.{running.pid}")
    assert own["objects Node --limit 100"]["total"] > 50
    for asked in ASKED:
        assert _comparable(own[asked], asked) == _comparable(core[asked], asked), asked


def test_an_interrupted_capture_lets_the_process_run(running: subprocess.Popen[str]) -> None:
    assert running.stdout is not None
    running.stdout.readline()
    interrupted = 0
    for delay in (0.02, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4):
        with subprocess.Popen([*REFDBG, "--pid", str(running.pid), "census"], cwd=ROOT, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL) as looking:
            time.sleep(delay)
            looking.send_signal(signal.SIGINT if delay < 0.3 else signal.SIGKILL)
            interrupted += looking.wait() != 0
        state, tracer = _state(running.pid)
        assert state in "RS" and tracer == "0"  # it may still be on its way to sleep again
    assert interrupted


def test_a_process_that_ends_meanwhile(python311: str) -> None:
    for delay in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6):
        code = f"keep = [[] for _ in range(200_000)]; import time; time.sleep({delay})"
        with subprocess.Popen([python311, "-c", code]) as process:
            done = subprocess.run([*REFDBG, "--pid", str(process.pid), "status"], capture_output=True, text=True,
                                  check=False, cwd=ROOT, timeout=100)
        assert done.returncode in (0, 2) and "Traceback" not in done.stderr + done.stdout
        assert done.returncode == 0 or done.stderr.startswith("refdbg: ")
    assert refdbg("--pid", str(process.pid), "status", status=2).startswith("refdbg: there is no process")


def test_a_guard_page(python311: str) -> None:
    """It is in the middle of what can be read, as below the stacks of threads of newer C libraries."""
    code = (
        "import ctypes, mmap\n"
        "kept = mmap.mmap(-1, 3 * 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS); kept[:] = b'x' * len(kept)\n"
        "start = ctypes.addressof(ctypes.c_char.from_buffer(kept))\n"
        "print(start, ctypes.CDLL(None).madvise(ctypes.c_void_p(start + 4096), 4096, 102), flush=True)\n"  # Linux 6.13
        "input()"
    )
    with subprocess.Popen([python311, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        start, failed = map(int, process.stdout.readline().split())
        if failed:
            pytest.skip("this kernel makes no guard pages")
        target = of_process(process.pid)
        assert target.memory.read(start, 4096) == target.memory.read(start + 8192, 4096) == b"x" * 4096
        assert "tracked" in refdbg("--pid", str(process.pid), "status")


def test_a_process_that_cannot_be_looked_at(running: subprocess.Popen[str]) -> None:
    assert running.stdout is not None
    running.stdout.readline()
    assert "there is no process 4194999" in refdbg("--pid", "4194999", "census", status=2)
    with subprocess.Popen(["sleep", "100"]) as other:
        assert "no symbol '_PyRuntime'" in refdbg("--pid", str(other.pid), "census", status=2)
        other.kill()
    with subprocess.Popen(["true"]) as zombie:
        while _state(zombie.pid)[0] != "Z":
            time.sleep(0.01)
        assert f"process {zombie.pid} has ended" in refdbg("--pid", str(zombie.pid), "census", status=2)
    assert "there is no process 0" in refdbg("--pid", "0", "census", status=2)
    with subprocess.Popen(["gdb", "-nx", "-q", "-p", str(running.pid)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True) as gdb:
        assert gdb.stdin is not None
        while _state(running.pid)[1] == "0":
            time.sleep(0.05)
        answer = refdbg("--pid", str(running.pid), "census", status=2)
        gdb.communicate("quit\n")
    assert f"process {running.pid} is being debugged by process {gdb.pid} (gdb)" in answer
    if os.geteuid() == 0:  # as somebody else
        nobody = [sys.executable, "-c", "import os, runpy, sys; os.setgid(65534); os.setuid(65534)\n"
                  f"sys.argv = ['refdbg', '--pid', '{running.pid}', 'census']\n"
                  "from refdbg.launch.shell import main; main()"]
        done = subprocess.run(nobody, capture_output=True, text=True, check=False, cwd=ROOT)
        assert done.returncode == 2
        assert "belongs to user 0, and you are user 65534" in done.stderr


def test_a_process_with_another_root(python311: str) -> None:
    """As in a container: its files are below /proc/PID/root, and elsewhere here."""
    if os.geteuid() != 0:
        pytest.skip("only root makes mount namespaces")
    script = f"mount -t tmpfs none /opt && mkdir -p /opt/inside && cp {python311} /opt/inside/python && " \
             "exec /opt/inside/python -c 'print(flush=True); input()'"
    home = subprocess.run([python311, "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True,
                          check=True).stdout.strip()
    with subprocess.Popen(["unshare", "-m", "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True, env={**os.environ, "PYTHONHOME": home}) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert not Path("/opt/inside/python").exists()
        status = json.loads(refdbg("--pid", str(process.pid), "status", "--json"))
        census = json.loads(refdbg("--pid", str(process.pid), "census", "--json"))
        process.communicate("\n")
    assert status["executable"] == "/opt/inside/python"
    assert census["objects"] > 1000


# Core files that are not as they should be.


@pytest.fixture(scope="module")
def core(python311: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A core file of Debian's python3.11-dbg."""
    folder = tmp_path_factory.mktemp("core")
    run_gdb(python311, PROGRAM, [f"gcore {folder}/core"], folder=folder)
    return folder / "core"


def test_compressed_and_cut(core: Path, python311: str, tmp_path: Path) -> None:
    whole = json.loads(refdbg(core, "census", "--json"))
    packed = tmp_path / "core.gz"
    for content in (gzip.compress(core.read_bytes(), 1), lzma.compress(core.read_bytes(), preset=0)):
        packed.write_bytes(content)
        assert json.loads(refdbg(packed, "census", "--json")) == whole
        damaged = bytearray(content)
        damaged[5000:5100] = bytes(100)
        packed.write_bytes(damaged)
        assert re.search("damaged|not a gzipped|CRC", refdbg(packed, "census", status=2), re.I)
    for magic, command in ((b"\x28\xb5\x2f\xfd", "zstd -d"), (b"\x04\x22\x4d\x18", "lz4 -d")):
        packed.write_bytes(magic + bytes(100))
        assert f"Decompress it first: `{command} {packed} " in refdbg(packed, "census", status=2)
    cut = tmp_path / "cut"
    cut.write_bytes(core.read_bytes()[: core.stat().st_size // 2])  # gdb's gcore writes the notes last
    assert "was cut short" in refdbg(cut, "census", status=2)


def test_the_kernels_core_file(interpreter: str, tmp_path: Path) -> None:
    core = kernel_core(interpreter, tmp_path)
    assert json.loads(refdbg(core, "objects", "Node", "--json"))["total"] == 50
    assert "os.abort()" in refdbg(core, "frames") or "in <module>" in refdbg(core, "frames")
    assert "No leak was found" in refdbg(core, "leaks")


def test_what_was_cut_off_holds_perhaps(python311: str, tmp_path: Path) -> None:
    core = kernel_core(python311, tmp_path)
    cut = tmp_path / "cut"
    cut.write_bytes(core.read_bytes()[: core.stat().st_size * 2 // 3])
    assert "cannot be read" in refdbg(cut, "census")
    answer = refdbg(cut, "leaks")
    assert "lost-reference" not in answer and "cannot be read" in answer


def test_a_core_file_of_something_else(core: Path, tmp_path: Path) -> None:
    assert "is no core file, but a program" in refdbg("/bin/ls", "census", status=2)
    assert "is another build than the process had" in refdbg(core, "/bin/ls", "census", status=2)
    assert "there is no program /nowhere/python" in refdbg(core, "/nowhere/python", "census", status=2)
    assert "is no core file" in refdbg(__file__, "census", status=2)
    assert "cannot read" in refdbg(tmp_path, "census", status=2)
    moved = tmp_path / "root"
    assert "Name it" in refdbg("--root", moved, core, "census", status=2)
    small = bytearray(core.read_bytes()[:4096])
    small[4] = 1  # EI_CLASS: ELFCLASS32
    (tmp_path / "small").write_bytes(small)
    assert "refdbg reads 64-bit processes" in refdbg(tmp_path / "small", "census", status=2)
    other = bytearray(core.read_bytes()[:4096])
    other[18:20] = struct.pack("<H", 243)  # e_machine: EM_RISCV
    (tmp_path / "other").write_bytes(other)
    assert "for RISCV" in refdbg(tmp_path / "other", "census", status=2)
    with subprocess.Popen(["sleep", "100"]) as process:
        subprocess.run(["gcore", "-o", tmp_path / "sleep", str(process.pid)], check=True, capture_output=True)
        process.kill()
    answer = refdbg(tmp_path / f"sleep.{process.pid}", "census", status=2)
    assert "no symbol '_PyRuntime'" in answer


PLANTED = """\
import sys
sys.path.insert(0, {folder!r})
import static_cache
entry = static_cache.lookup("name")
ascii(entry)
"""


def test_a_library_that_is_gone_or_another(python311: str, tmp_path: Path) -> None:
    library = tmp_path / "static_cache.so"
    shutil.copy(Path(extensions(python311), library.name), library)
    (tmp_path / "program.py").write_text(PLANTED.format(folder=str(tmp_path)))
    address, *_ = run_gdb(python311, tmp_path / "program.py", ["output (long)obj", f"gcore {tmp_path}/core"],
                          folder=tmp_path)
    asked = ("status", "census", f"why {address.text}", f"object {address.text}", f"balance {address.text}", "leaks",
             "frames", f"referrers {address.text}", "type dict", "gc again")

    def told(command: str) -> str:
        answer = refdbg(tmp_path / "core", *command.split())
        assert answer.count("cannot be read") <= 1, answer
        return answer

    for command in asked:
        assert "cannot be read" not in told(command)
    assert "C variable cache" in told(asked[2])
    shutil.copy(Path(extensions(python311), "control.so"), library)
    for command in asked:
        assert f"{library} is another build than the process had" in told(command)
    library.unlink()
    for command in asked:
        assert f"{library} cannot be read, so its C variables and functions have no names: No such" in told(command)
    # What its C variables hold is held, by memory without a name.
    assert "lost-reference" not in told("leaks --all")
    answers = on_core("gdb", python311, tmp_path / "core", [f"refdbg {each}" for each in asked], tmp_path)
    for answer in answers:
        assert "cannot be read" in answer.text, answer


def test_a_core_file_without_a_heap(python311: str, tmp_path: Path) -> None:
    with subprocess.Popen([python311, "-c", "print(flush=True); input()"], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        Path(f"/proc/{process.pid}/coredump_filter").write_text("0x10")
        subprocess.run(["gcore", "-o", tmp_path / "core", str(process.pid)], check=True, capture_output=True)
        process.kill()
    answer = refdbg(tmp_path / f"core.{process.pid}", "census", status=2)
    assert "no object can be seen" in answer and "coredump_filter" in answer


# Snapshots.


@pytest.fixture(scope="module")
def snapshots(core: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """With values, and without."""
    folder = tmp_path_factory.mktemp("snapshots")
    assert "anywhere" in refdbg(core, "snapshot", folder / "s.refdbg")
    assert "without the contents" in refdbg(core, "snapshot", folder / "silent.refdbg", "--no-values")
    return folder / "s.refdbg", folder / "silent.refdbg"


def test_a_snapshot_needs_nothing_else(snapshots: tuple[Path, Path], tmp_path: Path) -> None:
    """In a root folder that has this refdbg, a Python to run it, and no interpreter that it is of."""
    answer = refdbg(snapshots[0], "leaks")
    program = (
        "import builtins, io\nreal = builtins.open\n"
        "def guarded(path, *rest, **options):\n"
        "    assert 'python3.11d' not in str(path) and 'python3.11-dbg' not in str(path), path\n"
        "    return real(path, *rest, **options)\n"
        "builtins.open = io.open = guarded\n"
        f"import sys; sys.argv = ['refdbg', {str(snapshots[0])!r}, 'leaks']\n"
        "from refdbg.launch.shell import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.stdout == answer, done.stderr


def test_no_values(snapshots: tuple[Path, Path]) -> None:
    whole, silent = snapshots
    for file, there in ((whole, True), (silent, False)):
        with zipfile.ZipFile(file) as archive:
            memory = b"".join(archive.read(name) for name in archive.namelist() if name.startswith("memory/"))
        assert (b"nobody's business" in memory) is there
        assert (b"bytes of a secret" in memory) is there
        assert b"Node" in memory and b"recorded.py" in memory
    for command in ("census", "leaks", "frames --all", "gc again", "visits Node"):
        assert refdbg(whole, *command.split()) == refdbg(silent, *command.split())
    assert "'" + "*" * 8 in refdbg(silent, "retained")
    assert "without values" in refdbg(silent, "status") and "without values" not in refdbg(whole, "status")


def test_no_values_of_c_code(python311: str, tmp_path: Path) -> None:
    """The command line, wide text, byte buffers, files that are only mapped."""
    (tmp_path / "data").write_text("SECRET of a file " * 4096)
    code = (
        "import ctypes, io, mmap, sys\n"
        "secret = sys.argv[1]\n"
        "kept = [bytearray(secret, 'utf-8'), bytearray(secret, 'utf-16le'), ctypes.create_unicode_buffer(secret)]\n"
        "kept.append(io.StringIO(secret * 3)); kept[-1].read(1)\n"
        f"file = open({str(tmp_path / 'data')!r}, 'rb')\n"
        "kept.append(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))\n"
        "kept[-1][:]; kept.append(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)); kept[-1][:1] = b'x'\n"
        "print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([python311, "-c", code, "my SECRET password"], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        for name, option in (("whole", ()), ("silent", ("--no-values",))):
            refdbg("--pid", str(process.pid), "snapshot", tmp_path / name, *option)
        process.communicate(b"")
    for name, there in (("whole", True), ("silent", False)):
        with zipfile.ZipFile(tmp_path / name) as archive:
            memory = b"".join(archive.read(name) for name in archive.namelist() if name.startswith("memory/"))
        for encoding in ("utf-8", "utf-16le", "utf-32le"):
            assert ("SECRET password".encode(encoding) in memory) is there, (name, encoding)
        assert (b"SECRET of a file" in memory) is there


def test_damaged_snapshots(snapshots: tuple[Path, Path], tmp_path: Path) -> None:
    whole = snapshots[0]

    def changed(name: str, **index: Any) -> Path:
        with zipfile.ZipFile(whole) as old, zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as new:
            for member in old.namelist():
                data = old.read(member)
                if member == "snapshot.json":
                    data = json.dumps({**json.loads(data), **index}).encode()
                new.writestr(member, data)
        return tmp_path / name

    def refused(path: Path, *words: str) -> str:
        return refdbg(path, *(words or ("census",)), status=2)

    newer = refused(changed("newer.refdbg", format="refdbg-snapshot/2", refdbg="9.9"))
    assert "format refdbg-snapshot/2, written by refdbg 9.9" in newer and "update it" in newer
    assert "is no snapshot: its format is 'x/1'" in refused(changed("other.refdbg", format="x/1"))
    memory = json.loads(zipfile.ZipFile(whole).read("snapshot.json"))["memory"]
    bigger = [[start, size - 8, member] for start, size, member in memory]
    assert "not the" in refused(changed("bigger.refdbg", memory=bigger))
    assert "no sane size" in refused(changed("bomb.refdbg", memory=[[start, 1 << 40, m] for start, _, m in memory]))
    assert "is damaged" in refused(changed("strange.refdbg", memory=[1, 2]))
    assert "not in order" in refused(changed("order.refdbg", memory=memory[::-1]))
    assert "several parts" in refused(changed("again.refdbg", memory=[[s, n, memory[0][2]] for s, n, _ in memory]))
    files = json.loads(zipfile.ZipFile(whole).read("snapshot.json"))["files"]
    huge = {path: {**file, "size": 1 << 31} for path, file in files.items()}
    assert "no sane size" in refused(changed("huge.refdbg", files=huge))
    assert "is damaged" in refused(changed("without.refdbg", memory=[[s, n, "memory/none"] for s, n, _ in memory]))
    data = bytearray(whole.read_bytes())
    middle = len(data) // 5
    data[middle : middle + 4096] = os.urandom(4096)
    (tmp_path / "flipped.refdbg").write_bytes(data)
    assert "is damaged" in refused(tmp_path / "flipped.refdbg")
    (tmp_path / "cut.refdbg").write_bytes(whole.read_bytes()[: len(data) // 2])
    assert "is no snapshot, or is damaged" in refused(tmp_path / "cut.refdbg")
    (tmp_path / "empty.refdbg").write_bytes(b"")
    assert "is no snapshot, or is damaged" in refused(tmp_path / "empty.refdbg")
    with zipfile.ZipFile(tmp_path / "plain.zip", "w") as archive:
        archive.writestr("readme", "hello")
    assert "is a zip file, but no snapshot" in refused(tmp_path / "plain.zip")


def test_where_a_snapshot_cannot_go(core: Path, tmp_path: Path) -> None:
    assert "it is a folder" in refdbg(core, "snapshot", tmp_path, status=2)
    assert "No such file or directory" in refdbg(core, "snapshot", tmp_path / "none" / "s.refdbg", status=2)
    (tmp_path / "notes").write_text("mine")
    assert "exists and is no snapshot" in refdbg(core, "snapshot", tmp_path / "notes", status=2)
    assert (tmp_path / "notes").read_text() == "mine"


def test_growth(python311: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("class Node: pass\nkeep = [Node() for _ in range(50)]\nascii(1)\n"
                       "keep += [Node() for _ in range(30)]\ndel keep[:10]\nascii(2)\n")
    before, after = tmp_path / "before.refdbg", tmp_path / "after.refdbg"
    _, _, live, _ = run_gdb(
        python311, program,
        [f"refdbg snapshot {before}", "continue", f"refdbg growth {before} --json", f"refdbg snapshot {after}"],
        folder=tmp_path,
    )  # fmt: skip
    (row,) = [row for row in live.record["rows"] if row["type"] == "__main__.Node"]
    assert (row["before"], row["after"]) == (50, 70) and 20 <= row["new"] <= 30
    assert json.loads(refdbg(after, "growth", before, "--json")) == live.record
    assert json.loads(refdbg(before, "growth", before, "--json"))["rows"] == []
    assert "is no snapshot" in refdbg(after, "growth", __file__, status=2)
    assert "cannot read" in refdbg(after, "growth", tmp_path / "none", status=2)
    # Three moments: what each step has added.
    program.write_text("import gc\nclass Node: pass\nkeep = [[]]\n"
                       "for n in range(3):\n    gc.collect()\n    keep.append([Node()])\n    ascii(n)\n"
                       "    keep[0] = bytes(64 * n)\n")
    first, second, third = (tmp_path / f"{n}.refdbg" for n in range(3))
    _, _, _, _, live, _ = run_gdb(
        python311, program,
        [f"refdbg snapshot {first}", "continue", f"refdbg snapshot {second}", "continue",
         f"refdbg growth {first} {second} --json", f"refdbg snapshot {third}"],
        folder=tmp_path,
    )  # fmt: skip
    recurring = {row["type"]: row["objects"] for row in live.record["recurring"]}
    assert recurring["__main__.Node"] == 1
    assert "bytes" not in recurring  # each replaces the one before
    (finding,) = live.record["findings"]
    assert "['keep']" in finding["message"]
    assert json.loads(refdbg(third, "growth", first, second, "--json")) == live.record
    assert json.loads(refdbg("growth", first, second, third, "--json")) == live.record
    for words in (("growth", second, first), ("growth", second, first, third)):
        assert f"{second} is of a later moment" in refdbg(*words, status=2)


# The shell.


def test_the_prompt(core: Path) -> None:
    lines = "# a comment\n\nstatus\nrefdbg census --limit 1\nnonsense\nhelp why\nquit\nstatus\n"
    text = refdbg(core, stdin=lines)
    assert text.count("python      3.11") == 1 and "objects of" in text
    assert "there is no command 'nonsense'" in text and "usage: refdbg why" in text


def test_the_prompt_at_a_terminal(core: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.chdir(ROOT)
    terminal = Terminal([*REFDBG, str(core)])
    try:
        assert terminal.until(b"(refdbg) ")
        terminal.type("cens\t --limit 1\n")
        assert terminal.until(b"objects of") and terminal.until(b"(refdbg) ")
        terminal.type("objects __main__.Nod\t --limit 1\n")
        assert terminal.until(b"objects of type __main__.Node") and terminal.until(b"(refdbg) ")
        terminal.type("leaks --all\n")
        assert terminal.until(b"are garbage") and terminal.until(b"(refdbg) ")
        terminal.type("\4")
        assert os.waitpid(terminal.pid, 0)[1] == 0
    finally:
        with suppress(OSError):
            terminal.end()
    assert "leaks --all" in (tmp_path / "refdbg" / "history").read_text()


def test_what_runs_only_under_a_debugger(core: Path) -> None:
    for command in ("gc stop", "gc log"):
        assert "nothing runs here" in refdbg(core, *command.split(), status=2)
    assert "without a debugger" in refdbg(core, "object", "1 + f(x)", status=2)
    assert "`refdbg census` lists the types" in refdbg(core, "type", "dict[str]", status=2)
    assert "`refdbg objects TYPE` lists them" in refdbg(core, "object", "obj", status=2)
    done = subprocess.run([*REFDBG, core, "object", "obj", "--json"], capture_output=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout) == (2, b"") and done.stderr.startswith(b"refdbg: cannot evaluate")
    assert "<class 'dict'>" in refdbg(core, "object", "PyDict_Type") == refdbg(core, "object", "&PyDict_Type")


def test_advice_can_be_followed_where_nothing_runs(core: Path, python311: str, tmp_path: Path) -> None:
    """Neither without a debugger nor in one."""
    asked = ("gc unreachable", "gc film", "gc film &PyDict_Type --now", "gc film {0}", "gc log", "gc stop")
    listed = json.loads(refdbg(core, "objects", "Node", "--json"))["rows"]
    asked = tuple(command.format(hex(listed[0]["address"])) for command in asked)
    own = [refdbg(core, *command.split(), status=0 if "--now" in command else 2) for command in asked]
    for debugger in ("gdb", "lldb"):
        answers = on_core(debugger, python311, core, [f"refdbg {command}" for command in asked], tmp_path)
        own += [answer.text for answer in answers]
    assert "No collection examines it" in own.pop(2)
    for text in own:
        assert "`continue`" not in text and "Let the program run" not in text, text
        assert "refdbg gc again" in text or "gc film OBJ --now" in text or "No collection examines it" in text


def test_what_to_do_next(tmp_path: Path, python311: str) -> None:
    """What a finding advises can be typed where it was printed: at a stop, on its core file and snapshot."""
    files = [f"{tmp_path}/core", f"{tmp_path}/s.refdbg"]
    live, *_ = run_gdb(
        python311, PROGRAM.with_name("leaks_oracle.py"),
        ["refdbg leaks --all --json", f"gcore {files[0]}", f"refdbg snapshot {files[1]}"], [extensions(python311)],
        folder=tmp_path,
    )  # fmt: skip
    for file in files:
        assert json.loads(refdbg(file, "leaks", "--all", "--json")) == live.record
    found = {finding["verdict"]: finding for finding in live.record["findings"]}
    assert {"lost-reference", "missing-visit", "static-reference", "state-reference"} <= set(found)
    for verdict, finding in found.items():
        command, name, subject = finding["next"].split()
        assert command == "refdbg"
        assert name == {"lost-reference": "balance", "missing-visit": "visits"}.get(verdict, "why")
        answers = [refdbg(file, name, subject) for file in files]
        assert answers[0] == answers[1]
        expected = {"lost-reference": "nobody", "missing-visit": "forgotten_field.Pair"}.get(verdict)
        assert (expected or finding["subject"]["type"]) in answers[0], answers[0]
    assert "No leak was found" not in refdbg(files[0], "leaks", "--all", "--objects", "0")


def test_words_with_a_mistake(core: Path, python311: str, tmp_path: Path) -> None:
    asked = {
        "cencus": "there is no command 'cencus': did you mean 'census'?\n  `refdbg help` lists the commands.",
        "gc agian": "there is no command 'gc agian': did you mean 'gc again'?\n  `refdbg help gc` lists the commands.",
        "help leak": "there is no command 'leak': did you mean 'leaks'?",
        "xyz": "there is no command 'xyz'\n",
        "status --jsn": "status takes no '--jsn': did you mean '--json'?\n  usage: refdbg status",
        "gc again now": "gc again takes no 'now'\n  usage: refdbg gc again",
    }
    for command, told in asked.items():
        assert told in refdbg(core, *command.split(), status=2)
    for answer, told in zip(on_core("gdb", python311, core, [f"refdbg {each}" for each in asked], tmp_path),
                            asked.values()):
        assert told in answer.text
    # An unknown subcommand lldb refuses itself, with its own words.
    (answer,) = on_core("lldb", python311, core, ["refdbg status --jsn"], tmp_path)
    assert asked["status --jsn"] in answer.text


def test_words_that_mean_nothing(core: Path) -> None:
    assert "'census' needs a process" in refdbg("census", status=2)
    assert "there is no file nosuch" in refdbg("nosuch", "census", status=2)
    assert "usage: refdbg CORE" in refdbg()
    assert "invalid int value" in refdbg("--pid", "x", "census", status=2)
    assert "there is no option --pids: did you mean '--pid'?" in refdbg("--pids", "3", "census", status=2)
    assert "--root stands before everything else" in refdbg(core, "--root", "/", "census", status=2)
    assert "there is no command 'nosuch'" in refdbg("help", "nosuch", status=2)
    assert "cannot read /proc/self/mem: Input/output error" in refdbg("/proc/self/mem", "census", status=2)
