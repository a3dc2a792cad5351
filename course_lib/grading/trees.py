"""Syntax trees, made by one thread at a time.

Python 3.11 counts the depth of a tree that it builds for all threads together: with two at a time it fails. Libraries
may make trees too, in other threads and without this lock; so a tree that failed in this way is made again.
"""

from __future__ import annotations

import ast
import threading
import time
import warnings
from types import CodeType

_ONE_AT_A_TIME = threading.RLock()
_PAUSE = 0.01  # seconds before a tree is made again
_TRIES = 200


def parse(code: str, file: str = "<unknown>") -> ast.Module:
    """The syntax tree of some code; raises what `ast.parse` raises."""
    with _ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an invalid escape is not our business
        for _ in range(_TRIES):
            try:
                return ast.parse(code, file)
            except SystemError:  # another thread's tree came between
                time.sleep(_PAUSE)
        return ast.parse(code, file)


def nodes(tree: ast.AST) -> list[ast.AST]:
    """A node and all below it, as `ast.walk` gives them, in a third of its time."""
    found = [tree]
    for node in found:  # grows meanwhile
        for name in node._fields:
            value = getattr(node, name, None)
            if isinstance(value, ast.AST):
                found.append(value)
            elif isinstance(value, list):
                found += [part for part in value if isinstance(part, ast.AST)]
    return found


def compile_tree(tree: ast.Module, file: str, flags: int = 0) -> CodeType:
    """The byte code of a syntax tree; raises what `compile` raises."""
    with _ONE_AT_A_TIME:
        return compile(tree, file, "exec", flags=flags, dont_inherit=True)
