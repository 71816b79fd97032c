"""_ast: each interpreter makes the node types of abstract syntax trees."""

from leak_rounds import in_subinterpreters

in_subinterpreters('import ast; ast.parse("1 + 1")')
