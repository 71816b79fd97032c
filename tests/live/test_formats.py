"""The report as Markdown, JUnit XML and SARIF, and `refdbg report`: of a run whose names mean something to each."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest

from refdbg.render.html import html_text
from refdbg.render.junit import junit_text
from refdbg.render.markdown import markdown_text, plain_text
from refdbg.render.sarif import sarif_text
from refdbg.render.verdicts import MEANINGS
from tests.support.markdown import rendered
from tests.support.run import ENVIRONMENT, ROOT, SCHEMA, Ended, refdbg_run, run

PROGRAM = Path(__file__).parents[1] / "programs" / "hostile_names.py"
FORMATS = ("text", "html", "markdown", "junit", "sarif")
OURS = {"h3", "p", "pre", "code", "strong", "ul", "li", "details", "summary"}

# The part of SARIF 2.1.0's own schema that refdbg uses, strict about what it does not.
_TEXT = {"type": "object", "additionalProperties": False, "required": ["text"],
         "properties": {"text": {"type": "string", "minLength": 1}}}  # fmt: skip
_LOCATION = {
    "type": "object", "additionalProperties": False,
    "properties": {
        "physicalLocation": {
            "type": "object", "additionalProperties": False, "required": ["artifactLocation"],
            "properties": {
                "artifactLocation": {
                    "type": "object", "additionalProperties": False, "required": ["uri"],
                    "properties": {
                        "uri": {"type": "string", "pattern": r"^(file:///)?[A-Za-z0-9_.~%/-]+$"},
                        "uriBaseId": {"type": "string"},
                    },
                },
                "region": {"type": "object", "additionalProperties": False, "required": ["startLine"],
                           "properties": {"startLine": {"type": "integer", "minimum": 1}}},
            },
        },
        "logicalLocations": {
            "type": "array", "items": {"type": "object", "required": ["fullyQualifiedName"],
                                       "properties": {"fullyQualifiedName": {"type": "string"}}},
        },
        "message": _TEXT,
    },
}  # fmt: skip
SARIF = {
    "type": "object", "additionalProperties": False, "required": ["version", "runs"],
    "properties": {
        "$schema": {"type": "string", "format": "uri"}, "version": {"const": "2.1.0"},
        "runs": {"type": "array", "items": {
            "type": "object", "additionalProperties": False, "required": ["tool", "results"],
            "properties": {
                "tool": {"type": "object", "additionalProperties": False, "required": ["driver"], "properties": {
                    "driver": {"type": "object", "additionalProperties": False, "required": ["name"], "properties": {
                        "name": {"const": "refdbg"}, "version": {"type": "string"},
                        "rules": {"type": "array", "uniqueItems": True, "items": {
                            "type": "object", "additionalProperties": False, "required": ["id"],
                            "properties": {"id": {"type": "string"}, "shortDescription": _TEXT}}},
                    }}}},
                "invocations": {"type": "array", "items": {
                    "type": "object", "additionalProperties": False, "required": ["executionSuccessful"],
                    "properties": {
                        "executionSuccessful": {"type": "boolean"}, "commandLine": {"type": "string"},
                        "toolExecutionNotifications": {"type": "array", "items": {
                            "type": "object", "additionalProperties": False, "required": ["message"],
                            "properties": {"level": {"enum": ["none", "note", "warning", "error"]}, "message": _TEXT}}},
                    }}},
                "originalUriBaseIds": {"type": "object"},
                "results": {"type": "array", "items": {
                    "type": "object", "additionalProperties": False, "required": ["message", "ruleId"],
                    "properties": {
                        "ruleId": {"type": "string"}, "ruleIndex": {"type": "integer", "minimum": 0},
                        "level": {"enum": ["none", "note", "warning", "error"]}, "message": _TEXT,
                        "locations": {"type": "array", "items": _LOCATION},
                        "relatedLocations": {"type": "array", "items": _LOCATION},
                        "partialFingerprints": {"type": "object", "additionalProperties": {"type": "string"}},
                        "suppressions": {"type": "array", "items": {
                            "type": "object", "additionalProperties": False, "required": ["kind"],
                            "properties": {"kind": {"enum": ["inSource", "external"]},
                                           "justification": {"type": "string"}}}},
                        "properties": {"type": "object"},
                    }}},
            }}},
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def told(python311: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ended]:
    """A folder with the report in each format, and the run."""
    folder = tmp_path_factory.mktemp("formats")
    options = [word for name in FORMATS for word in (f"--{name}", str(folder / name))]
    ended = run([python311, PROGRAM, os.fsdecode(b"\xff`@all`")], options)
    (folder / "json").write_text(json.dumps(ended.report))
    return folder, ended


def refdbg(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """`refdbg` in a shell."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from refdbg.launch.shell import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, env=ENVIRONMENT, check=False,
        timeout=60,
    )  # fmt: skip


