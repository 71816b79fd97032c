"""Collections over time as a chart: what each examined, and what it found. Computes where things are drawn, no more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT = 960, 84  # of one panel, in units of the drawing
_BINS = 240  # more columns than that cannot be told apart


@dataclass(frozen=True)
class Bar:
    """A column of the chart, and what it says; *late*: of the finalization."""

    x: float
    y: float
    width: float
    height: float
    late: bool
    label: str


@dataclass(frozen=True)
class Panel:
    """One quantity over all collections. *top*: the largest value."""

    title: str
    top: int
    bars: list[Bar]


def panels(collections: Sequence[dict[str, Any]]) -> list[Panel]:
    """Two panels, of what was examined and of what was found unreachable. Where the collections are too many for a
    column each, a column stands for the largest of its neighbours."""
    return [
        _panel("objects examined", "tracked", collections),
        _panel("objects found unreachable", "unreachable", collections),
    ]


def _panel(title: str, key: str, collections: Sequence[dict[str, Any]]) -> Panel:
    count = len(collections)
    bins = min(count, _BINS)
    top = max((each[key] for each in collections), default=0)
    width = WIDTH / max(bins, 12)  # a few collections need not be as wide as the page
    bars = []
    for number in range(bins):
        group = collections[number * count // bins : (number + 1) * count // bins]
        highest = max(group, key=lambda each: int(each[key]))
        height = HEIGHT * highest[key] / top if top else 0.0
        height = max(height, 1.0) if highest[key] else 0.0
        gap = min(width * 0.2, 4)
        bars.append(
            Bar(round(number * width + gap / 2, 2), round(HEIGHT - height, 2), round(width - gap, 2), round(height, 2),
                group[-1]["phase"] == "finalization", _label(group, highest, key))
        )  # fmt: skip
    return Panel(title, top, bars)


def _label(group: Sequence[dict[str, Any]], highest: dict[str, Any], key: str) -> str:
    what = "examined" if key == "tracked" else "unreachable"
    text = f"#{highest['number']}, generation {highest['generation']}, {highest['reason']}: {highest[key]:,} {what}"
    return text if len(group) == 1 else f"{text} (the most of #{group[0]['number']} to #{group[-1]['number']})"
