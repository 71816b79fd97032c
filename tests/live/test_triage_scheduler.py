"""refdbg-triage --scheduler: real Dask workers on loopback, that are killed, strangers, or not there."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from refdbg import __version__
from tests.support.run import ENVIRONMENT, ROOT, TIMEOUT
from tests.support.triage import TRIAGE, comparable, results, triage

distributed = pytest.importorskip("distributed")
_DASK = [sys.executable, "-m", "dask"]
_LOG = "import os; open(os.environ['LOG'], 'a').write(os.environ['JOB'] + ' ' + str(os.getpid()) + chr(10))"


@dataclass
class Cluster:
    """A scheduler on loopback; its processes end with the test module."""

    place: Path
    address: str = ""
    scheduler: int = 0
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, *words: str, env: dict[str, str] | None = None) -> int:
        """A process of Dask; returns its number. What workers write goes to *place*."""
        with open(self.place / "dask.log", "ab") as log:
            self.started.append(subprocess.Popen(
                [*_DASK, *words, "--no-dashboard", "--host", "127.0.0.1"], stdout=log, stderr=log, cwd=self.place,
                start_new_session=True, env={**ENVIRONMENT, "TMPDIR": str(self.place), **(env or {})},
            ))  # fmt: skip
        return self.started[-1].pid

    def work(self, number: int, *words: str, env: dict[str, str] | None = None) -> int:
        """So many worker processes, below one that replaces those that die; returns its number."""
        return self.start("worker", self.address, "--nworkers", str(number), "--nthreads", "1", *words, env=env)

    def end(self) -> None:
        """All of its processes."""
        for process in reversed(self.started):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _scheduler(place: Path) -> Cluster:
    cluster = Cluster(place)
    file = place / "scheduler.json"
    cluster.scheduler = cluster.start("scheduler", "--port", "0", "--scheduler-file", str(file))
    _until(file.exists)
    cluster.address = json.loads(file.read_text())["address"]
    return cluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three workers."""
    started = _scheduler(tmp_path_factory.mktemp("cluster"))
    try:
        started.work(3)
        yield started
    finally:
        started.end()


def _until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + TIMEOUT
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def _job_file(place: Path, python: str, jobs: dict[str, str]) -> tuple[Path, Path]:
    # Each logs its name and process before it does what it does. Also returns the log.
    log = place / "log"
    log.touch()
    file = place / "jobs.toml"
    file.write_text(f'[interpreters]\ndebug = {json.dumps(python)}\n[defaults]\ntimeout = 100\n' + "".join(
        f'[[job]]\nname = "{name}"\narguments = ["-c", {json.dumps(_LOG + chr(10) + code)}]\n'
        f'env = {{LOG = {json.dumps(str(log))}, JOB = "{name}"}}\n' for name, code in jobs.items()
    ))  # fmt: skip
    return file, log


def _runs(log: Path) -> Counter[str]:
    return Counter(line.split()[0] for line in log.read_text().splitlines())


def _process(log: Path, job: str) -> int:
    # Of the program of the job, as soon as it runs.
    _until(lambda: job in _runs(log))
    return int(next(line.split()[1] for line in log.read_text().splitlines() if line.split()[0] == job))


def _parent(pid: int, times: int) -> int:
    for _ in range(times):
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return pid


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# From a program of a job to the worker: refdbg-run, the process of the job, the worker.
_TO_WORKER = 3


