"""Collects for half a second while a timer interrupts it every millisecond."""

import signal, time, gc
n=[0]
def h(s,f): n[0]+=1
signal.signal(signal.SIGALRM,h)
signal.setitimer(signal.ITIMER_REAL,0.001,0.001)
t=time.time()
while time.time()-t<0.5: gc.collect()
signal.setitimer(signal.ITIMER_REAL,0,0)
print(n[0]>5)
