"""The codec registry of each interpreter: search functions, found codecs and error handlers."""

from leak_rounds import in_subinterpreters

in_subinterpreters(
    """
import codecs

def search(name):
    return codecs.lookup("utf-8") if name == "made_up" else None

def replace_with_dots(error):
    return ".", error.end

codecs.register(search)
codecs.register_error("dots", replace_with_dots)
assert b"\\xff".decode("made_up", "dots") == "."
"""
)
