"""What refdbg reads of objects, against what the program under test says of itself."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support.debugger import run_gdb

PROGRAMS = Path(__file__).parents[1] / "programs"
ORACLE = PROGRAMS / "decode_oracle.py"
CONTAINERS = {"list", "tuple", "dict", "set", "frozenset", "collections.deque", "function", "method", "cell", "slice"}
# Their traverse visits what others own: the entries' keys and results, what a C library hides in a capsule.
VISITS_THROUGH = {"functools._lru_cache_wrapper", "PyCapsule"}

SHOWN_AS_OBJECT = {"re.Pattern"}  # a repr in C that refdbg does not know


@pytest.fixture(scope="module")
def oracle(interpreter: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Any], list[Any], list[Any]]:
    """(what the program says, `refdbg object`, `refdbg referents`) of each object."""
    folder = tmp_path_factory.mktemp("oracle")
    told = folder / "told"
    commands = ["refdbg object {id} --depth 30 --limit 100000 --json", "refdbg referents {id} --json"]
    answers = run_gdb(interpreter, ORACLE, commands, [str(told)], told=told, folder=folder)
    rows = [json.loads(line) for line in told.read_text().splitlines()]
    records = [answer.record for answer in answers]
    return rows, records[: len(rows)], records[len(rows) :]


def _different(rows: list[Any], records: list[Any], field: str, of: Any) -> list[str]:
    return [
        f"{row['type']} {row['repr'][:100]}: expected {of(row)!r}, got {record[field]!r}"[:1000]
        for row, record in zip(rows, records)
        if of(row) is not None and record[field] != of(row)
    ]


def test_repr(oracle: tuple[list[Any], list[Any], list[Any]]) -> None:
    rows, objects, _ = oracle
    known = [row["plain"] and row["type"] not in SHOWN_AS_OBJECT for row in rows]
    assert sum(known) > 150
    expected = {row["id"]: row["repr"] for row, is_known in zip(rows, known) if is_known}
    assert _different(rows, objects, "repr", lambda row: expected.get(row["id"])) == []


def test_a_repr_in_python_is_not_run(oracle: tuple[list[Any], list[Any], list[Any]]) -> None:
    rows, objects, _ = oracle
    shown = {record["type"]: record["repr"] for row, record in zip(rows, objects) if not row["plain"]}
    assert shown["__main__.Quiet"] == "__main__.Quiet({'a': 1})"
    assert shown["__main__.Colour"] == "__main__.Colour(1)"
    assert shown["__main__.Point"] == "__main__.Point((1, 2))"


def test_type(oracle: tuple[list[Any], list[Any], list[Any]]) -> None:
    rows, objects, _ = oracle
    assert _different(rows, objects, "type", lambda row: row["type"]) == []
    assert _different(rows, objects, "type_address", lambda row: row["type_id"]) == []


def test_reference_count(oracle: tuple[list[Any], list[Any], list[Any]]) -> None:
    rows, objects, _ = oracle
    assert _different(rows, objects, "refcount", lambda row: row["refcount"]) == []
    assert sum(row["refcount"] is not None for row in rows) > 100


def test_size(oracle: tuple[list[Any], list[Any], list[Any]]) -> None:
    rows, objects, _ = oracle
    # object.__sizeof__ misreads the length of an int since 3.12.
    assert _different(rows, objects, "size", lambda row: None if row["int"] else row["size"]) == []


def test_tracked(oracle: tuple[list[Any], list[Any], list[Any]]) -> None:
    rows, objects, _ = oracle
    wrong = [
        f"{row['type']} {row['repr'][:80]}"
        for row, record in zip(rows, objects)
        if bool(record["tracked"]) != row["tracked"] or (row["tracked"] and record["generation"] is None)
    ]
    assert wrong == []


def test_referents_contain_what_the_collector_visits(oracle: tuple[list[Any], list[Any], list[Any]]) -> None:
    rows, _, referents = oracle
    missing = []
    for row, record in zip(rows, referents):
        found = Counter(reference["target"]["address"] for reference in record["references"])
        lost = Counter(row["referents"]) - found
        if lost and row["type"] not in VISITS_THROUGH:
            missing.append(f"{row['type']} {row['repr'][:80]}: misses {[hex(address) for address in lost]}")
    assert missing == []


def test_referents_of_containers_are_exact(oracle: tuple[list[Any], list[Any], list[Any]]) -> None:
    rows, _, referents = oracle
    wrong = []
    for row, record in zip(rows, referents):
        if row["type"] in CONTAINERS:
            assert all(reference["exact"] for reference in record["references"])
            found = Counter(
                reference["target"]["address"]
                for reference in record["references"]
                # owned, but str keys and the like are not visited: they lead nowhere
                if not reference["label"].startswith("key ") and reference["label"] != "ob_type"
            )
            more = found - Counter(row["referents"])
            if row["type"] in ("list", "tuple", "set", "frozenset", "collections.deque", "cell", "slice") and more:
                wrong.append(f"{row['type']} {row['repr'][:80]}: {[hex(address) for address in more]}")
    assert wrong == []


def test_labels(oracle: tuple[list[Any], list[Any], list[Any]]) -> None:
    rows, _, referents = oracle
    by_repr = {row["repr"]: {each["label"] for each in record["references"]} for row, record in zip(rows, referents)}
    assert {"[0]", "[1]"} <= by_repr["[1, [2, [3, [4]]]]"]
    assert {"['a']", "key 'a'"} <= by_repr["{'a': 1}"]
    by_type = {row["type"]: {each["label"] for each in record["references"]} for row, record in zip(rows, referents)}
    assert {"__code__", "__globals__", "__name__"} <= by_type["function"]
    assert {"__func__", "__self__"} <= by_type["method"]
    assert {".a", ".c", "ob_type"} <= by_type["__main__.SlottedChild"]
    assert any("'name'" in label or label == "__dict__" for label in by_type["__main__.Plain"])
    generators = [record for row, record in zip(rows, referents) if row["type"] == "generator"]
    labels = {each["label"] for record in generators for each in record["references"]}
    assert "local local" in labels or "gi_frame" in labels
    assert {"tp_base", "tp_mro", "tp_dict"} <= {each["label"] for each in referents[_row(rows, "dict")]["references"]}


def _row(rows: list[Any], name: str) -> int:
    return next(index for index, row in enumerate(rows) if row["repr"] == f"<class '{name}'>")


def test_referrers(interpreter: str, tmp_path: Path) -> None:
    program = PROGRAMS / "referrers_oracle.py"
    told = tmp_path / "told"
    commands = ["refdbg referrers {id} --json", "refdbg referrers {id}"]
    answer = run_gdb(interpreter, program, commands, [str(told)], told=told, folder=tmp_path)
    record = answer[0].record
    owners = Counter((row["owner"]["type"], row["label"]) for row in record["rows"] if row["kind"] == "object")
    for wanted in (
        ("__main__.Slotted", ".slot"), ("list", "[1]"), ("tuple", "[0]"), ("dict", "['in dict']"), ("dict", "['key']"),
        ("collections.deque", "[0]"), ("collections.OrderedDict", "['ordered']"), ("cell", "cell_contents"),
    ):  # fmt: skip
        assert owners[wanted] == 1, (wanted, owners)
    assert sum(number for (type_, _), number in owners.items() if type_ == "set") == 1
    weak = [row for row in record["rows"] if row["owner"] and row["owner"]["type"].startswith("weakref")]
    assert {row["kind"] for row in weak} == {"borrowed"}
    assert record["owning"] == record["object"]["refcount"]
    assert "cell_contents" in answer[1].text


def test_types(interpreter: str, tmp_path: Path) -> None:
    commands = ["refdbg type Plain --json", "refdbg type dict --json", "refdbg type decode_oracle --json"]
    commands += ["refdbg type PyDict_Type --json", "refdbg type SlottedChild", "refdbg type builtins.dict --json"]
    plain, dict_, unknown, expression, child, dotted = run_gdb(
        interpreter, ORACLE, commands, [str(tmp_path / "told")], folder=tmp_path
    )
    assert plain.record["name"] == "__main__.Plain"
    assert plain.record["heap"] and plain.record["gc"] and plain.record["module"] == "__main__"
    assert plain.record["mro_types"] == ["__main__.Plain", "object"]
    assert plain.record["instances"] == 5
    assert {"HEAPTYPE", "HAVE_GC", "BASETYPE"} <= set(plain.record["flag_names"])
    slots = {slot["slot"]: slot["symbol"] for slot in plain.record["slots"]}
    assert slots["tp_traverse"] == "subtype_traverse" and slots["tp_dealloc"] == "subtype_dealloc"
    assert not dict_.record["heap"] and dict_.record["static"] == "PyDict_Type"
    assert dict_.record["address"] == expression.record["address"] == dotted.record["address"]
    assert {slot["slot"]: slot["symbol"] for slot in dict_.record["slots"]}["tp_traverse"] == "dict_traverse"
    assert unknown.text.startswith("refdbg: no type is named 'decode_oracle'")
    assert "__main__.Slotted" in child.text


def test_census_and_status(interpreter: str, tmp_path: Path) -> None:
    commands = ["refdbg census --json", "refdbg census --tracked --limit 1000 --json", "refdbg status --json"]
    commands += ["refdbg census --limit 3", "refdbg status", "refdbg objects Slotted --subclasses --json"]
    commands += ["refdbg objects Plain --limit 2"]
    everything, tracked, status, text, status_text, slotted, few = run_gdb(
        interpreter, ORACLE, commands, [str(tmp_path / "told")], folder=tmp_path
    )
    assert everything.record["objects"] > tracked.record["objects"] > 1000
    assert everything.record["types"] > len(everything.record["by_type"])
    assert sum(row["objects"] for row in tracked.record["by_type"]) == tracked.record["objects"]
    assert {row["type"]: row["objects"] for row in tracked.record["by_type"]}["__main__.Plain"] == 5
    assert len([line for line in text.text.splitlines() if line.lstrip()[:1].isdigit()]) == 4
    record = status.record
    assert record["traits"]["debug"] and record["layout_source"] == "debug info"
    assert record["python"] in status_text.text
    (interpreter_row,) = record["interpreters"]
    assert interpreter_row["main"] and interpreter_row["enabled"] is False and len(interpreter_row["threads"]) == 1
    lists = {row["name"]: row["tracked"] for row in interpreter_row["generations"]}
    assert sum(lists.values()) == tracked.record["objects"]
    assert {row["type"] for row in slotted.record["rows"]} == {"__main__.Slotted", "__main__.SlottedChild"}
    assert "more (--limit N shows more)" in few.text


def test_clear_errors(interpreter: str, tmp_path: Path) -> None:
    commands = [
        "refdbg object 0x1234", "refdbg object 0x1238", "refdbg object $sp", "refdbg object nosuch",
        "refdbg type OrdredDict", "refdbg census --limit -1", "refdbg objects dict --limit x", "refdbg object",
        "refdbg type Py_None" , "refdbg type &_Py_NoneStruct", "refdbg referrers 0",
    ]  # fmt: skip
    answers = run_gdb(interpreter, ORACLE, commands, [str(tmp_path / "told")], folder=tmp_path)
    expected = [
        "0x1234 is no Python object: it is not aligned", "0x1238 is no Python object: cannot read 8 bytes",
        "is no Python object: its type word", "cannot evaluate 'nosuch'", "Did you mean collections.OrderedDict",
        "--limit: -1 is negative", "'x' is no number", "required", "no type is named 'Py_None'",
        "is no type, but of the type NoneType", "0x0 is no Python object",
    ]  # fmt: skip
    for answer, text in zip(answers, expected):
        assert text in answer.text, answer
        assert answer.text.startswith("refdbg: "), answer
        assert "Traceback" not in answer.text


def test_no_process(interpreter: str, tmp_path: Path) -> None:
    commands = ["refdbg object 0x1000", "refdbg type dict", "refdbg census", "refdbg status", "refdbg referrers x"]
    for answer in run_gdb(interpreter, ORACLE, commands, stop_at=None, folder=tmp_path):
        assert answer.text.startswith("refdbg: no process is stopped here"), answer
