"""From what is left over at a stop to findings: joins the decoded process, the analysis and the verdicts."""

from __future__ import annotations

from refdbg.analysis.retention import Share, shares
from refdbg.cpython.collection import object_rows
from refdbg.cpython.edges import owned_edges
from refdbg.cpython.statics import StaticWord
from refdbg.cpython.stop import Stop
from refdbg.cpython.total import is_interned
from refdbg.records import Finding
from refdbg.target import Symbol
from refdbg.verdicts.static_reference import Held, finding

_RUNTIME = "runtime state"
_DESIGN = "static types, other static objects and interned strings"


def static_findings(stop: Stop, limit: int, known: frozenset[int]) -> tuple[list[Finding], list[str]]:
    """The C variables that hold left-over objects as findings, and notes on what they do not explain.

    *known*: objects that subinterpreters have left, which their own findings explain (``PyObject *``).
    Every left-over reference is in exactly one finding or note.
    """
    heap, statics = stop.heap, stop.statics
    row_of = {address: row for row, address in enumerate(heap.objects.addresses)}
    groups: dict[tuple[str, str, str], list[StaticWord]] = {}
    for word in statics.holding(row_of):
        type_ = heap.objects.types[row_of[word.target]]
        groups.setdefault(_group(stop, word, is_interned(stop, word.target, type_)), []).append(word)
    order = sorted(groups)
    edges = owned_edges(stop, heap)
    counts = [0 if stop.runtime.is_immortal(count) else count for count in heap.objects.refcounts]
    held_by = {
        number: [row_of[word.target] for word in groups[group]]
        for number, group in enumerate(order) if group[0] == "variable"
    }
    found = shares(held_by, edges, counts)
    findings = [
        finding(_held(stop, groups[order[share.holder]], share, limit), 0) for share in found
    ]
    taken = {row for share in found for row in share.rows}
    notes = []
    for kind in (_RUNTIME, _DESIGN):
        roots = [row_of[word.target] for group in order if group[0] == kind for word in groups[group]]
        rows = edges.reach(roots, taken)
        taken |= rows
        references = sum(counts[row] for row in rows)
        if references:
            notes.append(f"{references} references in {len(rows)} objects are held by {kind} only: kept by design.")
    left_before = [row for row in range(len(counts)) if row not in taken and heap.objects.addresses[row] in known]
    references = sum(counts[row] for row in left_before)
    if references:
        notes.append(f"{references} references in {len(left_before)} objects were left by subinterpreters.")
    taken.update(left_before)
    rest = [row for row in range(len(counts)) if row not in taken]
    references = sum(counts[row] for row in rest)
    if references:
        notes.append(
            f"{references} references in {len(rest)} objects are held by no C variable that refdbg found: "
            "not explained yet."
        )
    return findings, notes


def _group(stop: Stop, word: StaticWord, interned: bool) -> tuple[str, str, str]:
    if stop.is_runtime_state(word.address):
        return (_RUNTIME, word.library, word.symbol)
    # An interned string's count is all its users': who holds one of its references explains nothing.
    if word.inside is not None or word.cache or interned:
        return (_DESIGN, word.library, word.symbol)
    return ("variable", word.library, word.symbol or f"{word.address:#x}")


def _held(stop: Stop, words: list[StaticWord], share: Share, limit: int) -> Held:
    library = next(found for found in stop.statics.libraries if found.name == words[0].library)
    paths, file, line = [], None, None
    for word in words:
        variable = stop.runtime.target.variable(Symbol(word.symbol, word.offset, word.library)) if word.symbol else None
        if variable is not None:
            paths.append(variable.path)
            file, line = variable.file, variable.line
        else:
            paths.append(f"{word.symbol or hex(word.address)}+{word.offset}" if word.offset else word.symbol)
    rows = object_rows(stop, stop.heap.objects.pick(share.roots[:limit]), limit)
    return Held(
        words[0].symbol or hex(words[0].address), tuple(paths), library.name, library.path, file, line, rows,
        len(share.rows), share.references,
    )
