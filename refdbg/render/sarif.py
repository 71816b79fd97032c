"""The report as SARIF 2.1.0: each finding a result, at a line of C where one is known."""

from __future__ import annotations

import json
import os
import shlex
from typing import Any
from urllib.parse import quote

from refdbg import __version__
from refdbg.render.report import unseen
from refdbg.render.verdicts import MEANINGS

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS = {"proven": "error", "likely": "warning", "possible": "note"}
_TREE = "SRCROOT"


def sarif_text(report: dict[str, Any]) -> str:
    """The whole document; *report* as in the JSON."""
    failed = unseen(report)
    notes = [failed] if failed else []
    invocation: dict[str, Any] = {"executionSuccessful": not failed}
    results = []
    if "error" not in report:
        target = report["target"]
        notes += report["warnings"]
        invocation["commandLine"] = shlex.join(["refdbg-run", *target["argv"]])
        results = [_result(finding) for finding in report["findings"]]
    if notes:
        invocation["toolExecutionNotifications"] = [
            {"level": "error" if note is failed else "note", "message": {"text": note}} for note in notes
        ]
    run = {
        "tool": {
            "driver": {
                "name": "refdbg",
                "version": report.get("refdbg", __version__),
                "rules": [{"id": name, "shortDescription": {"text": text}} for name, text in MEANINGS.items()],
            }
        },
        "invocations": [invocation],
        "originalUriBaseIds": {_TREE: {"description": {"text": "The source folder of what leaks, CPython's for one."}}},
        "results": results,
    }
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=1, ensure_ascii=True) + "\n"


def _result(finding: dict[str, Any]) -> dict[str, Any]:
    verdict, holder = finding["verdict"], finding["holder"]
    places = [each["location"] for each in finding["evidence"] if _has_file(each["location"])]
    here = holder if _has_file(holder) else places[0] if places else None
    location: dict[str, Any] = {"physicalLocation": _physical(here)} if here else {}
    name = holder.get("symbol") or holder.get("path") or finding["subject"].get("type")
    if name:
        location["logicalLocations"] = [{"fullyQualifiedName": name}]
    result: dict[str, Any] = {
        "ruleId": verdict,
        "ruleIndex": list(MEANINGS).index(verdict),
        "level": _LEVELS[finding["confidence"]],
        "message": {"text": f"{finding['message']} Fix: {finding['fix']}"},
        "locations": [location] if location else [],
        "relatedLocations": [
            {"physicalLocation": _physical(each["location"]), "message": {"text": each["text"]}}
            for each in finding["evidence"] if _has_file(each["location"])
        ],
        "partialFingerprints": {"refdbgSignature/v1": finding["signature"]},
        "properties": {
            "confidence": finding["confidence"],
            "objects": finding["explains"]["objects"],
            "references": finding["explains"]["references"],
            "evidence": [each["text"] for each in finding["evidence"]],
            "next": finding["next"],
        },
    }  # fmt: skip
    if finding.get("known"):
        result["suppressions"] = [{"kind": "external", "justification": "It stands in the baseline."}]
    return result


def _has_file(place: dict[str, Any] | None) -> bool:
    return bool(place and place.get("file"))


def _physical(place: dict[str, Any]) -> dict[str, Any]:
    file = place["file"]
    path = quote(file.encode("utf-8", "surrogateescape"))
    artifact = {"uri": f"file://{path}"} if os.path.isabs(file) else {"uri": path, "uriBaseId": _TREE}
    return {"artifactLocation": artifact, **({"region": {"startLine": place["line"]}} if place.get("line") else {})}
