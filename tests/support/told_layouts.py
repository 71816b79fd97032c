"""`source`d in gdb: prints as JSON where what is deduced of a stripped CPython differs from its debug info.

{"structs": how many were compared, "fields": as many, "different": [struct and field, as deduced, as it is]}
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import gdb
from refdbg.cpython.stripped import _Stripped
from refdbg.debuggers.gdb import GdbTarget
from refdbg.target.layout import StructLayout

OTHER_NAMES = {"ob_refcnt_split", "tstate_head"}  # of other versions: the count, threads.head


def places(layout: StructLayout, path: str = "", start: int = 0) -> Iterator[tuple[str, list[int]]]:
    """(field, its place) of the struct and those within it."""
    for name, field in layout.fields.items():
        yield path + name, [start + field.offset, field.bit_offset, field.bit_size]
        if field.inner is not None:
            yield f"{path}{name}[]", [field.count, field.size]
            yield from places(field.struct, f"{path}{name}.", start + field.offset)


target = GdbTarget(gdb.selected_inferior())
stripped = _Stripped(target, "_PyRuntime", target.address_of("_PyRuntime"))
different: list[object] = []
fields = 0
for struct in stripped._makers:
    told, true = stripped.layout(struct), target.layout(struct)
    if told.size != true.size:
        different.append([struct, told.size, true.size])
    found = dict(places(true))
    for name, place in places(told):
        if name not in OTHER_NAMES and name.strip("[]") != "interpreters":  # whose mutex is not told
            fields += 1
            if found.get(name) != place:
                different.append([f"{struct}.{name}", place, found.get(name)])
print(json.dumps({"structs": len(stripped._makers), "fields": fields, "different": different}))
