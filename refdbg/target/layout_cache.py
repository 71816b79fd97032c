"""What the debug info of one file answers, kept on disk per build id: the next run need not open it.

One file for each build id, in ``$XDG_CACHE_HOME/refdbg/layouts`` (default ``~/.cache``): a header line with the format,
the version of refdbg, the build id and the SHA-256 of the rest, which is JSON and has only what was asked for. A file
that is not exactly so is ignored and written anew. No snapshot takes part: its debug info may be a stranger's.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache, cached_property
from typing import Any, TypeVar

from refdbg import __version__
from refdbg.errors import LayoutNotFound
from refdbg.target import PointedStruct, Pointer, Variable
from refdbg.target.ctype import layout_of
from refdbg.target.dwarf import DebugInfo
from refdbg.target.layout import Field, StructLayout

FORMAT = "refdbg-layouts/1"  # another one when dwarf.py or ctype.py answers otherwise, too
_LARGEST = 64 << 20  # bytes of a sane file
_UNIQUE = re.compile(r"[0-9a-f]{16,}$")  # a shorter build id was made up by somebody (ld --build-id=0x…)
_QUESTIONS = ("structs", "functions", "variables", "statics")
_MALFORMED = (TypeError, ValueError, LookupError, AttributeError)
_SOURCE = "debug info"
_ASK = True  # in place of a member's struct: it has one, and nobody asked for it

_PARTLY = (
    "Of its debug info only a part is known here: install the interpreter's debug info again. A recording of the tests "
    "answers what it was made for, no more."
)

Answer = TypeVar("Answer")


def folder() -> str:
    """Where the cache is."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    return os.path.join(home if os.path.isabs(home) else os.path.expanduser("~/.cache"), "refdbg", "layouts")


