"""Has objects of mixed kinds, and measures the longest time that it did not run. argv: how many, "crowd" or "web".

Writes its process id when it is ready, and at the end of its input the longest pause in seconds.
"""

import gc
import os
import select
import sys
import time

from crowd import crowd, web

gc.disable()
kept = {"crowd": crowd, "web": web}[sys.argv[2]](int(sys.argv[1]))
print(os.getpid(), flush=True)
longest = 0.0
before = time.perf_counter()
while not select.select([sys.stdin], [], [], 0)[0]:
    now = time.perf_counter()
    longest = max(longest, now - before)
    before = now
print(longest, flush=True)
