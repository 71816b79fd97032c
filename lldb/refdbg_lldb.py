"""`command script import lldb/refdbg_lldb.py` inside lldb adds the command `refdbg`."""

import sys
from pathlib import Path

root = str(Path(__file__).resolve().parent.parent)
if root not in sys.path:
    sys.path.insert(0, root)

from refdbg.commands import help_text, run
from refdbg.commands.completion import subcommands
from refdbg.debuggers.lldb import install


def __lldb_init_module(debugger, internal_dict):
    install(debugger, run, help_text, subcommands())
