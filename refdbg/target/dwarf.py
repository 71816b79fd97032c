"""The DWARF debug info of one ELF file, without a debugger: C types by name, functions' pointers, variables.

Never all of it: a name leads through .debug_str to the entries that have it, an address through .debug_aranges to its
unit, and of a unit only the outermost entries are read.
"""

from __future__ import annotations

import os
import re
import struct
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Container, Iterator, Sequence
from functools import cached_property
from operator import itemgetter
from typing import Any, BinaryIO

from refdbg.dependencies import elftools
from refdbg.target import NativeFrame, PointedStruct, Variable
from refdbg.target.ctype import Kind, Member, member_path, pointed_struct

_STRIPPED = {
    "DW_TAG_typedef", "DW_TAG_const_type", "DW_TAG_volatile_type", "DW_TAG_restrict_type", "DW_TAG_atomic_type",
}  # fmt: skip
_KINDS: dict[str, Kind] = {
    "DW_TAG_structure_type": "struct", "DW_TAG_class_type": "struct", "DW_TAG_union_type": "union",
    "DW_TAG_array_type": "array", "DW_TAG_pointer_type": "pointer", "DW_TAG_subroutine_type": "function",
}  # fmt: skip
_INTEGERS = {5: True, 6: True, 7: False, 8: False}  # DW_ATE_signed, _signed_char, _unsigned, _unsigned_char: signed?
_NUMBERED = re.compile(r"(.+)\.\d+$")  # how compilers keep the statics of functions of one name apart
_ONE_BYTE = 0x80  # a larger abbreviation code has two: more bytes look like such an entry
_OP_ADDR = 3  # DW_OP_addr
_SHORT = 4  # gcc writes a name that is shorter than a reference to .debug_str into the entry itself
_WORD = struct.Struct("<I")


_MEMBERS = ("DW_TAG_member", "DW_TAG_inheritance")


def _no_entry() -> tuple[type[BaseException], ...]:
    return (LookupError, ValueError, AttributeError, elftools.ELFError, elftools.DWARFError)


