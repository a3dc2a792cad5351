"""Syntax trees for many threads at a time."""

from __future__ import annotations

import ast
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from course_lib.grading import trees

CODE = "x = " + "[" * 30 + "f(1 + 2)" + "]" * 30 + "\n"


def test_threads_make_trees_and_byte_code_side_by_side():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            made = list(pool.map(lambda number: trees.parse(CODE * (number % 7 + 1)), range(200)))
            compiled = list(pool.map(lambda tree: trees.compile_tree(tree, "<cell>"), made))
    finally:
        sys.setswitchinterval(before)
    assert ast.dump(made[0]) == ast.dump(ast.parse(CODE)) and {code.co_name for code in compiled} == {"<module>"}


def test_nodes_are_those_of_the_standard_library():
    tree = ast.parse(Path(trees.__file__).read_text(encoding="utf-8"))
    assert trees.nodes(tree) == list(ast.walk(tree))


def test_a_tree_that_another_thread_has_spoilt_is_made_again(monkeypatch):
    made, failures = ast.parse, [SystemError("AST constructor recursion depth mismatch")] * 3

    def parse(code, file):
        if failures:
            raise failures.pop()
        return made(code, file)

    monkeypatch.setattr(trees.ast, "parse", parse)
    assert len(trees.parse("x = 1").body) == 1 and failures == []


def test_a_learners_escapes_are_not_warned_of_and_annotations_are_evaluated():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        tree = trees.parse("def f(x: int):\n    return '\\d'")
    assert seen == []
    names: dict = {}
    exec(trees.compile_tree(tree, "<cell>"), names)
    assert names["f"].__annotations__ == {"x": int}
