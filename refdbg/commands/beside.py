"""A command on a large heap is answered by a process beside the debugger: numpy cannot be imported inside one."""

from __future__ import annotations

import os
import pickle
import subprocess
from collections.abc import Sequence
from typing import Any

from refdbg.cpython.heap import data_size
from refdbg.dependencies import ROOT, own_python
from refdbg.target import Session

_LARGE = 32 << 20  # bytes of data: below, the debugger has answered before the other process has begun
_MAIN = f"import sys; sys.path.insert(0, {ROOT!r}); from refdbg.launch.beside import main; main()"
_GIVES_BACK = {"MALLOC_MMAP_THRESHOLD_": str(1 << 20)}  # large columns go back to the kernel at once (mallopt(3))


def answered_beside(session: Session, words: Sequence[str]) -> Any:
    """The record that the command is answered with, None where the debugger itself must answer: the heap is small, only
    the debugger can read it, there is no numpy, or the other process could not answer.
    """
    target, python = session.target(), own_python()
    handed = target.handed() if python else None
    if handed is None or data_size(target) < _LARGE:
        return None
    with subprocess.Popen(
        [python, "-I", "-c", _MAIN], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        pass_fds=[handed.memory] if handed.memory >= 0 else [], env={**os.environ, **_GIVES_BACK},
    ) as process:  # fmt: skip
        try:
            told, _ = process.communicate(pickle.dumps((handed, list(words)), protocol=4))
        except BaseException:
            process.kill()
            raise
    if process.returncode == 0:
        return pickle.loads(told)
    if process.returncode in (-2, 130):
        raise KeyboardInterrupt
    session.on_error(
        f"the process that was to answer ended with {process.returncode}; answered by the debugger instead, slower"
    )
    return None
