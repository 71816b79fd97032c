"""`refdbg snapshot`: the stopped process in one file, for another day and another machine."""

from __future__ import annotations

import argparse
import os
import zipfile
from typing import Any

from refdbg.answers import SnapshotTaken
from refdbg.commands.context import Context
from refdbg.cpython.values import Values
from refdbg.errors import CommandError
from refdbg.target import snapshot


def add_commands(subcommands: Any) -> None:
    """Add this module's subcommands."""
    command = subcommands.add_parser(
        "snapshot", help="write the process to a file that `refdbg FILE COMMAND` answers from, on any machine",
        description="Writes the memory of the stopped process, and what is needed of its program and libraries, to one "
        "file. `refdbg FILE COMMAND` gives the same answers from it as here, also where there is no such interpreter.",
    )
    command.add_argument("file", metavar="FILE", help="where to; the usual name ends in .refdbg")
    command.add_argument("--no-values", action="store_true",
                         help="replace the contents of strings and bytes, and text in the memory of C code, but for "
                         "names (types, functions, modules, files of code, interned strings); numbers stay")
    command.set_defaults(run=take)


def take(context: Context, arguments: argparse.Namespace) -> SnapshotTaken:
    """Write the file. Raises CommandError, RefdbgError."""
    path = arguments.file
    if os.path.isdir(path):
        raise CommandError(f"cannot write {path}: it is a folder", "Name a file in it.")
    if os.path.exists(path) and not zipfile.is_zipfile(path):
        raise CommandError(f"{path} exists and is no snapshot", "Name another file, or remove that one.")
    stop = context.stop
    blank = Values(stop).within if arguments.no_values else None
    try:
        size = snapshot.write(stop.runtime.target, path, blank)
    except OSError as error:
        hint = "Is there room, and may you write there?"
        raise CommandError(f"cannot write {path}: {error.strerror}", hint) from error
    return SnapshotTaken(os.path.abspath(path), size, not arguments.no_values)
