"""The report as one HTML page that needs nothing else: no network, no other file.

Never inside a debugger: jinja2 is not among the packages that every Python can import.
"""

from __future__ import annotations

import os
import re
import shlex
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from refdbg.dependencies import jinja2
from refdbg.errors import CommandError
from refdbg.render import collection_chart, page_tables
from refdbg.render.finding_drawing import finding_svg
from refdbg.render.page_tables import shown
from refdbg.render.repetitions import repetition_lines
from refdbg.render.report import frame_line, headline, is_clean, options_of, unseen
from refdbg.render.verdicts import CONFIDENCES, MEANINGS

_FOLDER = os.path.join(os.path.dirname(__file__), "page")
_DRAWN = 24  # findings: nobody looks at more drawings, and each has 30 kB
_COLLECTIONS = 20_000
_DEEPEST = 24  # calls of the balance tree are not indented further
_CODE = re.compile(r"`([^`]+)`")


@dataclass(frozen=True)
class _Suspect:
    # A finding, the part of the references that it explains, and its drawing, or why there is none.
    number: int
    finding: dict[str, Any]
    share: float | None
    drawing: str
    undrawn: str


@dataclass(frozen=True)
class _CallRow:
    # A row of the balance tree.
    depth: int
    net: int
    name: str
    place: str
    parent: bool


def html_text(report: dict[str, Any]) -> str:
    """The whole page; *report* as in the JSON. Raises MissingDependency."""
    environment = page_environment()
    common = {"report": report, **page_parts()}
    if "error" in report:
        return str(environment.get_template("failure.html").render(common))
    suspects = list(_suspects(report))
    return str(environment.get_template("report.html").render(
        **common,
        command=shlex.join(report["target"]["argv"]),
        again=shlex.join(["refdbg-run", *options_of(report), *report["target"]["argv"]]),
        clean=is_clean(report),
        unseen=unseen(report),
        headline=[line.strip() for line in headline(report)],
        suspects=[each for each in suspects if each.finding["explains"]["references"]],
        others=[each for each in suspects if not each.finding["explains"]["references"]],
        repetitions=[_repetition(each, report["findings"]) for each in report.get("repetitions", ())],
        meanings={**MEANINGS, **CONFIDENCES},
        calls=list(_calls(report)),
        deepest=_DEEPEST,
        panels=collection_chart.panels(report["collections"]),
        chart=collection_chart,
        rows=page_tables.ROWS,
        collections=_COLLECTIONS,
        moments=_moments(report),
        data=jinja2.Markup(_data(report, suspects)),
    ))  # fmt: skip


