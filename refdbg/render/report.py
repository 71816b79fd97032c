"""The report of one run (refdbg-report/1) as text."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

from refdbg.dependencies import tabulate
from refdbg.errors import MissingDependency
from refdbg.render.repetitions import repetition_lines

_TYPES = 12  # rows of a table by type
_FINDINGS = 8
_OTHERS = 4
_NOT_FREED = ("resurrected", "uncollectable")
_STACK = 12
_COLLECTIONS = 20


def prepare() -> None:
    """Import what rendering needs. Raises nothing: what is missing is said when it is needed."""
    with contextlib.suppress(MissingDependency):
        tabulate.tabulate  # noqa: B018  a lazy import


def report_text(report: dict[str, Any], width: int) -> str:
    """The whole report; *report* as in the JSON."""
    if "error" in report:
        return f"refdbg: {report['error']}"
    return "\n".join(line.rstrip() for line in _lines(report, width))


def _lines(report: dict[str, Any], width: int) -> Iterator[str]:
    target = report["target"]
    yield _rule("refdbg", width)
    if report["partial"]:
        yield f"PARTIAL: {report['partial']}"
    if target["python"]:
        traits = [name.replace("_", " ") for name, value in target["traits"].items() if value]
        kind = [] if target["traits"].get("debug") else ["release"]
        yield f"Python {target['python']} ({', '.join(kind + traits)}) under {target['debugger']}"
    if target["signal"]:
        yield f"ended by {target['signal']}"
    yield from _crash(target.get("crash"))
    for each in report.get("repetitions", ()):
        yield from repetition_lines(each, report["findings"])
    yield from headline(report)
    if "blame" in report:
        yield from _blame(report["blame"], width)
    yield from _findings(report)
    for end in report["interpreters"]:
        yield from _interpreter(end)
    yield from _totals(report["totals"])
    yield from _collections(report["collections"])
    coverage = report["coverage"]
    if coverage["unreadable"] or coverage["truncated"]:
        yield ""
        yield f"Not everything could be read: {coverage['unreadable']} faults" + (
            ", a list was cut" if coverage["truncated"] else ""
        )
        yield from (f"  {note}" for note in coverage["notes"][:5])
    if report["warnings"]:
        yield ""
        yield from (f"note: {warning}" for warning in report["warnings"])


def _blame(blame: dict[str, Any], width: int) -> Iterator[str]:
    from refdbg.render.blame import blame_lines  # only a report that has one pays for it

    yield ""
    if blame["error"]:
        yield blame["error"]
    if blame["result"]:
        result = blame["result"]
        yield f"Blame: {blame['why']}."
        yield from blame_lines(result, width)
        if result["incarnation"]:
            yield (
                f"  object {result['incarnation']} that was made at this address; "
                + ("the same in both runs" if result["verified"] else "not known to be the one of run one")
            )
    yield from (f"note: {note}" for note in blame["notes"])


def unseen(report: dict[str, Any]) -> str | None:
    """Why the end of the program was not seen, and whether it leaks is not known; None where it was."""
    if "error" in report or report["partial"]:
        return str(report.get("error") or report["partial"])
    if not report["target"]["python"]:
        return "no CPython was seen"
    signal = report["target"]["signal"]
    return f"the program was ended by {signal}" if signal else None


def options_of(report: dict[str, Any]) -> list[str]:
    """The options of refdbg-run that the report shows to have been there."""
    return [
        *(["--refleak"] if "repetitions" in report else []),
        *(["--blame", report["blame"]["wanted"]] if "blame" in report else []),
    ]


_EXPLAIN = {
    "static-reference": "C variables of {}",
    "state-reference": "fields of the interpreter's state",
    "native-reference": "memory of C code",
    "stack-reference": "stacks",
    "lost-reference": "references that nobody holds",
    "missing-visit": "references that no tp_traverse reports",
    "untraversed-frame": "suspended frames that no tp_traverse visits",
    "late-garbage": "what was released after the last collection",
    "uncollectable": "what collections found and did not free",
}


def headline(report: dict[str, Any]) -> Iterator[str]:
    """How much is left over, and how much of it is explained by what; nothing where nothing is left over."""
    left = [end["left_over"] for end in report["interpreters"] if end["id"] == 0 and end["left_over"]]
    if not left or not left[0]["objects"]:
        return
    if not report["totals"] and not left[0]["references"]:
        yield f"Only immortal objects are left over ({left[0]['objects']}), as in each release build."
        yield from _subinterpreters(report)
        return
    unit = ""
    if report["totals"]:
        counted = f"; the interpreter counts {report['totals']['references_reported']} references at its end."
    else:
        counted, unit = " (a release build prints no total of references to check the sum by).", " references"
    yield f"{left[0]['objects']} objects are left over{counted}"
    explained: dict[str, list[dict[str, Any]]] = {}
    for finding in report["findings"]:
        if finding["interpreter"] == 0 and finding["verdict"] in _EXPLAIN:
            explained.setdefault(finding["verdict"], []).append(finding)
    for verdict, findings in explained.items():
        libraries = {finding["holder"]["library"] for finding in findings if finding["holder"]["library"]}
        what = _EXPLAIN[verdict].format(", ".join(sorted(libraries)))
        yield f"  {sum(finding['explains']['references'] for finding in findings)}{unit} are explained by {what}"
    yield from _subinterpreters(report)


def _subinterpreters(report: dict[str, Any]) -> Iterator[str]:
    # Each of them leaks alike, and the newest stands for all: its numbers are no sum.
    explained: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for finding in report["findings"]:
        if finding["interpreter"] and finding["explains"]["references"] and finding["verdict"] in _EXPLAIN:
            explained.setdefault((finding["verdict"], finding["interpreter"]), []).append(finding)
    for (verdict, number), findings in explained.items():
        libraries = {finding["holder"]["library"] for finding in findings if finding["holder"]["library"]}
        references = sum(finding["explains"]["references"] for finding in findings)
        others = max(finding["repetitions"] for finding in findings) - 1
        yield (
            f"  before that, interpreter {number}: {references} are explained by "
            + _EXPLAIN[verdict].format(", ".join(sorted(libraries)))
            + (f"; {others} other interpreter{'s' if others > 1 else ''} alike" if others else "")
        )


def _rule(title: str, width: int) -> str:
    return f"== {title} {'=' * max(min(width, 120) - len(title) - 4, 0)}"


def table(rows: list[list[Any]], headers: list[str], align: tuple[str, ...] | None = None) -> list[str]:
    """The rows as indented lines; the first column to the left, the others to the right unless said otherwise."""
    if not rows:
        return []
    text = tabulate.tabulate(
        rows, headers, tablefmt="simple", disable_numparse=True,
        colalign=align or ("left", *["right"] * (len(headers) - 1)),
    )
    return [f"  {line}" for line in str(text).splitlines()]


def by_type_table(rows: list[dict[str, Any]], limit: int = _TYPES) -> list[str]:
    """Objects counted by type, the first *limit* types."""
    has_bytes = any(row["bytes"] is not None for row in rows)
    rows_ = [
        [_shorten(row["type"], 60), row["objects"], row["references"], *([row["bytes"]] if has_bytes else [])]
        for row in rows[:limit]
    ]
    lines = table(rows_, ["type", "objects", "references", *(["bytes"] if has_bytes else [])])
    if len(rows) > limit:
        lines.append(f"  … and {len(rows) - limit} more types")
    return lines


def _shorten(text: str, size: int) -> str:
    return text if len(text) <= size else text[: size - 1] + "…"


def _crash(crash: dict[str, Any] | None) -> Iterator[str]:
    if not crash:
        return
    yield f"{crash['signal']} in thread {crash['thread']}; Python stack, innermost first:"
    yield from (f"  {frame_line(frame)}" for frame in crash["python"][:_STACK])
    if not crash["python"]:
        yield "  (none)"
    yield "C stack:"
    for frame in crash["native"][:_STACK]:
        where = f" at {frame['file']}:{frame['line']}" if frame["file"] else ""
        yield f"  {frame['function']}{where}"


def frame_line(frame: dict[str, Any]) -> str:
    """One Python frame as `function (file:line)`."""
    return f"{frame['function']} ({frame['file']}:{frame['line']})"


def finding_lines(number: int, finding: dict[str, Any], brief: bool = False) -> Iterator[str]:
    """One finding: the sentence, the evidence, the fix and what to do next; *brief*: the sentence and its name."""
    known = "known, " if finding.get("known") else ""
    yield f"{number}. {finding['verdict']} ({known}{finding['confidence']}): {finding['message']}"
    if finding["repetitions"] > 1:
        yield f"     in {finding['repetitions']} interpreters; these are the numbers of interpreter " \
              f"{finding['interpreter']}"
    if not brief:
        for evidence in finding["evidence"]:
            yield f"     evidence: {evidence['text']}"
        yield f"     fix:      {finding['fix']}"
        yield f"     next:     {finding['next']}"
    yield f"     signature {finding['signature']}"


def _findings(report: dict[str, Any]) -> Iterator[str]:
    main = [finding for finding in report["findings"] if finding["explains"]["references"]]
    # What a collection did not free is worth a word, even where nothing of it is left over.
    others = [finding for finding in report["findings"] if finding not in main and finding["verdict"] in _NOT_FREED]
    met: Counter[str] = Counter()
    for number, finding in enumerate([*main[:_FINDINGS], *others[:_OTHERS]], 1):
        yield ""
        # The advice is the same for each of a kind: the first two stand for the others.
        yield from finding_lines(number, finding, brief=met[finding["verdict"]] >= 2)
        met[finding["verdict"]] += 1
    rest = len(main) - _FINDINGS
    if rest > 0:
        references = sum(finding["explains"]["references"] for finding in main[_FINDINGS:])
        yield ""
        yield f"… and {rest} more findings that explain {references} references (all are in --json)"
    if is_clean(report):
        yield ""
        yield "Nothing is left over."


def is_clean(report: dict[str, Any]) -> bool:
    """Whether nothing is left over: only where the very end was seen, whole, and the interpreter's own total agrees."""
    left = {end["id"]: end["left_over"] for end in report["interpreters"]}
    seen_whole = left.get(0) is not None and None not in left.values() and not report["partial"]
    if not seen_whole or report["coverage"]["unreadable"] or report["coverage"]["truncated"]:
        return False
    return bool(
        report["totals"] and report["totals"]["references_reported"] == 0 and not report["findings"]
        and not any(each["objects"] for each in left.values())
    )


