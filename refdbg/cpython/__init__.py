"""All knowledge of CPython: its structs, versions, field and function names. Nothing outside knows any."""