def page_environment() -> Any:
    """The templates. What is text in a template's values is escaped, and what cannot be shown is spelled out."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: shown(value) if type(value) is str else value,
    )
    environment.filters["sentence"] = _sentence
    environment.filters["count"] = _counted
    return environment


def page_parts() -> dict[str, Any]:
    """What every page has: the style, the script, and the policy that forbids all else."""
    style, script = (_file(name) for name in ("report.css", "report.js"))
    return {
        "style": jinja2.Markup(style), "script": jinja2.Markup(script),
        "policy": f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; base-uri 'none'; "
                  "form-action 'none'",
    }  # fmt: skip


def _file(name: str) -> str:
    with open(os.path.join(_FOLDER, name), encoding="utf-8") as file:
        return file.read()


def _hash(text: str) -> str:
    # What the page's own style and script must have as their content to be used: nothing else is.
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"


def _counted(number: int, what: str = "") -> str:
    return f"{number:,}" + (f" {what}{'' if number == 1 else 's'}" if what else "")


def _sentence(text: str) -> Any:
    # What stands between backticks as code.
    parts = _CODE.split(shown(text))
    return jinja2.Markup("").join(
        jinja2.Markup("<code>{}</code>").format(part) if number % 2 else part for number, part in enumerate(parts)
    )


def _suspects(report: dict[str, Any]) -> Iterator[_Suspect]:
    whole = {end["id"]: end["left_over"]["references"] for end in report["interpreters"] if end["left_over"]}
    if report["totals"]:
        whole[0] = report["totals"]["references_reported"]
    for number, finding in enumerate(report["findings"], 1):
        of = whole.get(finding["interpreter"])
        share = min(finding["explains"]["references"] / of, 1.0) if of and of > 0 else None
        drawing, undrawn = "", ""
        if number > _DRAWN:
            undrawn = f"Only the first {_DRAWN} findings are drawn."
        elif finding.get("graph"):
            try:
                drawing = jinja2.Markup(finding_svg(finding))
            except CommandError as error:
                undrawn = error.text()
        yield _Suspect(number, finding, share, drawing, undrawn)


def _calls(report: dict[str, Any]) -> Iterator[_CallRow]:
    # Without recursion: a program's calls may be nested a thousand deep.
    result = (report.get("blame") or {}).get("result")
    rest = [(0, node) for node in reversed(result["balance"]["tree"])] if result else []
    while rest:
        depth, node = rest.pop()
        call = node["call"]
        file, line = call["file"], call["line"] or "?"
        yield _CallRow(
            depth,
            node["net"],
            call["function"] + ("" if call["python"] else "()"),
            f"{file}:{line}" if file else call["library"],
            bool(node["calls"]),
        )
        rest += [(depth + 1, child) for child in reversed(node["calls"])]


def _repetition(each: dict[str, Any], findings: Sequence[dict[str, Any]]) -> list[str]:
    # What the text report says of it, without what the page has tables for.
    lines = [line.strip() for line in repetition_lines({**each, "tests": []}, []) if line.strip()]
    own = [finding for finding in findings if finding["signature"] in each["findings"]]
    if own:
        explained = sum(finding["explains"]["references"] * finding["repetitions"] for finding in own)
        lines.insert(1, f"The suspects above explain {explained} references of one repetition.")
    return lines


_MOMENTS = ("before_clear", "last_collection", "after_last_collection", "at_end")


def _moments(report: dict[str, Any]) -> dict[int, list[dict[str, Any]]]:
    return {
        end["id"]: [end["moments"][name] for name in _MOMENTS if name in end["moments"]]
        for end in report["interpreters"]
    }


def _data(report: dict[str, Any], suspects: Sequence[_Suspect]) -> str:
    # What the script needs.
    tables: dict[str, Any] = {}
    leaving = [end for end in report["interpreters"] if end["left_over"] and end["left_over"]["objects"]]
    for end in leaving:
        left = end["left_over"]
        tables[f"census-{end['id']}"] = page_tables.by_type(left["by_type"])
        tables[f"objects-{end['id']}"] = page_tables.objects(left["first"], page_tables.TEXT_BYTES // len(leaving))
    for number, each in enumerate(report.get("repetitions", ())):
        if each["growth"]:
            tables[f"growth-{number}"] = page_tables.by_type(each["growth"]["by_type"])
    if report["collections"]:
        tables["collections"] = page_tables.collections(report["collections"][-_COLLECTIONS:], frame_line)
    graphs = {each.number: _graph(each.finding["graph"]) for each in suspects if each.drawing}
    return page_tables.in_page({"tables": tables, "graphs": graphs})


def _graph(graph: dict[str, Any]) -> dict[str, Any]:
    return {
        "nodes": [
            {"role": node["role"], "kind": shown(node["kind"]), "label": shown(node["label"]),
             **({"type": shown(row["type"]), "repr": shown(row["repr"]), "address": f"{row['address']:#x}",
                 "references": row["refcount"]} if (row := node["object"]) else {})}
            for node in graph["nodes"]
        ],
        "edges": [
            [edge["from"], edge["to"], shown(edge["label"]), edge["owned"], edge["visited"]] for edge in graph["edges"]
        ],
        "more": graph["more"],
    }  # fmt: skip
