"""A reference that a thread loses, which has ended since: its stack is kept for another one, stale words and all."""

import ctypes
import threading

take = ctypes.pythonapi.Py_IncRef
take.argtypes, take.restype = [ctypes.py_object], None


class Victim:
    pass


def lose():
    victim = Victim()
    take(victim)


thread = threading.Thread(target=lose)
thread.start()
thread.join()
