"""`refdbg object`, `type`, `objects`, `referents`, `referrers`: what one object is, and who refers to whom."""

from __future__ import annotations

import argparse
import difflib
import re
from typing import Any

from refdbg.answers import HolderRow, ObjectInfo, ObjectList, ReferenceRow, Referents, ReferrerList, TypeInfo
from refdbg.commands.context import Context
from refdbg.cpython import describe
from refdbg.cpython.owned import Owned, check_object
from refdbg.cpython.referrers import Holder, Referrers
from refdbg.cpython.stop import Stop
from refdbg.errors import CommandError, DecodeError, RefdbgError, SeveralTypes

_NAME = re.compile(r"[\w.<>]+$")
_ONE_OF_MANY = re.compile(r"[^\d@][^@]*@0x[0-9a-f]+$")
_CANDIDATES = 20  # types that one name may mean
_TYPE = "a type's name (dict, collections.deque; NAME@ADDRESS: one of several), or a debugger expression"
_EXPRESSION = "a debugger expression that is a PyObject *, or an address"


def number(text: str) -> int:
    """An argument that counts: 0 or more."""
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
    if value < 0:
        raise argparse.ArgumentTypeError(f"{value} is negative; 0 or more is needed")
    return value


def add_commands(subcommands: Any) -> None:
    """Add this module's subcommands."""
    object_ = subcommands.add_parser("object", help="one object: type, repr, count, where the collector has it")
    object_.add_argument("expression", nargs="+", metavar="EXPR", help=_EXPRESSION)
    object_.add_argument("--depth", type=number, default=3, metavar="N", help="nested containers to show")
    object_.add_argument("--limit", type=number, default=400, metavar="N", help="characters of a repr")
    object_.set_defaults(run=show_object)

    type_ = subcommands.add_parser("type", help="one type: flags, sizes, bases, the slots that matter for collection")
    type_.add_argument("type", nargs="+", metavar="NAME", help=_TYPE)
    type_.set_defaults(run=show_type)

    objects = subcommands.add_parser("objects", help="the objects of one type")
    objects.add_argument("type", nargs="+", metavar="NAME", help=_TYPE)
    objects.add_argument("--subclasses", action="store_true", help="and of its subclasses")
    objects.add_argument("--limit", type=number, default=20, metavar="N", help="show at most N")
    objects.set_defaults(run=show_objects)

    referents = subcommands.add_parser("referents", help="what an object refers to")
    referents.add_argument("expression", nargs="+", metavar="EXPR", help=_EXPRESSION)
    referents.set_defaults(run=show_referents)

    referrers = subcommands.add_parser("referrers", help="who holds an object: objects, C variables, stacks")
    referrers.add_argument("expression", nargs="+", metavar="EXPR", help=_EXPRESSION)
    referrers.add_argument("--limit", type=number, default=100, metavar="N", help="show at most N")
    referrers.set_defaults(run=show_referrers)


def object_address(context: Context, words: list[str]) -> int:
    """The object that the words mean. Raises CommandError, DecodeError, TargetError."""
    stop = context.stop  # first: without a process an expression's error would mislead
    address = context.session.evaluate(" ".join(words)) & 0xFFFF_FFFF_FFFF_FFFF
    check_object(stop.runtime, stop.types, address)
    return address


def type_address(context: Context, words: list[str]) -> int:
    """The type that the words mean: its name, or an expression. Raises CommandError, DecodeError, TargetError."""
    stop = context.stop
    text = " ".join(words)
    names: dict[str, list[int]] = {}
    if _NAME.match(text) and not text[0].isdigit():
        for address in describe.all_types(stop):
            names.setdefault(stop.texts.type_name(address), []).append(address)
        wanted = text[9:] if text.startswith("builtins.") else text
        found = names.get(wanted) or [
            address for name, addresses in names.items() if name.endswith(f".{wanted}") for address in addresses
        ]
        if len(found) > 1:
            raise SeveralTypes(f"{text!r} means {len(found)} types:\n{_candidates(stop, found)}")
        if found:
            return found[0]
    if is_one_of_many(text):
        name, _, written = text.partition("@")
        address = int(written, 16)
        if stop.types.is_type(address) and stop.texts.type_name(address) == name:
            return address
        raise CommandError(f"there is no type {name} at {address:#x}", f"`refdbg type {name}` says which there are.")
    try:
        address = context.session.evaluate(text) & 0xFFFF_FFFF_FFFF_FFFF
    except RefdbgError as error:
        if names:
            raise CommandError(f"no type is named {text!r}", _suggestion(text, list(names))) from error
        raise CommandError(
            f"{text!r} is no type's name, and as an expression: {error}",
            "`refdbg census` lists the types of the objects.",
        ) from error
    if not stop.types.is_type(address):
        check_object(stop.runtime, stop.types, address)
        own = stop.texts.type_name(stop.texts.type_of(address).address)
        raise DecodeError(f"the object at {address:#x} is no type, but of the type {own}", f"`refdbg type {own}`")
    return address


