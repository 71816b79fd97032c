"""The cache of layouts: a warm answer is the cold one and opens no debug info; a cache that is not right is ignored."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from refdbg.target.elf import Library
from tests.conftest import python_of
from tests.live.test_recorded import ASKED, PROGRAM, REFDBG, ROOT, refdbg
from tests.support.debugger import run_gdb

# refdbg that cannot read debug info.
BLIND = """\
from elftools.elf.elffile import ELFFile
def refuse(*arguments, **options):
    raise AssertionError("the debug info was opened")
ELFFile.get_dwarf_info = refuse
from refdbg.launch.shell import main
main()
"""


@pytest.fixture(scope="module", params=["3.9-debug", "3.13-debug"])
def stop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A core file, and the address of an object in it."""
    folder = tmp_path_factory.mktemp("cache")
    commands = ["output (long)obj", f"gcore {folder}/core"]
    address, *_ = run_gdb(python_of(request.param), PROGRAM, commands, folder=folder)
    return folder / "core", address.text


def _asked(stop: tuple[Path, str], cache: Path, program: list[str] = REFDBG) -> str:
    lines = "".join(f"{asked.format(obj=stop[1])} --json\n" for asked in ASKED)
    done = subprocess.run(
        [*program, stop[0]], input=lines, capture_output=True, text=True, check=False, cwd=ROOT, timeout=300,
        env={**os.environ, "XDG_CACHE_HOME": str(cache)},
    )  # fmt: skip
    assert done.returncode == 0 and "internal error" not in done.stdout + done.stderr, done.stdout[-2000:] + done.stderr
    return done.stdout


def test_warm_answers(stop: tuple[Path, str], tmp_path: Path) -> None:
    cold = _asked(stop, tmp_path)
    kept = {path.name: path.read_bytes() for path in (tmp_path / "refdbg" / "layouts").iterdir()}
    assert kept and all(name.endswith(".json") for name in kept)
    blind = [sys.executable, "-c", BLIND]
    assert _asked(stop, tmp_path, blind) == cold
    assert {path.name: path.read_bytes() for path in (tmp_path / "refdbg" / "layouts").iterdir()} == kept
    done = subprocess.run(  # without the cache it would have needed it
        [*blind, stop[0], "status"], capture_output=True, text=True, check=False, cwd=ROOT,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "empty")},
    )  # fmt: skip
    assert "the debug info was opened" in done.stdout + done.stderr


@pytest.fixture(scope="module")
def core(python311: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A core file of Debian's python3.11-dbg."""
    folder = tmp_path_factory.mktemp("core")
    run_gdb(python311, PROGRAM, [f"gcore {folder}/core"], folder=folder)
    return folder / "core"


def _resealed(content: bytes, change: Callable[[dict], object]) -> bytes:  # type: ignore[type-arg]
    # With a right checksum: somebody's own work.
    header, _, text = content.partition(b"\n")
    kept = json.loads(text)
    change(kept)
    text = json.dumps(kept).encode()
    return b" ".join([*header.split(b" ")[:-1], hashlib.sha256(text).hexdigest().encode()]) + b"\n" + text


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "one digit": lambda content: content.replace(b"[896, 8,", b"[897, 8,", 1),
    "other format": lambda content: content.replace(b"refdbg-layouts/1 ", b"refdbg-layouts/999 ", 1),
    "other version": lambda content: content.replace(b" 0", b" 99.0", 1),
    "other build": lambda content: content.replace(content.split(b" ")[2], b"0123456789abcdef", 1),
    "pickle": lambda content: b"\x80\x04cposix\nsystem\n(Vexit 1\ntR.",
    "deep": lambda content: content.partition(b"\n")[0] + b"\n" + b"[" * 200_000,
    "no questions": lambda content: _resealed(content, dict.clear),
    "numbers for structs": lambda content: _resealed(content, lambda kept: kept["structs"].update(pyruntimestate=3)),
    "no members": lambda content: _resealed(content, lambda kept: kept.update(
        structs={key: ["x", 8, {"ob_type": [1, 2]}] for key in kept["structs"]})),
}  # fmt: skip


