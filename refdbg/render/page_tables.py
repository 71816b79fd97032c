"""The long tables of a page as compact columns, that its script shows a page at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from refdbg.render.dot import printable

TEXT_BYTES = 3_000_000  # of the texts of all objects; a page of 5 MB has room for so much
_SHORTEST = 8
ROWS = 120_000  # of a table; more are no page any more
_MARKUP = re.compile("<(?=[/!sS])")
_ADDRESS = "\x7f"  # stands for the address of the row; it is never printable


def shown(text: str) -> str:
    """Text of the process, safe to show."""
    return text if text.isprintable() else printable(text)


def numbers(name: str, values: Iterable[float | None]) -> dict[str, Any]:
    """A column of numbers."""
    return {"name": name, "kind": "number", "values": [*values]}


def texts(name: str, values: Iterable[str], kind: str = "text") -> dict[str, Any]:
    """A column of texts, each distinct one kept once."""
    return _column(name, [shown(value) for value in values], kind)


def in_page(value: Any) -> str:
    """JSON that may stand inside of a <script>: what could end it, or begin a comment there, is escaped."""
    return _MARKUP.sub("\\\\u003c", json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def _size(text: str) -> int:
    return len(in_page(text).encode())


def _fitting(cells: list[str], budget: int) -> list[str]:
    # As long as they can be that all of them have room.
    distinct = dict.fromkeys(cells)
    total = sum(map(_size, distinct))
    if total <= budget:
        return cells
    width = max(sum(map(len, distinct)) * budget // (total * len(distinct)), _SHORTEST)
    return [cell if len(cell) <= width else f"{cell[: width - 1]}…" for cell in cells]


def _column(name: str, cells: list[str], kind: str) -> dict[str, Any]:
    index = {text: number for number, text in enumerate(dict.fromkeys(cells))}
    if len(index) > len(cells) * 0.7:
        return {"name": name, "kind": kind, "values": cells}
    return {"name": name, "kind": kind, "distinct": [*index], "indexes": [index[cell] for cell in cells]}


def _addresses(name: str, values: Sequence[int]) -> dict[str, Any]:
    # Differences, in hexadecimal: an address needs all of its 64 bits, which a number in JavaScript has not.
    steps = [value - before for before, value in zip([0, *values], values)]
    return {"name": name, "kind": "address", "steps": ",".join(f"{step:x}" for step in steps)}


def by_type(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Objects counted by type."""
    columns = [
        texts("type", [row["type"] for row in rows], "code"),
        numbers("objects", [row["objects"] for row in rows]),
        numbers("references", [row["references"] for row in rows]),
    ]
    if any(row["bytes"] is not None for row in rows):
        columns.append(numbers("bytes", [row["bytes"] for row in rows]))
    return columns


def objects(rows: Sequence[dict[str, Any]], budget: int) -> list[dict[str, Any]]:
    """Objects one by one. Their texts are shortened to *budget* bytes; the rows are cut where no page can have them."""
    rows = rows[:ROWS]
    reprs = [shown(row["repr"]).replace(f"{row['address']:#x}", _ADDRESS) for row in rows]
    fitting = _fitting(reprs, budget)
    return [
        texts("type", [row["type"] for row in rows], "code"),
        {**_column("repr", fitting, "repr"), "shortened": fitting is not reprs},
        numbers("references", [row["refcount"] for row in rows]),
        _addresses("address", [row["address"] for row in rows]),
    ]


_COUNTS = (
    "interpreter", "generation", "tracked", "unreachable", "finalized", "resurrected", "cleared", "uncollectable",
)  # fmt: skip


def collections(rows: Sequence[dict[str, Any]], place: Callable[[dict[str, Any]], str]) -> list[dict[str, Any]]:
    """Collections, a row each; a number that is 0 in all of them has no column. *place*: a Python frame as text."""
    counts = [name for name in _COUNTS if name in ("tracked", "unreachable") or any(row[name] for row in rows)]
    return [
        numbers("#", [row["number"] for row in rows]),
        texts("reason", [row["reason"] for row in rows]),
        *(numbers("examined" if name == "tracked" else name, [row[name] for row in rows]) for name in counts),
        numbers("ms", [None if row["seconds"] is None else round(row["seconds"] * 1000, 2) for row in rows]),
        texts("Python frame", [place(row["frame"]) if row["frame"] else "" for row in rows], "code"),
        texts(
            "found",
            [", ".join(f"{each['objects']} {each['type']}" for each in row["by_type"][:4]) for row in rows],
            "code",
        ),
    ]
