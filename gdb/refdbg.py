"""`source gdb/refdbg.py` inside gdb adds the command `refdbg`."""

import sys
from pathlib import Path

root = str(Path(__file__).resolve().parent.parent)
if root not in sys.path:
    sys.path.insert(0, root)

from refdbg.commands import complete, run
from refdbg.debuggers.gdb import install

install(run, complete)
