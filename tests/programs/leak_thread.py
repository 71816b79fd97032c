"""_thread: a lock in a cycle that ends only when the at-fork functions of its interpreter are released."""

from leak_rounds import in_subinterpreters

in_subinterpreters(
    """
import _thread, os

lock = _thread.allocate_lock()

def release_after_fork():
    lock.release()

os.register_at_fork(after_in_child=release_after_fork)
"""
)
