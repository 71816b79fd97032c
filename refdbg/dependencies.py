"""The third-party packages, found next to refdbg even inside a debugger, and imported when first used.

Only ABI-independent packages: the debugger's Python is not the one they were installed for.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from refdbg.errors import MissingDependency

ROOT = Path(__file__).resolve().parent.parent


def make_importable() -> None:
    """Append the checkout's virtual environment to sys.path (an installed refdbg has its packages beside it)."""
    places = [ROOT] if ROOT.name == "site-packages" else sorted(ROOT.glob(".venv/lib/python3*/site-packages"))
    for place in places:
        if str(place) not in sys.path:
            sys.path.append(str(place))


def _install_command(package: str) -> str:
    if (ROOT / "Makefile").exists():
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


elftools = _Lazy("pyelftools", "elftools.elf.elffile", "elftools.common.exceptions")
tabulate = _Lazy("tabulate", "tabulate")
pygments = _Lazy("pygments", "pygments", "pygments.lexers", "pygments.formatters")
