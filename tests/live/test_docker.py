"""docker/: the images are built and run for real, with podman; what docker/triage says without an engine."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import containers
from tests.support.containers import CHECKOUT, IMAGE

DOCKER = CHECKOUT / "docker"
JOBS = DOCKER / "jobs" / "jobs.toml"
MATRIX = containers.matrix()


def triage(*arguments: object, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(DOCKER / "triage"), *map(str, arguments)], env={**os.environ, **env}, text=True,
                          timeout=150, stdin=subprocess.DEVNULL, capture_output=True, check=False)


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def owners(folder: Path) -> set[int]:
    return {path.stat().st_uid for path in folder.rglob("*")}


# --- for real


@pytest.fixture(scope="module")
def podman() -> Iterator[containers.Podman]:
    """With the images of the matrix."""
    reason = containers.unavailable()
    if reason:
        pytest.skip(reason)
    with containers.engine() as built:
        containers.build_matrix(built)
        yield built


@pytest.mark.docker
def test_the_matrix_runs_one_job_file(podman: containers.Podman, tmp_path: Path) -> None:
    """As another user than root; the folders join to one summary over all builds."""
    results = tmp_path / "results"
    results.mkdir()
    os.chown(results, 4242, 4242)
    variables = {"REFDBG_RESULTS": str(results), "REFDBG_JOBS": str(JOBS.parent), "REFDBG_USER": "4242:4242"}

    done = podman.compose("up", *MATRIX, **variables)
    podman.compose("down", **variables)

    assert sorted(path.name for path in results.iterdir()) == sorted(MATRIX), done.stdout + done.stderr
    assert owners(results) == {4242}
    summaries = {name: load(results / name / "summary.json") for name in MATRIX}
    for name, summary in summaries.items():
        assert [row["key"] for row in summary["rows"]] == [f"import-decimal@{name}", f"pass@{name}"]
    pythons = {name: summary["rows"][0]["python"] for name, summary in summaries.items()}
    assert all(pythons[name].startswith(f"{name.partition('-')[0]}.") for name in MATRIX), pythons
    old = summaries.pop("3.11-debug")
    assert (old["outcomes"], old["exit_status"]) == ({"clean": 1, "leaks": 1}, 1)
    assert old["groups"][0]["verdict"] == "static-reference"
    for summary in summaries.values():
        assert (summary["outcomes"], summary["exit_status"]) == ({"clean": 2}, 0)
    # The build that runs is the one that the arguments ask for.
    traits = {name: load(results / name / "jobs" / f"pass@{name}" / "report.json")["target"]["traits"]
              for name in MATRIX}
    assert all(each["debug"] for each in traits.values())
    assert [name for name in MATRIX if traits[name]["free_threaded"]] == [n for n in MATRIX if "free-threaded" in n]

    merged = subprocess.run(  # podman-compose's `run` would build again
        ["podman", "run", "--rm", "--pull=never", "--user", "4242", "-v", f"{results}:/results", f"{IMAGE}:3.11-debug",
         "refdbg-triage", "merge", *(f"/results/{name}" for name in MATRIX), "--output", "/results/all"],
        env=podman.env, text=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=150, check=False,
    )  # fmt: skip

    missing = 2 * (len(containers.services()) - len(MATRIX))  # of interpreters whose images are not made here
    assert merged.returncode == (2 if missing else 1), merged.stderr
    summary = load(results / "all" / "summary.json")
    assert Counter(summary["outcomes"]) == Counter({"clean": 2 * len(MATRIX) - 1, "leaks": 1, "not run": missing})


@pytest.mark.docker
def test_triage_leaves_its_results_in_the_folder(podman: containers.Podman, tmp_path: Path) -> None:
    """A script beside the job file, under both debuggers; the second call has nothing left to do."""
    jobs = tmp_path / "some jobs"
    jobs.mkdir()
    write(jobs / "leak.py", "import decimal")
    write(jobs / "leak.toml", "[interpreters]", 'debug = "python3.11d"', "[defaults]", 'cwd = "."',
          "[[job]]", 'name = "gdb"', 'arguments = ["leak.py"]',
          "[[job]]", 'name = "lldb"', 'arguments = ["leak.py"]', 'options = ["--debugger", "lldb"]')
    results = tmp_path / "the results"
    arguments = (jobs / "leak.toml", results, "--workers", "2")
    environment = {**podman.env, "DOCKER": "podman", "REFDBG_IMAGE": f"{IMAGE}:3.11-debug"}

    first, second = (triage(*arguments, **environment) for _ in range(2))

    assert (first.returncode, second.returncode) == (1, 1), first.stdout + first.stderr
    assert "2 of 2 jobs are finished already" in second.stderr
    summary = load(results / "summary.json")
    assert summary["outcomes"] == {"leaks": 2}
    assert summary["groups"][0]["jobs"] == 2
    assert summary["groups"][0]["message"] in (results / "summary.txt").read_text(encoding="utf-8")
    assert first.stdout == second.stdout == (results / "summary.txt").read_text(encoding="utf-8")
    reports = {name: load(results / "jobs" / f"{name}@debug" / "report.json") for name in ("gdb", "lldb")}
    assert {name: report["target"]["debugger"].split()[0] for name, report in reports.items()} == {
        "gdb": "gdb", "lldb": "lldb"}
    assert owners(results) == {os.getuid()}


@pytest.mark.docker
def test_triage_of_a_clean_job_as_another_user(podman: containers.Podman, tmp_path: Path) -> None:
    """A uid without a name, as `docker/triage` uses that of its caller."""
    results = tmp_path / "results"
    results.mkdir()
    (tmp_path / "jobs").mkdir(mode=0o755)
    jobs = write(tmp_path / "jobs" / "clean.toml", "[interpreters]", 'debug = "python3.11d"',
                 "[[job]]", 'name = "pass"', 'arguments = ["-c", "pass"]')
    environment = {**podman.env, "DOCKER": "podman", "REFDBG_IMAGE": f"{IMAGE}:3.11-debug",
                   "DOCKER_RUN_ARGS": "--user 4242:4242"}

    refused = triage(jobs, results, **environment)
    os.chown(results, 4242, 4242)
    done = triage(jobs, results, **environment)

    assert refused.returncode == 2
    assert "/results cannot be made or written: Permission denied" in refused.stderr
    assert done.returncode == 0, done.stdout + done.stderr
    assert load(results / "summary.json")["outcomes"] == {"clean": 1}
    assert owners(results) == {4242}


@pytest.mark.docker
def test_the_container_is_nobody_special(podman: containers.Podman) -> None:
    """Not root without --user, and what programs leave behind is waited for."""
    orphan = "(sleep 0.1 &) ; sleep 1; grep -l '^State:.Z' /proc/[0-9]*/status; id -u"
    assert podman("run", "--rm", "--pull=never", f"{IMAGE}:3.11-debug", "sh", "-c", orphan) == "1000\n"


@pytest.mark.docker
@pytest.mark.parametrize(("argument", "message"), [
    ("KIND=free-threaded", "Debian has no package of such a debug build; name in SOURCE the suite"),
    ("KIND=fast", "KIND=fast: there are debug, free-threaded and release"),
])
def test_wrong_build_arguments_are_told(podman: containers.Podman, argument: str, message: str) -> None:
    with pytest.raises(containers.ContainerError, match=re.escape(message)):
        podman.build(f"{IMAGE}:wrong", "--build-arg", argument)


# --- what the files say


def test_compose_fits_the_dockerfile_and_the_job_file() -> None:
    known = set(re.findall(r"^ARG (\w+)=", (DOCKER / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE))
    assert known == {"SUITE", "CPYTHON", "KIND", "SOURCE"}
    for name, service in containers.services().items():
        assert set(service["build"]["args"]) <= known
        assert service["image"].endswith(f":{name}")
        assert service["command"] == ["refdbg-triage", "/jobs/jobs.toml", "--interpreter", name, "--output",
                                      f"/results/{name}"]
    assert re.findall(r'^"([^"]+)" = ', JOBS.read_text(encoding="utf-8"), re.MULTILINE) == list(containers.services())


def test_no_file_names_a_host_or_a_path_of_a_machine() -> None:
    for path in DOCKER.rglob("*"):
        if path.is_file() and "results" not in path.parts:
            assert not re.findall(r"\w+://\S*|/root\b|/home\b|\$HOME", path.read_text(encoding="utf-8")), path


# --- the host's part without an engine


def fake(folder: Path, *script: str) -> Path:
    """A program that plays podman."""
    path = write(folder / "engine", "#!/bin/sh", *script)
    path.chmod(0o755)
    return path


def test_triage_without_an_image_tells_how_to_build_it(tmp_path: Path) -> None:
    engine = fake(tmp_path, "echo 'image not known' >&2; exit 1")
    done = triage(JOBS, tmp_path / "results", DOCKER=str(engine), REFDBG_IMAGE="mine")
    assert done.returncode == 2
    assert done.stderr == (f"image not known\ntriage: no image 'mine' in {engine}; in the checkout: "
                           f"{engine} build -f docker/Dockerfile -t mine .\n")


@pytest.mark.parametrize(("arguments", "message"), [
    ([], "usage: docker/triage"),
    (["jobs.toml"], "usage: docker/triage"),
    (["--workers", "2", "jobs.toml", "results"], "triage: the job file and the results folder come first"),
    (["missing.toml", "results"], "triage: no such file: missing.toml"),
    ([".", "results"], "triage: not a readable file: ."),
    (["jobs.toml", "jobs.toml"], "triage: cannot make the results folder jobs.toml"),
    (["jobs.toml", "results"], "triage: container engine not found: no-such-engine"),
])
def test_triage_tells_what_is_wrong(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str) -> None:
    write(tmp_path / "jobs.toml", "")
    monkeypatch.chdir(tmp_path)
    done = triage(*arguments, DOCKER="no-such-engine")
    assert done.returncode == 2
    assert message in done.stderr


@pytest.mark.parametrize(("engine_status", "summary", "status"), [
    (0, ' "exit_status": 1,', 1),  # a docker client of podman's service loses the status
    (0, ' "exit_status": 0', 0),
    (1, ' "exit_status": 1,', 1),
    (143, ' "exit_status": 2,', 143),
    (0, None, 2),
    (125, None, 2),
])
def test_triage_has_the_status_of_refdbg_triage(
        tmp_path: Path, engine_status: int, summary: str | None, status: int) -> None:
    results = tmp_path / "results"
    results.mkdir()
    write(results / "summary.json", ' "exit_status": 0,')  # of an earlier run
    written = f"echo '{summary}' > '{results}/summary.json'" if summary else ":"
    engine = fake(tmp_path, f'[ "$1" != run ] || {{ {written}; exit {engine_status}; }}')
    done = triage(JOBS, results, DOCKER=str(engine))
    assert done.returncode == status
    assert ("run ended with status 125" in done.stderr) == (engine_status == 125)


# --- this machine's pip configuration in a container


def test_pip_configuration_names_nothing_of_this_machine(tmp_path: Path) -> None:
    work, wheels, pages = tmp_path / "work", tmp_path / "wheels", tmp_path / "index" / "simple"
    for folder in work, wheels, pages:
        folder.mkdir(parents=True)
    certificates = write(tmp_path / "ca.crt", "certificate")

    volumes = containers.write_pip_configuration(work, [
        ("find-links", str(wheels)), ("extra-index-url", f"{pages.as_uri()} file:///nowhere"), ("cert", "/replaced"),
        ("cert", str(certificates)), ("timeout", "9"), ("cache-dir", "/some/where")])

    assert (work / "pip.conf").read_text() == (
        "[global]\nfind-links = /run/host-pip/0\nextra-index-url = file:///run/host-pip/1/simple\n"
        "cert = /run/host-pip/2-ca.crt\ntimeout = 9\n")
    assert (work / "pip" / "2-ca.crt").read_text() == "certificate\n"
    assert volumes[2:] == [f"{wheels}:/run/host-pip/0:ro", f"{pages.parent}:/run/host-pip/1:ro"]
