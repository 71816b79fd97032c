"""One record of all results: each job a row, findings grouped by their signature over all jobs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

from refdbg import __version__
from refdbg.launch.triage.folder import Folder
from refdbg.launch.triage.result import OUTCOMES

SCHEMA = "refdbg-triage-summary/1"
NOT_RUN = "not run"
_CONFIDENCES = ("proven", "likely", "possible")
_VERSION = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?(?:(a|b|rc|c)(\d+))?")


@dataclass
class _Group:
    # A signature. *finding*: what stands for all, the largest with the newest Python.
    finding: dict[str, Any]
    newest: str
    oldest: str
    first: tuple[float, str]
    confidence: int = len(_CONFIDENCES)
    references: int = 0
    jobs: list[str] = field(default_factory=list)
    interpreters: set[str] = field(default_factory=set)
    builds: set[str] = field(default_factory=set)

    def add(self, result: Mapping[str, Any], finding: dict[str, Any]) -> None:
        python = result["python"]
        if (_order(python), finding["references"]) > (_order(self.newest), self.finding["references"]):
            self.newest, self.finding = python, finding
        if _order(python) < _order(self.oldest):
            self.oldest = python
        self.first = min(self.first, (result["started"], result["key"]))
        self.confidence = min(self.confidence, _CONFIDENCES.index(finding["confidence"]))
        self.references = max(self.references, finding["references"])
        self.jobs.append(result["key"])
        self.interpreters.add(result["interpreter"])
        self.builds.add(result["build"])


def summary(folder: Folder, known: AbstractSet[str], notes: Sequence[str] = ()) -> dict[str, Any]:
    """The record (refdbg-triage-summary/1). *known*: the signatures of a baseline. Results are read one by one."""
    groups: dict[str, _Group] = {}
    rows = []
    versions: Counter[str] = Counter()
    for job in folder.jobs():
        result = folder.result(job.key)
        if result is None:
            rows.append(_row({"key": job.key, "interpreter": job.interpreter}))
            continue
        versions[result["refdbg"]] += 1
        rows.append(_row(result))
        for finding in {each["signature"]: each for each in result["findings"]}.values():
            group = groups.get(finding["signature"])
            if group is None:
                group = groups[finding["signature"]] = _Group(
                    finding, result["python"], result["python"], (result["started"], result["key"])
                )
            group.add(result, finding)
    listed = [_listed(group, known) for group in groups.values()]
    listed.sort(key=lambda each: (not each["new"], each["known"], -each["jobs"] * each["references"]))
    numbers = {each["signature"]: number for number, each in enumerate(listed, 1)}
    for row in rows:
        row["groups"] = sorted(numbers[signature] for signature in row.pop("signatures"))
        row["new"] = sum(listed[number - 1]["new"] for number in row["groups"]) + len(row["unexplained"])
    outcomes = Counter(row["outcome"] for row in rows)
    record = {
        "schema": SCHEMA, "refdbg": __version__,
        "shard": [folder.shard.number, folder.shard.of] if folder.shard.of > 1 else None,
        "outcomes": {name: outcomes[name] for name in (*OUTCOMES, NOT_RUN) if outcomes[name]},
        "interpreters": len({row["interpreter"] for row in rows}),
        "new": sum(each["new"] for each in listed),
        "unexplained": sum(len(row["unexplained"]) for row in rows),
        "notes": [*notes, *_version_notes(versions)],
        "groups": listed, "rows": rows,
    }  # fmt: skip
    return {**record, "exit_status": _exit_status(record)}


def _exit_status(record: Mapping[str, Any]) -> int:
    # 2: not every job was watched to its end; 1: there are new leaks; 0: neither.
    if any(record["outcomes"].get(name) for name in ("incomplete", "failed", "not started", NOT_RUN)):
        return 2
    return 1 if record["new"] or record["unexplained"] else 0


def _row(result: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "key": result["key"], "interpreter": result["interpreter"], "python": result.get("python", ""),
        "outcome": result.get("outcome", NOT_RUN), "why": result.get("why"),
        "exit_status": result.get("exit_status"), "signal": result.get("signal"),
        "signatures": {each["signature"] for each in result.get("findings", ())},
        "unexplained": result.get("unexplained", []), "leaked": result.get("leaked", []),
        "left": result.get("left"), "seconds": result.get("seconds"), "failures": result.get("failures", []),
    }  # fmt: skip


def _listed(group: _Group, known: AbstractSet[str]) -> dict[str, Any]:
    finding = group.finding
    is_known = finding["signature"] in known
    confidence = _CONFIDENCES[group.confidence]
    return {
        **{name: finding[name] for name in ("signature", "verdict", "message", "fix", "holder")},
        "confidence": confidence, "known": is_known,
        "new": not is_known and confidence != "possible",  # a guess must not fail a build
        "references": group.references, "jobs": len(group.jobs), "in": group.jobs,
        "interpreters": sorted(group.interpreters), "builds": len(group.builds),
        "oldest": group.oldest, "newest": group.newest,
        "first_seen": {"job": group.first[1], "time": group.first[0]},
    }  # fmt: skip


def _order(version: str) -> tuple[int, int, int, str, int]:
    match = _VERSION.match(version)
    if match is None:
        return 0, 0, 0, "", 0
    # A final release is after its candidates.
    return int(match[1]), int(match[2]), int(match[3] or 0), match[4] or "z", int(match[5] or 0)


def _version_notes(versions: Counter[str]) -> list[str]:
    others = {version: number for version, number in versions.items() if version != __version__}
    if not others:
        return []
    said = ", ".join(f"{version} ({number} {'job' if number == 1 else 'jobs'})" for version, number in others.items())
    return [
        f"Results of another refdbg than this one ({__version__}): {said}. Verdicts and signatures may differ between "
        "versions: a leak may stand here twice, or as new."
    ]