def test_a_cache_that_is_not_right(core: Path, tmp_path: Path) -> None:
    def status() -> str:
        return refdbg(core, "census", XDG_CACHE_HOME=str(tmp_path))

    right = status()
    (place,) = [path for path in (tmp_path / "refdbg" / "layouts").iterdir() if path.stat().st_size > 2000]
    whole = place.read_bytes()
    for what, change in DAMAGE.items():
        assert change(whole) != whole, what
        place.write_bytes(change(whole))
        assert status() == right, what
        if what != "numbers for structs":  # of a struct that nobody asks for
            assert place.read_bytes() == whole, what
    place.unlink()
    place.mkdir()
    assert status() == right
    assert status() == right and not list(place.iterdir())
    for nowhere in ("/dev/null", "/proc/nowhere"):
        assert refdbg(core, "census", XDG_CACHE_HOME=nowhere) == right


def test_what_is_not_kept(core: Path, python311: str, tmp_path: Path) -> None:
    """A file without a build id, and what a snapshot says of itself."""
    shutil.copy(os.path.realpath(python311), tmp_path / "python")
    subprocess.run(["objcopy", "--remove-section=.note.gnu.build-id", tmp_path / "python"], check=True)
    run_gdb(str(tmp_path / "python"), PROGRAM, [f"gcore {tmp_path}/anonymous"], folder=tmp_path)
    refdbg(tmp_path / "anonymous", "status", XDG_CACHE_HOME=str(tmp_path / "cache"))
    refdbg(core, "snapshot", tmp_path / "s.refdbg", XDG_CACHE_HOME=str(tmp_path / "cache"))
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    refdbg(tmp_path / "s.refdbg", "census", XDG_CACHE_HOME=str(tmp_path / "cache"))
    refdbg(tmp_path / "anonymous", "status", XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert not (tmp_path / "cache").exists()


def opened(path: str) -> BinaryIO:
    """A file of this machine."""
    return open(path, "rb")


def test_debug_info_that_is_installed_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stripped file has the build id of the whole one: that it says nothing is not kept, and what that says is."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "own.c").write_text("struct own { long n; } it;\n")
    subprocess.run(["gcc", "-g", "-shared", "-fPIC", "-Wl,--build-id", "-o", tmp_path / "own.so", tmp_path / "own.c"],
                   check=True)  # fmt: skip
    subprocess.run(["strip", "-g", "-o", tmp_path / "stripped.so", tmp_path / "own.so"], check=True)

    def size(name: str) -> int | None:
        library = Library(str(tmp_path / name), 0, opened, cached=True)
        layout = library.answers.layout("own")
        library.answers.keep()
        return layout.size if layout is not None else None

    assert [size("stripped.so"), size("own.so"), size("stripped.so")] == [None, 8, 8]
    assert len(list((tmp_path / "refdbg" / "layouts").iterdir())) == 1  # and no temporary file


def test_what_other_files_say_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A struct that this file only declares, another one describes: that one may be another one tomorrow."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "user.c").write_text(
        "struct opaque; struct own { struct opaque *other; long n; };\n"
        "long open_(struct own *p) { return p->n; }\nlong closed(struct opaque *p) { return (long)p; }\n"
    )
    (tmp_path / "owner.c").write_text("struct opaque { long first, second; } it;\n")
    for name in ("user", "owner"):
        subprocess.run(["gcc", "-g", "-shared", "-fPIC", "-Wl,--build-id", "-o", tmp_path / f"{name}.so",
                        tmp_path / f"{name}.c"], check=True)  # fmt: skip

    owner = Library(str(tmp_path / "owner.so"), 0, opened)

    def asked(with_owner: bool) -> list[object]:
        user = Library(str(tmp_path / "user.so"), 0, opened,
                       owner.debug.type_named if with_owner else lambda tag: None, cached=True)  # fmt: skip
        found = [user.answers.pointers_of(user.addresses[name], name) for name in ("open_", "closed")]
        told = [[(each.size, each.heads, each.pointers()) for each in structs] for structs in found]
        user.answers.keep()
        return [told, user.answers.layout("own"), user.answers.layout("nothing")]

    alone, together = asked(False), asked(True)
    assert alone[0][1] == [] and together[0][1][0][:2] == (16, ("opaque",))  # type: ignore[index]
    assert asked(False) == alone and asked(True) == together
    assert alone[1:] == together[1:]
