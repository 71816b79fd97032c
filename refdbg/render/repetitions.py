"""What the repetitions of a program leave, as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from refdbg.records import Allocation, FrameRow
from refdbg.render.allocation import stack_text

_KINDS = 12
_NAMED = 6
_TESTS = 12

_VERDICTS = {
    "noise": "It goes up and down: no leak that each repetition repeats.",
    "stops": "It grows, then stops: something that fills up once.",
    "steady": "No repetition leaves anything.",
    "shrinks": "It shrinks in each: a reference is released that is not owned (a Py_DECREF too many), or something "
    "empties.",
    "too few": "These are too few repetitions to tell. With regrtest use -R 3:3.",
}


def repetition_lines(each: dict[str, Any], findings: Sequence[dict[str, Any]]) -> Iterator[str]:
    """One test, or a program that is none of regrtest's. *findings*: of the whole report."""
    growths = [number for number in each["references"] if number is not None]
    counted = growths[max(each["warmups"] - 1, 0) :] if each["test"] else growths
    name = each["test"] or "The program"
    yield ""
    if each["verdict"] == "leak":
        yield f"{name} leaked {counted} references, sum={sum(counted)}"
    else:
        yield f"{name}: references {counted}. {_VERDICTS[each['verdict']]}"
    yield from _growth(each["growth"], each["verdict"] == "leak")
    own = [finding for finding in findings if finding["signature"] in each["findings"]]
    if own:
        explained = sum(finding["explains"]["references"] * finding["repetitions"] for finding in own)
        yield f"  the findings below explain {explained} references of one repetition"
    yield from _tests(each["tests"])
    yield from (f"  note: {note}" for note in each["notes"])


def _growth(growth: dict[str, Any] | None, leaks: bool) -> Iterator[str]:
    if growth is None:
        return
    kinds = growth["by_type"]
    named = [f"{row['objects']} {row['type']}" for row in kinds[:_NAMED]]
    rest = sum(row["objects"] for row in kinds[_NAMED:])
    named += [f"{rest} more objects"] if rest else []
    what = "Each repetition leaks" if growth["steady"] and leaks else f"Repetition {growth['repetition']} left"
    parts = " + ".join(f"{line['references']} ({line['what']})" for line in growth["lines"])
    parts = parts.replace("+ -", "- ")
    yield f"{what} {', '.join(named) or 'no new object'}: {growth['references']} references = {parts}"
    if growth["older"]:
        listed = ", ".join(f"{line['what']} +{line['references']}" for line in growth["older"][:_NAMED])
        yield f"  of the objects that were there before, most was gained by {listed}"
    for row in [row for row in growth["allocated"] if row["allocation"]["frames"]][:_NAMED]:
        frames = [FrameRow(**frame) for frame in row["allocation"]["frames"]]
        yield f"  {row['objects']} {row['type']}: {stack_text(Allocation(frames, row['allocation']['total']))}"


def _tests(tests: list[dict[str, Any]]) -> Iterator[str]:
    for row in tests[:_TESTS]:
        parts = [f"{row['objects']} new objects with {row['references']} references"] if row["objects"] else []
        parts += [f"{row['older']} references of objects that were there before"] if row["older"] else []
        yield f"  in {row['test'] or 'none of the test methods'}: {', '.join(parts)}"
    if len(tests) > _TESTS:
        yield f"  and in {len(tests) - _TESTS} more test methods (all are in --json)"
