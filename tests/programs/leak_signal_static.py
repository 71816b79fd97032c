"""_signal: each interpreter imports the module, which runs its exec function."""

from leak_rounds import in_subinterpreters

in_subinterpreters("import _signal")
