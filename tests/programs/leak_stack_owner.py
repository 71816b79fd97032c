"""stack_owner: a daemon thread inside a C function that holds a list in a variable of its own. Argument: FOLDER."""

import sys
import threading

sys.path.insert(0, sys.argv[1])
stack_owner = __import__("stack_owner")
ready = threading.Event()
threading.Thread(target=stack_owner.wait, args=(ready.set,), name="sleeper", daemon=True).start()
ready.wait()
