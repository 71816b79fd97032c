"""refdbg-triage: real jobs on real builds, killed, sharded, merged, on a full disk; and many of them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest

from refdbg.launch.triage.folder import Shard, made
from refdbg.launch.triage.jobs import BadJobs, Job, read
from refdbg.launch.triage.workers import run_all
from tests.conftest import missing, python_of
from tests.support.browser import Browser
from tests.support.markdown import rendered
from tests.support.run import ENVIRONMENT, TIMEOUT, validated
from tests.support.triage import SCHEMA, TRIAGE, Triaged, comparable, results, triage

PLANTED = Path(__file__).parents[1] / "programs" / "hostile_names.py"


@pytest.fixture(scope="module")
def job_file(python311: str, build: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A leaking and a clean job on two builds each."""
    file = tmp_path_factory.mktemp("matrix") / "jobs.toml"
    file.write_text(f"""\
[interpreters]
debian = "{python311}"
old = "{python_of("3.9-debug")}"
built = "{build("3.11-leak-thread")}"

[defaults]
timeout = 100
env = {{WHO = "nobody", GREETING = "hello"}}

[[job]]
name = "decimal"
interpreters = ["debian", "old"]
arguments = ["-c", "import decimal, os; print(os.environ['GREETING'], os.environ['WHO'], os.listdir())"]
env = {{WHO = "decimal"}}

[[job]]
name = "clean"
interpreters = ["debian", "built"]
arguments = ["-c", "pass"]
""")
    return file


@pytest.fixture(scope="module")
def whole(job_file: Path) -> tuple[Path, Triaged]:
    """All of its jobs, two at once."""
    folder = job_file.with_name("whole")
    return folder, triage(job_file, "--workers", "2", "--markdown", folder.with_suffix(".md"), folder=folder)


@pytest.fixture(scope="module")
def shards(job_file: Path) -> Iterator[list[Path]]:
    """The same jobs on two machines."""
    folders = [job_file.with_name(f"shard{number}") for number in (1, 2)]
    for number, folder in enumerate(folders, 1):
        assert triage(job_file, "--shard", f"{number}/2", folder=folder).status in (0, 1)
    yield folders


def test_findings_are_grouped_over_builds(whole: tuple[Path, Triaged]) -> None:
    folder, ended = whole
    assert (ended.status, ended.summary["outcomes"]) == (1, {"clean": 2, "leaks": 2}), ended.err
    (group,) = [each for each in ended.summary["groups"] if "`DecimalTuple`" in each["message"]]
    assert (group["new"], group["jobs"], group["builds"]) == (True, 2, 2)
    assert group["interpreters"] == ["debian", "old"]
    assert (group["oldest"][:3], group["newest"][:4]) == ("3.9", "3.11")
    started = {key: result["started"] for key, result in results(folder).items()}
    assert group["first_seen"]["time"] == min(started["decimal@debian"], started["decimal@old"])
    assert group["signature"] in ended.out
    report = validated((folder / "jobs/decimal@old/report.json").read_bytes())
    assert group["signature"] in {finding["signature"] for finding in report["findings"]}
    assert (folder / "jobs/decimal@debian/output.txt").read_text() == "hello decimal []\n"
    assert not list((folder / "running").iterdir())


def test_progress_is_plain_lines_with_an_estimate(whole: tuple[Path, Triaged]) -> None:
    lines = whole[1].err.splitlines()
    assert [line.split()[0] for line in lines] == ["[1/4]", "[2/4]", "[3/4]", "[4/4]"]
    assert all(" left)" in line for line in lines[:3]) and " left)" not in lines[3]
    assert "\r" not in whole[1].err


def test_junit_has_a_case_for_each_job(whole: tuple[Path, Triaged]) -> None:
    root = ElementTree.parse(whole[0] / "junit.xml").getroot()
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("4", "2", "0")
    failed = {
        f"{case.get('name')}@{suite.get('name')}"
        for suite in root for case in suite if case.find("failure") is not None
    }  # fmt: skip
    assert failed == {"decimal@debian", "decimal@old"}


