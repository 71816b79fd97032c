"""Leaves over a list of NUMBER objects, and a text for each."""

import ctypes
import sys


class Node:
    def __init__(self, number):
        self.name = f"node {number} of the list"


kept = [Node(number) for number in range(int(sys.argv[1]))]
add_reference = ctypes.pythonapi.Py_IncRef
add_reference.argtypes = [ctypes.py_object]
add_reference(kept)
