"""docker/: the image is built and docker/triage is run for real, with podman; its messages also without."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import containers

TRIAGE = containers.CHECKOUT / "docker" / "triage"
RUN_COMMANDS = containers.CHECKOUT / "docker" / "run_commands.py"
IMAGE = "refdbg-under-test"
LEAKING = "python3.11-dbg -X showrefcount -c 'import decimal'"
CLEAN = "python3.11-dbg -X showrefcount -c pass"


def triage(*arguments: object, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(TRIAGE), *map(str, arguments)], env={**os.environ, **env}, text=True, timeout=150,
                          stdin=subprocess.DEVNULL, capture_output=True, check=False)


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


# --- for real


@pytest.fixture(scope="module")
def podman() -> Iterator[containers.Podman]:
    reason = containers.unavailable()
    if reason:
        pytest.skip(reason)
    with containers.engine() as built:
        built.build(IMAGE)
        yield built


@pytest.mark.docker
def test_triage_reports_each_command_in_a_container(podman: containers.Podman, tmp_path: Path) -> None:
    commands = write(tmp_path / "commands.txt", "# a leak, a broken line, no leak", "", LEAKING,
                     "python3.11-dbg -c 'pass", CLEAN)
    results = tmp_path / "the results"

    done = triage(commands, results, **podman.env, DOCKER="podman", REFDBG_IMAGE=IMAGE)

    assert done.returncode == 2, done.stdout + done.stderr  # because of the broken line
    summary = load(results / "summary.json")
    leak, broken, clean = summary["commands"]
    assert broken["error"] == "line 4: no closing quotation: python3.11-dbg -c 'pass"
    assert not list(results.glob(f"{broken['name']}.*"))
    for entry in leak, clean:
        assert (entry["error"], entry["exit_status"]) == (None, 0)
        report = load(results / f"{entry['name']}.json")
        errors = (results / f"{entry['name']}.err").read_text(encoding="utf-8")
        printed = re.findall(r"^\[(\d+) refs, \d+ blocks\]$", errors, re.MULTILINE)
        assert [str(report["totals"]["references_reported"])] == printed
        assert entry["references"] == report["totals"]["references_reported"]
        assert entry["findings"] == len(report["findings"])
        assert (results / f"{entry['name']}.txt").stat().st_size
    assert leak["references"] > 1000
    assert leak["first_finding"] == load(results / f"{leak['name']}.json")["findings"][0]["message"]
    assert (clean["references"], clean["findings"], clean["first_finding"]) == (0, 0, None)
    text = (results / "summary.txt").read_text(encoding="utf-8")
    assert text == done.stdout
    assert leak["first_finding"] in text
    assert text.endswith("\n3 commands: 1 with findings, 1 with errors\n")


@pytest.mark.docker
@pytest.mark.parametrize(("command", "status"), [(LEAKING, 1), (CLEAN, 0)], ids=["leaking", "clean"])
def test_triage_as_another_user(podman: containers.Podman, tmp_path: Path, command: str, status: int) -> None:
    """A uid without a name, as `docker/triage` uses that of its caller."""
    results = tmp_path / "results"
    results.mkdir()
    os.chown(results, 4242, 4242)

    done = triage(write(tmp_path / "commands.txt", command), results, **podman.env, DOCKER="podman",
                  REFDBG_IMAGE=IMAGE, DOCKER_RUN_ARGS="--user 4242:4242")

    assert done.returncode == status, done.stdout + done.stderr
    assert len(list(results.iterdir())) == 6
    assert {path.stat().st_uid for path in results.iterdir()} == {4242}


@pytest.mark.docker
def test_a_results_folder_of_somebody_else_is_told_before_the_first_command(
        podman: containers.Podman, tmp_path: Path) -> None:
    done = triage(write(tmp_path / "commands.txt", CLEAN), tmp_path / "results", **podman.env, DOCKER="podman",
                  REFDBG_IMAGE=IMAGE, DOCKER_RUN_ARGS="--user 4242:4242")

    assert done.returncode == 2
    assert "/results cannot be written to as user 4242: Permission denied" in done.stderr
    assert not list((tmp_path / "results").iterdir())


# --- the host's part without an engine


def fake(folder: Path, name: str, *script: str) -> Path:
    """A program that plays podman or refdbg-run."""
    path = write(folder / name, "#!/bin/sh", *script)
    path.chmod(0o755)
    return path


def test_triage_without_an_image_tells_how_to_build_it(tmp_path: Path) -> None:
    engine = fake(tmp_path, "engine", "echo 'image not known' >&2; exit 1")
    done = triage(write(tmp_path / "commands.txt", "true"), tmp_path / "results", DOCKER=str(engine),
                  REFDBG_IMAGE="mine")
    assert done.returncode == 2
    assert done.stderr == (f"image not known\ntriage: no image 'mine' in {engine}; in the checkout: "
                           f"{engine} build -f docker/Dockerfile -t mine .\n")


@pytest.mark.parametrize(("arguments", "message"), [
    ([], "usage: docker/triage"),
    (["--nonsense", "a", "b"], "triage: unknown option --nonsense"),
    (["--timeout", "soon", "a", "b"], "triage: --timeout needs a whole number of seconds, not 'soon'"),
    (["missing.txt", "results"], "triage: no such file: missing.txt"),
    ([".", "results"], "triage: not a readable file: ."),
    (["commands.txt", "commands.txt"], "triage: cannot make the results folder commands.txt"),
    (["commands.txt", "results"], "triage: container engine not found: no-such-engine"),
])
def test_triage_tells_what_is_wrong(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str) -> None:
    write(tmp_path / "commands.txt", "true")
    monkeypatch.chdir(tmp_path)
    done = triage(*arguments, DOCKER="no-such-engine")
    assert done.returncode == 2
    assert message in done.stderr


@pytest.mark.parametrize(("engine_status", "summary", "status"), [
    (0, ' "exit_status": 1,', 1),  # a docker client of podman's service loses the status
    (1, ' "exit_status": 1,', 1),
    (0, None, 2),
    (125, None, 2),
])
def test_triage_takes_its_status_from_the_summary(
        tmp_path: Path, engine_status: int, summary: str | None, status: int) -> None:
    results = tmp_path / "results"
    results.mkdir()
    write(results / "summary.json", ' "exit_status": 0,')  # of an earlier run
    written = f"echo '{summary}' > '{results}/summary.json'" if summary else ":"
    engine = fake(tmp_path, "engine", f'[ "$1" != run ] || {{ {written}; exit {engine_status}; }}')
    done = triage(write(tmp_path / "commands.txt", "true"), results, DOCKER=str(engine))
    assert done.returncode == status
    assert ("run ended with status 125" in done.stderr) == (engine_status == 125)


# --- the container's part without a container


def run_commands(folder: Path, commands: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the list with the `refdbg-run` of the folder `bin`."""
    (folder / "results").mkdir(exist_ok=True)
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run([sys.executable, str(RUN_COMMANDS), *options, str(write(folder / "list", commands)),
                           str(folder / "results")], env={**os.environ, "PATH": path}, text=True, timeout=60,
                          capture_output=True, check=False)


