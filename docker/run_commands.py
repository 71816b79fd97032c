#!/usr/bin/env python3
"""Run every command of a list through refdbg-run; keep one report each and a summary.

The part of ``docker/triage`` that runs in the container (standard library, Python 3.9). Exit status: 0 every
command was reported and there are no findings, 1 there are findings, 2 something could not be run or reported.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

#: Seconds that a program has between SIGTERM and SIGKILL.
GRACE = 5

#: One command's entry in summary.json.
Entry = dict[str, Any]


class Stopped(Exception):
    """The container is asked to stop."""


def read_commands(text: str) -> list[Entry]:
    """One entry for each line that is neither empty nor a comment, also for one that cannot be split."""
    entries: list[Entry] = []
    for line, command in enumerate(text.splitlines(), 1):
        command = command.strip()
        if not command or command.startswith("#"):
            continue
        entry: Entry = {"line": line, "command": command, "exit_status": None, "references": None,
                        "findings": None, "first_finding": None, "error": None}
        try:
            entry["argv"] = shlex.split(command)
        except ValueError as error:
            entry["argv"] = None
            entry["error"] = f"line {line}: {str(error).lower()}: {command}"
        entries.append(entry)
    width = len(str(len(entries)))
    for number, entry in enumerate(entries, 1):
        words = [os.path.basename(word) for word in entry["argv"] or entry["command"].split()]
        slug = re.sub(r"[^A-Za-z0-9._]+", "-", " ".join(words)).strip("-.")[:40].strip("-.")
        entry["name"] = f"{number:0{width}}-{slug or 'command'}"
    return entries


def run(entry: Entry, results: Path, timeout: float | None) -> None:
    """Run one command and fill in its entry; what an earlier run left under its name goes first."""
    report = results / f"{entry['name']}.json"
    text = results / f"{entry['name']}.txt"
    for old in (report, text):
        if old.exists():
            old.unlink()
    argv = ["refdbg-run", "--json", str(report), "--text", str(text), "--", *entry["argv"]]
    with (results / f"{entry['name']}.out").open("wb") as out, \
            (results / f"{entry['name']}.err").open("wb") as err:
        try:
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True)
        except OSError as error:
            entry["error"] = f"refdbg-run cannot be started: {error.strerror}"
            return
        try:
            entry["exit_status"] = process.wait(timeout)
        except subprocess.TimeoutExpired:
            entry["error"] = f"stopped after {timeout:g} s"
        finally:
            if process.poll() is None:  # too late, or we are asked to stop
                end(process)
    if entry["error"] is None:
        read_report(entry, report)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a refdbg-run: it hands SIGTERM on to the program and still writes its report, if the program obeys."""
    process.terminate()
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        if os.getpid() == 1:  # in the container: also the program and the debugger, which has a session of its own
            os.kill(-1, signal.SIGKILL)
        else:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def read_report(entry: Entry, path: Path) -> None:
    """Take what the summary shows out of one report."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        if "error" in report:
            entry["error"] = report["error"]
            return
        findings = report["findings"]
        totals = report["totals"]
        entry["findings"] = len(findings)
        entry["first_finding"] = findings[0]["message"] if findings else None
        if report.get("partial"):
            entry["error"] = f"the report is incomplete: {report['partial']}"
        elif totals is None:  # no Python, or one whose end was not seen: no findings would mean nothing
            ended = report.get("target", {}).get("signal")
            entry["error"] = "; ".join(filter(None, [ended and f"ended by {ended}", *report.get("warnings", ())]))
            entry["error"] = entry["error"] or "the report has no totals"
        if totals is not None:
            entry["references"] = totals["references_reported"]
    except FileNotFoundError:
        said = path.with_suffix(".err").read_text(encoding="utf-8", errors="replace").splitlines()
        entry["error"] = f"no report was written; {entry['name']}.err ends with: {said[-1] if said else '(nothing)'}"
    except (ValueError, LookupError, TypeError, OSError) as error:
        entry["error"] = f"{path.name} cannot be read: {error!r}"


def summarize(entries: list[Entry]) -> tuple[str, int]:
    """The text of summary.txt, and triage's exit status."""
    rows = [("command", "exit", "refs left", "findings")]
    rows += [(entry["name"], *("-" if entry[key] is None else str(entry[key])
                               for key in ("exit_status", "references", "findings"))) for entry in entries]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines: list[str] = []
    for row, entry in zip(rows, [None, *entries]):
        cells = [row[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
        lines.append("  ".join(cells))
        if entry and entry["error"]:
            lines += textwrap.indent(f"error: {entry['error']}", "    ").splitlines()
        if entry and entry["first_finding"]:
            lines.append(f"    {entry['first_finding']}")
    failed = sum(entry["error"] is not None for entry in entries)
    found = sum(bool(entry["findings"]) for entry in entries)
    lines += ["", f"{len(entries)} command{'s' * (len(entries) != 1)}: {found} with findings, {failed} with errors"]
    return "\n".join(lines) + "\n", 2 if failed else 1 if found else 0


def stop(_signal: int, _frame: Any) -> None:
    raise Stopped


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--timeout", type=float, default=0, metavar="SECONDS", help="stop a command after this time")
    parser.add_argument("commands", type=Path)
    parser.add_argument("results", type=Path)
    options = parser.parse_args(arguments)
    try:
        entries = read_commands(options.commands.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        parser.exit(2, f"triage: the list of commands {options.commands} cannot be read: {error}\n"
                       "Start the container with docker/triage COMMANDS.txt RESULTS_DIR.\n")
    if not entries:
        parser.exit(2, f"triage: the list of commands {options.commands} has no command\n")
    try:  # also what tells, before the first command runs, that the folder is not ours
        for name in ("summary.json", "summary.txt"):
            (options.results / name).write_text("")
    except OSError as error:
        parser.exit(2, f"triage: the results folder {options.results} cannot be written to as user "
                       f"{os.getuid()}: {error.strerror}\n")

    # As process 1 of a container we get no default action for these.
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    stopped = False
    for number, entry in enumerate(entries, 1):
        if stopped:
            entry["error"] = entry["error"] or "not run: stopped before"
            continue
        print(f"[{number}/{len(entries)}] {entry['error'] or entry['command']}", file=sys.stderr, flush=True)
        try:
            if entry["error"] is None:
                run(entry, options.results, options.timeout or None)
        except Stopped:
            stopped = True
            entry["error"] = "stopped by a signal"
        except OSError as error:
            entry["error"] = f"{error.strerror}: {error.filename}"
    text, status = summarize(entries)
    (options.results / "summary.json").write_text(
        json.dumps({"schema": "refdbg-triage/1", "exit_status": status, "commands": entries}, indent=1) + "\n",
        encoding="utf-8")
    (options.results / "summary.txt").write_text(text, encoding="utf-8")
    print(text, end="")
    return status


if __name__ == "__main__":
    sys.exit(main())
