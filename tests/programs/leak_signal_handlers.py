"""_signal: the main interpreter imports the module again, over a handler written in Python."""

import signal
import sys

from leak_rounds import growth


def import_again():
    signal.signal(signal.SIGUSR1, lambda *arguments: None)
    del sys.modules["_signal"]
    import _signal


growth(import_again)