def test_what_a_killed_worker_had_is_run_again(cluster: Cluster, python311: str, tmp_path: Path) -> None:
    """Nothing is lost, nothing is reported twice, and the summary is that of a local run."""
    jobs = {"sleeps": "import time; time.sleep(4)", "decimal": "import decimal; print('hello')", "clean": "pass",
            "fails": "raise SystemExit(3)", "wrong": "import nowhere"}  # fmt: skip
    file, log = _job_file(tmp_path, python311, jobs)
    local = triage(file, "--workers", "2", folder=tmp_path / "local")
    assert _runs(log) == dict.fromkeys(jobs, 1), local.err
    log.write_text("")
    command = [*TRIAGE, str(file), "--output", str(tmp_path / "far"), "--scheduler", cluster.address]
    far = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    program = _process(log, "sleeps")
    worker = _parent(program, _TO_WORKER)
    nanny = _parent(worker, 1)
    assert nanny == cluster.started[-1].pid
    os.kill(worker, signal.SIGKILL)
    _, err = far.communicate(timeout=TIMEOUT)
    assert far.returncode == local.status == 1, err
    assert _runs(log) == {**dict.fromkeys(jobs, 1), "sleeps": 2}, err
    assert not _lives(program)
    summary = json.loads((tmp_path / "far/summary.json").read_text())
    assert comparable(summary) == comparable(local.summary)
    assert sorted(results(tmp_path / "far")) == sorted(results(tmp_path / "local"))
    ended = [line.split()[1] for line in err.splitlines() if line.startswith("[")]
    assert sorted(ended) == sorted(f"{job}@debug" for job in jobs)
    assert [line.startswith("sleeps@debug: once more, its worker tcp://127.0.0.1:") for line in err.splitlines()
            if not line.startswith("[")] == [True], err  # fmt: skip
    for name in ("output.txt", "errors.txt"):
        for job in ("decimal", "fails", "wrong"):
            there, here = (tmp_path / where / f"jobs/{job}@debug" / name for where in ("far", "local"))
            assert there.read_bytes() == here.read_bytes()
    assert (tmp_path / "far/jobs/decimal@debug/report.json").stat().st_size > 10_000
    again = triage(file, "--scheduler", cluster.address, folder=tmp_path / "far")
    assert again.err == "5 of 5 jobs are finished already\n"
    assert comparable(again.summary) == comparable(local.summary)
    assert sum(_runs(log).values()) == 6


def test_a_job_that_kills_its_workers_fails(cluster: Cluster, python311: str, tmp_path: Path) -> None:
    code = f"""
pid = os.getpid()
for _ in range({_TO_WORKER}):
    pid = int(open(f'/proc/{{pid}}/stat').read().rpartition(')')[2].split()[1])
os.kill(pid, 9)
__import__("signal").pause()
"""
    jobs = {"kills": code, "one": "pass", "two": "pass", "three": "pass", "four": "pass"}
    file, log = _job_file(tmp_path, python311, jobs)
    ended = triage(file, "--scheduler", cluster.address, folder=tmp_path / "results")
    assert ended.status == 2, ended.err
    assert ended.summary["outcomes"] == {"left over": 4, "failed": 1}, ended.err
    assert _runs(log) == {**dict.fromkeys(jobs, 1), "kills": 3}
    row = ended.row("kills@debug")
    assert "given up after 3 workers: its worker tcp://127.0.0.1:" in row["why"]
    assert len(row["failures"]) == 3 == len({*row["failures"]})
    assert row["why"] in ended.out


def test_ctrl_c_ends_the_programs_and_keeps_the_results(cluster: Cluster, python311: str, tmp_path: Path) -> None:
    once = "import time; time.sleep(100 if open(os.environ['LOG']).read().count('waits') == 1 else 0)"
    file, log = _job_file(tmp_path, python311, {"quick": "pass", "waits": once})
    folder = tmp_path / "results"
    command = [*TRIAGE, str(file), "--output", str(folder), "--scheduler", cluster.address]
    first = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    program = _process(log, "waits")
    _until(lambda: results(folder))
    first.send_signal(signal.SIGINT)
    _, err = first.communicate(timeout=TIMEOUT)
    assert first.returncode == 130, err
    assert "Traceback" not in err
    _until(lambda: not _lives(program))
    assert [*results(folder)] == ["quick@debug"]
    again = triage(file, "--scheduler", cluster.address, folder=folder)
    assert again.status == 0 and again.err.startswith("1 of 2 jobs are finished already\n"), again.err
    assert _runs(log) == {"quick": 1, "waits": 2}
    assert not list(cluster.place.glob("refdbg-triage-*"))  # nor do killed workers leave anything


