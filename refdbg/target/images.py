"""What a debugger knows of the loaded files, from the files themselves: symbols, layouts, declarations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from refdbg.dependencies import elftools
from refdbg.errors import LayoutNotFound, SymbolNotFound
from refdbg.target import NativeFrame, PointedStruct, Symbol, Variable
from refdbg.target.dwarf import DwarfType
from refdbg.target.elf import Library, Open, first_mappings
from refdbg.target.layout import StructLayout
from refdbg.target.memory import Region


class Images:
    """The ELF files of one process. *unreadable*: a line for each that cannot be read."""

    def __init__(
        self, regions: Callable[[], Sequence[Region]], open_: Open, first: str, cached: bool = False,
        known: Mapping[str, Any] | None = None,
    ) -> None:
        """*first*: a symbol of the file whose names go before those of all others, which have a `collect` too.

        *cached*: what the debug info answers is kept on disk, see layout_cache; *known*: what it has answered, by path.
        """
        self._cached = cached
        self._known = known or {}
        self._current_regions = regions
        self._open = open_
        self._first = first
        self._regions: Sequence[Region] = ()
        self._libraries: dict[tuple[str, int], Library | None] = {}
        self._loaded: list[Library] = []
        self.unreadable: list[str] = []
        self._layouts: dict[str, StructLayout | None] = {}
        self._structs: dict[int, tuple[PointedStruct, ...]] = {}
        self.refresh()

    def refresh(self) -> None:
        """Look for files that were loaded since."""
        self._regions = self._current_regions()
        mapped = first_mappings(self._regions)
        for path, base in mapped.items():
            if (path, base) not in self._libraries:
                try:
                    self._libraries[path, base] = Library(
                        path, base, self._open, self._struct, self._cached, self._known.get(path)
                    )
                except (OSError, elftools.ELFError) as error:
                    self._libraries[path, base] = None
                    if isinstance(error, OSError) or self._is_elf(path):  # else it is no library
                        self.unreadable.append(
                            f"{path} cannot be read, so its C variables and functions have no names: "
                            f"{getattr(error, 'strerror', None) or error}"
                        )

        files = [self._libraries[key] for key in sorted(mapped.items(), key=lambda each: each[1])]
        self._loaded = [library for library in files if library is not None]

    def _is_elf(self, path: str) -> bool:
        with self._open(path) as file:
            return file.read(4) == b"\x7fELF"

    def loaded(self) -> list[Library]:
        """The files that are mapped, in the order of their addresses."""
        return self._loaded

    def _in_order(self) -> Iterator[Library]:
        own = next((library for library in self.loaded() if self._first in library.addresses), None)
        if own is not None:
            yield own
        yield from (library for library in self.loaded() if library is not own)

    def address_of(self, symbol: str) -> int:
        """The address of a function or variable, or of one inside a function (``f::v``). Raises SymbolNotFound."""
        if "::" in symbol:
            found = self._address_inside(*symbol.split("::", 1))
        else:
            found = next((lib.addresses[symbol] for lib in self._in_order() if symbol in lib.addresses), None)
        if found is None:
            raise SymbolNotFound(symbol)
        return found

    def own_address(self, symbol: str) -> int | None:
        """The address of a function or variable of the file whose names go first; None where it has none."""
        own = next((library for library in self.loaded() if self._first in library.addresses), None)
        return own.addresses.get(symbol) if own is not None else None

    def _address_inside(self, function: str, variable: str) -> int | None:
        for library in self._in_order():
            if function in library.addresses:
                place = library.addresses[function] - library.bias
                found = library.answers.static_inside(place, function, variable)
                return found + library.bias if found is not None else None
        return None

    def layout(self, struct: str) -> StructLayout:
        """The layout of a struct or typedef. Raises LayoutNotFound."""
        if struct not in self._layouts:
            name = struct.removeprefix("struct ")
            found = (library.answers.layout(name) for library in self._in_order())
            self._layouts[struct] = next((each for each in found if each is not None), None)
        layout = self._layouts[struct]
        if layout is None:
            raise LayoutNotFound(f"no debug info describes the struct {struct}")
        return layout

    def _struct(self, name: str) -> DwarfType | None:
        found = (library.debug.type_named(name) for library in self._in_order())
        return next((each for each in found if each is not None), None)

    def keep(self) -> None:
        """Write what was learnt of the debug info to the cache."""
        for library in self.loaded():
            if "answers" in vars(library):  # it was asked at all
                library.answers.keep()

    def library_at(self, address: int) -> Library | None:
        """The file that *address* belongs to, or None."""
        region = self._region_at(address)
        if region is None:
            self.refresh()
            region = self._region_at(address)
        path = region.path if region is not None else ""
        for library in self.loaded():
            if path == library.path or any(s.start <= address < s.end for s in library.segments):  # .bss: no path
                return library
        return None

    def _region_at(self, address: int) -> Region | None:
        return next((region for region in self._regions if region.start <= address < region.end), None)

    def symbol_at(self, address: int) -> Symbol | None:
        """The function or variable that contains *address*, or None."""
        library = self.library_at(address)
        return library.function_at(address) or library.symbol_at(address) if library is not None else None

    def variable(self, symbol: Symbol) -> Variable | None:
        """The declaration of the variable that *symbol* is in, None without debug info."""
        library = self.library_at(symbol.start)
        if library is None:
            return None
        return library.answers.variable(symbol.name, symbol.start - library.bias, symbol.offset)

    def structs_of(self, function: int) -> tuple[PointedStruct, ...]:
        """The structs that the function at *function* gets or declares pointers to, parameters first."""
        if function not in self._structs:
            library = self.library_at(function)
            known = library.function_at(function) if library is not None else None
            self._structs[function] = (
                library.answers.pointers_of(function - library.bias, known.name if known else "") if library else ()
            )
        return self._structs[function]

    def functions_at(self, address: int) -> list[NativeFrame]:
        """The functions that the instruction at *address* is in, innermost first: what was inlined, then the outermost.

        With file and line where the debug info has them.
        """
        library = self.library_at(address)
        if library is None:
            return [NativeFrame("??")]
        found = library.function_at(address)
        try:
            file, line = library.debug.line_at(address - library.bias)
        except (OSError, elftools.ELFError):
            file, line = None, None
        frames = []
        for each in reversed(self.inlined(address)):
            frames.append(NativeFrame(each.function, file, line))
            file, line = each.file, each.line
        name = found.name.partition("@")[0] if found is not None else "??"  # without its version
        return [*frames, NativeFrame(name, file, line)]

    def inlined(self, address: int) -> list[NativeFrame]:
        """What was inlined at an address, and the calls of that, outermost first; none of it without debug info."""
        library = self.library_at(address)
        found = library.function_at(address) if library is not None else None
        if library is None or found is None:
            return []
        try:
            return library.debug.inlined(found.start - library.bias, found.name, address - library.bias)
        except (OSError, elftools.ELFError):
            return []
