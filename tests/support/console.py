"""The console blocks of a Markdown page, run for real.

In a fenced `console` block a line that begins with `$ ` is a command of the shell, one that begins with `(gdb) ` goes
to the gdb that a `$ gdb ...` before it has started. The lines below are what it prints: `…` stands for any text, or
alone on a line for any lines, an address for any address, a number of three digits or more for any number. A `python`
block whose first line is `# NAME` is a file. `<!-- ./python is RECIPE -->` names the build of tests/cpython/build that
`./python` is from there on.

    python -m tests.support.console PAGE    prints what the commands of a page say now
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
_BUILD = re.compile(r"<!-- \./python is (\S+) -->")
_FILE = re.compile(r"# ([\w.-]+)\n")
_PROMPTS = ("$ ", "(gdb) ")
_DONE = "refdbg-console-done"


@dataclass(frozen=True)
class Command:
    """A command that a page shows. *line*: in the page, from 1; *words*: with its prompt."""

    line: int
    words: str
    shown: tuple[str, ...]


@dataclass(frozen=True)
class File:
    """A file that a page shows."""

    name: str
    text: str


@dataclass(frozen=True)
class Python:
    """From here on `./python` is another build: one of tests/cpython/build."""

    recipe: str


def steps(page: str) -> Iterator[Command | File | Python]:
    """What a reader of the Markdown *page* does, one after the other."""
    for token in MarkdownIt().parse(page):
        if token.type == "html_block":
            yield from (Python(found) for found in _BUILD.findall(token.content))
        elif token.type == "fence" and token.info == "console":
            assert token.map is not None
            yield from _commands(token.content.splitlines(), token.map[0] + 2)
        elif token.type == "fence" and token.info == "python":
            named = _FILE.match(token.content)
            if named:
                yield File(named[1], token.content)


def _commands(lines: list[str], first: int) -> Iterator[Command]:
    starts = [number for number, line in enumerate(lines) if line.startswith(_PROMPTS)]
    assert starts and starts[0] == 0, f"line {first}: a console block begins with a prompt"
    for start, end in zip(starts, [*starts[1:], len(lines)]):
        yield Command(first + start, lines[start], tuple(lines[start + 1 : end]))


def differs(shown: tuple[str, ...], printed: str) -> str | None:
    """The first shown line that does not come in *printed*, in order; None when all of them do."""
    lines, place = [line.rstrip() for line in printed.splitlines()], 0
    gap = True  # what a shell or gdb says before is not of interest
    for line in shown:
        if line.strip() == "…":
            gap = True
            continue
        pattern = re.compile(_pattern(line.rstrip()))
        found = next((n for n in range(place, len(lines) if gap else place + 1)
                      if n < len(lines) and pattern.fullmatch(lines[n])), None)
        if found is None:
            return line
        place, gap = found + 1, False
    return None


_WILD = re.compile(r"…|0x[0-9a-f]+|\d+\.\d+|\d{1,3}(?:,\d{3})+|\d{3,}| {2,}|-{3,}")


def _pattern(line: str) -> str:
    # Addresses, times and numbers of three digits (of a whole heap, process ids) differ, and so do widths of columns.
    pattern, place = "", 0
    for wild in _WILD.finditer(line):
        pattern += re.escape(line[place : wild.start()]) + {"…": ".*", "0": "0x[0-9a-f]+", " ": " +", "-": "-+"}.get(
            wild[0][0] if not wild[0][0].isdigit() or wild[0].startswith("0x") else "number", r"[\d.,]+"
        )
        place = wild.end()
    return pattern + re.escape(line[place:])


class Console:
    """A reader's folder, shell and debugger. *python_of*: the path of a build of tests/cpython/build."""

    def __init__(self, folder: Path, python_of: Callable[[str], str]) -> None:
        self._folder = folder
        self._python_of = python_of
        self._gdb: subprocess.Popen[str] | None = None
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        self._environment: Mapping[str, str] = {
            **os.environ, "PATH": path, "HOME": str(folder), "LANG": "C.UTF-8", "COLUMNS": "120", "LINES": "1000",
        }

    def do(self, step: Command | File | Python) -> str:
        """Does one step; returns what it printed."""
        if isinstance(step, File):
            (self._folder / step.name).write_text(step.text, encoding="utf-8")
        elif isinstance(step, Python):
            python = self._folder / "python"
            python.unlink(missing_ok=True)
            python.symlink_to(self._python_of(step.recipe))
        elif step.words.startswith("$ gdb "):
            self.close()
            self._gdb = subprocess.Popen(
                ["bash", "-c", "exec " + step.words[2:]], cwd=self._folder, env=self._environment, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )
            return self._ask("set confirm off")
        elif step.words.startswith("(gdb) "):
            return self._ask(step.words[len("(gdb) ") :])
        else:
            done = subprocess.run(
                ["bash", "-c", step.words[2:]], cwd=self._folder, env=self._environment, text=True, check=False,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120,
            )
            return done.stdout
        return ""

    def close(self) -> None:
        """Ends the gdb that runs, and what runs in it."""
        if self._gdb is not None:
            self._gdb.communicate("kill\nquit\n", timeout=60)
            self._gdb = None

    def _ask(self, command: str) -> str:
        assert self._gdb is not None and self._gdb.stdin is not None and self._gdb.stdout is not None, "no gdb runs"
        self._gdb.stdin.write(f"{command}\necho \\n{_DONE}\\n\n")
        self._gdb.stdin.flush()
        lines: list[str] = []
        for line in self._gdb.stdout:
            line = line.replace("(gdb) ", "")
            if line.startswith(_DONE):
                break
            lines.append(line)
        return "".join(lines)


def main(page: Path) -> None:
    """Prints what the commands of a page say now."""
    with tempfile.TemporaryDirectory() as folder:
        console = Console(Path(folder), _built)
        try:
            for step in steps(page.read_text(encoding="utf-8")):
                printed = console.do(step)
                if isinstance(step, Command):
                    wrong = differs(step.shown, printed)
                    verdict = f"!!! not there: {wrong}" if wrong else "ok"
                    print(f"--- {page}:{step.line} {verdict}\n{step.words}\n{printed}")
        finally:
            console.close()


def _built(recipe: str) -> str:
    build = ROOT / "tests" / "cpython" / "build"
    return subprocess.run([build, recipe], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
