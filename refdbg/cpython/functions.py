"""The functions that are alive, by where their code stands in a file: a name for a line of Python code."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from refdbg.cpython.stop import Stop
from refdbg.errors import DecodeError, MemoryFault
from refdbg.graph.objects import Objects


@dataclass(frozen=True)
class Function:
    """A Python function: the lines of its code, and of what is defined inside it."""

    module: str
    qualname: str
    first: int
    last: int


class Functions:
    """Those among the *objects* of one stop."""

    def __init__(self, stop: Stop, objects: Objects) -> None:
        self._stop = stop
        build = stop.runtime.build
        layout = build.layout("PyFunctionObject")
        self._code, self._qualname = layout.offset("func_code"), layout.offset("func_qualname")
        self._module = layout.offset("func_module")
        self._by_file: dict[str, list[Function]] | None = None
        type_ = stop.runtime.target.address_of("PyFunction_Type")
        self._all = [address for address, each in zip(objects.addresses, objects.types) if each == type_]

    def at(self, file: str, line: int) -> Function | None:
        """The innermost one that has the line, None where it is none's or its function is gone."""
        if self._by_file is None:
            self._by_file = self._read()
        found = [each for each in self._by_file.get(file, ()) if each.first <= line <= each.last]
        return max(found, key=lambda each: (each.first, -each.last), default=None)

    def _read(self) -> dict[str, list[Function]]:
        found: defaultdict[str, list[Function]] = defaultdict(list)
        memory, texts = self._stop.runtime.memory, self._stop.texts
        for address in self._all:
            try:
                file, first, last = self._stop.frames.span(memory.u64(address + self._code))
                module = memory.u64(address + self._module)
                qualname = texts.string(memory.u64(address + self._qualname)) or ""
                found[file].append(Function((texts.string(module) if module else "") or "", qualname, first, last))
            except (DecodeError, MemoryFault):
                continue  # it is being made, or freed
        return found
