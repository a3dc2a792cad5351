"""How much there is to compile in a syntax tree, counted in nodes: Python copies some of its parts, and their copies.

A `finally` block stands in the byte code once for each way out of its `try`, and so does the end of a `with`. The names
that a `case` takes are moved about on the stack, each past all others. So a page of code can make gigabytes, and its
size is asked first.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable

from course_lib.grading import trees

_CEILING = 10**9
_EXITS = (ast.Return, ast.Break, ast.Continue)
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
_TRIES = (ast.Try, ast.TryStar)
_WITHS = (ast.With, ast.AsyncWith)
_COPIED = (*_TRIES, *_WITHS, ast.match_case)  # where some code is made more than once
_CLOSING = 4  # nodes that make as much code as a call of `__exit__`
_CAPTURES = (ast.MatchAs, ast.MatchStar, ast.MatchMapping)


def size_of(tree: ast.AST) -> int:
    """Nodes of a tree, those counted again that Python copies: an upper bound, up to a ceiling."""
    nodes = trees.nodes(tree)
    if not any(isinstance(node, _COPIED) for node in nodes):
        return min(len(nodes), _CEILING)
    sizes: dict[ast.AST, tuple[int, int]] = {}
    for node in reversed(nodes):  # children first
        sizes[node] = _size(node, sizes)
    return sizes[tree][0]


def _size(node: ast.AST, sizes: dict[ast.AST, tuple[int, int]]) -> tuple[int, int]:
    """(nodes, ways out of the block around it) of a node whose children are known."""
    if isinstance(node, _TRIES) and node.finalbody:
        size, exits = _sum(sizes[part] for part in (*node.body, *node.handlers, *node.orelse))
        last_size, last_exits = _sum(sizes[part] for part in node.finalbody)
        copies = 2 + exits
        size, exits = size + copies * last_size, exits + copies * last_exits
    else:
        size, exits = _sum(sizes[part] for part in ast.iter_child_nodes(node))
    if isinstance(node, _WITHS):
        size += _CLOSING * exits * len(node.items)
    if isinstance(node, ast.match_case):
        size += _moves(node.pattern)
    exits = 0 if isinstance(node, _SCOPES) else exits + isinstance(node, _EXITS)
    return min(size + 1, _CEILING), min(exits, _CEILING)


def _sum(found: Iterable[tuple[int, int]]) -> tuple[int, int]:
    total, exits = 0, 0
    for size, ways in found:
        total, exits = total + size, exits + ways
    return total, exits


def _moves(pattern: ast.pattern) -> int:
    """Steps that put the names of a pattern in order: alternatives may take them in any."""
    parts = trees.nodes(pattern)
    names = sum(isinstance(part, _CAPTURES) for part in parts)
    return names ** (3 if any(isinstance(part, ast.MatchOr) for part in parts) else 2)