_MOMENTS = ("before_clear", "last_collection", "after_last_collection", "at_end")


def _interpreter(end: dict[str, Any]) -> Iterator[str]:
    yield ""
    yield f"Interpreter {end['id']}{' (main)' if end['id'] == 0 else ''}"
    rows = [
        [end["moments"][name]["what"], end["moments"][name]["function"], end["moments"][name]["objects"],
         end["moments"][name]["references"]]
        for name in sorted(end["moments"], key=_MOMENTS.index)
    ]
    yield from table(rows, ["what", "seen at", "objects", "references"])
    left = end["left_over"]
    if left and left["objects"]:
        yield ""
        counts = f"{left['objects']} objects, {left['references']} references, {left['bytes']} bytes"
        yield f"  left over at the end: {counts}"
        yield from by_type_table(left["by_type"])


def _totals(totals: dict[str, Any] | None) -> Iterator[str]:
    if totals is None:
        return
    yield ""
    yield f"The interpreter's own total at {totals['function']}: {totals['references_reported']} references"
    rows = [[line["what"], line["references"]] for line in totals["lines"]]
    rows.append(["unattributed", totals["references_unattributed"]])
    yield from table(rows, ["made of", "references"])
    if totals["owners"]:
        owners = sorted(totals["owners"], key=lambda line: -line["references"])
        yield "  heap objects are held by " + ", ".join(f"{line['what']} {line['references']}" for line in owners)


