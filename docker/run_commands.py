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
from pathlib import Path
from typing import Any

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
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if entry["error"] is None:
        read_report(entry, report)


def read_report(entry: Entry, path: Path) -> None:
    """Take what the summary shows out of one report."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        findings = report["findings"]
        entry["references"] = report["totals"]["references_reported"]
        entry["findings"] = len(findings)
        entry["first_finding"] = findings[0]["message"] if findings else None
        if report.get("partial"):
            entry["error"] = f"the report is incomplete: {report['partial']}"
    except FileNotFoundError:
        entry["error"] = f"refdbg-run wrote no report; see {entry['name']}.err"
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
            lines.append(f"    error: {entry['error']}")
        if entry and entry["first_finding"]:
            lines.append(f"    {entry['first_finding']}")
    failed = sum(entry["error"] is not None for entry in entries)
    found = sum(bool(entry["findings"]) for entry in entries)
    lines += ["", f"{len(entries)} commands: {found} with findings, {failed} with errors"]
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
