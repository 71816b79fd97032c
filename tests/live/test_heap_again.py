"""The objects of a process that is looked at again and again: what is the same on a page is not read twice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from refdbg.cpython.heap import Pages
from refdbg.cpython.runtime import RUNTIME, Build
from refdbg.cpython.stop import Stop
from refdbg.target import snapshot
from tests.support.run import ENVIRONMENT

STEPS = """
import sys
class Thing: pass
kept = [[Thing() for _ in range(number % 50)] for number in range(2000)]
buffers = [bytearray(5000 + number) for number in range(50)]
kinds = [type(f"Kind{number}", (), {}) for number in range(50)]
for line in sys.stdin:
    step = int(line)
    del kept[step::7], buffers[step::3], kinds[step::5]
    kept.append([type(f"New{step}", (dict,), {})() for _ in range(100)])
    buffers[0] += bytes(100_000)
    print(line, end="", flush=True)
"""


REFDBG = [sys.executable, "-c", "from refdbg.launch.shell import main; main()"]


def test_the_next_scan_finds_what_is_there(python311: str, tmp_path: Path) -> None:
    pages = Pages()
    with subprocess.Popen(
        [python311, "-c", STEPS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as program:
        assert program.stdin is not None and program.stdout is not None
        lengths = set()
        for step in range(4):
            print(step, file=program.stdin, flush=True)
            assert program.stdout.readline() == f"{step}\n"
            file = tmp_path / f"{step}.refdbg"
            subprocess.run([*REFDBG, "--pid", str(program.pid), "snapshot", str(file)], check=True, capture_output=True)
            builds = [Build(snapshot.opened(str(file), RUNTIME)) for _ in range(2)]
            builds[1].pages = pages
            whole, again = (Stop(build).heap for build in builds)
            assert again.objects == whole.objects
            assert again.blocks == whole.blocks
            assert again.rows == whole.rows
            lengths.add(len(whole.objects))
        assert len(lengths) == 4
        assert min(lengths) > 30_000