class DebugInfo:
    """What an ELF file says about its C source. Addresses are the file's own, before relocation."""

    def __init__(self, file: BinaryIO, elsewhere: Callable[[str], DwarfType | None] = lambda name: None) -> None:
        """*file* stays open; *elsewhere*: a struct that another file defines, by its tag.

        Raises ELFError when it is no ELF file.
        """
        self._elsewhere = elsewhere
        self._elf = elftools.ELFFile(file)
        self._units: dict[int, _Unit] = {}
        self._types: dict[str, DwarfType | None] = {}
        self._sections: dict[str, bytes] = {}
        self.borrowed = 0  # how often an answer depended on what other files have of a struct

    @property
    def has_dwarf(self) -> bool:
        """Whether the file has any debug info."""
        return self._dwarf is not None

    @cached_property
    def _dwarf(self) -> Any:
        if not self._elf.has_dwarf_info(strict=True):
            return None
        return self._elf.get_dwarf_info(relocate_dwarf_sections=False, follow_links=False)

    @cached_property
    def _offsets(self) -> list[int]:
        # Where each unit begins in .debug_info.
        return [unit.cu_offset for unit in self._dwarf.iter_CUs()] if self._dwarf else []

    def type_named(self, name: str) -> DwarfType | None:
        """The struct or union of that tag or typedef, where its members are known; None without it."""
        if name not in self._types:
            self._types[name] = None  # what is declared only would look for itself
            borrowed = self.borrowed
            self._types[name] = next(self._definitions(name), None)
            if self._types[name] is not None:
                self.borrowed = borrowed  # by those that were tried and rejected
        return self._types[name]

    def struct_named(self, tag: str) -> DwarfType | None:
        """The struct or union of that tag, of this file or of another one."""
        return self.type_named(tag) or self._elsewhere(tag)

    def _definitions(self, name: str) -> Iterator[DwarfType]:
        for entry in self._candidates(name, {"DW_TAG_typedef", *_KINDS}):
            try:
                type_ = DwarfType(self, entry)
                sound = type_.kind in ("struct", "union") and (
                    (entry.abbrev_code < _ONE_BYTE and type_.is_closed) or self._unit_of(entry).contains(entry)
                )
            except _no_entry():
                continue  # bytes that only look like one
            if sound and type_.members():
                yield type_

    def pointers_of(self, function: int, name: str) -> tuple[PointedStruct, ...]:
        """The structs that the function *name* at *function* gets or declares pointers to, parameters first."""
        entry = self._function(function, name)
        found = []
        for tag in ("DW_TAG_formal_parameter", "DW_TAG_variable"):
            for child in entry.iter_children() if entry is not None else ():
                if child.tag == tag:
                    struct_ = pointed_struct(DwarfType(self, _type_entry(_origin(child))))
                    if struct_ is not None:
                        found.append(struct_)
        return tuple(found)

    def variable(self, name: str, address: int, offset: int) -> Variable | None:
        """The declaration of the variable *name* at *address*, and what it has *offset* bytes into it."""
        numbered = _NUMBERED.match(name)
        name = numbered[1] if numbered else name
        for entry in self._candidates(name, {"DW_TAG_variable"}):
            unit = self._unit_of(entry)
            if _place(entry) == address and unit.contains(entry):
                declared = _origin(entry)
                path = name + member_path(DwarfType(self, _type_entry(declared)), offset)
                file = unit.path(_number(declared, "DW_AT_decl_file"))
                return Variable(path, file, _number(declared, "DW_AT_decl_line"), _function_around(entry))
        return None

    def static_inside(self, function: int, name: str, variable: str) -> int | None:
        """The address of a static *variable* that the function *name* at *function* declares."""
        inner = [self._function(function, name)]
        for entry in inner:
            for child in entry.iter_children() if entry is not None else ():
                if child.tag == "DW_TAG_lexical_block":
                    inner.append(child)
                elif child.tag == "DW_TAG_variable" and _name(_origin(child)) == variable:
                    return _place(child)
        return None

    def inlined(self, function: int, name: str, place: int) -> list[NativeFrame]:
        """What the compiler has inlined at *place* in the function *name* at *function*, and where that was called.

        Outermost first: the name of each inlined function, file and line of the call.
        """
        found = []
        inner = self._function(function, name)
        while inner is not None:
            outer, inner = inner, None
            for child in outer.iter_children():
                if child.tag in ("DW_TAG_lexical_block", "DW_TAG_inlined_subroutine") and any(
                    start <= place < end for start, end in _ranges(self._dwarf, child.cu, child)
                ):
                    inner = child
                    break
            if inner is not None and inner.tag == "DW_TAG_inlined_subroutine":
                file = self._unit_of(inner).path(_number(inner, "DW_AT_call_file")) or None
                found.append(NativeFrame(_name(_origin(inner)), file, _number(inner, "DW_AT_call_line") or None))
        return found

    def line_at(self, address: int) -> tuple[str | None, int | None]:
        """File and line of the instruction at *address*, None where the line tables do not have it."""
        unit = self._unit_at(address)
        return unit.line_at(address) if unit is not None else (None, None)

    def _function(self, address: int, name: str) -> Any:
        for entry in self._candidates(name.partition(".")[0], {"DW_TAG_subprogram"}):  # without `.cold`, `.isra.0`
            start = entry.attributes.get("DW_AT_low_pc")
            if start is not None and start.value == address:
                return entry
        unit = self._unit_at(address)  # a name that stands elsewhere, as of what is also inlined
        return unit.functions.get(address) if unit is not None else None

    def _unit_at(self, address: int) -> _Unit | None:
        if not self._offsets:
            return None
        offset = self._ranges.cu_offset_at_addr(address) if self._ranges is not None else None
        if offset is not None:
            return self._unit(offset)
        for start, end, unit in self._top_ranges:  # a compiler that writes no .debug_aranges
            if start <= address < end:
                return self._unit(unit)
        return None

    @cached_property
    def _ranges(self) -> Any:
        return self._dwarf.get_aranges()

    @cached_property
    def _top_ranges(self) -> list[tuple[int, int, int]]:
        known = {entry.info_offset for entry in self._ranges.entries} if self._ranges is not None else set()
        found = []
        for offset in self._offsets:
            if offset not in known:
                found += [(start, end, offset) for start, end in self._unit(offset).ranges()]
        return found

    def _unit(self, offset: int) -> _Unit:
        if offset not in self._units:
            self._units[offset] = _Unit(self._dwarf, self._dwarf.get_CU_at(offset))
        return self._units[offset]

    def _unit_of(self, entry: Any) -> _Unit:
        return self._unit(entry.cu.cu_offset)

    def _candidates(self, name: str, tags: Container[str]) -> Iterator[Any]:
        # Definitions, in the order of the file. An entry's name is its first attribute with every compiler, behind the
        # number of its abbreviation: one byte, or two.
        info = self._section(".debug_info")
        for position in self._mentions(name):
            unit = self._unit(self._offsets[bisect_right(self._offsets, position) - 1])
            first, second = info[position - 2], info[position - 1]
            entry = unit.named_entry(position - 2, first & 0x7F | second << 7, tags) if first & 0x80 else None
            entry = entry or unit.named_entry(position - 1, second, tags)
            if entry is not None and "DW_AT_declaration" not in entry.attributes:
                yield entry

    def _mentions(self, name: str) -> Iterator[int]:
        info = self._section(".debug_info") if self._offsets else b""
        text = name.encode() + b"\0"
        if len(text) <= _SHORT:
            yield from _all(info, text)
            return
        for place in _all(self._section(".debug_str"), text):  # the end of a longer name may be shared
            yield from _all(info, _WORD.pack(place))

    def _section(self, name: str) -> bytes:
        if name not in self._sections:
            section = self._elf.get_section_by_name(name)
            self._sections[name] = section.data() if section is not None else b""
        return self._sections[name]


