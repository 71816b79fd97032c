"""Greenlets of gevent that all end, and the hub that has run them. usage: gevent_hub.py suspended | ended

gevent leaves its hub suspended: the frame of Hub.run() refers to the hub (a comment there says so). With "ended" it is
thrown out of that function for good.
"""

import sys

import gevent
import greenlet
from gevent._hub_local import set_hub

gevent.joinall([gevent.spawn(gevent.sleep, 0) for _ in range(5)])
if sys.argv[1] == "ended":
    hub = gevent.get_hub()
    try:
        hub.throw(greenlet.GreenletExit)  # out of the loop
    except BaseException:
        pass
    hub.throw(greenlet.GreenletExit)  # and out of the function
    set_hub(None)
    assert hub.dead
    del hub
