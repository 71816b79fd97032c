"""static-reference: a C static or global of a library holds objects that should be gone."""

from __future__ import annotations

from dataclasses import dataclass

from refdbg.records import Evidence, Explains, Finding, ObjectRow
from refdbg.verdicts.signature import library_name, signature

VERDICT = "static-reference"


@dataclass(frozen=True)
class Held:
    """The evidence: a C variable's words, the objects they hold directly, and what hangs behind them."""

    symbol: str
    paths: tuple[str, ...]
    library: str
    library_path: str
    file: str | None
    line: int | None
    directly: list[ObjectRow]
    objects: int
    references: int


def finding(held: Held, interpreter: int) -> Finding:
    """The verdict on one C variable.

    It is "likely", not proven: that a word equals an object's address does not show that it owns a reference.
    """
    first = held.directly[0]
    name = held.paths[0] if len(held.paths) == 1 else held.symbol
    module = library_name(held.library)
    where = f"{held.file}:{held.line}" if held.file else held.library
    what = f"{first.type} {first.repr}" if len(held.directly) == 1 else f"{len(held.directly)} objects"
    behind = held.objects - len(held.directly)
    message = f"C variable `{name}` of {module} ({where}) still holds {what}"
    if behind > 0:
        message += f", and {behind} more objects hang behind"
    message += f": {held.references} references are left over."
    if not held.references:
        message = f"C variable `{name}` of {module} ({where}) still holds {what}, which another finding explains."
    evidence = [
        Evidence(
            "static",
            f"{path} at exit: {row.type} {row.repr}, reference count {row.refcount}",
            {"file": held.file, "line": held.line, "library": held.library_path, "symbol": held.symbol},
        )
        for path, row in zip(held.paths, held.directly)
    ]
    return Finding(
        verdict=VERDICT,
        confidence="likely",
        signature=signature(VERDICT, module, held.symbol.split(".")[0]),  # `name.12`: a function's static
        message=message,
        interpreter=interpreter,
        subject={"type": first.type, "repr": first.repr},
        holder={"kind": "C variable", "symbol": held.symbol, "path": name, "library": held.library,
                "file": held.file, "line": held.line},
        explains=Explains(held.objects if held.references else 0, held.references),
        objects=held.directly,
        evidence=evidence,
        fix=f"Release it when the module is freed (Py_CLEAR({name}) in its m_free/m_clear slot), "
            f"or move it into the module state (PEP 630). If `{held.symbol}` only borrows, nothing is to be "
            "changed here: look for who owns it.",
        next=f"gdb -batch -ex 'info variables ^{held.symbol}$' {held.library_path}",
    )
