"""Has *objects* of mixed kinds, and measures the longest time that it did not run. argv: how many, for how long.

Writes its process id when it is ready, and at the end of its input the longest pause in seconds.
"""

import gc
import os
import select
import sys
import time

from crowd import crowd

gc.disable()
kept = crowd(int(sys.argv[1]))
print(os.getpid(), flush=True)
longest = 0.0
before = time.perf_counter()
while not select.select([sys.stdin], [], [], 0)[0]:
    now = time.perf_counter()
    longest = max(longest, now - before)
    before = now
print(longest, flush=True)
