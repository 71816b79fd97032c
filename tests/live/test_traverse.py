"""What the emulated tp_traverse functions visit, against gc.get_referents; `visits` and `gc again`."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import missing
from tests.support.debugger import Answer, run_gdb

ROOT = Path(__file__).parents[2]
PROGRAMS = ROOT / "tests" / "programs"
EXTENSIONS = ROOT / "tests" / "extensions" / "build"
ITEM = "((PyListObject *)obj)->ob_item[{}]"


def check(python: str, what: str, arguments: list[str | Path], folder: Path) -> Any:
    """What tests/support/in_gdb.py answers."""
    orders = {"what": what, "told": str(folder / "told"), "output": str(folder / "output")}
    done = subprocess.run(
        ["gdb", "-nx", "-batch", "-iex", "set auto-load no", "-x", ROOT / "tests" / "support" / "in_gdb.py", "--args",
         python, *arguments],
        env={**os.environ, "REFDBG_CHECK": json.dumps(orders)}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace", timeout=300, check=False,
    )
    output = folder / "output"
    assert output.exists(), done.stdout
    return json.loads(output.read_text())


def test_visits_equal_get_referents(interpreter: str, tmp_path: Path) -> None:
    found = check(interpreter, "visits", [PROGRAMS / "referents_oracle.py", tmp_path / "told"], tmp_path)
    assert found["objects"] > 10_000
    assert found["functions"] > 60
    # A capsule's traverse compares names with a strcmp that the emulator cannot run: undecided, and said so.
    assert [row for row in found["different"] if "vector instruction" not in row[2]] == []
    assert {row[1] for row in found["different"]} <= {"PyCapsule"}


def test_gc_again_and_visits(interpreter: str, tmp_path: Path) -> None:
    again, node, of_type, unknown = run_gdb(
        interpreter, PROGRAMS / "hidden_garbage.py",
        ["refdbg gc again --json", "refdbg visits obj --json", "refdbg visits Node --json", "refdbg visits 0x1234"],
        folder=tmp_path,
    )
    counts = {row["type"]: row["objects"] for row in again.record["by_type"]}
    # Whether an instance's dict is an object of its own depends on the version.
    assert counts["__main__.Node"] == 3
    assert counts["list"] == 4
    assert set(counts) <= {"__main__.Node", "list", "dict"}
    assert not again.record["undecided"]
    assert node.record["traverse"] == of_type.record["traverse"] == "subtype_traverse"
    assert all(field["visited"] for field in node.record["fields"])
    assert node.record["extra"] == []
    assert of_type.record["objects"] == 4
    assert "no Python object" in unknown.text


def extensions(python: str) -> str:
    """The folder of tests/extensions, compiled for *python*."""
    done = subprocess.run([EXTENSIONS, python], capture_output=True, text=True, check=False)
    if done.returncode:
        missing(f"no extension modules: {done.stderr}")
    return done.stdout.strip()


@pytest.fixture(scope="module")
def structs(interpreter: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answer]:
    """The answers to `refdbg visits …` in tests/programs/struct_fields.py."""
    subjects = {name: name for name in (
        "fields.Record", "Derived", "Slotted", "sqlite3.Connection", "generator", "coroutine", "async_generator",
        "decimal.Decimal", "nosuch",
    )}  # fmt: skip
    subjects.update(fields=ITEM.format(2), metatype=f"(PyObject *){ITEM.format(0)}->ob_type")
    commands = {f"{key} json": f"refdbg visits {subject} --json" for key, subject in subjects.items()}
    commands.update({
        "bare": "refdbg visits Bare", "record": "refdbg visits fields.Record",
        "twice": f"refdbg visits {ITEM.format(1)}", "help": "refdbg help visits",
        "static": "refdbg visits PyDict_Type", "dict": "refdbg visits dict",
        "referents": f"refdbg referents {ITEM.format(0)} --json",
    })
    answers = run_gdb(
        interpreter, PROGRAMS / "struct_fields.py", list(commands.values()), [extensions(interpreter)],
        folder=tmp_path_factory.mktemp("structs"),
    )
    return dict(zip(commands, answers))


def test_drawings_show_what_is_not_visited(interpreter: str, tmp_path: Path) -> None:
    """A type's fields, an object's references: the forgotten one dashed, in a colour of its own."""
    answers = run_gdb(
        interpreter, PROGRAMS / "struct_fields.py",
        [f"refdbg visits fields.Record --dot {tmp_path}/type.dot",
         f"refdbg visits {ITEM.format(1)} --dot {tmp_path}/o.dot",
         "refdbg visits fields.Record --dot /nosuch/o.dot"],
        [extensions(interpreter)], folder=tmp_path,
    )
    assert "traversed by record_traverse" in answers[0].text  # drawn and answered
    assert "cannot write /nosuch/o.dot" in answers[2].text
    of_type, of_object = (tmp_path / "type.dot").read_text(), (tmp_path / "o.dot").read_text()
    boxes = dict(re.findall(r"(n\d+) \[shape=.*<b>(\.[\w.\[\]]+|ob_type)</b>", of_type))
    edges = {boxes[node]: line for node, line in re.findall(r"n0 -> (n\d+) (.*)", of_type)}
    assert {".borrowed", ".slots[0].owner", ".slots[1].owner", "ob_type"} <= set(edges)
    unvisited = {field for field, line in edges.items() if 'style="dashed"' in line and '"#d62728"' in line}
    assert unvisited == {".borrowed", ".slots[1].owner"}
    assert "2 of 2 ?" in edges[".borrowed"] and "NOT visited by tp_traverse" in of_type
    (line,) = [line for line in of_object.splitlines() if ".slots[1].owner" in line]
    assert 'style="dashed"' in line and "may be" not in of_object
    assert subprocess.run(["dot", "-Tsvg", "-o", "/dev/null"], input=of_type + of_object, text=True).returncode == 0


def fields_of(answer: Answer) -> dict[str, tuple[int, int, bool, bool]]:
    """Of each field: (held, visited, exact, declared)."""
    return {
        row["field"]: (row["owned"], row["visited"], row["exact"], row["declared"]) for row in answer.record["fields"]
    }


def test_what_a_c_struct_declares(structs: dict[str, Answer]) -> None:
    """Named by their paths; the numbers and the text that equal an object's address are none of them."""
    expected = {
        ".borrowed": (2, 0, False, True),
        ".alias": (2, 2, False, True),
        ".slots[0].owner": (2, 2, False, True),
        ".slots[1].owner": (2, 0, False, True),
        ".either.list": (2, 2, False, True),
        ".frame": (2, 2, False, True),
        ".hidden": (2, 2, False, False),
        "ob_type": (2, 2, True, False),
    }
    assert fields_of(structs["fields.Record json"]) == expected
    derived = {field: (1, row[1] // 2, *row[2:]) for field, row in expected.items()}
    assert fields_of(structs["Derived json"]) == {**derived, ".own": (1, 1, True, False)}
    assert re.search(r"\+0x\d0 +1 +0  NOT VISITED \(a guess\)", structs["bare"].text)
    labels = {row["label"]: row["exact"] for row in structs["referents"].record["references"]}
    assert labels == {field: row[2] for field, row in expected.items()}


def test_one_visit_of_an_object_that_two_fields_hold(structs: dict[str, Answer]) -> None:
    lines = structs["twice"].text.splitlines()
    (forgotten,) = [line for line in lines if ".slots[1].owner" in line]
    assert "NOT VISITED (may be borrowed; its object is visited, for another field)" in forgotten
    (row,) = [row for row in structs["fields.Record json"].record["fields"] if row["field"] == ".slots[1].owner"]
    assert row["elsewhere"] == 1 and len(row["targets"]) == 2 and all(target["address"] for target in row["targets"])


def test_module_state_by_its_struct(structs: dict[str, Answer]) -> None:
    fields = fields_of(structs["fields json"])
    assert fields["module state.record"] == fields["module state.names[1]"] == (1, 1, False, True)
    assert not [field for field in fields if "number" in field]
    assert structs["fields json"].record["excused"]["atomic"] == 1  # its name


def test_members_of_a_class_statement_own(structs: dict[str, Answer]) -> None:
    own = (1, 1, True, False)
    assert fields_of(structs["Slotted json"]) == {"._Slotted__private": own, ".public": own, "ob_type": own}
    assert fields_of(structs["sqlite3.Connection json"])[".DataError"] == (1, 0, False, True)


def test_a_generator_has_no_origin(structs: dict[str, Answer]) -> None:
    for kind in ("generator", "coroutine", "async_generator"):
        fields = fields_of(structs[f"{kind} json"])
        assert {"__name__", "__qualname__"} <= set(fields) and all(row[1] == 1 for row in fields.values())
        assert not {"origin or finalizer", "cr_origin", "finalizer"} & set(fields)


def test_visits_of_what(structs: dict[str, Answer]) -> None:
    """A type's name, else an object: a type's address is the object."""
    assert structs["fields.Record json"].record["objects"] == 2
    metatype = structs["metatype json"].record
    assert metatype["object"]["repr"] == "<class 'fields.Record'>" and metatype["traverse"] == "type_traverse"
    assert "'decimal.Decimal' is no type's name" in structs["decimal.Decimal json"].text  # not imported
    assert structs["nosuch json"].text.startswith("refdbg: 'nosuch' is no type's name, and as an expression: ")
    assert "traversed by record_traverse" in structs["record"].text
    assert "not traversed, as it takes no part in collection (it is static" in structs["static"].text
    assert len(structs["dict"].text.splitlines()) < 8  # all items of all dicts are one field
    assert "TYPE|OBJECT" in structs["help"].text and "--type" not in structs["help"].text


TYPES = [
    "_thread.lock", "_abc._abc_data", "functools.partial", "functools._lru_cache_wrapper", "collections.deque",
    "_io.TextIOWrapper", "itertools.chain", "re.Pattern", "array.array", "memoryview", "property", "staticmethod",
    "coroutine", "async_generator", "generator",
]  # fmt: skip


def test_cpythons_own_types_forget_nothing(interpreter: str, tmp_path: Path) -> None:
    commands = [f"refdbg visits {name} --json" for name in TYPES]
    answers = run_gdb(interpreter, PROGRAMS / "many_types.py", commands, folder=tmp_path)
    for answer in answers:
        record = answer.record
        assert record["objects"] > 0 and record["undecided"] == {}, answer.command
        forgotten = {row["field"] for row in record["fields"] if row["visited"] < row["owned"]}
        if record["is_gc"]:
            assert not forgotten, (answer.command, forgotten)


def test_a_type_that_each_interpreter_has(python311: str, tmp_path: Path) -> None:
    """They are listed as they can be given, for a type's objects, too: its mere address would mean itself."""
    program = tmp_path / "subinterpreters.py"
    told = tmp_path / "told"
    program.write_text(f"""\
import json, _xxsubinterpreters as interpreters
kept = interpreters.create(), interpreters.create()
for each in kept:
    interpreters.run_string(each, "class Twin: pass\\ntwin = Twin()")
class Twin: pass
twins = Twin(), Twin()
with open({str(told)!r}, "w") as file:
    print(json.dumps({{"own": f"__main__.Twin@{{id(Twin):#x}}"}}), file=file)
ascii(twins)
""")
    asked = ["visits Twin", "visits __main__.Twin", "retained Twin", "type Twin", "visits {own} --json",
             "visits no{own}"]
    *several, own, wrong = run_gdb(
        python311, program, [f"refdbg {words}" for words in asked], told=told, folder=tmp_path,
    )
    name = json.loads(told.read_text())["own"]
    for answer in several:
        first, *listed, hint = answer.text.splitlines()
        assert first.endswith("means 3 types:") and hint.endswith("Give one of them as it stands here.")
        assert [line.split(maxsplit=1)[1] for line in listed] == [f"interpreter {number}" for number in range(3)]
        assert listed[0].split()[0] == name
    assert (own.record["type"], own.record["objects"]) == ("__main__.Twin", 2)
    assert "there is no type no__main__.Twin at 0x" in wrong.text
