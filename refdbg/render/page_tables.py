"""The long tables of a page as compact columns, that its script shows a page at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from refdbg.render.dot import printable

_TEXT_BUDGET = 3_000_000  # characters of a column; a page of 5 MB has room for one such
_SHORTEST = 24
_ROWS = 120_000
_ADDRESS = "\x7f"  # stands for the address of the row; it is never printable


def shown(text: str) -> str:
    """Text of the process, safe to show."""
    return text if text.isprintable() else printable(text)


def numbers(name: str, values: Iterable[float | None]) -> dict[str, Any]:
    """A column of numbers."""
    return {"name": name, "kind": "number", "values": [*values]}


def texts(name: str, values: Iterable[str], kind: str = "text") -> dict[str, Any]:
    """A column of texts, each distinct one kept once."""
    return _shortened(name, [shown(value) for value in values], kind)


def _shortened(name: str, cells: list[str], kind: str) -> dict[str, Any]:
    distinct = dict.fromkeys(cells)
    if sum(map(len, distinct)) > _TEXT_BUDGET:
        width = max(_TEXT_BUDGET // len(distinct), _SHORTEST)
        cells = [cell if len(cell) <= width else f"{cell[: width - 1]}…" for cell in cells]
        distinct = dict.fromkeys(cells)
    index = {text: number for number, text in enumerate(distinct)}
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


def objects(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Objects one by one; a table that is longer than a page can be is cut."""
    rows = rows[:_ROWS]
    return [
        texts("type", [row["type"] for row in rows], "code"),
        _shortened("repr", [shown(row["repr"]).replace(f"{row['address']:#x}", _ADDRESS) for row in rows], "repr"),
        numbers("references", [row["refcount"] for row in rows]),
        _addresses("address", [row["address"] for row in rows]),
    ]


_COUNTS = (
    "interpreter",
    "generation",
    "tracked",
    "unreachable",
    "finalized",
    "resurrected",
    "cleared",
    "uncollectable",
)


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