def test_a_finished_job_is_not_run_again_and_a_baseline_makes_it_known(
    job_file: Path, whole: tuple[Path, Triaged], tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(whole[0], folder)
    before = results(folder)
    known = tmp_path / "known.txt"
    assert triage(job_file, "--baseline", known, "--update-baseline", folder=folder).status == 1
    again = triage(job_file, "--baseline", known, folder=folder)
    assert (again.status, again.summary["new"]) == (0, 0), again.out
    assert again.err == "4 of 4 jobs are finished already\n"
    assert results(folder) == before
    (lost, *_) = [line for line in known.read_text().splitlines() if "`DecimalTuple`" in line]
    known.write_text(known.read_text().replace(lost, ""))
    later = triage("summary", "--baseline", known, folder)
    assert (later.status, later.summary["new"]) == (1, 1)
    assert "`DecimalTuple`" in later.summary["groups"][0]["message"]


def test_merged_shards_are_the_whole(whole: tuple[Path, Triaged], shards: list[Path], tmp_path: Path) -> None:
    assert sorted(key for shard in shards for key in results(shard)) == sorted(results(whole[0]))
    merged = triage("merge", *shards, folder=tmp_path / "merged")
    assert merged.status == 1
    assert comparable(merged.summary) == comparable(whole[1].summary)
    # What two have done is reported once, what nobody has done is said, and so is another refdbg.
    other = tmp_path / "other"
    shutil.copytree(shards[0], other)
    (key, *_) = results(other)
    result = json.loads((other / "jobs" / key / "result.json").read_text())
    (other / "jobs" / key / "result.json").write_text(json.dumps({**result, "refdbg": "0.0.1", "started": 1.0}))
    twice = triage("merge", shards[0], other, folder=tmp_path / "twice")
    assert (twice.status, twice.summary["outcomes"]["not run"]) == (2, 2)
    assert len(twice.summary["rows"]) == 4
    assert any("2 jobs finished in more than one folder" in note for note in twice.summary["notes"])
    assert any("another refdbg" in note and "0.0.1 (1 job)" in note for note in twice.summary["notes"])


def test_a_folder_of_other_jobs_is_refused(
    job_file: Path, whole: tuple[Path, Triaged], shards: list[Path], tmp_path: Path
) -> None:
    other = tmp_path / "other.toml"
    other.write_text(job_file.read_text().replace('"pass"', '"1"'))
    before = sorted(whole[0].rglob("*"))
    refused = triage(other, "--output", whole[0])
    assert refused.status == 2 and "another job file" in refused.err
    refused = triage(job_file, "--shard", "2/2", "--output", shards[0])
    assert refused.status == 2 and "shard 1/2, not of shard 2/2" in refused.err
    (name, *_) = {row["interpreter"] for row in whole[1].summary["rows"]}
    refused = triage(job_file, "--interpreter", name, "--output", whole[0])
    assert refused.status == 2 and f"of all jobs, not of all jobs of interpreter {name}" in refused.err
    refused = triage(job_file, "--interpreter", "none", "--output", tmp_path / "none")
    assert refused.status == 2 and "no job is for an interpreter 'none'; there are " in refused.err
    assert sorted(whole[0].rglob("*")) == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    refused = triage(job_file, "--output", tmp_path / "mine")
    assert refused.status == 2 and "thesis.txt" in refused.err
    changed = tmp_path / "changed"
    shutil.copytree(shards[1], changed)
    about = json.loads((changed / "triage.json").read_text())
    (changed / "triage.json").write_text(json.dumps({**about, "jobs": "0"}))
    refused = triage("merge", shards[0], changed, "--output", tmp_path / "merged")
    assert refused.status == 2 and "another job file" in refused.err


def test_the_schema_knows_what_is_written(whole: tuple[Path, Triaged]) -> None:
    """`triage` checks every summary against it; here that it can fail."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    record = whole[1].summary
    jsonschema.validate(record, SCHEMA)
    for wrong in (
        {**record, "more": 1}, {**record, "outcomes": {"good": 1}}, {"schema": record["schema"]},
        {**record, "rows": [{**record["rows"][0], "outcome": ""}]}, {**record, "groups": [{}]},
        {**record, "groups": [{**record["groups"][0], "signature": "7fff00000000"}]},
    ):  # fmt: skip
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, SCHEMA)


def test_markdown_says_it_all_and_does_nothing(whole: tuple[Path, Triaged], python311: str, tmp_path: Path) -> None:
    text = whole[0].with_suffix(".md").read_text()
    assert text.startswith("### refdbg-triage: 4 jobs on 3 interpreters: 2 clean, 2 leaks\n")
    assert len(text) < 65_536
    for group in whole[1].summary["groups"]:
        assert f"`{group['signature']}`" in text
    file = tmp_path / "jobs.toml"
    file.write_text(f'''\
[interpreters]
debug = "{python311}"
gone = "./<script>evil</script>|@you `@all` #1"
[[job]]
name = "planted"
interpreters = ["debug"]
arguments = [{json.dumps(str(PLANTED))}, "`@all`"]
[[job]]
name = "gone"
interpreters = ["gone"]
arguments = []
''')
    ended = triage(file, "--markdown", tmp_path / "out.md", folder=tmp_path / "results")
    assert ended.summary["outcomes"] == {"leaks": 1, "not started": 1}, ended.out
    seen = rendered((tmp_path / "out.md").read_text())
    table = {"table", "thead", "tbody", "tr", "th", "td"}
    assert seen.found <= {"h3", "p", "code", "strong", "ul", "li", "details", "summary"} | table
    assert "<script>planted=1</script>" in seen.text and "<script>evil</script>|" in seen.text
    assert "@you" not in seen.text and "@you" in seen.text.replace("\x01", "")
    assert "gone@gone" not in seen.text
    again = triage("summary", "--markdown", tmp_path / "again.md", tmp_path / "results")
    assert again.status == 2
    assert (tmp_path / "again.md").read_bytes() == (tmp_path / "out.md").read_bytes()
    refused = triage("summary", "--markdown", tmp_path / "no/such.md", tmp_path / "results")
    assert refused.status == 2 and "no/such.md" in refused.err


def test_the_page_shows_all(whole: tuple[Path, Triaged]) -> None:
    if shutil.which("chromium") is None:
        missing("no chromium: apt-get install chromium")
    browser = Browser()
    try:
        browser.open(whole[0] / "summary.html")
        assert "`" not in browser.text("#finding-1 .message")
        assert "2 clean, 2 leaks" in browser.text(".banner")
        jobs = browser.text("#jobs")
        assert all(f"{job}" in jobs for job in ("decimal@old", "clean@built"))
        assert not browser.complaints()
        assert all(url.startswith("file:") for url in browser.requested())
    finally:
        browser.close()


def test_after_a_kill_only_the_rest_is_run(python311: str, tmp_path: Path) -> None:
    """Killed while the second job runs: that one dies, too, and leaves no result."""
    log = tmp_path / "log"
    code = f"open({str(log)!r}, 'a').write(os.environ['JOB'] + chr(10)); time.sleep(float(os.environ['S']))"
    code = f"import os, time; {code}"
    file = tmp_path / "jobs.toml"
    head = f'[interpreters]\ndebug = "{python311}"\n[defaults]\narguments = ["-c", {json.dumps(code)}]\n'
    file.write_text(head + "".join(
        f'[[job]]\nname = "{name}"\nenv = {{JOB = "{name}", S = "{seconds}"}}\n'
        for name, seconds in (("one", 0), ("two", 4))
    ))  # fmt: skip
    folder = tmp_path / "results"
    command = [*TRIAGE, str(file), "--output", str(folder)]
    first = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + TIMEOUT
    while not (log.exists() and log.read_text() == "one\ntwo\n") and time.monotonic() < until:
        time.sleep(0.05)
    refused = triage(file, "--output", folder)
    assert refused.status == 2 and "another refdbg-triage works in" in refused.err
    first.send_signal(signal.SIGKILL)
    first.wait()
    before = results(folder)
    assert [*before] == ["one@debug"]
    again = triage(file, folder=folder)
    assert (again.status, again.summary["outcomes"]) == (0, {"left over": 2}), again.out  # static types of time
    assert log.read_text() == "one\ntwo\ntwo\n"
    assert results(folder)["one@debug"] == before["one@debug"]
    # A result that was cut short does not count, either.
    (folder / "jobs/one@debug/result.json").write_text('{"schema": "refdbg-tri')
    assert triage("summary", folder).row("one@debug")["outcome"] == "not run"


def test_what_fails_is_said_and_tried_again_only_if_the_debugger_failed(python311: str, tmp_path: Path) -> None:
    flaky, broken = tmp_path / "flaky-gdb", tmp_path / "broken-gdb"
    met = tmp_path / "met"
    flaky.write_text(f'#!/bin/sh\n[ -e {met} ] && exec gdb "$@"\ntouch {met}\necho out of luck; exit 1\n')
    broken.write_text("#!/bin/sh\necho no luck at all; exit 1\n")
    for script in (flaky, broken):
        script.chmod(0o755)
    log = tmp_path / "log"
    jobs = {
        "flaky": ("pass", f'options = ["--debugger", "{flaky}"]'),
        "broken": ("pass", f'options = ["--debugger", "{broken}"]'),
        "exits": (f"open({str(log)!r}, 'a').write('x'); raise SystemExit(3)", ""),
        "dies": ("import os; os.kill(os.getpid(), 9)", ""),
        "sleeps": ("import time; time.sleep(100)", "timeout = 3"),
        "eats": ("import time\nfor i in range(100): globals()[str(i)] = b'x' * 10**7; time.sleep(.05)",
                 'memory = "300M"'),
        "wrong": ("pass", 'options = ["--no-such"]'),
        "stray": ("pass", 'options = ["--objects", "3", "astray"]'),
        "leaves": ("import subprocess; subprocess.Popen(['sleep', '7777'])", ""),
        "nowhere": ("pass", 'cwd = "no/folder"'),
        "nobody": ("pass", 'interpreters = ["gone"]'),
    }  # fmt: skip
    file = tmp_path / "jobs.toml"
    head = f'[interpreters]\ndebug = "{python311}"\ngone = "./gone/python"\n[defaults]\ninterpreters = ["debug"]\n'
    file.write_text(head + "".join(
        f'[[job]]\nname = "{name}"\narguments = ["-c", {json.dumps(code)}]\n{more}\n'
        for name, (code, more) in jobs.items()
    ))  # fmt: skip
    ended = triage(file, folder=tmp_path / "results")
    assert ended.status == 2
    outcomes = {row["key"].partition("@")[0]: row["outcome"] for row in ended.summary["rows"]}
    assert outcomes.pop("exits") in ("clean", "left over", "leaks")  # a SystemExit of -c leaves a little
    assert outcomes == {
        "flaky": "clean", "broken": "failed", "dies": "incomplete", "sleeps": "incomplete",
        "eats": "incomplete", "wrong": "not started", "stray": "not started",
        "leaves": "left over", "nowhere": "not started", "nobody": "not started",
    }, ended.out  # fmt: skip
    left = (file.read_bytes().split(b"\0") for file in Path("/proc").glob("[0-9]*/cmdline") if file.exists())
    assert [b"sleep", b"7777", b""] not in left  # a job's processes end with it
    assert "out of luck" in ended.row("flaky@debug")["failures"][0]
    assert [("no luck at all" in each) for each in ended.row("broken@debug")["failures"]] == [True, True]
    assert (log.read_text(), ended.row("exits@debug")["exit_status"]) == ("x", 3)
    assert "SIGKILL" in ended.row("dies@debug")["why"]
    assert "3 s (--timeout)" in ended.row("sleeps@debug")["why"]
    assert "limit is 300 MiB" in ended.row("eats@debug")["why"]
    assert "--no-such" in ended.row("wrong@debug")["why"]
    assert "program not found: astray" in ended.row("stray@debug")["why"]
    assert "no/folder" in ended.row("nowhere@debug")["why"]
    assert "gone/python" in ended.row("nobody@gone")["why"]
    for text in ("out of luck", "no luck at all", "gone/python", "limit is 300 MiB"):
        assert text in ended.out


def test_on_a_full_disk_what_is_finished_stays(job_file: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1400k", "tmpfs", disk]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        missing("a small file system cannot be mounted (not root?)")
    try:
        ended = triage(job_file, folder=disk / "results")
        assert ended.status == 2 and "No space left on device" in ended.err and "Make room" in ended.err
        done = results(disk / "results")
        assert 0 < len(done) < 4
        subprocess.run(["mount", "-o", "remount,size=10m", disk], check=True)
        more = triage(job_file, folder=disk / "results")
        assert (more.status, more.summary["outcomes"]) == (1, {"clean": 2, "leaks": 2})
        assert f"{len(done)} of 4 jobs are finished already" in more.err
        assert {key: results(disk / "results")[key] for key in done} == done
    finally:
        subprocess.run(["umount", disk], check=True)


class _Nobody:
    def begins(self, job: Job, again: str | None) -> None: ...

    def ended(self, found: dict[str, Any]) -> None: ...

    def look(self) -> None: ...

    def says(self, text: str) -> None: ...


def _jobs(number: int) -> Iterator[Job]:
    return (Job(f"job{n}", "gone", "/no/python", ("-c", "pass"), (), {}, None, 10.0, None) for n in range(number))


def test_the_memory_does_not_grow_with_the_jobs(tmp_path: Path) -> None:
    def peak(number: int) -> int:
        tracemalloc.start()
        run_all(made(str(tmp_path / str(number)), _jobs(number), "/", Shard(1, 1)), 2, _Nobody())
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(results(tmp_path / str(number))) == number
        return most

    peak(10)  # what is imported and cached once
    # Garbage that waits for the collector differs; a job and its result that were kept would be more than 1 kB.
    assert peak(1500) < peak(100) + 600_000


def test_ten_thousand_results_are_summed_up(whole: tuple[Path, Triaged], tmp_path: Path) -> None:
    """Copies of a real result."""
    number = 10_000
    folder = made(str(tmp_path / "many"), _jobs(number), "/", Shard(1, 1))
    real = results(whole[0])["decimal@debian"]
    for n in range(number):
        os.mkdir(folder.of(f"job{n}@gone"))
        with open(os.path.join(folder.of(f"job{n}@gone"), "result.json"), "w") as file:
            json.dump({**real, "key": f"job{n}@gone", "interpreter": "gone"}, file)
    ended = triage("summary", tmp_path / "many")
    assert ended.summary["outcomes"] == {"leaks": number}
    assert {group["jobs"] for group in ended.summary["groups"]} == {number}
    assert (tmp_path / "many/summary.html").stat().st_size < 5_000_000


A = '[interpreters]\na = "x"\n'
BAD = [
    (A + '[[job]\n', r"is no TOML: .*line 3"),
    (A + '', r"no \[\[job\]\]"),
    ('[[job]]\nname = "j"\n', r"names no interpreter"),
    ('[interpreters]\na = 3\n[[job]]\nname = "j"\n', r"line 2, \[interpreters\]: a is no path"),
    (A + '[[job]]\nname = "j"\narguments = "x"\n', r"line 5, job 1: arguments is no list"),
    (A + '[[job]]\nname = "j"\narguments = []\n\ntimeOut = 3\n', r"line 7, job 1: timeOut is not known"),
    (A + '[[job]]\nname = "j"\n', r"line 3, job 1: has no arguments"),
    (A + '[[job]]\narguments = []\n', r"line 3, job 1: has no name"),
    (A + '[defaults]\narguments = []\n[[job]]\nname = "j"\n[[job]]\nname = "k"\n[[job]]\nname="j"\n',
     r"line 10, job 3: name is 'j', which the job in line 6 has already"),
    (A + '[defaults]\nmemory = "much"\n[[job]]\nname = "j"\n', r"line 4, \[defaults\]: memory is no size"),
    (A + '[[job]]\nname = "j"\narguments = []\ntimeout = -1\n', r"line 6, job 1: timeout"),
    (A + '[[job]]\nname = "../j"\narguments = []\n', r"line 4, job 1: name is not made of"),
    (A + '[[job]]\nname = "j"\narguments = []\ninterpreters = ["b"]\n', r"line 6, .* names 'b'"),
    (A + '[[job]]\nname = "j"\narguments = []\noptions = ["--json=f"]\n', r"line 6, .* has --json=f"),
    (A + '[[job]]\nname = "j"\narguments = []\n[job.env]\nN = 1\n', r"line 6, job 1: env is no table"),
    # What looks like a table in a text: no line rather than a wrong one.
    (A + '[[job]]\nname = "j"\narguments = ["-c", """\n[[job]]\n"""]\ntimeout = -1\n', r"toml, job 1: timeout"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "words"), BAD)
def test_a_broken_job_file_is_said_where(text: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "jobs.toml"
    file.write_text(text)
    with pytest.raises(BadJobs, match=words):
        read(str(file))


def test_jobs_of_a_builds_own_tests(build: Callable[[str], str], tmp_path: Path) -> None:
    pythons = [build("3.11-leak-thread"), build("3.13")]
    listed = triage("--list-tests", *pythons)
    assert listed.status == 0, listed.err
    file = tmp_path / "jobs.toml"
    file.write_text(listed.out)
    jobs = {job.key: job for job in read(str(file))}
    names = {job.interpreter for job in jobs.values()}
    assert {name[:4] for name in names} == {"3.11", "3.13"}
    (old,) = [name for name in names if name.startswith("3.11")]
    job = jobs[f"test_threading@{old}"]
    assert (job.python, job.options) == (pythons[0], ("--refleak",))
    assert job.arguments == ("-m", "test", "-R", "3:3", "test_threading")
    assert len([job for job in jobs.values() if job.interpreter == old]) > 400
    refused = triage("--list-tests", "/no/python")
    assert refused.status == 2 and "/no/python cannot be started" in refused.err


@pytest.mark.parametrize(("words", "said"), [
    (["no.toml", "--output", "r"], "no.toml cannot be read"),
    (["no.toml"], "name a job file and --output"),
    (["no.toml", "--output", "r", "--shard", "4/3"], "'4/3' is no shard"),
    (["no.toml", "--output", "r", "--workers", "0"], "'0' is no number of jobs"),
    (["merge", "no", "--output", "r"], "no has no results"),
    (["summary", "no"], "no has no results"),
])  # fmt: skip
def test_wrong_use_is_said(words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refused = triage(*words)
    assert refused.status == 2 and said in refused.err
    assert not list(tmp_path.iterdir())