def _collections(collections: list[dict[str, Any]]) -> Iterator[str]:
    if not collections:
        return
    yield ""
    busy = [record for record in collections if record["unreachable"] or record["phase"] == "finalization"]
    yield f"{len(collections)} collections; those that found something, and those of the finalization:"
    yield from collection_table(busy[-_COLLECTIONS:])
    for record in [record for record in busy if record["phase"] == "running" and record["by_type"]][-_COLLECTIONS:]:
        kinds = ", ".join(f"{row['objects']} {_shorten(row['type'], 40)}" for row in record["by_type"][:4])
        more = len(record["by_type"]) - 4
        yield f"  #{record['number']} found {kinds}" + (f" and {more} more types" if more > 0 else "")
        for finalizer in record["finalizers"][:3]:
            where = f" ({finalizer['file']}:{finalizer['line']})" if finalizer["file"] else ""
            yield f"     finalizer {finalizer['function']}{where} for {finalizer['objects']} of them"
        for row in record["objects"][:2]:
            yield f"     {row['address']:#x} {row['repr']}"


def collection_table(collections: list[dict[str, Any]]) -> list[str]:
    """The collections, a row each."""
    rows = []
    for record in collections:
        frame = record["frame"]
        rows.append([
            f"#{record['number']}", record["interpreter"], record["generation"], record["tracked"],
            "?" if record["tracked_after"] is None else record["tracked_after"], record["unreachable"],
            record["finalized"], record["resurrected"], record["cleared"], record["uncollectable"],
            "" if record["seconds"] is None else f"{record['seconds'] * 1000:.2f}",
            record["reason"], _shorten(frame_line(frame), 50) if frame else "",
        ])
    return table(rows, ["", "interp", "gen", "tracked", "after", "unreachable", "finalized", "resurrected", "cleared",
                         "uncollectable", "ms", "reason", "Python frame"])
