"""Statics inside of functions: the linker knows ``cache.1``, the debug info `cache` of lookup()."""

from __future__ import annotations

import re
from collections.abc import Iterator

import gdb

_NUMBERED = re.compile(r"(?P<name>.+)\.\d+$")  # how compilers keep statics of one name apart


def function_static(objfile: gdb.Objfile, symbol: str, address: int) -> tuple[gdb.Symbol, str] | None:
    """The variable that starts at *address*, which the linker calls *symbol*, and the function that it is in."""
    numbered = _NUMBERED.match(symbol)
    if numbered is None:
        return None
    for file in _files(objfile, symbol):
        try:
            places = gdb.decode_line(f"'{file}':1")[1] or ()
        except gdb.error:  # no debug info
            continue
        for place in places:
            if place.symtab is None or place.symtab.objfile.filename != objfile.filename:
                continue
            for found, function in _statics(place.symtab, numbered["name"]):
                if int(found.value().address) == address:
                    return found, function
    return None


def _files(objfile: gdb.Objfile, symbol: str) -> list[str]:
    # The source files with such a symbol: the linker's own table tells, where gdb's does not go into functions.
    text = gdb.execute(f"maintenance print msymbols -objfile {objfile.filename}", to_string=True)
    return list(dict.fromkeys(re.findall(rf" {re.escape(symbol)} section \S+ .*?(\S+)$", text, re.MULTILINE)))


def _statics(symtab: gdb.Symtab, name: str) -> Iterator[tuple[gdb.Symbol, str]]:
    # Those of the name in the functions of one file, and in the blocks in these.
    seen = set()
    for entry in symtab.linetable():
        block = gdb.block_for_pc(entry.pc)
        while block is not None and not block.is_static and not block.is_global:
            if (block.start, block.end) in seen:
                break
            seen.add((block.start, block.end))
            for found in block:
                if found.name == name and found.addr_class == gdb.SYMBOL_LOC_STATIC:
                    yield found, _function(block)
            block = block.superblock


def _function(block: gdb.Block) -> str:
    while block is not None and block.function is None:
        block = block.superblock
    return str(block.function.name) if block is not None else ""