def test_a_wrapper_with_files_says_nothing(told: tuple[Path, Ended]) -> None:
    _, ended = told
    assert (ended.status, ended.out, ended.err) == (0, b"", b"")


@pytest.mark.parametrize("name", FORMATS)
def test_a_report_is_rendered_again_alike(told: tuple[Path, Ended], name: str) -> None:
    folder, _ = told
    done = refdbg("report", folder / "json", f"--{name}", folder / f"{name}-again")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (folder / f"{name}-again").read_bytes() == (folder / name).read_bytes()
    assert b"\\udcff" in (folder / name).read_bytes()  # an argument that is no UTF-8


def test_markdown_shows_and_does_nothing(told: tuple[Path, Ended]) -> None:
    folder, ended = told
    text = (folder / "markdown").read_text()
    seen = rendered(text)
    assert seen.found <= OURS, seen.found - OURS
    assert "<script>planted=1</script>" in seen.text
    assert len(text) < 65_536
    assert "<details><summary>How to reproduce</summary>" in text
    assert ended.report["findings"][0]["signature"] in text
    for mention in ("@someone", "#1 ", "://evil"):  # in code they mean nothing
        inside = rendered(plain_text(f"{mention} <{mention}>")).text
        assert mention.strip() not in inside and mention.strip() in inside.replace("\x01", "")


@pytest.mark.parametrize("text", [
    "- a", "1. a", "# a", "> a", "a\n\n```\nb", "<details>", "[a](b)", "![a](b)", "**a** _b_ ~~c~~", "`", "a `` b",
    "a|b\n-|-", "&lt;b>", "    a", "---", "===", "\\`", "<!-- a", "`a`<b>`c`",
])  # fmt: skip
def test_any_text_is_shown_as_it_is(text: str) -> None:
    seen = rendered(f"- {plain_text(text)}")
    assert seen.found <= {"ul", "li", "code", "p"}
    assert seen.text.replace("\x01", "").split() == text.replace("`a`", "a").replace("`c`", "c").split()


def test_junit_fails_on_what_is_new(told: tuple[Path, Ended]) -> None:
    folder, ended = told
    root = ElementTree.parse(folder / "junit").getroot()
    (suite,) = root
    assert (root.tag, suite.tag) == ("testsuites", "testsuite")
    assert [child.tag for child in suite] == ["properties", *["testcase"] * (len(suite) - 1)]
    cases = suite.findall("testcase")
    assert all(set(case.attrib) == {"name", "classname"} and len(case) <= 1 for case in cases)
    assert suite.attrib == {**root.attrib, "name": suite.get("name")}
    failed = [case for case in cases if case.find("failure") is not None]
    assert [int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped")] == [
        len(cases), len(failed), 0, 0,
    ]  # fmt: skip
    assert [case.attrib["name"].split()[0] for case in failed] == [
        finding["signature"] for finding in ended.report["findings"]
    ]
    assert failed[0].find("failure").attrib == {  # type: ignore[union-attr]
        "type": "lost-reference", "message": ended.report["findings"][0]["message"],
    }  # fmt: skip


def test_junit_on_known_and_possible_and_partial(told: tuple[Path, Ended]) -> None:
    report = copy.deepcopy(told[1].report)
    report["findings"][0]["known"] = True
    report["findings"][1]["confidence"] = "possible"
    report["partial"] = "the debugger ended \x1b"
    suite = ElementTree.fromstring(junit_text(report))[0]
    findings = len(report["findings"])
    assert (suite.get("failures"), suite.get("skipped"), suite.get("errors")) == (str(findings - 2), "2", "1")
    assert f"{findings} leak suspects, 1 of them known" in html_text(report)
    assert markdown_text(report).startswith(f"### refdbg: {findings} leak suspects, 1 known")
    (suite,) = ElementTree.fromstring(junit_text({"error": "no debugger"}))
    assert (suite.get("tests"), suite.get("errors")) == ("1", "1")


