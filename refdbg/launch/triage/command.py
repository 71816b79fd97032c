"""`refdbg-triage`: the command line."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NoReturn

from refdbg import __version__
from refdbg.errors import RefdbgError
from refdbg.launch import baseline
from refdbg.launch.triage.folder import Folder, Shard, made, opened, write
from refdbg.launch.triage.jobs import read
from refdbg.launch.triage.progress import Progress
from refdbg.launch.triage.summary import summary
from refdbg.launch.triage.workers import Stopped, is_open, run_all

_USAGE = """\
refdbg-triage JOBS.toml --output FOLDER [options]     run the jobs that FOLDER has no result of, and sum up
       refdbg-triage merge FOLDER... --output FOLDER         join the results of several shards or machines, and sum up
       refdbg-triage summary FOLDER                          sum up what there is
       refdbg-triage --list-tests PYTHON... > JOBS.toml      a job for each test module of a CPython build"""
_EPILOG = """\
a job file:
  [interpreters]                       # name = path (relative to this file), or a program on PATH
  debug = "python3.11-dbg"
  main = "../cpython/python"

  [defaults]                           # for jobs that do not say otherwise
  timeout = 600                        # seconds; the job is reported as far as it came
  memory = "4G"                        # of the program, its children and the debugger together

  [[job]]
  name = "import-decimal"              # with each interpreter: import-decimal@debug, import-decimal@main
  arguments = ["-c", "import decimal"]
  interpreters = ["debug"]             # default: all
  options = ["--objects", "20"]        # of refdbg-run: --refleak, --allocations, --debugger lldb, ...
  env = {PYTHONHASHSEED = "0"}         # added to the environment
  cwd = "."                            # relative to this file; default: an empty folder, removed afterwards

FOLDER has jobs/NAME@INTERPRETER/{report.json, result.json, output.txt, errors.txt} of each finished job, and
summary.{txt,html,json}, junit.xml. A job counts as finished when all of its results are there; after a kill the same
command runs the others. To repeat one, delete its folder. A job whose debugger failed is tried once more.

exit status: 0 no new leak; 1 new leaks; 2 a job was not watched to its end or not run, or wrong usage; 128 + N ended by
signal N. A program's own exit status does not count, it stands in the summary. What is only possible is not new.
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        _fail(f"{message}\n  `refdbg-triage --help` shows the usage.")


def main() -> NoReturn:
    """The console script."""
    words = sys.argv[1:]
    try:
        if words[:1] == ["merge"]:
            status = _merge(words[1:])
        elif words[:1] == ["summary"]:
            status = _summary(words[1:])
        else:
            status = _run(words)
    except RefdbgError as error:
        _fail(error.text())
    except BrokenPipeError:  # `refdbg-triage ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except KeyboardInterrupt:
        status = 130
    raise SystemExit(status)


def parser() -> argparse.ArgumentParser:
    """The command line, but for the words `merge` and `summary`."""
    root = _Parser(
        prog="refdbg-triage", usage=_USAGE, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Many interpreters times many commands, each through refdbg-run; one summary says which job leaks "
                    "what, and in how many jobs and builds the same leak was seen.",
    )  # fmt: skip
    root.add_argument("jobs", metavar="JOBS.toml", nargs="?")
    root.add_argument("--output", metavar="FOLDER", help="where the results are kept")
    root.add_argument("--workers", metavar="N", type=_number, help="how many jobs run at once (default 1)")
    root.add_argument("--scheduler", metavar="ADDRESS",
                      help="run the jobs on the workers of a Dask scheduler, tcp://HOST:PORT (needs the extra `dask`)")
    root.add_argument("--shard", metavar="I/N", type=_shard, default=Shard(1, 1),
                      help="only every N-th job, from the I-th on: 1/3, 2/3 and 3/3 are all")
    root.add_argument("--interpreter", metavar="NAME",
                      help="only the jobs of this one of the file, where a machine or image has no other; merge joins")
    root.add_argument("--list-tests", metavar="PYTHON", nargs="+", help="print a job file of these CPythons' tests")
    _summary_options(root)
    root.add_argument("--version", action="version", version=f"refdbg {__version__}")
    return root


