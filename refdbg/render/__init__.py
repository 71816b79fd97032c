"""Records as text and as JSON. Computes nothing."""

from __future__ import annotations

import dataclasses
import json
from functools import singledispatch
from typing import Any


def plain(record: Any) -> Any:
    """The record as dicts, lists, strings and numbers."""
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        return {field.name: plain(getattr(record, field.name)) for field in dataclasses.fields(record)}
    if isinstance(record, dict):
        return {key: plain(value) for key, value in record.items()}
    if isinstance(record, (list, tuple)):
        return [plain(value) for value in record]
    return record


def as_json(record: Any) -> str:
    """The record as one JSON document."""
    return json.dumps(plain(record), indent=2, ensure_ascii=False)


@singledispatch
def text(record: Any, width: int) -> str:
    """The record as a person reads it. Each record's module of refdbg.render registers its own."""
    return str(record)


@singledispatch
def coloured(record: Any, width: int) -> str:
    """The same text for a console with colour. Only records with something to highlight register one."""
    return text(record, width)


def as_text(record: Any, width: int, colour: bool = False) -> str:
    """The record as text, at most about *width* columns."""
    from refdbg.render import blame, collections, film, graphs, leaks, stacks, tables  # noqa: F401  registers their texts

    return coloured(record, width) if colour else text(record, width)
