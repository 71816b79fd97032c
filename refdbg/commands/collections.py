"""To be written."""

from __future__ import annotations

from typing import Any


def add_commands(subcommands: Any) -> None:
    """Add this module's subcommands."""
