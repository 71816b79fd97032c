"""Measures refdbg's speed and memory: `python -m tests.bench`. Prints ratios, asserts nothing."""
