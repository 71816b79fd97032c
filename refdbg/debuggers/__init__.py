"""The debuggers, behind the protocols of refdbg.target. One file each; no other file imports a debugger."""