class Answers:
    """What the debug info of one file says, from the cache where that has it. Addresses are the file's own."""

    def __init__(self, debug: Callable[[], DebugInfo], build_id: str, known: Any = None) -> None:
        """*debug* opens the debug info; *build_id*: "" for no cache; *known*: what `record` has given elsewhere."""
        self._open_debug = debug
        self._build_id = build_id if _UNIQUE.match(build_id) else ""
        kept = _rows(known) or _read(self._build_id)
        self._kept: dict[str, dict[str, Any]] = kept or {question: {} for question in _QUESTIONS}
        self._changed = False

    @cached_property
    def _debug(self) -> DebugInfo:
        return self._open_debug()

    def _answer(self, question: str, key: str, ask: Callable[[], Any], decoded: Callable[[Any], Answer]) -> Answer:
        # Through *decoded* also what was just asked: cold and warm answers come the same way.
        kept = self._kept[question]
        if key in kept:
            with suppress(*_MALFORMED):
                return decoded(kept[key])
        row, own = self._asked(ask)
        if own:
            kept[key] = row
            self._changed = True
        return decoded(row)

    def _asked(self, ask: Callable[[], Answer]) -> tuple[Answer, bool]:
        # (the answer, whether it depends on this file only, and not on what else is loaded or installed)
        borrowed = self._debug.borrowed
        answer = ask()
        return answer, self._debug.has_dwarf and self._debug.borrowed == borrowed

    def layout(self, struct: str) -> StructLayout | None:
        """The layout of a struct or typedef; None when this file has none."""

        def original() -> StructLayout:
            found = self._debug.type_named(struct)
            if found is None:
                raise LayoutNotFound(f"no debug info describes the struct {struct} any more", _PARTLY)
            return layout_of(struct, found)

        def ask() -> Any:
            return None if self._debug.type_named(struct) is None else _struct_row(original())

        return self._answer("structs", struct, ask, lambda row: None if row is None else self._struct(row, original))

    def _struct(self, row: list[Any], original: Callable[[], StructLayout]) -> StructLayout:
        name, size, rows = row
        fields = {member: self._field(member, cells, original) for member, cells in rows.items()}
        return StructLayout(str(name), int(size), fields, _SOURCE)

    def _field(self, name: str, cells: list[Any], original: Callable[[], StructLayout]) -> Field:
        offset, size, signed, count, bit_offset, bit_size, inner = cells

        def struct() -> StructLayout:
            return original().fields[name].struct

        def asked() -> StructLayout:
            if cells[-1] is _ASK:
                cells[-1] = _struct_row(struct())
                self._changed = True
            return self._struct(cells[-1], struct)

        if inner is not None and inner is not _ASK:
            self._struct(inner, struct)  # malformed? Then the whole of it is asked again
        return Field(name, int(offset), int(size), bool(signed), int(count), int(bit_offset), int(bit_size),
                     None if inner is None else asked)

    def pointers_of(self, function: int, name: str) -> tuple[PointedStruct, ...]:
        """The structs that the function *name* at *function* gets or declares pointers to, parameters first."""

        @cache
        def original() -> tuple[PointedStruct, ...]:
            return self._debug.pointers_of(function, name)

        def pointed(index: int, row: list[Any]) -> PointedStruct:
            def pointers() -> Mapping[int, Pointer]:
                if row[-1] is _ASK:
                    found, own = self._asked(lambda: original()[index].pointers())
                    if not own:
                        return found
                    row[-1] = {str(offset): [pointer.path, pointer.heads] for offset, pointer in found.items()}
                    self._changed = True
                return _pointers(row[-1])

            size, heads, inner = row
            if inner is not _ASK:
                _pointers(inner)  # malformed?
            return PointedStruct(int(size), _strings(heads), pointers)

        return self._answer(
            "functions", f"{name}@{function:#x}",
            lambda: [[found.size, found.heads, _ASK] for found in original()],
            lambda rows: tuple(pointed(index, row) for index, row in enumerate(rows)),
        )

    def variable(self, name: str, address: int, offset: int) -> Variable | None:
        """The declaration of the variable *name* at *address*, and what it has *offset* bytes into it."""

        def ask() -> Any:
            found = self._debug.variable(name, address, offset)
            return None if found is None else [found.path, found.file, found.line, found.function]

        def decoded(row: Any) -> Variable | None:
            if row is None:
                return None
            path, file, line, function = row
            return Variable(str(path), str(file), int(line), str(function))

        return self._answer("variables", f"{name}@{address:#x}+{offset}", ask, decoded)

    def static_inside(self, function: int, name: str, variable: str) -> int | None:
        """The address of a static *variable* that the function *name* at *function* declares."""
        return self._answer(
            "statics", f"{name}@{function:#x}::{variable}",
            lambda: self._debug.static_inside(function, name, variable),
            lambda row: None if row is None else int(row),
        )

    def record(self) -> dict[str, dict[str, Any]]:
        """What was asked until now and answered by this file alone, for JSON."""
        return self._kept

    def keep(self) -> None:
        """Write what was learnt to the cache. Where that cannot be written, nothing is."""
        if not self._changed or not self._build_id:
            return
        self._changed = False
        text = json.dumps(self._kept).encode()
        place = _path(self._build_id)
        with suppress(OSError):
            os.makedirs(os.path.dirname(place), mode=0o700, exist_ok=True)
            number, temporary = tempfile.mkstemp(dir=os.path.dirname(place))
            try:
                with open(number, "wb") as file:
                    file.write(_header(self._build_id, text) + text)
                os.replace(temporary, place)
            except BaseException:  # Ctrl-C too
                os.unlink(temporary)
                raise


def _path(build_id: str) -> str:
    return os.path.join(folder(), f"{build_id}.json")


def _header(build_id: str, text: bytes) -> bytes:
    return f"{FORMAT} {__version__} {build_id} {hashlib.sha256(text).hexdigest()}\n".encode()


def _read(build_id: str) -> dict[str, dict[str, Any]] | None:
    # None for anything but what `keep` writes.
    path = _path(build_id)
    if not build_id or not os.path.isfile(path):
        return None
    try:
        with open(path, "rb") as file:
            header, text = file.readline(), file.read(_LARGEST)
        if header != _header(build_id, text):
            return None
        return _rows(json.loads(text))
    except (OSError, RecursionError, *_MALFORMED):
        return None


def _rows(kept: Any) -> dict[str, dict[str, Any]] | None:
    # None for anything but what `record` gives.
    try:
        return {question: dict(kept[question]) for question in _QUESTIONS}
    except _MALFORMED:
        return None


def _struct_row(layout: StructLayout) -> list[Any]:
    return [layout.name, layout.size, {
        name: [field.offset, field.size, field.signed, field.count, field.bit_offset, field.bit_size,
               None if field.inner is None else _ASK]
        for name, field in layout.fields.items()
    }]


def _pointers(row: dict[str, Any]) -> dict[int, Pointer]:
    return {int(offset): Pointer(str(path), _strings(heads)) for offset, (path, heads) in row.items()}


def _strings(row: Sequence[Any]) -> tuple[str, ...]:
    return tuple(map(str, row))
