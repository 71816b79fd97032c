"""The records' texts: one function per record, registered with refdbg.render.text."""

from __future__ import annotations
