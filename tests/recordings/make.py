"""Records a process of an interpreter that only few machines have, small enough to be kept: ``NAME.refdbg``, and beside
it ``NAME.json``, what the program under test has said of itself.

    python -m tests.recordings.make PYTHON NAME
    python -m tests.recordings.make --sid           the debug builds of the root that tests/support/sid.py makes

A recording is a snapshot without machine code and without debug info: it has all memory that the process has written,
and of the rest the pages that were read while the commands of `asked` were answered. What is not in it cannot be read,
so that commands that run code of the interpreter in an emulator say that they cannot.

The interpreter's path is in the recording. So that it tells nothing of this machine, give it another one:

    unshare --mount sh -c 'mount --bind BUILD /mnt; exec python -m tests.recordings.make /mnt/build/python NAME'
"""

from __future__ import annotations

import ast
import io
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO

from refdbg import __version__
from refdbg.commands import run
from refdbg.cpython.runtime import RUNTIME
from refdbg.dependencies import elftools
from refdbg.launch.session import RecordedSession
from refdbg.target import TargetInfo
from refdbg.target.attach import Copy
from refdbg.target.memory import PAGE, Region
from refdbg.target.pages import to_copy
from refdbg.target.recorded import RecordedTarget

HERE = Path(__file__).absolute().parent
PROGRAM = HERE.parent / "programs" / "structures.py"
# Where the program is while it runs: its path is in the recording, this checkout's is not.
FOLDER = Path("/tmp/refdbg-recording")
OPTIONS = ("-S", "-I", "-E", "-X", f"pycache_prefix={FOLDER}/cache")
LARGEST = 1_500_000
_PIECE = 1 << 20
_SCANNED = 16 * PAGE  # what is read in larger pieces is looked through for addresses: what a file has are none


def asked(truth: dict[str, Any]) -> list[str]:
    """The commands that a recording answers."""
    addresses = [row[0] for row in truth["objects"]]
    commands = ["status", "census --limit 1000", "census --tracked --limit 1000", "objects Node --limit 1000",
                "frames --all --locals", "frames --suspended --locals", "type Slotted", "type Node", "type Kept",
                "referrers", "balance", "why"]
    commands[-3:] = [f"{command} {truth[name]}" for command in commands[-3:] for name in ("kept", "called")]
    for command in ("object", "referents", "balance"):
        commands += [f"{command} {address}" for address in addresses]
    return [*commands, *(f"object {address}" for address in truth["plain"])]


class Session(RecordedSession):
    """Keeps what the commands print."""

    def __init__(self, target: RecordedTarget) -> None:
        super().__init__(target)
        self._printed = _Printed()
        self.console = self._printed

    def answer(self, command: str) -> Any:
        """The record of a command. Raises AssertionError with its refusal."""
        assert run(self, f"{command} --json") == 0, self._printed.text
        return json.loads(self._printed.text)


class _Printed:
    width, colour = 120, False
    text = ""

    def write(self, text: str) -> None:
        self.text = text

    def refuse(self, text: str) -> None:
        self.text = text


