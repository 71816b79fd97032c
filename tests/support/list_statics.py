"""Runs inside gdb: writes the static objects that refdbg finds at the breakpoint as JSON to $STATICS."""

import json
import os
import sys

sys.path.insert(0, os.environ["REFDBG_ROOT"])

from refdbg.commands.context import Context
from refdbg.cpython.stop import Stop
from refdbg.debuggers.gdb import GdbSession

stop = Stop(Context.of(GdbSession()).build())
with open(os.environ["STATICS"], "w") as file:
    json.dump([(found.address, found.refcount) for found in stop.statics.objects], file)
