"""C++ names as symbols have them (Itanium C++ ABI)."""

from __future__ import annotations

import re

_SIZED = re.compile(r"\d+")


def plain_name(symbol: str) -> str:
    """The function's own name, with its namespaces and classes: `_ZL14green_traverseP9_greenlet` is green_traverse.

    A C function's name, and a name that is built otherwise (a template's, an operator's), as it stands.
    """
    if not symbol.startswith("_Z"):
        return symbol
    rest, names = symbol[2:].lstrip("NKL"), []
    while match := _SIZED.match(rest):
        end = match.end() + int(match[0])
        names.append(rest[match.end() : end])
        rest = rest[end:]
        if "N" not in symbol[2:4]:
            break
    return "::".join(names) if names and all(map(str.isidentifier, names)) else symbol
