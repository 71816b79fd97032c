"""A finding's name that is the same in every run: no addresses in it."""

from __future__ import annotations

import re

_ABI_TAG = re.compile(r"(\.(cpython|abi3|pypy)[-\w]*)?\.so[.\d]*$")
_VERSION = re.compile(r"(?<=python)[\d.]+[dt]*$")


def library_name(file: str) -> str:
    """A file's name without ABI tag and version: ``_x.cpython-311d-….so`` is ``_x``, ``python3.11d`` ``python``."""
    name = _ABI_TAG.sub("", file)
    return _VERSION.sub("", name.removeprefix("lib") if name.startswith("libpython") else name)


def signature(verdict: str, *parts: str) -> str:
    """A stable hash of what a finding is about."""
    import hashlib  # 8 ms that only a run with findings pays

    text = "\0".join((verdict, *parts))
    return f"{verdict}:{hashlib.sha256(text.encode('utf-8', 'backslashreplace')).hexdigest()[:12]}"
