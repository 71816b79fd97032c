"""Who changed an object's reference count, as text: what is left of it, merged by call path, with the source lines."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import wrap
from typing import Any

from refdbg.analysis.blame import HOW
from refdbg.records import Blame
from refdbg.render import plain, text
from refdbg.render.stacks import printable, source_line

_SITES = 8
_NODES = 60  # of the tree
_SOURCE = 60  # characters of a source line
_DEEP = 24  # from here on not indented further


@text.register
def blame_text(record: Blame, width: int) -> str:
    """The paths that are left."""
    return "\n".join([*blame_lines(plain(record), width), *(f"note: {note}" for note in record.notes)])


def blame_lines(blame: dict[str, Any], width: int) -> Iterator[str]:
    """The same of a report's plain record."""
    object_, balance = blame["object"], blame["balance"]
    state = f"reference count {object_['refcount']}" if blame["state"] == "alive" else "freed"
    yield printable(f"{object_['type']} at {object_['address']:#x}: {object_['repr']}, {state}")
    seen = f"  {balance['increments']} increments and {balance['decrements']} decrements were seen"
    if balance["start"]:
        yield f"{seen}; {balance['start']} earlier references were not given back"
    else:
        yield f"{seen}; {balance['hidden']} of each balance and are not shown"
    remaining = balance["remaining"]
    if not remaining:
        yield "  nothing else is left: every increment has a decrement"
        return
    for number, each in enumerate(remaining[:_SITES], 1):
        yield printable(f"  {number}. {each['references']:+} in {_place(each['site'])}")
    if len(remaining) > _SITES:
        yield f"  … and {len(remaining) - _SITES} more paths (all are in --json)"
    rows = list(_rows(balance["tree"], 0))
    if len(rows) > _NODES:
        rows = [*rows[:_NODES], (0, "", "", f"… and {len(rows) - _NODES} more calls (all are in --json)")]
    names = min(max(len(name) for _, name, _, _ in rows), max(width // 2, 30))
    places = min(max(len(place) for _, _, place, _ in rows), max(width // 2, 30))
    for net, name, place, source in rows:
        sign = f"{net:+}" if net else ""
        yield printable(f"  {sign:>6} {name:{names}}  {place:{places}}  {source}".rstrip())
    yield from wrap(f"({HOW})", max(min(width, 120), 40), initial_indent="  ", subsequent_indent="  ")


def _place(call: dict[str, Any]) -> str:
    where = f"{call['file']}:{call['line'] or '?'}" if call["file"] else call["library"] or "no debug info"
    return f"{call['function']} ({where})"


def _rows(nodes: list[dict[str, Any]], depth: int) -> Iterator[tuple[int, str, str, str]]:
    # Net, indented function, place, source line.
    for node in nodes:
        call = node["call"]
        file = call["file"] or ""
        name = " " * min(depth, _DEEP) + call["function"] + ("" if call["python"] else "()")
        place = f"{file.rpartition('/')[2]}:{call['line'] or '?'}" if file else call["library"]
        yield node["net"], name, place, source_line(file, call["line"] or 0)[:_SOURCE]
        yield from _rows(node["calls"], depth + 1)
