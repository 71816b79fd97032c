"""The README and docs/: their commands are run, their options are the parsers', their links lead somewhere."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from refdbg.launch.triage import command as triage
from tests.conftest import missing
from tests.support.console import Command, Console, differs, steps
from tools.document_options import DOCS, parsers, written
from tools.man_pages import pages

ROOT = DOCS.parent
PAGES = sorted([ROOT / "README.md", *DOCS.glob("*.md")])
SHOWING = [page for page in PAGES if "```console" in page.read_text(encoding="utf-8")]
_LINK = re.compile(r"\]\(([^)\s#]+)(?:#([\w-]+))?\)")


@pytest.mark.parametrize("page", SHOWING, ids=lambda path: path.name)
def test_commands(page: Path, build: Callable[[str], str], python311: str, tmp_path: Path) -> None:
    """Each prints what the page shows."""
    assert Path(python311).name == "python3.11-dbg"
    console = Console(tmp_path, build)
    wrong = []
    try:
        for step in steps(page.read_text(encoding="utf-8")):
            printed = console.do(step)
            if isinstance(step, Command):
                missing = differs(step.shown, printed)
                if missing is not None:
                    wrong.append(f"{page.name}:{step.line} {step.words}\nnot there: {missing}\n{printed[:4000]}")
    finally:
        console.close()
    assert not wrong, "\n\n".join(wrong)


def test_what_is_not_printed_is_missed() -> None:
    """The comparison can fail."""
    printed = "one\ntwo 0x7f12 of 17\n\nlast, in 3.25 ms\n"
    assert differs(("one", "two 0x1 of 17", "", "last, in 1.50 ms"), printed) is None
    assert differs(("two … of 17", "…", "last…"), printed) is None
    assert differs(("one", "last, in 1.50 ms"), printed) == "last, in 1.50 ms"
    assert differs(("two 0x1 of 18",), printed) == "two 0x1 of 18"
    assert differs(("…", "first"), printed) == "first"


def test_options_are_the_parsers() -> None:
    """Every command has its options, as they are: python -m tools.document_options writes them."""
    known = parsers()
    texts = {page: page.read_text(encoding="utf-8") for page in PAGES}
    for page, text in texts.items():
        assert written(text, known) == text, f"{page.name}: run python -m tools.document_options"
    everything = "".join(texts.values())
    assert not [name for name in known if f"<!-- options of {name} -->" not in everything]


def test_man_pages(tmp_path: Path) -> None:
    """groff has nothing to say about them, and each has every option that its commands have."""
    if shutil.which("groff") is None:
        missing("no groff: apt-get install groff-base")
    known = parsers()
    shown = {}
    for name, text in pages().items():
        (tmp_path / name).write_text(text, encoding="ascii")
        groff = ["groff", "-man", "-ww", "-Tutf8", "-P-cbou", tmp_path / name]
        done = subprocess.run(groff, capture_output=True, text=True, check=True)
        assert done.stderr == "", name
        shown[name] = done.stdout
    assert [*shown] == ["refdbg.1", "refdbg-run.1", "refdbg-triage.1"]
    for words, parser in known.items():
        page = shown[f"{words.split()[0]}.1"]
        for action in parser._actions:
            if action.help != argparse.SUPPRESS and action.dest != "help":
                assert not (gone := [each for each in action.option_strings if each not in page]), (words, gone)
    for line in triage.parser().epilog.splitlines():
        assert line in shown["refdbg-triage.1"]  # by columns


def test_links_lead_somewhere() -> None:
    """To files of the checkout, and to headings of pages."""
    for page in PAGES:
        for target, heading in _LINK.findall(page.read_text(encoding="utf-8")):
            path = page.parent / target
            assert path.exists(), f"{page.name}: {target}"
            if heading:
                headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
                assert heading in [re.sub(r"[^\w -]", "", name.lower()).replace(" ", "-") for name in headings]


def test_lines_are_short() -> None:
    """At most 128 columns, tables excepted."""
    for page in PAGES:
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
            assert len(line) <= 128 or line.startswith("|"), f"{page.name}:{number}"


def test_site(tmp_path: Path) -> None:
    """`make docs` builds it, and no page of it loads anything from elsewhere."""
    assert shutil.which("mkdocs", path=str(Path(sys.executable).parent)), "make test-venv"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path / "site"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )
    assert done.returncode == 0, done.stdout
    pages = list((tmp_path / "site").glob("*.html"))
    assert {page.stem for page in pages} >= {page.stem for page in DOCS.glob("*.md")}
    loaded = re.compile(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=[\"'](?:https?:)?//[^\"']*")
    for page in pages:
        assert not loaded.findall(page.read_text(encoding="utf-8")), page.name
    for style in (tmp_path / "site").rglob("*.css"):
        assert not re.findall(r"url\([\"']?(?:https?:)?//[^)]*", style.read_text(encoding="utf-8")), style.name