class _Watched:
    """A copy of a process without its code, and what was read of its files and of what it cannot write."""

    def __init__(self, copy: Copy) -> None:
        self.copy = copy
        self.pages: set[int] = set()
        self.parts: dict[str, set[tuple[int, int]]] = {}
        self._code = [(region.start, region.end) for region in copy.regions() if region.executable]

    def read_some(self, address: int, size: int) -> bytes:
        for start, end in self._code:
            if start <= address < end:
                return b""
            if address < start < address + size:
                size = start - address
        if size <= _SCANNED:
            self.pages.update(range(address // PAGE, (address + size - 1) // PAGE + 1))
        return self.copy.read_some(address, size)

    def regions(self) -> Sequence[Region]:
        return self.copy.regions()

    def resident(self, start: int, end: int) -> Sequence[tuple[int, int]]:
        return self.copy.resident(start, end)

    def open(self, path: str) -> BinaryIO:
        if path.endswith(".debug"):
            raise FileNotFoundError(path)
        return _Noted(self.copy.open(path), self.parts.setdefault(path, set()))


class _Noted(io.RawIOBase, BinaryIO):
    """A file that notes which of its bytes were read."""

    def __init__(self, file: BinaryIO, parts: set[tuple[int, int]]) -> None:
        self._file, self._parts = file, parts

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int = -1) -> bytes:
        start = self._file.tell()
        data = self._file.read(size)
        if data:
            self._parts.add((start, len(data)))
        return data


def told(python: str) -> tuple[_Watched, dict[str, Any]]:
    """The copy of a process that has told the truth about itself, and that truth."""
    FOLDER.mkdir()
    try:
        program = FOLDER / "program.py"
        shutil.copy(PROGRAM, program)
        subprocess.run([python, *OPTIONS, "-c", ""], env={}, cwd=FOLDER, check=True)  # nothing is compiled any more
        process = subprocess.Popen([python, *OPTIONS, str(program)], stdout=subprocess.PIPE, env={}, cwd=FOLDER)
        assert process.stdout is not None
        truth, tracked = (ast.literal_eval(process.stdout.readline().decode()) for _ in range(2))
        try:
            while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "S":
                time.sleep(0.01)
            return _Watched(Copy(process.pid)), {**truth, "tracked": tracked}
        finally:
            process.kill()
            process.wait()
    finally:
        shutil.rmtree(FOLDER)


def record(python: str, name: str) -> None:
    """Writes the recording, and what the program said, beside this file."""
    source, truth = told(python)
    truth = json.loads(json.dumps(truth))
    info = TargetInfo(source.copy.executable, None, False, "a copy of the running process", "")
    target = RecordedTarget(info, source, source.copy.threads, RUNTIME)
    session = Session(target)
    for library in target.images().loaded():
        assert library.build_id
    for command in asked(truth):
        session.answer(command)
    recording = HERE / f"{name}.refdbg"
    _write(recording, source, target)
    (HERE / f"{name}.json").write_text(json.dumps(truth, indent=0) + "\n")
    check(recording)
    print(f"{recording}: {recording.stat().st_size} bytes")


def _write(path: Path, source: _Watched, target: RecordedTarget) -> None:
    # See refdbg/target/snapshot.py.
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        memory: list[tuple[int, int, str]] = []
        files: dict[str, Any] = {}
        for start, data in _memory(source):
            for at in range(0, len(data), _PIECE):
                piece, member = data[at : at + _PIECE], f"memory/{len(memory):06}"
                archive.writestr(member, piece)
                memory.append((start + at, len(piece), member))
        for number, (name, spans) in enumerate(source.parts.items()):
            with source.copy.open(name) as file:
                parts = [(offset, data, f"files/{number:03}{index:03}") for index, (offset, data) in
                         enumerate(_parts(file, spans))]
                size = file.seek(0, io.SEEK_END)
            for _, data, member in parts:
                archive.writestr(member, data)
            files[name] = {"size": size, "parts": [(offset, len(data), member) for offset, data, member in parts]}
        archive.writestr("snapshot.json", json.dumps({
            "format": "refdbg-snapshot/1", "refdbg": __version__, "taken": time.time(), "values": True,
            "target": {"executable": target.info.executable, "pid": None, "debugger": target.info.debugger,
                       "build_id": ""},
            "threads": [[each.id, each.stack_pointer, each.thread_pointer] for each in target.threads()],
            "regions": [
                [region.start, region.end, "".join(
                    letter for letter, on in zip("rwx", (region.readable, region.writable, region.executable)) if on
                ), region.path, region.file_offset] for region in _regions(source)
            ],
            "memory": memory, "files": files,
            "answers": {library.path: library.answers.record() for library in target.images().loaded()},
        }))


def _regions(source: _Watched) -> Iterator[Region]:
    # Pages that are left out are not readable here, instead of zeros.
    copied = to_copy(source.regions())
    for region in source.regions():
        if region not in copied or region.writable or not region.path:
            yield region
            continue
        with source.copy.open(region.path) as file:
            file.seek(region.file_offset)
            same = file.read(region.end - region.start)
        now = source.copy.read_some(region.start, region.end - region.start)
        places = range(0, region.end - region.start, PAGE)
        kept = {at for at in places if (region.start + at) // PAGE in source.pages or
                same[at : at + PAGE] != now[at : at + PAGE]}
        for is_there, pages in groupby(places, kept.__contains__):
            first, *rest = pages
            last = rest[-1] if rest else first
            yield Region(region.start + first, region.start + last + PAGE, is_there, False, False, region.path,
                         region.file_offset + first)


def _memory(source: _Watched) -> Iterator[tuple[int, bytes]]:
    for region in to_copy(_regions(source)):
        for low, high in source.resident(region.start, region.end):
            yield low, source.copy.read_some(low, high - low)


def _parts(file: BinaryIO, spans: set[tuple[int, int]]) -> Iterator[tuple[int, bytes]]:
    # What was read of it, merged, without its debug info: there is none of that in the table of sections either.
    elf = elftools.ELFFile(file)
    sections = enumerate(elf.iter_sections())
    debug = [(number, section) for number, section in sections if section.name.startswith(".debug_")]
    left_out = [(section["sh_offset"], section["sh_offset"] + section["sh_size"]) for _, section in debug]
    whole: list[list[int]] = []
    for start, size in sorted(spans):
        if any(low <= start < high for low, high in left_out):
            continue
        if whole and start <= whole[-1][1]:
            whole[-1][1] = max(whole[-1][1], start + size)
        else:
            whole.append([start, start + size])
    for start, end in whole:
        file.seek(start)
        data = bytearray(file.read(end - start))
        for number, _ in debug:
            entry = elf["e_shoff"] + number * elf["e_shentsize"] - start
            if 0 <= entry < len(data):
                data[entry : entry + elf["e_shentsize"]] = bytes(elf["e_shentsize"])
        yield start, bytes(data)


def code_in(recording: Path) -> Iterator[str]:
    """What of a recording is machine code, by address or by file: nothing."""
    with zipfile.ZipFile(recording) as archive:
        index = json.loads(archive.read("snapshot.json"))
        code = [(start, end) for start, end, flags, _, _ in index["regions"] if "x" in flags]
        for start, size, _ in index["memory"]:
            if any(low < start + size and start < high for low, high in code):
                yield f"memory at {start:#x}"
        for path, file in index["files"].items():
            whole = bytearray(file["size"])
            for offset, _, member in file["parts"]:
                data = archive.read(member)
                whole[offset : offset + len(data)] = data
            segments = [
                (segment["p_offset"], segment["p_offset"] + segment["p_filesz"])
                for segment in elftools.ELFFile(io.BytesIO(whole)).iter_segments() if segment["p_flags"] & 1
            ]
            for offset, size, _ in file["parts"]:
                if any(low < offset + size and offset < high for low, high in segments):
                    yield f"{path} at {offset:#x}"


def check(recording: Path) -> None:
    """Raises AssertionError for a recording that is not to be kept."""
    found = list(code_in(recording))
    assert not found, f"machine code: {found}"
    assert recording.stat().st_size <= LARGEST, f"{recording} is too large: {recording.stat().st_size} bytes"
    home = str(Path.home()).encode()
    with zipfile.ZipFile(recording) as archive:
        for name in archive.namelist():
            data = archive.read(name)
            for path in (home, str(PROGRAM.parents[2]).encode()):
                assert path + b"/" not in data, f"{name} has a path of this machine: {data[data.find(path):][:80]!r}"


def record_sid() -> None:
    """The same in the root of Debian sid, by each of its interpreters itself."""
    from tests.support import sid  # needs what is not there

    root = sid.provide()
    for python in sid.PYTHONS:
        subprocess.run(
            [*sid.inside(root), python, "-W", "ignore", "-m", "tests.recordings.make", f"/usr/bin/{python}",
             python[len("python") :].partition("-")[0]],
            check=True, env={**os.environ, "PYTHONPATH": str(HERE.parents[1]), "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip


if __name__ == "__main__":
    record_sid() if sys.argv[1:] == ["--sid"] else record(*sys.argv[1:])