def test_a_worker_of_another_refdbg_gets_nothing(python311: str, tmp_path: Path) -> None:
    """Where there is no other one, nothing is run; and a scheduler that dies is said."""
    (tmp_path / "old/refdbg").mkdir(parents=True)
    (tmp_path / "old/refdbg/__init__.py").write_text('__version__ = "0.0.1"\n')
    (tmp_path / "none/refdbg").mkdir(parents=True)
    (tmp_path / "none/refdbg/__init__.py").write_text("raise ModuleNotFoundError('it is not here')\n")
    file, log = _job_file(tmp_path, python311, {"one": "pass", "two": "pass", "waits": "import time; time.sleep(100)"})
    cluster = _scheduler(tmp_path)
    try:
        cluster.work(1, env={"PYTHONPATH": str(tmp_path / "old")})
        refused = triage(file, "--scheduler", cluster.address, folder=tmp_path / "results")
        assert refused.status == 2 and not log.read_text()
        assert f"it has refdbg 0.0.1, here is {__version__}: install the same there" in refused.err
        assert "no worker of the scheduler can be used: tcp://127.0.0.1:" in refused.err
        cluster.work(1, env={"PYTHONPATH": str(tmp_path / "none")})
        cluster.work(1, env={"PYTHONPATH": str(ROOT)})
        with distributed.Client(cluster.address) as client:
            client.wait_for_workers(3, timeout=TIMEOUT)
        command = [*TRIAGE, str(file), "--output", str(tmp_path / "results"), "--scheduler", cluster.address]
        second = subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
        program = _process(log, "waits")
        os.kill(cluster.scheduler, signal.SIGKILL)
        _, err = second.communicate(timeout=TIMEOUT)
        assert second.returncode == 2
        assert "does not answer any more" in err and "gets no jobs: it has refdbg 0.0.1" in err, err
        assert f"gets no jobs: it has no refdbg (it is not here): install {__version__} there" in err
        assert "Traceback" not in err
        assert sorted(results(tmp_path / "results")) == ["one@debug", "two@debug"]
        assert _runs(log) == {"one": 1, "two": 1, "waits": 1}
        _until(lambda: not _lives(program))
    finally:
        cluster.end()


@pytest.mark.parametrize(("words", "said"), [
    (["--scheduler", "tcp://127.0.0.1:1"], "no Dask scheduler can be reached at tcp://127.0.0.1:1"),
    (["--scheduler", "no://such"], "no Dask scheduler can be reached at no://such"),
    (["--scheduler", "tcp://127.0.0.1:1", "--workers", "2"], "--workers counts processes here"),
])  # fmt: skip
def test_wrong_use_is_said(words: list[str], said: str, python311: str, tmp_path: Path) -> None:
    file, _ = _job_file(tmp_path, python311, {"one": "pass"})
    refused = triage(file, *words, folder=tmp_path / "results")
    assert refused.status == 2 and said in refused.err
    assert "Traceback" not in refused.err


def test_without_dask_it_is_said_how_to_install_it(python311: str, tmp_path: Path) -> None:
    """And all else works without."""
    shutil.copytree(ROOT / "refdbg", tmp_path / "lib/refdbg", ignore=shutil.ignore_patterns("__pycache__"))
    file, _ = _job_file(tmp_path, python311, {"one": "pass"})
    lib = str(tmp_path / "lib")
    code = f"import sys; sys.path[:0] = [{lib!r}]; from refdbg.launch.triage.command import main; main()"
    command = ["/usr/bin/python3", "-I", "-c", code, str(file), "--output", str(tmp_path / "results")]
    refused = subprocess.run([*command, "--scheduler", "tcp://127.0.0.1:1"], env=ENVIRONMENT, capture_output=True,
                             check=False, text=True)  # fmt: skip
    assert refused.returncode == 2
    assert "refdbg[dask] does: /usr/bin/python3 -m pip install distributed" in refused.stderr