class _Unit:
    # One compilation unit: its functions by address, its source files.

    def __init__(self, dwarf: Any, unit: Any) -> None:
        self._dwarf = dwarf
        self._unit = unit

    def named_entry(self, offset: int, code: int, tags: Container[str]) -> Any:
        """The entry of abbreviation *code* at *offset*; None when that is none of *tags* with a name."""
        try:
            abbreviation = self._unit.get_abbrev_table().get_abbrev(code)
            if abbreviation["tag"] in tags and abbreviation["attr_spec"][0].name == "DW_AT_name":
                return self._unit.get_DIE_from_refaddr(offset)
        except _no_entry():
            pass
        return None

    @cached_property
    def _outermost(self) -> dict[int, Any]:
        return {entry.offset: entry for entry in self._unit.get_top_DIE().iter_children()}

    def contains(self, entry: Any) -> bool:
        """Whether *entry* really is one: an outermost entry, or inside one."""
        entries = self._outermost
        while entry.offset not in entries:
            before = max((offset for offset in entries if offset < entry.offset), default=None)
            if before is None:
                return False
            entries = {child.offset: child for child in entries[before].iter_children()}
        return True

    @cached_property
    def functions(self) -> dict[int, Any]:
        """The entries of the unit's functions that have code, by address."""
        return {
            _address(self._dwarf, self._unit, entry.attributes["DW_AT_low_pc"]): entry
            for entry in self._outermost.values()
            if entry.tag == "DW_TAG_subprogram" and "DW_AT_low_pc" in entry.attributes
        }

    def ranges(self) -> Iterator[tuple[int, int]]:
        """The code of the unit."""
        top = self._unit.get_top_DIE()
        yield from _ranges(self._dwarf, self._unit, top)

    @cached_property
    def _program(self) -> Any:
        return self._dwarf.line_program_for_CU(self._unit)

    @cached_property
    def _lines(self) -> list[tuple[int, bool, int, int]]:
        # The rows of the line table, ascending: address, whether code begins there (else it ends), file and line.
        if self._program is None:
            return []
        states = (entry.state for entry in self._program.get_entries())
        rows = [(each.address, not each.end_sequence, each.file, each.line) for each in states if each is not None]
        return sorted(rows, key=itemgetter(0, 1))

    def line_at(self, address: int) -> tuple[str | None, int | None]:
        """File and line of the instruction at *address*, None where the unit does not have it."""
        row = bisect_left(self._lines, (address + 1, False, 0, 0)) - 1
        _, begins, file, line = self._lines[row] if row >= 0 else (0, False, 0, 0)
        path = self.path(file) if begins else ""
        return (path, line) if path else (None, None)

    def path(self, number: int) -> str:
        """The path of the source file of that number, from the compiler's folder on; "" when not known."""
        if self._program is None:
            return ""
        header = self._program.header
        first = 0 if header["version"] >= 5 else 1
        try:
            file = header["file_entry"][number - first]
            folder = (
                header["include_directory"][file.dir_index - first]
                if file.dir_index or header["version"] >= 5
                else b""
            )
        except IndexError:
            return ""
        top = self._unit.get_top_DIE().attributes.get("DW_AT_comp_dir")
        parts = [part.decode("utf-8", "replace") for part in (top.value if top else b"", folder, file.name)]
        return os.path.normpath(os.path.join(*parts))


