"""Has containers and instances in every state that their storage can be in, then calls ascii() with all of them."""

import collections
import types
import weakref


class Plain:
    pass


class Slots:
    __slots__ = ("first", "second", "__weakref__")


class Both(Slots):
    pass


class Words(list):
    __slots__ = ("note",)


class Table(dict):
    pass


class Number(int):
    pass


class Row(tuple):
    pass


class Cell:
    __slots__ = ("__dict__",)


def instances():
    plain, materialized, fewer, many, other = Plain(), Plain(), Plain(), Plain(), Plain()
    plain.a, plain.b = [1], [2]
    materialized.a = [3]
    materialized.__dict__["b"] = [4]
    fewer.a, fewer.b, fewer.c = [5], [6], [7]
    del fewer.b
    for number in range(40):
        setattr(many, f"name{number}", [number])
    other.__dict__ = {"a": [8], 9: [9]}
    slots, both, words, table = Slots(), Both(), Words([[10]]), Table(x=[11])
    number, row, cell = Number(12), Row(([1],)), Cell()
    slots.second = [13]
    both.first, both.extra = [14], [15]
    words.note = [16]
    table.note = number.note = row.note = cell.note = [17]
    return [
        plain, materialized, fewer, many, other, slots, both, words, table, number, row, cell, weakref.ref(both, print),
    ]


def containers():
    deleted = {n: [n] for n in range(20)}
    texts = {f"text{n}": [n] for n in range(20)}
    for number in (0, 7, 19):
        del deleted[number], texts[f"text{number}"]
    large = {f"key{n}": (n, []) for n in range(5000)}
    mixed = {"a": [], 1: [], (2, 3): []}
    numbers = {(n, "tuple") for n in range(50)}
    numbers -= {(n, "tuple") for n in range(0, 50, 3)}
    huge = [(n,) for n in range(40_000)]  # beyond the small blocks, in a mapping of its own
    shorter = [[n] for n in range(100)]
    del shorter[10:]
    return [
        deleted, texts, large, mixed, numbers, frozenset(numbers), {(1, "one")}, set(), {}, [], huge, shorter,
        collections.defaultdict(list, x=[1]), collections.OrderedDict(x=[1]), collections.deque([[1]]), slice([1], None),
        types.SimpleNamespace(x=[1]), property(print), classmethod(print), types.MappingProxyType({"x": [1]}),
        {**texts}, dict.fromkeys([(1, "key")]), {}.keys(),
    ]  # fmt: skip


ascii([instances(), containers()])
