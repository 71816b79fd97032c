"""Leaves over objects whose types, reprs, functions and files have names that a page or an issue must not obey."""

import ctypes
import gc

EVIL = "</script><script>planted=1</script><img src=x onerror=planted=1>"
MARKS = "`@someone` #1 [x](http://evil.invalid) **b** \\ | $1$ ]]> \x00 \x1b[31m \u202e &lt; ``` ![x](y)"


class Named:
    def __init__(self, value):
        self.value = value

    def __repr__(self):
        return EVIL


add_reference = ctypes.pythonapi.Py_IncRef
add_reference.argtypes = [ctypes.py_object]
evil_type = type(EVIL, (Named,), {"__module__": "<b>module</b>", EVIL: 1, "__del__": lambda self: None})
for value in (EVIL, MARKS, EVIL.encode(), {EVIL: [MARKS]}):
    add_reference(evil_type(value))
add_reference([EVIL, MARKS])
cycle = evil_type(None)
cycle.value = cycle
del cycle
exec(compile("def evil():\n    gc.collect()\nevil.__code__ = evil.__code__.replace(co_name=EVIL)\nevil()",
             "<img src=x onerror=planted=1>.py", "exec"))
