"""Who holds left-over objects from outside at the end: static-, state-, native-, stack- and lost-reference."""

from __future__ import annotations

import re
from dataclasses import dataclass

from refdbg.records import Counterfactual, Evidence, Explains, Finding, ObjectRow
from refdbg.verdicts.signature import library_name, signature


@dataclass(frozen=True)
class Outside:
    """One holder, and what is left over because of it.

    *verdict*: its name; *owner*: a C variable, a state's struct, a thread, or what the references are lost on;
    *paths*: the words that hold, one for each of *directly* (the first of them), *number*: how many it holds
    directly in all; *references*: their counts, *rest*: how many of these known owners do not stand for, *words*:
    how many of those this holder stands for; *spare*: other words that might own instead; *behind*: what the holder
    reaches; *freed*: what goes of it when the holder lets go (*alone*), or all holders that were found do;
    *function*: the one that a variable is a static of; *older*: the object that holds, which has a right to be there:
    *owner* is how that is reached; *repeats*: a second run has its objects at the same addresses.
    """

    verdict: str
    owner: str
    paths: tuple[str, ...]
    directly: list[ObjectRow]
    number: int
    references: int
    rest: int
    words: int
    spare: int
    behind: Explains
    freed: Explains
    alone: bool
    interpreter: int
    weak: bool = False
    generations: tuple[str, ...] = ()
    library: str = ""
    library_path: str = ""
    file: str | None = None
    line: int | None = None
    function: str = ""
    older: ObjectRow | None = None
    repeats: bool = True


def finding(held: Outside) -> Finding:
    """The verdict. Proven when the words stand for all that known owners do not, and letting go frees everything."""
    proven = (
        held.words == held.rest and not held.spare and held.freed == held.behind
        and held.verdict in ("static-reference", "state-reference") and held.older is None
    )
    message, fix = _words(held)
    first = held.directly[0]
    location = {"file": held.file, "line": held.line, "library": held.library_path, "symbol": held.owner}
    evidence = [
        Evidence("holder", f"{path}: {row.type} {row.repr}, reference count {row.refcount}",
                 location if held.library else None)
        for path, row in list(zip(held.paths, held.directly))[:5]
    ]
    balance = f"of {held.references} references known owners hold {held.references - held.rest}, " \
              f"this stands for {held.words}"
    if held.spare:
        balance += f"; {held.spare} other words could own instead"
    evidence.append(Evidence("balance", balance))
    evidence.append(Evidence(
        "counterfactual",
        f"with {'this change' if held.alone else 'this change and those of the other findings'} "
        f"{held.freed.references} of {held.behind.references} references "
        f"({held.freed.objects} of {held.behind.objects} objects) are freed",
    ))
    evidence += [Evidence("modules", text) for text in held.generations]
    module = library_name(held.library)
    owner = held.owner.split(".")[0] if module else held.owner
    name = (
        keeper_signature(held.verdict, held.owner, held.library) if held.older
        else signature(held.verdict, module, owner, *([held.function] if held.function else []))
    )
    return Finding(
        verdict=held.verdict,
        confidence="proven" if proven else "possible" if held.weak else "likely",
        signature=name,
        message=message,
        interpreter=held.interpreter,
        subject={"type": first.type, "repr": first.repr},
        holder={"kind": _KINDS[held.verdict], "symbol": held.owner, "path": held.paths[0], "library": held.library,
                "file": held.file, "line": held.line},
        explains=held.behind,
        objects=held.directly,
        evidence=evidence,
        fix=fix,
        next=_next(held, name),
        counterfactual=Counterfactual(held.freed.objects, held.freed.references),
    )


def keeper_signature(verdict: str, path: str, library: str) -> str:
    """The signature of an object that keeps others, and is reached by *path* from a C variable of the *library*."""
    return signature(verdict, library_name(library), _INDEX.sub("[]", path))


KEEPER_FIX = (
    "Remove what was added when it is no longer needed; if this is a cache, bound it or clear it between the "
    "repetitions."
)
_INDEX = re.compile(r"\[\d+\]")
_NUMBERED = re.compile(r"(?<=\w)\.\d+(?=$|\+)")
_KINDS = {
    "static-reference": "C variable", "state-reference": "state", "native-reference": "native block",
    "stack-reference": "stack", "lost-reference": "nobody",
}


def _next(held: Outside, name: str) -> str:
    if held.verdict == "lost-reference":
        with_build = "" if held.repeats else ", with a build --with-pydebug"
        return f"refdbg-run --blame {name} PROGRAM…: the same run again{with_build}, and who takes the reference"
    if held.older:
        return "refdbg-run --refleak --allocations PROGRAM…: the same run again, and where what it keeps was made"
    if held.library:
        return f"gdb -batch -ex '{_where_declared(held)}' {held.library_path}"
    return "refdbg leaks, before the interpreter ends"


def _where_declared(held: Outside) -> str:
    name = held.owner.split(".")[0]
    return f"info scope {held.function}" if held.function else f"info variables ^{name}$"


def _words(held: Outside) -> tuple[str, str]:
    # (message, fix)
    first = held.directly[0]
    what = f"{first.type} {first.repr}"
    if held.number > 1:
        what += f" and {held.number - 1} more object{'s' if held.number > 2 else ''}"
    more = held.behind.objects - held.number
    behind = f", and {more} more object{'s hang' if more > 1 else ' hangs'} behind" if more > 0 else ""
    if not held.behind.objects:
        behind = " (what hangs behind, another finding explains)"
    behind += f": {held.behind.references} reference{'s are' if held.behind.references > 1 else ' is'} left over."
    if held.older:
        return (
            f"{held.older.type} `{held.owner}` keeps {what}{behind}",
            KEEPER_FIX,
        )
    if held.verdict == "static-reference":
        # Linkers number the statics of functions: cache.1.
        name = held.paths[0] if len(held.paths) == 1 else held.owner
        name = _NUMBERED.sub("", name)
        module = library_name(held.library)
        where = f"{held.file}:{held.line}" if held.file else held.library
        if held.function:
            where = f"a static of {held.function}(), {where}"
        return (
            f"C variable `{name}` of {module} ({where}) still holds {what}{behind}",
            f"Move {name} out of {held.function}(), where nobody else can release it, into the module state (PEP 630)."
            if held.function else
            f"Release it when the module is freed (Py_CLEAR({name}) in its m_free or m_clear), or move it into the "
            "module state (PEP 630).",
        )
    if held.verdict == "state-reference":
        return (
            f"`{held.owner}` still holds {what}{behind}",
            "Clear the field when the interpreter is finalized, before its last collection.",
        )
    if held.verdict == "native-reference":
        return (
            f"{held.paths[0]}{'' if held.weak else ', memory of C code,'} holds {what}{behind}",
            "Release the reference before the block is forgotten or freed.",
        )
    if held.verdict == "stack-reference":
        return f"{held.paths[0]} holds {what}{behind}", (
            "Look for the function that still runs, or never returned. Nobody ends a daemon thread: give it a way to "
            "return, and join it."
        )
    number = f"{held.words} references" if held.words > 1 else "a reference"
    return (
        f"{what}: {number} that nobody holds{behind}",
        "Look for a missing Py_DECREF (often on an error path), or a Py_INCREF too many, where it is made and used.",
    )
