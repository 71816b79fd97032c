"""Collects for half a second, or until it has seen some, while a timer interrupts it every millisecond."""

import gc
import signal
import time

alarms = 0


def count(_number, _frame):
    global alarms
    alarms += 1


signal.signal(signal.SIGALRM, count)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
start = time.time()
while time.time() - start < 0.5 or alarms <= 5:
    gc.collect()
signal.setitimer(signal.ITIMER_REAL, 0, 0)
print(alarms > 5)