def _valid(text: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(text)
    jsonschema.Draft202012Validator(SARIF).validate(document)
    return document


def test_sarif_names_lines_and_signatures(told: tuple[Path, Ended]) -> None:
    folder, ended = told
    (sarif,) = _valid((folder / "sarif").read_text())["runs"]
    rules = sarif["tool"]["driver"]["rules"]
    schema = json.loads(SCHEMA.read_text())
    assert {rule["id"] for rule in rules} == set(schema["$defs"]["finding"]["properties"]["verdict"]["enum"])
    assert list(MEANINGS) == [rule["id"] for rule in rules]
    for result, finding in zip(sarif["results"], ended.report["findings"], strict=True):
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"] == finding["verdict"]
        assert result["partialFingerprints"] == {"refdbgSignature/v1": finding["signature"]}
        if finding["holder"].get("line"):
            place = result["locations"][0]["physicalLocation"]
            assert place["region"]["startLine"] == finding["holder"]["line"]
            assert place["artifactLocation"]["uri"].endswith(Path(finding["holder"]["file"]).name)
    assert any(finding["holder"].get("line") for finding in ended.report["findings"])


def test_sarif_of_a_failure_and_of_what_is_known(told: tuple[Path, Ended]) -> None:
    (sarif,) = _valid(sarif_text({"error": "no debugger"}))["runs"]
    assert sarif["results"] == [] and sarif["invocations"][0]["executionSuccessful"] is False
    report = copy.deepcopy(told[1].report)
    report["findings"][0]["known"] = True
    report["findings"][0]["holder"] = {"kind": "C variable", "file": "/a b/<c>\udcff.c", "line": 0}
    first = _valid(sarif_text(report))["runs"][0]["results"][0]
    assert first["suppressions"]
    assert first["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "file:///a%20b/%3Cc%3E%FF.c"


def test_a_finding_is_drawn(told: tuple[Path, Ended]) -> None:
    folder, _ = told
    done = refdbg("report", folder / "json", "--finding", "2", "--dot", folder / "dot", "--svg", folder / "svg")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert "_ctypes_ptrtype_cache" in (folder / "dot").read_text()
    assert ElementTree.parse(folder / "svg").getroot().tag.endswith("svg")
    done = refdbg("report", folder / "json", "--finding", "99", "--svg", folder / "none")
    assert done.returncode == 2 and "there is no finding 99" in done.stderr


def test_without_graphviz_the_page_says_so(
    told: tuple[Path, Ended], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    page = html_text(told[1].report)
    assert "apt-get install graphviz" in page and "data-node" not in page.split("<script>")[0]


def test_a_program_that_crashed_is_not_called_clean(python311: str) -> None:
    report = run([python311, "-c", "import ctypes; ctypes.string_at(0)"]).report
    assert "ended by SIGSEGV" in markdown_text(report) and "string_at" in markdown_text(report)
    (suite,) = ElementTree.fromstring(junit_text(report))
    assert suite.get("errors") == "1"
    assert _valid(sarif_text(report))["runs"][0]["invocations"][0]["executionSuccessful"] is False
    assert "<h1>Not seen to its end</h1>" in html_text(report) and "string_at" in html_text(report)


def test_long_texts_are_shortened_and_the_page_says_so(told: tuple[Path, Ended]) -> None:
    report = copy.deepcopy(told[1].report)
    left = report["interpreters"][0]["left_over"]
    left["first"] = [
        {"address": (1 << 64) - 16 * number, "type": "t", "repr": f"{number}{'<' * 70}", "refcount": 1}
        for number in range(1, 100_001)
    ]
    page = html_text(report)
    assert len(page.encode()) < 5_000_000 and '"shortened":true' in page
    assert '"shortened":false' in html_text(told[1].report)


def test_a_report_as_text(told: tuple[Path, Ended]) -> None:
    folder, _ = told
    done = refdbg("report", folder / "json")
    assert done.returncode == 0 and "objects are left over" in done.stdout
    assert markdown_text({"error": "a ``` b"}).count("````") == 2


@pytest.mark.parametrize(("content", "says"), [
    ("", "no JSON"), ("[1]", "does not say"), ('{"schema": "refdbg-report/9"}', "says 'refdbg-report/9'"),
    ('{"schema": "refdbg-report/1"}', "damaged, or of another refdbg: KeyError"), ("[" * 100_000, "no JSON"),
])  # fmt: skip
def test_what_is_no_report(tmp_path: Path, content: str, says: str) -> None:
    file = tmp_path / "report.json"
    file.write_text(content)
    done = refdbg("report", file, "--markdown", tmp_path / "out")
    assert done.returncode == 2 and says in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ("json", *FORMATS))
def test_a_file_that_cannot_be_written_is_said_before_the_program_runs(tmp_path: Path, name: str) -> None:
    ran = tmp_path / "ran"
    for path, says in (
        (str(tmp_path), "it is a folder"), (str(tmp_path / "no" / "file"), "is not a writable folder"),
        ("-", "name a file"), ("", "name a file"),
    ):  # fmt: skip
        done = subprocess.run(
            [*refdbg_run(f"--{name}={path}"), "/usr/bin/touch", ran], capture_output=True, text=True, check=False,
            env=ENVIRONMENT,
        )  # fmt: skip
        assert done.returncode == 2 and says in done.stderr and not ran.exists()


def test_two_formats_in_one_file(tmp_path: Path) -> None:
    done = subprocess.run(
        [*refdbg_run("--json", str(tmp_path / "a"), "--html", f"{tmp_path}/../{tmp_path.name}/a"), "/bin/true"],
        capture_output=True, text=True, check=False, env=ENVIRONMENT,
    )  # fmt: skip
    assert done.returncode == 2 and "--json and --html name the same file" in done.stderr
