"""What is kept of one job for the summary: so much of its report that the reports need not be read again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from refdbg import __version__
from refdbg.launch.run import is_whole
from refdbg.launch.triage.jobs import Job
from refdbg.render.report import is_clean, unseen

# clean, left over, leaks: watched to the end; left over: something is, and no finding says that it leaks.
# incomplete: of the program's own doing, or a limit's. failed: the debugger, twice.
# not started: no interpreter, no folder, a wrong option.
OUTCOMES = ("clean", "left over", "leaks", "incomplete", "failed", "not started")


def not_started(job: Job, why: str) -> dict[str, Any]:
    """The result of a job that could not be tried."""
    return {**_common(job), "outcome": "not started", "why": why}


def failed(job: Job, why: str) -> dict[str, Any]:
    """The result of a job without a report."""
    return {**_common(job), "outcome": "failed", "why": why}


def reported(job: Job, report: Mapping[str, Any], limit: str | None) -> dict[str, Any]:
    """The result of a job with a report. *limit*: why we have ended it. Raises LookupError, TypeError: damaged."""
    target = report["target"]
    findings = [_finding(each) for each in report["findings"]]
    leaks = [each for each in report.get("repetitions", ()) if each["verdict"] == "leak"]
    unexplained = [
        f"{each['test'] or 'the program'} leaked {_counted(each)} references, and no finding explains them"
        for each in leaks if not each["findings"]
    ]  # fmt: skip
    why = limit or _why_not_whole(dict(report), leaks)
    clean = is_clean(dict(report)) or "repetitions" in report  # what repetitions were seen to be, they have said
    outcome = "incomplete" if why else "leaks" if findings or leaks else "clean" if clean else "left over"
    return {
        **_common(job),
        "outcome": outcome, "why": why, "unexplained": unexplained, "findings": findings,
        "leaked": [{"test": each["test"], "references": _counted(each)} for each in leaks],
        "left": (report["totals"] or {}).get("references_reported"),
        "refdbg": report["refdbg"], "debugger": target["debugger"], "python": target["python"],
        "build": target["build_id"] or target["executable"],
        "exit_status": target["exit_status"], "signal": target["signal"],
    }  # fmt: skip


def _common(job: Job) -> dict[str, Any]:
    return {
        "key": job.key, "job": job.name, "interpreter": job.interpreter, "outcome": "", "why": None,
        "unexplained": [], "findings": [], "leaked": [], "left": None, "refdbg": __version__, "debugger": "",
        "python": "", "build": "", "exit_status": None, "signal": None,
    }  # fmt: skip


def _counted(each: Mapping[str, Any]) -> list[Any]:
    # As regrtest prints it.
    return list(each["references"][each["warmups"]:])


def _why_not_whole(report: dict[str, Any], leaks: list[Any]) -> str | None:
    why = unseen(report)
    if why is None and not leaks and not is_whole(report):
        status = report["target"]["exit_status"]
        if "repetitions" in report:
            why = "too few repetitions were seen to tell whether it leaks"
        else:
            why = "the end of the interpreter was not seen"
        why += f"; the program's exit status is {status}" if status else ""
        why += "".join(f". {warning}" for warning in report["warnings"][:1])
    return why


def _finding(finding: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **{key: finding[key] for key in ("signature", "verdict", "confidence", "message", "fix", "repetitions")},
        "references": finding["explains"]["references"], "objects": finding["explains"]["objects"],
        "holder": finding["holder"].get("symbol") or finding["holder"].get("path") or "",
    }
