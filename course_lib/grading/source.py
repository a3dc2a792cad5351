"""Reads the code cells of a solution source (a MyST notebook in Markdown) and runs those that define its exercises."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from course_lib.grading import trees

_FENCE = re.compile(r"^(`{3,}|~{3,})(.*)$")
_TAGS = re.compile(r"^:?tags:\s*\[(.*)\]\s*$")
_WHOLE = {"answer", "spec"}  # cells that run as they are
_PLAIN_TARGET = (ast.Name, ast.Tuple, ast.Store)
_DEFINITIONS = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)


@dataclass(frozen=True)
class CodeCell:
    """One code cell: its tags, its code, and the line of the source on which the code starts."""

    tags: frozenset[str]
    code: str
    line: int


def code_cells(text: str) -> list[CodeCell]:
    """The code cells of a MyST notebook, in order."""
    return [read_cell(body, start) for info, body, start in fenced_blocks(text) if info.startswith("{code-cell}")]


def fenced_blocks(text: str) -> Iterator[tuple[str, list[str], int]]:
    """Every outermost fenced block: what stands after the fence, its lines, and the number of the first of them."""
    fence, info, body, start = "", "", [], 0
    for number, line in enumerate(text.splitlines(), start=1):
        match = _FENCE.match(line)
        if not fence:
            if match:
                fence, info, body, start = match[1], match[2].strip(), [], number + 1
        elif match and match[1].startswith(fence) and not match[2].strip():
            yield info, body, start
            fence = ""
        else:
            body.append(line)


def read_cell(body: list[str], start: int) -> CodeCell:
    """Splits the options at the head of a cell, `:tags: [...]` lines or a `---` block, from its code."""
    n_options = 0
    if body and body[0].strip() == "---":
        n_options = next(number for number, line in enumerate(body[1:], start=2) if line.strip() == "---")
    else:
        while n_options < len(body) and body[n_options].startswith(":"):
            n_options += 1
    matches = [match for line in body[:n_options] if (match := _TAGS.match(line.strip()))]
    tags = {tag.strip(" \"'") for match in matches for tag in match[1].split(",")}
    return CodeCell(frozenset(tags - {""}), "\n".join(body[n_options:]), start + n_options)


@lru_cache(maxsize=64)  # every check asks; by the text, so that a source which changes is read again
def exercise_ids(text: str) -> tuple[str, ...]:
    """The ids that the spec cells of a source register, read without running anything."""
    specs = (trees.parse(cell.code) for cell in code_cells(text) if "spec" in cell.tags)
    calls = (node for tree in specs for node in trees.nodes(tree) if isinstance(node, ast.Call))
    return tuple(
        call.args[0].value
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id == "exercise" and isinstance(call.args[0], ast.Constant)
    )


def run_definitions(path: Path) -> dict[str, Any]:
    """Run what defines the exercises of a source, in a fresh namespace, and return that namespace.

    Cells tagged `answer` or `spec` run whole. From the others, `solution-only` ones excepted, come imports,
    functions, classes and literal constants: what an answer may stand on. Nothing else runs.
    """
    namespace: dict[str, Any] = {"__name__": f"solution_source_{path.stem}"}
    for cell in code_cells(path.read_text(encoding="utf-8")):
        if "solution-only" in cell.tags:
            continue
        tree = _parse(cell)
        if not cell.tags & _WHOLE:
            tree.body = [statement for statement in tree.body if _defines(statement)]
        ast.increment_lineno(tree, cell.line - 1)
        exec(trees.compile_tree(tree, str(path)), namespace)
    return namespace


def _parse(cell: CodeCell) -> ast.Module:
    try:
        return trees.parse(cell.code)
    except SyntaxError:  # a cell with a notebook's magic or shell line
        if cell.tags & _WHOLE:
            raise
        return ast.Module(body=[], type_ignores=[])


def _defines(statement: ast.stmt) -> bool:
    if not isinstance(statement, ast.Assign):
        return isinstance(statement, _DEFINITIONS)
    if not all(isinstance(node, _PLAIN_TARGET) for target in statement.targets for node in ast.walk(target)):
        return False
    try:
        ast.literal_eval(statement.value)
    except (ValueError, TypeError):
        return False
    return True
