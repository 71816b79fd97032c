"""The report as JUnit XML: a test case for each finding, which fails when a build should."""

from __future__ import annotations

import shlex
from typing import Any
from xml.etree import ElementTree

from refdbg.render.page_tables import shown
from refdbg.render.report import finding_lines, unseen


def junit_text(report: dict[str, Any]) -> str:
    """The whole document; *report* as in the JSON.

    What was not seen is an error; a finding fails unless it is known or only possible, which count as skipped.
    """
    cases = [_watched(report)]
    if "error" not in report:
        cases += [_repetitions(each) for each in report.get("repetitions", ())]
        cases += [_finding(number, finding) for number, finding in enumerate(report["findings"], 1)]
    counts = {"tests": str(len(cases))}
    for kind, name in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        counts[name] = str(sum(case.find(kind) is not None for case in cases))
    root = ElementTree.Element("testsuites", {"name": "refdbg", **counts})
    argv = report["target"]["argv"] if "target" in report else []
    suite = ElementTree.SubElement(root, "testsuite", {"name": shown(shlex.join(argv)) or "refdbg", **counts})
    if "target" in report:
        properties = ElementTree.SubElement(suite, "properties")
        for name in ("python", "executable", "build_id", "debugger"):
            ElementTree.SubElement(properties, "property", {"name": name, "value": shown(report["target"][name])})
        ElementTree.SubElement(properties, "property", {"name": "refdbg", "value": report["refdbg"]})
    suite.extend(cases)
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _case(kind: str, name: str) -> ElementTree.Element:
    return ElementTree.Element("testcase", {"classname": f"refdbg.{kind}", "name": shown(name)})


def _watched(report: dict[str, Any]) -> ElementTree.Element:
    case = _case("run", "the program was watched to its end")
    why = unseen(report)
    if why is not None:
        ElementTree.SubElement(case, "error", {"type": "partial", "message": _first(why)}).text = _lines(why)
    return case


def _repetitions(each: dict[str, Any]) -> ElementTree.Element:
    # A leak that findings explain fails by these.
    case = _case("repetitions", each["test"] or "the program")
    if each["verdict"] == "leak" and not each["findings"]:
        message = f"leaked {each['references']} references, and no finding explains them"
        ElementTree.SubElement(case, "failure", {"type": "leak", "message": message})
    return case


def _finding(number: int, finding: dict[str, Any]) -> ElementTree.Element:
    # By its signature, which is the same in the next run: a message has addresses in it.
    holder, subject = finding["holder"], finding["subject"]
    about = holder.get("symbol") or holder.get("path") or subject.get("type") or ""
    case = _case(finding["verdict"], f"{finding['signature']} {about}".strip())
    text = "\n".join(finding_lines(number, finding))
    if finding.get("known"):
        ElementTree.SubElement(case, "skipped", {"message": "known: it stands in the baseline"})
    elif finding["confidence"] == "possible":
        ElementTree.SubElement(case, "skipped", {"message": f"only possible: {_first(finding['message'])}"})
    else:
        failed = ElementTree.SubElement(
            case, "failure", {"type": finding["verdict"], "message": _first(finding["message"])}
        )
        failed.text = _lines(text)
    return case


def _first(text: str) -> str:
    return shown(text.split("\n")[0])


def _lines(text: str) -> str:
    # XML has no way to say most control characters.
    return "\n".join(shown(line) for line in text.split("\n"))
