"""_abc: each interpreter makes the type _abc._abc_data; abstract base classes own instances of it.

The at-fork function keeps its globals, and with them the classes, until the very last collection: any earlier one
would leave it to the last to free the type.
"""

from leak_rounds import in_subinterpreters

in_subinterpreters(
    """
import abc, os

class Shape(abc.ABC):
    @abc.abstractmethod
    def area(self): ...

@Shape.register
class Square:
    pass

assert isinstance(Square(), Shape)
assert not isinstance(1, Shape)

def after_fork():
    pass

os.register_at_fork(after_in_child=after_fork)
"""
)
