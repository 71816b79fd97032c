"""refdbg-run --html: reports of real runs, opened in a real Chromium and used with mouse and keyboard."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import missing
from tests.live.test_extensions import extensions
from tests.support.browser import Browser
from tests.support.run import Ended, run

PROGRAMS = Path(__file__).parents[1] / "programs"
SCRIPT = "<script>planted=1</script>"
EVIL = f"</script>{SCRIPT}<img src=x onerror=planted=1>"
OBJECTS = 50_000  # of two kinds each


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests."""
    if shutil.which("chromium") is None:
        missing("no chromium: apt-get install chromium")
    if shutil.which("dot") is None:
        missing("no Graphviz: apt-get install graphviz")
    browser = Browser()
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the reports are."""
    return tmp_path_factory.mktemp("reports")


@pytest.fixture(scope="module")
def hostile(python311: str, folder: Path) -> tuple[Path, Ended]:
    """The report on names that are markup."""
    page = folder / "hostile.html"
    return page, run([python311, PROGRAMS / "hostile_names.py", SCRIPT], ["--html", str(page), "--objects", "2000"])


@pytest.fixture(scope="module")
def leak(build: Callable[[str], str], folder: Path) -> tuple[Path, Ended]:
    """The report on a _thread.lock that does not visit its type."""
    page = folder / "leak.html"
    return page, run([build("3.11-leak-thread"), PROGRAMS / "leak_thread.py"], ["--html", str(page)])


@pytest.fixture(scope="module")
def blamed(python311: str, folder: Path) -> tuple[Path, Ended]:
    """The report of --blame."""
    page = folder / "blame.html"
    program = [python311, PROGRAMS / "leak_blamed.py", extensions(python311), "fetched"]
    return page, run(program, ["--html", str(page), "--blame", "__main__.Thing"])


@pytest.fixture(scope="module")
def many(python311: str, folder: Path) -> tuple[Path, Ended]:
    """The report on more than 100,000 objects, each listed."""
    page = folder / "many.html"
    return page, run([python311, PROGRAMS / "many_left.py", str(OBJECTS)], ["--html", str(page), "--objects", "200000"])


def shown(browser: Browser, selector: str) -> int:
    """How many elements of these are not folded away."""
    return int(browser.run(f"document.querySelectorAll('{selector}:not(.away)').length"))


def test_names_of_the_program_have_no_effect(browser: Browser, hostile: tuple[Path, Ended]) -> None:
    page, ended = hostile
    assert any(EVIL in row["type"] for row in ended.report["interpreters"][0]["left_over"]["by_type"])
    assert any("<img" in each["frame"]["file"] for each in ended.report["collections"] if each["frame"])
    assert SCRIPT in ended.report["target"]["argv"]
    browser.open(page)
    browser.run("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    assert browser.run("typeof planted") == "undefined"
    assert browser.run("[document.scripts.length, document.images.length]") == [2, 0]
    assert list(browser.requested()) == [page.as_uri()]
    assert browser.complaints() == []
    for table in ("census-0", "objects-0"):
        browser.click(f"[data-table='{table}'] input")
        browser.type("SCRIPT>")
    browser.run("new Promise((done) => setTimeout(done, 300))")
    for place in (".message", "[data-table='census-0'] td", "[data-table='objects-0'] td", ".drawing text", ".chosen"):
        text = browser.run(f"[...document.querySelectorAll(\"{place}\")].map((each) => each.textContent).join('\\n')")
        assert "</script>" in text, place
    assert SCRIPT in browser.text(".command")
    assert "<img src=x onerror=planted=1>.py" in browser.text("[data-table='collections']")
    source = page.read_text()
    assert not set("\x00\x1b\u202e") & set(source)  # shown as what they are


def test_the_network_is_forbidden(browser: Browser, hostile: tuple[Path, Ended]) -> None:
    page, _ = hostile
    browser.open(page)
    browser.run("new Promise((done) => { const image = new Image(); image.onerror = image.onload = done;"
                " image.src = 'http://127.0.0.1:9/x'; })")  # fmt: skip
    assert browser.run("fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'refused')") == "refused"
    browser.run("document.body.append(Object.assign(document.createElement('script'), {textContent: 'planted=1'}))")
    assert browser.run("typeof planted") == "undefined"
    refused = " ".join(each for each in browser.complaints() if "Content Security Policy" in each)
    assert all(what in refused for what in ("Loading the image", "Connecting to", "inline script"))


def test_the_first_suspect_is_told_and_drawn(browser: Browser, leak: tuple[Path, Ended]) -> None:
    page, ended = leak
    first = ended.report["findings"][0]
    browser.open(page)
    assert browser.text("h1") == f"{len(ended.report['findings'])} leak suspects"
    assert "lock_traverse never visits it" in browser.text(".suspect .message")
    assert browser.text("#finding-1 .fix") == "Add Py_VISIT(Py_TYPE(self)); to lock_traverse."
    assert browser.text("#finding-1 .fix code") == "Py_VISIT(Py_TYPE(self));"
    # Marked by more than colour: dashed, named in the legend and in the list of holders.
    style = "getComputedStyle(document.querySelector('#finding-1 .edge.{} path')).strokeDasharray"
    assert browser.run(style.format("unvisited")) != "none"
    assert browser.run(style.format("visited")) == "none"
    assert "NOT visited" in browser.text("#finding-1 .legend")
    assert "ob_type" in browser.text("#finding-1 .chosen") and "NOT visited" in browser.text("#finding-1 .chosen")
    assert browser.run("document.querySelectorAll('#finding-1 [data-node]').length") == len(first["graph"]["nodes"])


def test_holders_unfold_by_mouse_and_keyboard(browser: Browser, leak: tuple[Path, Ended]) -> None:
    page, ended = leak
    graph = ended.report["findings"][0]["graph"]
    subject = next(number for number, node in enumerate(graph["nodes"]) if node["role"] == "subject")
    near = {edge["from"] for edge in graph["edges"] if edge["to"] == subject}
    near |= {edge["to"] for edge in graph["edges"] if edge["from"] == subject}
    box = f"#finding-1 [data-node=\"{subject}\"]"
    browser.open(page)
    before = shown(browser, "#finding-1 [data-node]")
    assert before < len(graph["nodes"]) and f"+{len(near | {subject}) - before}" in browser.text(f"{box} .badge")
    browser.click(box)
    unfolded = shown(browser, "#finding-1 [data-node]")
    assert unfolded == len(near | {subject})
    assert f"Held by ({sum(edge['to'] == subject for edge in graph['edges'])})" in browser.text("#finding-1 .chosen")
    browser.hover(box)
    dim = "getComputedStyle(document.querySelector('#finding-1 .edge:not([data-from=\"{0}\"]):not([data-to=\"{0}\"])'))"
    assert float(browser.run(dim.format(subject) + ".opacity")) < 0.5
    browser.click("#finding-1 figcaption button:last-of-type")
    assert shown(browser, "#finding-1 [data-node]") == before
    browser.run(f"document.querySelector('{box}').focus()")
    browser.press("Enter")
    assert shown(browser, "#finding-1 [data-node]") == unfolded
    browser.click("#finding-1 figcaption button")
    assert shown(browser, "#finding-1 [data-node]") == len(graph["nodes"])
    # What is unfolded does not overlap, however much of it is folded away.
    assert browser.run("""(() => {
        const boxes = [...document.querySelectorAll('#finding-1 .node:not(.away)')].map((e) => e.querySelector('path,polygon').getBoundingClientRect());
        return boxes.some((a, i) => boxes.some((b, j) => i < j && a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom));
    })()""") is False  # fmt: skip # noqa: E501
    # The list of holders leads on.
    browser.click("#finding-1 .chosen li button")
    assert browser.run("document.activeElement.dataset.node") not in (None, str(subject))
    assert browser.complaints() == []


def test_tables_are_searched_sorted_and_turned(browser: Browser, hostile: tuple[Path, Ended]) -> None:
    page, ended = hostile
    left = ended.report["interpreters"][0]["left_over"]
    browser.open(page)
    grid = "[data-table='census-0']"
    assert browser.text(f"{grid} .foot [role=status]") == f"1 to 15 of {len(left['by_type'])} rows"
    browser.click(f"{grid} .foot button:nth-of-type(2)")
    assert browser.text(f"{grid} tbody td") == left["by_type"][15]["type"]
    browser.click(f"{grid} th:nth-of-type(3) button")
    assert browser.run(f"document.querySelector(\"{grid} th:nth-of-type(3)\").ariaSort") == "descending"
    most = max(left["by_type"], key=lambda row: row["references"])
    assert browser.text(f"{grid} tbody td") == most["type"]
    browser.click(f"{grid} input")
    browser.type("WRAPPER_desc")
    browser.run("new Promise((done) => setTimeout(done, 300))")
    assert browser.text(f"{grid} tbody td") == "wrapper_descriptor"
    assert browser.text(f"{grid} .foot [role=status]").startswith("1 to 1 of 1 row found")
    # Addresses come back to the last bit, also inside of a repr.
    row = next(row for row in left["first"] if row["repr"].endswith(f"at {row['address']:#x}>"))
    browser.click("[data-table='objects-0'] input")
    browser.type(f"{row['address']:#x}>")
    browser.run("new Promise((done) => setTimeout(done, 300))")
    cells = browser.text("[data-table='objects-0'] tbody tr").split("\t")
    assert cells == [row["type"], row["repr"], f"{row['refcount']:,}", f"{row['address']:#x}"]


def test_keyboard_alone_is_enough(browser: Browser, leak: tuple[Path, Ended]) -> None:
    page, _ = leak
    browser.open(page)
    browser.press("Tab")
    assert browser.run("document.activeElement.className") == "skip"
    browser.press("/")
    assert browser.run("document.activeElement.id") == "find"
    browser.type("RunFailedError")
    assert browser.text("#found").startswith("1 of ") and shown(browser, ".suspect") == 1
    browser.run("document.querySelector('.suspect:not(.away) summary').focus()")
    browser.press("Enter")
    assert browser.run("document.querySelector('.suspect:not(.away)').open") is True
    assert shown(browser, ".suspect[open] .sheet .node") > 1  # drawn when it was opened
    assert browser.run("document.querySelector('.suspect:not(.away) .sheet svg').clientWidth") > 100


def test_dark_light_and_narrow(browser: Browser, leak: tuple[Path, Ended]) -> None:
    page, _ = leak
    ground = "getComputedStyle(document.body).backgroundColor"
    box = "getComputedStyle(document.querySelector('.node.subject path')).fill"
    browser.open(page)
    light = browser.run(f"[{ground}, {box}]")
    browser.open(page, dark=True)
    dark = browser.run(f"[{ground}, {box}]")
    assert light[0] != dark[0] and light[1] != dark[1]
    browser.run("document.getElementById('theme').focus()")
    browser.press("Enter")
    assert browser.text("#theme") == "Theme: light" and browser.run(f"[{ground}, {box}]") == light
    browser.press(" ")
    assert browser.text("#theme") == "Theme: dark" and browser.run(f"[{ground}, {box}]") == dark
    browser.press(" ")
    for width in (1280, 420):
        browser.open(page, width=width)
        browser.click("#open-all")
        assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.complaints() == []


def test_the_balance_tree_folds(browser: Browser, blamed: tuple[Path, Ended]) -> None:
    page, ended = blamed
    browser.open(page)
    assert "blamed.c:34" in browser.text(".remaining li") and browser.text(".remaining .net") == "+1"
    calls = shown(browser, "#calls li")
    assert calls >= 4 and "fetch()" in browser.text("#calls")
    browser.click("#calls li:nth-of-type(2) .fold")
    assert shown(browser, "#calls li") == 2
    browser.run("document.querySelector('#calls li:nth-of-type(1) .fold').focus()")
    browser.press("Enter")
    assert shown(browser, "#calls li") == 1
    browser.press("Enter")
    assert shown(browser, "#calls li") == 2  # the inner fold has stayed
    assert "--blame __main__.Thing" in browser.text("#reproduce pre")
    assert ended.report["blame"]["result"]


def test_a_hundred_thousand_objects(browser: Browser, many: tuple[Path, Ended]) -> None:
    page, ended = many
    left = ended.report["interpreters"][0]["left_over"]
    assert len(left["first"]) == left["objects"] > 2 * OBJECTS
    assert page.stat().st_size < 5_000_000
    browser.open(page)
    grid = "[data-table='objects-0']"
    assert browser.text(f"{grid} .foot [role=status]") == f"1 to 25 of {left['objects']:,} rows"
    browser.click(f"{grid} input")
    browser.type(f"node {OBJECTS - 1} of")
    browser.run("new Promise((done) => setTimeout(done, 500))")
    assert browser.text(f"{grid} .foot [role=status]").startswith("1 to 1 of 1 row found")
    assert f"node {OBJECTS - 1} of the list" in browser.text(f"{grid} tbody")