class DwarfType:
    """A type entry behind its typedefs and qualifiers; None is `void`."""

    def __init__(self, info: DebugInfo, entry: Any, inner: int = 0) -> None:
        """*inner*: how many dimensions of an array are behind us."""
        self._info = info
        self._inner = inner
        self._members: tuple[Member, ...] | None = None
        alias = ""
        while entry is not None and entry.tag in _STRIPPED:
            if not alias and entry.tag == "DW_TAG_typedef":
                alias = _name(entry)
            entry = _type_entry(entry)
        self._entry = entry
        tag = _name(entry) if entry is not None else "void"
        self.kind: Kind = "void" if entry is None else _kind(entry)
        self.name = tag or alias
        self.alias = alias or tag

    @property
    def _definition(self) -> Any:
        if self._is_declared:
            self._info.borrowed += self._info.type_named(self.name) is None
            return self._declared
        return self._entry

    @property
    def _is_declared(self) -> bool:
        # A struct of which this unit knows the name only is defined in another one.
        return self.kind in ("struct", "union") and "DW_AT_declaration" in self._entry.attributes

    @cached_property
    def _declared(self) -> Any:
        found = self._info.struct_named(self.name)
        return found._entry if found is not None else self._entry

    @property
    def is_closed(self) -> bool:
        """Whether a struct's members end where its entry says that it ends: no other bytes do."""
        entry = self._definition
        sibling = entry.attributes.get("DW_AT_sibling")
        last = None
        for last in entry.iter_children():
            if last.has_children or last.tag not in _MEMBERS:
                return False
        end = entry.cu.cu_offset + sibling.value if sibling is not None else 0
        return last is not None and last.offset + last.size + 1 == end

    @property
    def size(self) -> int:
        if self._entry is None or self.kind == "function":
            return 1  # as in C with GNU extensions, and in gdb
        if self.kind == "array":
            return self.count * self.target().size
        return _number(self._definition, "DW_AT_byte_size")

    @property
    def signed(self) -> bool:
        return self.kind == "integer" and _INTEGERS[_number(self._entry, "DW_AT_encoding")]

    @cached_property
    def _dimensions(self) -> list[int]:
        found = []
        for child in self._entry.iter_children():
            if child.tag == "DW_TAG_subrange_type":
                bound = child.attributes.get("DW_AT_upper_bound")
                length = child.attributes.get("DW_AT_count")
                value = length.value if length is not None else bound.value + 1 if bound is not None else 0
                found.append(value if isinstance(value, int) else 0)  # a length that is computed is not known
        return found or [0]

    @property
    def count(self) -> int:
        return self._dimensions[self._inner]

    def target(self) -> DwarfType:
        if self.kind == "array" and self._inner + 1 < len(self._dimensions):
            return DwarfType(self._info, self._entry, self._inner + 1)
        return DwarfType(self._info, _type_entry(self._entry))

    def members(self) -> Sequence[Member]:
        definition = self._definition  # looked up each time: it says whether the answer is borrowed
        if self._members is None:
            self._members = tuple(self._read_members(definition))
        return self._members

    def _read_members(self, definition: Any) -> Iterator[Member]:
        for child in definition.iter_children():
            attributes = child.attributes
            if child.tag not in _MEMBERS or "DW_AT_external" in attributes:
                continue
            type_ = DwarfType(self._info, _type_entry(child))
            start = _number(child, "DW_AT_data_member_location") * 8
            bits = _number(child, "DW_AT_bit_size")
            if "DW_AT_data_bit_offset" in attributes:
                start = _number(child, "DW_AT_data_bit_offset")
            elif "DW_AT_bit_offset" in attributes:  # DWARF 3: counted from the most significant bit
                start += type_.size * 8 - bits - _number(child, "DW_AT_bit_offset")
            yield Member(_name(child), start, bits, type_)


