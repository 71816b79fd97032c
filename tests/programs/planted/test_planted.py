"""Two methods that leak: one keeps new objects, one loses references to an old one; and the fixture of a class."""

import ctypes
import unittest

KEPT = []
SET_UP = []
OLD = ["old"]


class Node:
    def __init__(self):
        self.payload = {"some": "thing"}


def keep():
    KEPT.append(Node())


class PlantedTests(unittest.TestCase):
    def test_a_steady(self):
        self.assertEqual([Node() for _ in range(3)][0].payload["some"], "thing")

    def test_b_keeps(self):
        keep()

    def test_c_loses(self):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(OLD))
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(OLD))

    def test_d_steady(self):
        self.assertTrue(OLD)


class PlantedTestsSetUp(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        SET_UP.append([cls])

    def test_steady(self):
        self.assertTrue(OLD)


if __name__ == "__main__":
    unittest.main()