def is_one_of_many(text: str) -> bool:
    """Whether it is the name of a type with its address: NAME@ADDRESS, one of several of that name."""
    return _ONE_OF_MANY.match(text) is not None


def _candidates(stop: Stop, types: list[int]) -> str:
    # One a line, with the interpreter that has made it: each has heap types of its own.
    makers: dict[int, int] = {}
    for interpreter in stop.runtime.interpreters():
        for address in stop.lists.tracked(interpreter).addresses:
            makers.setdefault(address, interpreter.number)
    lines = []
    for address in sorted(types, key=lambda address: (makers.get(address, -1), address)):
        line = f"  {stop.texts.type_name(address)}@{address:#x}"
        lines.append(f"{line}  interpreter {makers[address]}" if address in makers else line)
    more = [f"  … and {len(lines) - _CANDIDATES} more"] if len(lines) > _CANDIDATES else []
    return "\n".join(lines[:_CANDIDATES] + more)


def _suggestion(text: str, names: list[str]) -> str:
    lower = {name.lower(): name for name in names}
    lower.update({name.rpartition(".")[2].lower(): name for name in names})
    close = difflib.get_close_matches(text.lower(), list(lower), 4)
    close += difflib.get_close_matches(text.rpartition(".")[2].lower(), list(lower), 4)
    found = dict.fromkeys(lower[each] for each in close)
    return f"Did you mean {', '.join(list(found)[:5])}?" if found else "`refdbg census` lists the types of the objects."


def show_object(context: Context, arguments: argparse.Namespace) -> ObjectInfo:
    """One object. Raises RefdbgError."""
    address = object_address(context, arguments.expression)
    return describe.object_info(context.stop, address, arguments.depth, arguments.limit)


def show_type(context: Context, arguments: argparse.Namespace) -> TypeInfo:
    """One type. Raises RefdbgError."""
    return describe.type_info(context.stop, type_address(context, arguments.type))


def show_objects(context: Context, arguments: argparse.Namespace) -> ObjectList:
    """The objects of one type. Raises RefdbgError."""
    stop = context.stop
    type_ = type_address(context, arguments.type)
    wanted = {type_}
    if arguments.subclasses:
        wanted.update(describe.subclasses(stop, type_))
    objects, scope = describe.objects_in_scope(stop)
    found = [address for address, each, _count in objects.rows() if each in wanted]
    rows = [describe.row(stop, address) for address in found[: arguments.limit]]
    return ObjectList(stop.texts.type_name(type_), scope, len(found), rows)


def show_referents(context: Context, arguments: argparse.Namespace) -> Referents:
    """What an object refers to. Raises RefdbgError."""
    stop = context.stop
    address = object_address(context, arguments.expression)
    owned = Owned(stop.texts, lambda: stop.heap)
    references = owned.references(address)
    rows = [ReferenceRow(each.label, describe.row(stop, each.target), each.exact) for each in references]
    return Referents(describe.row(stop, address), rows, owned.coverage.notes)


def show_referrers(context: Context, arguments: argparse.Namespace) -> ReferrerList:
    """Who holds an object. Raises RefdbgError."""
    stop = context.stop
    address = object_address(context, arguments.expression)
    referrers = Referrers(stop, Owned(stop.texts, lambda: stop.heap))
    found = referrers.of(address)
    rows = [_holder_row(stop, holder) for holder in found[: arguments.limit]]
    owning = sum(1 for holder in found if holder.exact)
    return ReferrerList(describe.row(stop, address), len(found), owning, rows, referrers.coverage.notes)


def _holder_row(stop: Stop, holder: Holder) -> HolderRow:
    owner = describe.row(stop, holder.owner) if holder.owner else None
    return HolderRow(holder.kind, holder.place, holder.label, owner, holder.exact)
