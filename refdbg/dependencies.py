"""The third-party packages, found next to refdbg even inside a debugger, and imported when first used.

Only ABI-independent packages inside: the debugger's Python is not the one they were installed for.
"""

from __future__ import annotations

import glob
import importlib
import os
import sys
from types import ModuleType
from typing import Any

from refdbg.errors import MissingDependency

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))


def make_importable() -> None:
    """Append the checkout's virtual environment to sys.path (an installed refdbg has its packages beside it)."""
    for place in (ROOT, *sorted(glob.glob(f"{glob.escape(ROOT)}/.venv/lib/python3*/site-packages"))):
        if place not in sys.path:
            sys.path.append(place)


def own_python() -> str:
    """The interpreter that the packages were installed for, "" where it is not known or has no numpy."""
    found = sorted(glob.glob(f"{glob.escape(ROOT)}/.venv/lib/python3*/site-packages/numpy"))
    here = found[-1] if found else os.path.join(ROOT, "numpy")  # a checkout's, or refdbg was installed beside it
    python = os.path.join(os.path.dirname(here), *[os.pardir] * 3, "bin", "python3")
    return os.path.normpath(python) if os.path.isdir(here) and os.path.exists(python) else ""


def _install_command(package: str) -> str:
    if os.path.exists(os.path.join(ROOT, "Makefile")):
        return f"make -C {ROOT} venv"
    return f"python3 -m pip install --target {ROOT} {package}"


class _Lazy:
    # A package that is imported on first use; the names that refdbg takes from it are looked up in *modules*.
    def __init__(self, package: str, *modules: str) -> None:
        self._package = package
        self._names = modules
        self._modules: list[ModuleType] = []

    def __getattr__(self, name: str) -> Any:
        if not self._modules:
            make_importable()
            try:
                self._modules = [importlib.import_module(module) for module in self._names]
            except ImportError as error:
                raise MissingDependency(
                    f"the Python package {self._package!r} is missing ({error})",
                    f"install it with: {_install_command(self._package)}",
                ) from error
        for module in self._modules:
            if hasattr(module, name):
                return getattr(module, name)
        raise AttributeError(f"{self._package} has no {name}")


elftools = _Lazy(
    "pyelftools", "elftools.elf.elffile", "elftools.common.exceptions", "elftools.dwarf.callframe",
    "elftools.dwarf.locationlists",
)
tabulate = _Lazy("tabulate", "tabulate")
unicorn = _Lazy("unicorn", "unicorn", "unicorn.x86_const")
pygments = _Lazy("pygments", "pygments", "pygments.lexers", "pygments.formatters")
jinja2 = _Lazy("jinja2", "jinja2", "markupsafe")  # only outside of debuggers: it is compiled for one Python
_LONG = 1 << 17  # below, loops of Python's are done before numpy is imported


def inside_debugger() -> bool:
    """Whether this is a debugger's Python, which has none of the packages that are compiled for one."""
    return "gdb" in sys.modules or "lldb" in sys.modules


def vectors(length: int) -> Any:
    """numpy for columns of that *length*, None where loops of Python's must do or are as fast: in every debugger."""
    if length < _LONG or inside_debugger():
        return None
    make_importable()
    try:
        return importlib.import_module("numpy")
    except ImportError:
        return None
