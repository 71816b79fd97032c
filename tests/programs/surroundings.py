"""Prints as JSON all that a process has from the one that started it."""

import json
import os
import resource
import signal
import sys

status = dict(line.rstrip("\n").split(":\t", 1) for line in open("/proc/self/status") if ":\t" in line)
descriptors = {}
for name in sorted(os.listdir("/proc/self/fd"), key=int):
    try:
        target = os.readlink(f"/proc/self/fd/{name}")
    except OSError:
        continue  # the folder that is being listed
    descriptors[name] = target.split(":")[0]  # without the pipe's number
umask = os.umask(0)
os.umask(umask)

json.dump(
    {
        "argv": sys.orig_argv if hasattr(sys, "orig_argv") else sys.argv,
        "argv[0]": open("/proc/self/cmdline", "rb").read().decode().split("\0")[0],
        "kernel's environment": open("/proc/self/environ", "rb").read().decode(),
        "environment": dict(os.environ),
        "stdin": sys.stdin.read(),
        "folder": os.getcwd(),
        "umask": umask,
        "limits": {
            name: resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name.startswith("RLIMIT")
        },
        "descriptors": descriptors,
        "signals": {name: status[name] for name in ("SigBlk", "SigIgn", "SigCgt", "ShdPnd")},
        "mask": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "group": os.getpgrp(),
        "session": os.getsid(0),
        "priority": os.getpriority(os.PRIO_PROCESS, 0),
        "cpus": sorted(os.sched_getaffinity(0)),
        "credentials": {name: status[name] for name in ("Uid", "Gid", "Groups", "CapEff", "NoNewPrivs", "Seccomp")},
        "adjust": open("/proc/self/oom_score_adj").read(),
        "personality": open("/proc/self/personality").read(),
        "dumped": open("/proc/self/coredump_filter").read(),
        "timer": signal.getitimer(signal.ITIMER_REAL),
    },
    sys.stdout,
)
print("a word on stderr", file=sys.stderr)
