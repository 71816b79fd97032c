"""Greenlets of gevent that wait for what never comes, and refer to themselves. usage: leak_gevent.py stop"""

import gc
import sys

import gevent
from gevent.event import AsyncResult


class Job:
    def __init__(self):
        self.result = AsyncResult()


def work(job):
    job.result.get()  # nobody sets it


for _ in range(5):
    made = Job()
    made.greenlet = gevent.spawn(work, made)
del made
gevent.sleep(0)
gc.collect()
print(sum(isinstance(each, Job) for each in gc.get_objects()), flush=True)
sys.stdin.readline()