def _summary_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--markdown", metavar="FILE", help="write the summary as Markdown, too, for a GitHub comment")
    parser.add_argument("--baseline", metavar="FILE", help="the signatures of known leaks, one a line")
    parser.add_argument("--update-baseline", action="store_true", help="add the new leaks to the baseline")


def _run(words: Sequence[str]) -> int:
    if not words:
        parser().print_help()
        return 2
    orders = parser().parse_args(words)
    if orders.list_tests:
        from refdbg.launch.triage.list_tests import job_file

        for line in job_file(orders.list_tests):
            print(line)
        return 0
    if orders.jobs is None or orders.output is None:
        _fail("name a job file and --output FOLDER\n  `refdbg-triage --help` shows the usage.")
    if orders.scheduler and orders.workers:
        _fail("--workers counts processes here; with --scheduler as many jobs run as its workers have threads")
    known = _known(orders)
    base = os.path.dirname(os.path.abspath(orders.jobs))
    folder = made(orders.output, read(orders.jobs), base, replace(orders.shard, interpreter=orders.interpreter))
    progress = Progress(folder.size, sum(not is_open(folder, job) for job in folder.jobs()))
    stopped = 0
    try:
        if orders.scheduler:
            from refdbg.launch.triage.scheduler import run_on

            run_on(orders.scheduler, folder, progress)
        else:
            run_all(folder, orders.workers or 1, progress)
    except Stopped as error:
        stopped = 128 + error.number
    finally:
        progress.close()
    status = _sum_up(folder, known, orders, [])
    return stopped or status


def _merge(words: Sequence[str]) -> int:
    from refdbg.launch.triage.merge import merge

    root = _Parser(prog="refdbg-triage merge", description="Join the results of one job file from several folders, "
                   "and sum up. A job that several have finished is reported once.")  # fmt: skip
    root.add_argument("folders", metavar="FOLDER", nargs="+")
    root.add_argument("--output", metavar="FOLDER", required=True, help="where the results are kept")
    _summary_options(root)
    orders = root.parse_args(words)
    known = _known(orders)
    folder, notes = merge(orders.folders, orders.output)
    return _sum_up(folder, known, orders, notes)


def _summary(words: Sequence[str]) -> int:
    root = _Parser(prog="refdbg-triage summary", description="Sum up what a folder has results of.")
    root.add_argument("folder", metavar="FOLDER")
    _summary_options(root)
    orders = root.parse_args(words)
    return _sum_up(opened(orders.folder), _known(orders), orders, [])


def _known(orders: argparse.Namespace) -> frozenset[str]:
    if orders.update_baseline and not orders.baseline:
        _fail("--update-baseline needs --baseline FILE")
    if not orders.baseline or (orders.update_baseline and not os.path.exists(orders.baseline)):
        return frozenset()
    return baseline.read(orders.baseline)


def _sum_up(folder: Folder, known: frozenset[str], orders: argparse.Namespace, notes: Sequence[str]) -> int:
    # Writes the summary into the folder, prints its text and returns the exit status.
    from refdbg.render.triage import triage_junit, triage_text
    from refdbg.render.triage_markdown import triage_markdown
    from refdbg.render.triage_page import triage_html

    record: dict[str, Any] = summary(folder, known, notes)
    text = triage_text(record)
    print(text, end="", flush=True)
    folder.write("summary.json", json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    folder.write("summary.txt", text)
    folder.write("junit.xml", triage_junit(record))
    folder.write("summary.html", triage_html(record))
    if orders.markdown:
        write(orders.markdown, triage_markdown(record))
    if orders.update_baseline:
        added = baseline.update(orders.baseline, {"findings": record["groups"]})
        _say(f"refdbg-triage: {added} leaks were added to {orders.baseline}")
    return int(record["exit_status"])


def _number(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of jobs: 1 or more")
    return int(text)


def _shard(text: str) -> Shard:
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if match is None or not 0 < int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is no shard: 1/3 is the first of three")
    return Shard(int(match[1]), int(match[2]))


def _fail(text: str) -> NoReturn:
    _say(f"refdbg-triage: {text}")
    raise SystemExit(2)


def _say(text: str) -> None:
    # stderr is None when it was closed before we started.
    if sys.stderr is not None:
        print(text.encode("utf-8", "backslashreplace").decode(), file=sys.stderr, flush=True)
