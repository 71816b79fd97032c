"""The words of a frame (Include/internal/pycore_stackref.h).

Since 3.14 each is a ``_PyStackRef``, which says in its low bits whether it owns its reference. Until 3.13 it is a
``PyObject *``, which has no such bits: what is said here holds for both.
"""

from __future__ import annotations

from refdbg.cpython.runtime import Build
from refdbg.errors import LayoutNotFound

_TAG = 3
_BORROWED = 1  # Py_TAG_REFCNT: the object's count does not include it (immortal, deferred or held elsewhere); NULL too


def are_tagged(build: Build) -> bool:
    """Whether frames have such words. Raises LayoutNotFound where they have what refdbg does not know."""
    try:
        frame = build.layout("_PyInterpreterFrame")
    except LayoutNotFound:  # until 3.10
        return False
    word = frame.first("f_executable", "f_code")
    if word.inner is None:
        return False
    if "bits" not in word.struct:
        raise LayoutNotFound(
            "the frames of this CPython hold numbers in place of references (Py_STACKREF_DEBUG)",
            "Build it without Py_STACKREF_DEBUG.",
        )
    return True


def pointed(word: int) -> int:
    """The object that the word refers to, owned or not (``PyObject *``); 0 for none, and for a number in its place."""
    return word & ~_BORROWED if word & _TAG <= _BORROWED else 0


def is_deferred(word: int) -> bool:
    """Whether the word refers to an object whose count does not include it."""
    return word & _TAG == _BORROWED and word != _BORROWED


def is_owned(word: int) -> bool:
    """Whether the word owns a reference to an object."""
    return bool(word) and not word & _TAG
