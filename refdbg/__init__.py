"""refdbg: what a CPython process collects, finalizes and leaves over – and why."""

__version__ = "0.1.0"