def _kind(entry: Any) -> Kind:
    if entry.tag == "DW_TAG_base_type":
        return "integer" if _number(entry, "DW_AT_encoding") in _INTEGERS else "other"
    return _KINDS.get(entry.tag, "other")


def _type_entry(entry: Any) -> Any:
    return entry.get_DIE_from_attribute("DW_AT_type") if "DW_AT_type" in entry.attributes else None


def _origin(entry: Any) -> Any:
    # The entry that has the name, type and place of an out-of-line copy.
    for _ in range(4):
        for attribute in ("DW_AT_abstract_origin", "DW_AT_specification"):
            if attribute in entry.attributes:
                entry = entry.get_DIE_from_attribute(attribute)
                break
        else:
            break
    return entry


def _name(entry: Any) -> str:
    attribute = entry.attributes.get("DW_AT_name")
    return attribute.value.decode("utf-8", "replace") if attribute is not None else ""


def _function_around(entry: Any) -> str:
    # The name of the function that declares *entry*, "" for none.
    while entry is not None:
        if entry.tag == "DW_TAG_subprogram":
            return _name(_origin(entry))
        entry = entry.get_parent()
    return ""


def _number(entry: Any, attribute: str) -> int:
    found = entry.attributes.get(attribute)
    return found.value if found is not None and isinstance(found.value, int) else 0


def _place(entry: Any) -> int | None:
    location = entry.attributes.get("DW_AT_location")
    expression = location.value if location is not None else None
    if isinstance(expression, list) and len(expression) == 9 and expression[0] == _OP_ADDR:
        return int.from_bytes(bytes(expression[1:]), "little")
    return None


def _address(dwarf: Any, unit: Any, attribute: Any) -> int:
    if attribute.form.startswith("DW_FORM_addrx"):
        return int(dwarf.get_addr(unit, attribute.raw_value))
    return int(attribute.value)


def _ranges(dwarf: Any, unit: Any, entry: Any) -> Iterator[tuple[int, int]]:
    low = entry.attributes.get("DW_AT_low_pc")
    high = entry.attributes.get("DW_AT_high_pc")
    if low is not None and high is not None:
        start = _address(dwarf, unit, low)
        yield start, high.value if high.form == "DW_FORM_addr" else start + high.value
        return
    ranges = entry.attributes.get("DW_AT_ranges")
    lists = dwarf.range_lists()
    if ranges is None or lists is None:
        return
    low = low or unit.get_top_DIE().attributes.get("DW_AT_low_pc")
    base = _address(dwarf, unit, low) if low is not None else 0
    for row in lists.get_range_list_at_offset(ranges.value, unit):
        if hasattr(row, "base_address"):
            base = row.base_address
        else:
            yield (row.begin_offset, row.end_offset) if row.is_absolute else (
                base + row.begin_offset, base + row.end_offset)


def _all(data: bytes, text: bytes) -> Iterator[int]:
    place = data.find(text)
    while place >= 0:
        yield place
        place = data.find(text, place + 1)
