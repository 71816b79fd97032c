"""Rules that import-linter cannot say."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "refdbg"
# Statics and fields of CASES that a verdict must find, not know.
_CASES = {
    "IntHandler", "ItimerError", "Handlers", "codec_search_path", "codec_search_cache", "DecimalTuple", "interned",
}
_MODULES = {name for name in sys.stdlib_module_names if name.startswith("_") and name != "__future__"}


@pytest.mark.parametrize(
    "path", sorted([*(PACKAGE / "verdicts").glob("*.py"), *(PACKAGE / "analysis").glob("*.py")]), ids=lambda p: p.stem
)
def test_conclusions_know_no_names_of_cpython(path: Path) -> None:
    words = set(re.findall(r"\w+", path.read_text(encoding="utf-8")))
    assert not words & (_CASES | _MODULES)


@pytest.mark.parametrize("debugger", ["gdb", "lldb"])
def test_only_its_own_file_imports_a_debugger(debugger: str) -> None:
    found = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names.append(node.module or "")
            if any(name.split(".")[0] == debugger for name in names):
                found.append(path.relative_to(PACKAGE).as_posix())
    assert found in ([], [f"debuggers/{debugger}.py"])


def test_no_debugger_folder_is_a_package() -> None:
    assert not (ROOT / "gdb" / "__init__.py").exists()
    assert not (ROOT / "lldb" / "__init__.py").exists()


def test_importing_touches_no_process() -> None:
    """No module needs more than the standard library to be imported."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                module = node.names[0].name if isinstance(node, ast.Import) else node.module or ""
                top = module.split(".")[0]
                assert top in sys.stdlib_module_names or top in ("refdbg", "gdb", "lldb"), f"{path}: {module}"