def entries(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = load(folder / "results" / "summary.json")["commands"]
    return found


@pytest.fixture
def refdbg_run(tmp_path: Path) -> Path:
    """A refdbg-run that writes its program's second word as the report."""
    (tmp_path / "bin").mkdir()
    return fake(tmp_path / "bin", "refdbg-run",
                '[ "$1 $3 $5" = "--json --text --" ] || exit 9',
                'echo "out of $6"; echo "err of $6" >&2', '[ "$6" != sleep ] || exec sleep "$7"',
                '[ -z "$7" ] || printf "%s" "$7" > "$2"', "exit 7")


def report(references: int | None, *messages: str, partial: str | None = None) -> str:
    return json.dumps({"totals": {"references_reported": references}, "partial": partial,
                       "findings": [{"message": message} for message in messages]})


@pytest.mark.usefixtures("refdbg_run")
def test_summary_of_good_and_bad_reports(tmp_path: Path) -> None:
    unseen = json.dumps({"totals": None, "findings": [], "warnings": ["its end was not seen"],
                         "target": {"signal": "SIGABRT"}})
    done = run_commands(tmp_path, "\n".join([
        "  # only a comment", "",
        f"leak '{report(30, 'first', 'second')}'", f"clean '{report(0)}'", f"release '{report(None)}'",
        f"cut '{report(5, partial='the debugger died')}'", "silent", "torn '{'",
        f"unseen '{unseen}'", """failed '{"error": "no gdb\\nat all"}'""", "odd '[]'", 'open "quote']))
    assert done.returncode == 2
    found = entries(tmp_path)
    assert [entry["line"] for entry in found] == list(range(3, 13))
    leak, clean, release, cut, silent, torn, unseen_, failed, odd, broken = found
    assert (leak["exit_status"], leak["references"], leak["findings"], leak["first_finding"], leak["error"]) == (
        7, 30, 2, "first", None)
    assert (clean["references"], clean["findings"], clean["first_finding"], clean["error"]) == (0, 0, None, None)
    assert (release["references"], release["error"]) == (None, None)
    assert (cut["references"], cut["error"]) == (5, "the report is incomplete: the debugger died")
    assert silent["error"] == "no report was written; 05-silent.err ends with: err of silent"
    assert torn["error"].startswith("06-torn.json cannot be read: ")
    assert odd["error"].startswith("09-odd.json cannot be read: ")
    assert (unseen_["error"], failed["error"]) == ("ended by SIGABRT; its end was not seen", "no gdb\nat all")
    assert broken["error"] == 'line 12: no closing quotation: open "quote'
    assert (tmp_path / "results" / "05-silent.out").read_text() == "out of silent\n"
    assert (tmp_path / "results" / "05-silent.err").read_text() == "err of silent\n"
    assert "    error: no gdb\n    at all\n" in done.stdout
    assert done.stdout.splitlines()[-1] == "10 commands: 1 with findings, 7 with errors"


@pytest.mark.usefixtures("refdbg_run")
@pytest.mark.parametrize(("command", "status"), [(f"a '{report(1, 'x')}'", 1), (f"a '{report(0)}'", 0)])
def test_exit_status(tmp_path: Path, command: str, status: int) -> None:
    assert run_commands(tmp_path, command).returncode == status


@pytest.mark.usefixtures("refdbg_run")
def test_a_command_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    done = run_commands(tmp_path, f"sleep 100\na '{report(0)}'", "--timeout", "0.2")
    assert done.returncode == 2
    assert [entry["error"] for entry in entries(tmp_path)] == ["stopped after 0.2 s", None]


@pytest.mark.usefixtures("refdbg_run")
def test_an_old_report_is_not_taken_for_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    write(tmp_path / "results" / "1-silent.json", report(0))
    assert run_commands(tmp_path, "silent").returncode == 2
    assert entries(tmp_path)[0]["error"] == "no report was written; 1-silent.err ends with: err of silent"


def test_a_list_without_commands(tmp_path: Path) -> None:
    done = run_commands(tmp_path, "# nothing")
    assert done.returncode == 2
    assert "has no command" in done.stderr


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
