"""The balance of every object of a large program: each reference count against the words of the process that own."""

from __future__ import annotations

from pathlib import Path

from tests.live.test_traverse import PROGRAMS, check

# Real: nobody holds one reference to each of these.
LOST = {
    # Modules/_testcapimodule.c, PyInit__testcapi: the result of PyType_FromSpec(&HeapCType_spec) is only ever a base.
    "<class '_testcapi.HeapCType'>",
    # 3.9, Modules/selectmodule.c, PyInit_select: Py_INCREF(poll_Type) for a module attribute that is never added.
    "<class 'select.poll'>",
}


def test_every_reference_has_its_owner(interpreter: str, tmp_path: Path) -> None:
    """Nothing seems lost, and nothing has more owners than references."""
    found = check(interpreter, "balance", [PROGRAMS / "many_modules.py"], tmp_path)
    assert found["objects"] > 50_000
    assert [row for row in found["wrong"] if row[0] not in LOST] == []
    assert all((lost, surplus) == (1, 0) for _, lost, surplus in found["wrong"])
    # Words that may own stand for few of the references.
    assert found["known"] > 0.98 * found["objects"]
