"""`python -m tests.bench.batch`: what refdbg-triage costs beside its jobs, sums and pages."""

from __future__ import annotations

import json
import resource
import shutil
import tempfile
from pathlib import Path
from typing import Any

from tabulate import tabulate

from refdbg.launch.triage.folder import Shard, made
from refdbg.launch.triage.jobs import Job
from tests.support.browser import Browser
from tests.support.run import run
from tests.support.triage import results, triage

PROGRAMS = Path(__file__).parents[1] / "programs"
JOBS, RESULTS, OBJECTS = 8, 10_000, 50_000


def _cpu() -> float:
    # Of the children that were waited for, in seconds.
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def jobs_row(folder: Path) -> list[Any]:
    """The CPU time of a triage without that of its refdbg-runs, per job."""
    file = folder / "jobs.toml"
    file.write_text('[interpreters]\ntrue = "true"\n[defaults]\narguments = []\n' + "".join(
        f'[[job]]\nname = "job{n}"\n' for n in range(JOBS)
    ))  # fmt: skip
    before = _cpu()
    triage(file, folder=folder / "jobs")
    whole = _cpu() - before
    own = whole - sum(result["cpu_seconds"] for result in results(folder / "jobs").values())
    return [f"refdbg-triage beside {JOBS} jobs that are over at once, per job", f"{own / JOBS:.3f}", "≤ 0.2"]


def summary_row(python: str, folder: Path) -> list[Any]:
    """The CPU time of a summary; the results are copies of a real one."""
    file = folder / "one.toml"
    file.write_text(
        f'[interpreters]\none = "{python}"\n[[job]]\nname = "decimal"\narguments = ["-c", "import decimal"]\n'
    )
    triage(file, folder=folder / "one")
    (real,) = results(folder / "one").values()
    many = made(str(folder / "many"), (
        Job(f"job{n}", "one", python, (), (), {}, None, 10.0, None) for n in range(RESULTS)
    ), "/", Shard(1, 1))  # fmt: skip
    for n in range(RESULTS):
        place = Path(many.of(f"job{n}@one"))
        place.mkdir()
        (place / "result.json").write_text(json.dumps({**real, "key": place.name}))
    before = _cpu()
    summed = triage("summary", folder / "many").summary
    assert len(summed["rows"]) == RESULTS
    return [f"refdbg-triage summary of {RESULTS:,} results", f"{_cpu() - before:.1f}", "≤ 10"]


def page_row(python: str, folder: Path) -> list[Any]:
    """The time until the page of a report is loaded, in Chromium."""
    page = folder / "many.html"
    run([python, PROGRAMS / "many_left.py", str(OBJECTS)], ["--html", str(page), "--objects", "200000"])
    browser = Browser()
    browser.open(page)
    seconds = browser.run("performance.getEntriesByType('navigation')[0].loadEventEnd") / 1000
    browser.close()
    size = f"{page.stat().st_size >> 10:,} KiB"
    return [f"the page on {2 * OBJECTS:,} objects left over, {size}", f"{seconds:.2f}", "≤ 2"]


def main() -> None:
    """The command line."""
    python = shutil.which("python3.11-dbg") or "python3.11-dbg"
    with tempfile.TemporaryDirectory(prefix="refdbg-bench-") as name:
        folder = Path(name)
        rows = [jobs_row(folder), summary_row(python, folder), page_row(python, folder)]
    print(tabulate(rows, ["what", "seconds", "goal"], disable_numparse=True))


if __name__ == "__main__":
    main()
