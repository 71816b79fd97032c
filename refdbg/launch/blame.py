"""`refdbg-run --blame`: the same run twice, at the same addresses: which object, then who counts it."""

from __future__ import annotations

import ctypes
import os
import signal
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

_ADDR_NO_RANDOMIZE, _ASK = 0x0040000, 0xFFFFFFFF  # personality(2)
# What makes a run repeatable, unless the user has said otherwise: hashes decide the order of sets and when tables grow,
# and the first run must not leave .pyc files for the second.
_REPEATABLE = {b"PYTHONHASHSEED": b"0", b"PYTHONDONTWRITEBYTECODE": b"1"}

Once = Callable[[dict[str, Any], dict[bytes, bytes]], "tuple[int, dict[str, Any]]"]


class Refused(Exception):
    """Nothing was run."""


def run_twice(once: Once, wanted: str, folder: str) -> tuple[int, dict[str, Any]]:
    """The first run's wait status, and its report with what the second has shown. Raises Refused.

    *once(orders, environment)* runs the program, with variables that it has anyway or these; *wanted*: a type, a
    signature or an address.
    """
    if wanted.startswith("0x"):
        try:
            address = int(wanted, 16)
        except ValueError:
            address = 0
        if address % 8 or not 1 << 12 <= address < 1 << 47:
            raise Refused(f"--blame {wanted}: no object can have this address")
    _fix_addresses()
    places = {number: _place(number) for number in (0, 1, 2)}
    status, report = once({"blame": {"wanted": wanted}}, _REPEATABLE)
    blame = report.get("blame")
    layout = blame.pop("layout") if blame else None
    if not blame or blame["error"]:
        return status, report
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGINT:
        blame["error"] = f"--blame {wanted}: run one was interrupted, and there is no run two"
        return status, report
    with _as_before(places, folder):
        victim = {"object": blame["object"], "layout": layout}
        second_status, second = once({"blame": {"victim": victim}}, _REPEATABLE)
    if "error" in second:
        blame["error"] = f"run two: {second['error']}"
        return status, report
    blame["result"] = second["blame"]["result"]
    blame["notes"] += second["blame"]["notes"]
    if second_status != status:
        blame["notes"].append(f"run two ended otherwise than run one: wait status {second_status}, not {status}")
    return status, report


def _fix_addresses() -> None:
    # Of all that we start from now on.
    libc = ctypes.CDLL(None, use_errno=True)
    now = libc.personality(ctypes.c_ulong(_ASK))
    if now & _ADDR_NO_RANDOMIZE or libc.personality(ctypes.c_ulong(now | _ADDR_NO_RANDOMIZE)) != -1:
        return
    raise Refused(
        f"--blame needs two runs at the same addresses, and personality(ADDR_NO_RANDOMIZE) fails here "
        f"({os.strerror(ctypes.get_errno())}); in Docker: --security-opt seccomp=unconfined"
    )


def _place(number: int) -> int | None:
    # Of a descriptor in its file, None where it is none.
    try:
        return os.lseek(number, 0, os.SEEK_CUR)
    except OSError:
        return None


@contextmanager
def _as_before(places: dict[int, int | None], folder: str) -> Iterator[None]:
    # Standard input as it was for the first run, where it is a file. Output goes to the same kind of file, as buffers
    # depend on it, not to the same one. A terminal cannot be replaced.
    if places[0] is not None:
        with suppress(OSError):
            os.lseek(0, places[0], os.SEEK_SET)
    kept: list[tuple[int, int]] = []
    try:
        for number in (1, 2):
            try:
                mode = os.fstat(number).st_mode
            except OSError:
                continue
            if stat.S_ISREG(mode):
                sink = os.open(os.path.join(folder, f"second-{number}"), os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
                os.lseek(sink, places[number] or 0, os.SEEK_SET)
            elif stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
                source, sink = os.pipe()
                _drain(source, sink)
            else:
                continue
            kept.append((number, os.dup(number)))
            os.dup2(sink, number)
            os.close(sink)
        yield
    finally:
        for number, own in kept:
            os.dup2(own, number)
            os.close(own)


def _drain(source: int, sink: int) -> None:
    # By a process that reads until nobody writes any more.
    if os.fork() == 0:
        try:
            os.closerange(0, 3)
            os.close(sink)
            while os.read(source, 1 << 16):
                pass
        finally:
            os._exit(0)
    os.close(source)
