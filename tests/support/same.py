"""Two answers that must be the same but for the debugger, times, and the numbers that addresses have."""

from __future__ import annotations

import re
from typing import Any

_TIMES = ("seconds", "debugger", "pid", "thread")
_ADDRESS = re.compile(r"\b0x[0-9a-f]+\b")


def normalised(record: Any) -> Any:
    """*record* with addresses replaced by their order of appearance, and without times and the debugger's name."""
    seen: dict[int, int] = {}

    def number(address: int) -> int:
        return seen.setdefault(address, len(seen))

    def walk(value: Any, key: str) -> Any:
        if isinstance(value, dict):
            return {name: walk(inner, name) for name, inner in value.items() if name not in _TIMES}
        if isinstance(value, list):
            return [walk(inner, key) for inner in value]
        if isinstance(value, str):
            return _ADDRESS.sub(lambda match: f"@{number(int(match[0], 16))}", value)
        if isinstance(value, int) and not isinstance(value, bool) and key == "address":
            return f"@{number(value)}"
        return value

    return walk(record, "")


def differences(one: Any, other: Any, path: str = "") -> list[str]:
    """Where two records differ: at most a line each."""
    if isinstance(one, dict) and isinstance(other, dict):
        return [
            line for name in one.keys() | other.keys()
            for line in differences(one.get(name), other.get(name), f"{path}.{name}")
        ]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [line for row in range(len(one)) for line in differences(one[row], other[row], f"{path}[{row}]")]
    return [] if one == other else [f"{path}: {str(one)[:300]} != {str(other)[:300]}"]
