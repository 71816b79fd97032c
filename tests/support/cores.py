"""Core files that the kernel writes."""

from __future__ import annotations

import re
import resource
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.run import ENVIRONMENT


def kernel_core(python: str, folder: Path) -> Path:
    """The kernel's core file of a program with 50 `Node` that has aborted; skips where there is none."""
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    if not re.fullmatch(r"[\w.%]+", pattern):
        pytest.skip(f"core files go elsewhere here: {pattern}")
    code = "class Node: pass\nkeep = [Node() for _ in range(50)]\nimport os; os.abort()"
    done = subprocess.run(
        [python, "-c", code], cwd=folder, env=ENVIRONMENT, check=False, stderr=subprocess.DEVNULL,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2),
    )
    assert done.returncode == -signal.SIGABRT
    found = list(folder.glob("core*"))
    if not found:
        pytest.skip("the kernel writes no core file here")
    return found[0]
