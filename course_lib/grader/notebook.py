"""A submission's code cells, parsed: its statements, its checks, and what was left out because it is no Python."""

from __future__ import annotations

import ast
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from functools import cached_property
from itertools import pairwise
from math import inf

from course_lib.grader.given import Chapter, chapter_of
from course_lib.grader.magics import Code, without_magics
from course_lib.grader.messages import FUTURE
from course_lib.grader.reading import Cell, paragraphs, parse
from course_lib.grader.slicing import Program, Statement, first_line, outside_scopes, shown
from course_lib.grading.spec import Exercise

NOTHING = "..."  # what a check is given before there is an answer
MAX_LISTED, MAX_LINE = 50, 200  # of the lines that were left out
MAX_FUNCTIONS = 500  # that may be an answer under another name
_CALLS_OF_COURSE = {"check", "hint", "progress", "solution"}
MAX_SHOWN = 50_000  # characters; of a larger cell an answer's statements are printed anew, without its empty lines


class Notebook:
    """The code cells of a submission.

    Attributes:
        cells: as they stand in the file.
        codes: the same as Python.
        statements: all statements of all cells, in order.
        checks: exercise id -> place in `statements` of its last check.
        checked: exercise id -> its checks in order, each the place and the name or expression that it is given, and
            NOTHING where that is a constant, as in `check("3.1", ...)`; empty where it cannot be written out.
    """

    def __init__(self, cells: Sequence[Cell]) -> None:
        parsed = [pair for cell in cells for pair in _parsed(cell)]
        self.cells, self.codes = tuple(cell for cell, _ in parsed), tuple(code for _, code in parsed)
        self.statements = tuple(
            Statement(node, number)
            for number, code in enumerate(self.codes)
            for node in (code.tree.body if code.tree else ())
        )
        self._annotations = any(_is_future(statement.node) for statement in self.statements)
        self._start()

    def _start(self) -> None:
        self.checked: dict[str, list[tuple[int, str]]] = defaultdict(list)
        for exercise_id, place, name in _checks(self.statements, self.codes):
            self.checked[exercise_id].append((place, name))
        self.checks = {exercise_id: found[-1][0] for exercise_id, found in self.checked.items()}
        self._programs: dict[int, Program] = {}
        self._edited: dict[int, frozenset[int]] = {}

    def with_alias(self, place: int, alias: str, name: str) -> Notebook:
        """The same with `alias = name` in front of the statement at a place; `name` may be an expression."""
        code = without_magics(f"{alias} = {name}")
        made = copy(self)
        made.cells, made.codes = (*self.cells, Cell("", code.text)), (*self.codes, code)
        added = Statement(code.tree.body[0], len(self.cells))
        made.statements = (*self.statements[:place], added, *self.statements[place:])
        made._start()
        return made

    @cached_property
    def as_run(self) -> Notebook | None:
        """The same with the cells in the order in which they were run last; None where that is not told, or no other.

        A notebook that was run again from its top has no other order.
        """
        numbers = [cell.run for cell in self.cells if cell.run is not None]
        if len(set(numbers)) < len(numbers) or numbers == sorted(numbers):
            return None
        return Notebook(sorted(self.cells, key=lambda cell: inf if cell.run is None else cell.run))

    @property
    def skipped(self) -> tuple[str, ...]:
        """The lines that were left out, the first ones, each cut to a sensible length."""
        lines = [line for code in self.codes for line in code.skipped]
        more = [f"and {len(lines) - MAX_LISTED} more"] if len(lines) > MAX_LISTED else []
        return (*(line[:MAX_LINE] for line in lines[:MAX_LISTED]), *more)

    @cached_property
    def functions(self) -> tuple[tuple[int, str], ...]:
        """(cell, name) of the functions that it defines; of a crowd the last ones."""
        made = (statement for statement in self.statements if _makes_a_function(statement.node))
        return tuple([(one.cell, name) for one in made for name in sorted(one.binds)][-MAX_FUNCTIONS:])

    def names(self, exercises: Mapping[str, Exercise]) -> tuple[str, ...]:
        """Ids of the exercises of every chapter that the notebook names.

        It does so by an answer's cell or a check. Only where there is neither, the names of functions tell: a helper
        or a loop may have the name of an answer in another chapter.
        """
        ids = {cell.id for cell in self.cells}
        defined = {name for _, name in self.functions}
        by_cell, by_function = set(), set()
        for exercise_id, exercise in exercises.items():
            name, chapter = exercise.reference.__name__, exercise_id.partition(".")[0]
            if exercise_id in self.checks or chapter_of(exercise).answers.get(name) in ids:
                by_cell.add(chapter)
            if name in defined:
                by_function.add(chapter)
        return tuple(one for one in exercises if one.partition(".")[0] in (by_cell or by_function))

    def program(self, chapter: Chapter) -> Program:
        """The given statements of a chapter, then the learner's."""
        if id(chapter) not in self._programs:
            self._programs[id(chapter)] = Program([*chapter.setup, *self.statements])
        return self._programs[id(chapter)]

    def edited(self, chapter: Chapter) -> frozenset[int]:
        """Places in the chapter's program of the learner's edits of its given cells, which stand there already."""
        if id(chapter) not in self._edited:
            set_up = frozenset().union(*(statement.binds for statement in chapter.setup))
            self._edited[id(chapter)] = frozenset(
                place
                for place, statement in enumerate(self.statements, start=len(chapter.setup))
                if self.cells[statement.cell].id in chapter.ids
                if statement.binds and statement.binds <= set_up
            )
        return self._edited[id(chapter)]

    def excerpt(self, number: int, kept: set[int]) -> str:
        """A cell with some of its statements only; `from __future__ import annotations` holds for all cells.

        Args:
            number: of the cell.
            kept: `id` of the statements' syntax trees.
        """
        code = self.codes[number]
        numbers = {place for place, node in enumerate(code.tree.body) if id(node) in kept and not _is_future(node)}
        text = _excerpt(code, numbers)
        return f"{FUTURE}{text}" if self._annotations else text

    def sturdy(self, statements: Sequence[Statement]) -> str:
        """Statements as a cell in which one that fails does not stop the others, as between cells of a notebook."""
        text = "\n".join(statement.tried for statement in statements if not _is_future(statement.node))
        return f"from __future__ import annotations\n{text}" if self._annotations else text


def _parsed(cell: Cell) -> list[tuple[Cell, Code]]:
    """A cell as Python; of a script that is none, each paragraph by itself, so that only the broken one is lost."""
    code = without_magics(cell.code)
    if code.tree is not None or not cell.in_script:
        return [(cell, code)]
    return [(part, without_magics(part.code)) for part in paragraphs(cell)]


def is_idle(node: ast.stmt) -> bool:
    """True for what changes no answer: a text, a name, `pass`, `global x`, `check("3.1", f)`, `progress()`."""
    if isinstance(node, ast.Pass | ast.Global):
        return True
    value = node.value if isinstance(node, ast.Expr | ast.Assign) else None
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id in _CALLS_OF_COURSE:
        return not value.args or isinstance(value.args[0], ast.Constant)
    return isinstance(node, ast.Expr) and isinstance(value, ast.Constant | ast.Name)


def _makes_a_function(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef) or (isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda))


def _excerpt(code: Code, keep: set[int]) -> str:
    """Some statements of a cell; the whole cell where they cannot stand alone."""
    if len(code.text) <= MAX_SHOWN:
        text = shown(code.text, code.tree, keep)
        if len(keep) == len(code.tree.body) or _lines_are_apart(code) or parse(text) is not None:
            return text
    try:  # an odd layout that cannot be blanked out
        return ast.unparse(ast.Module([code.tree.body[place] for place in sorted(keep)], []))
    except ValueError:  # an integer of more digits than Python writes
        return code.text


def _lines_are_apart(code: Code) -> bool:
    """True where any statement can be blanked out, and the others still stand: each has lines of its own."""
    lines, nodes = code.text.split("\n"), code.tree.body
    return (
        "\\\n" not in code.text
        and all(one.end_lineno < first_line(other) for one, other in pairwise(nodes))
        and all(lines[first_line(node) - 1].startswith("@") for node in nodes if getattr(node, "decorator_list", ()))
    )


def _is_future(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "__future__"


def _checks(statements: Sequence[Statement], codes: Sequence[Code]) -> Iterator[tuple[str, int, str]]:
    """(exercise id, place, name) of every `check("3.1", name)` outside of functions and classes, in order."""
    says_check = [_lines_with("check", code.text) for code in codes]  # a cell may have 100,000 statements
    for place, statement in enumerate(statements):
        lines, node = says_check[statement.cell], statement.node
        first = bisect_left(lines, node.lineno)
        if first < len(lines) and lines[first] <= node.end_lineno:
            calls = (_check(part) for part in outside_scopes(node) if isinstance(part, ast.Call))
            yield from ((found[0], place, found[1]) for found in calls if found)


def _lines_with(word: str, text: str) -> list[int]:
    """Numbers of the lines with a word in them."""
    return [number for number, line in enumerate(text.split("\n"), start=1) if word in line] if word in text else []


def _check(call: ast.Call) -> tuple[str, str] | None:
    """Exercise id and name of `check("3.1", name)`; None for other calls."""
    if (getattr(call.func, "id", None) or getattr(call.func, "attr", None)) != "check":
        return None
    given = dict(zip(("exercise_id", "answer"), call.args, strict=False))
    given |= {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
    exercise_id, answer = given.get("exercise_id"), given.get("answer")
    if not isinstance(exercise_id, ast.Constant) or not isinstance(exercise_id.value, str | float):
        return None
    if answer is None or isinstance(answer, ast.Constant):
        return str(exercise_id.value), NOTHING
    return str(exercise_id.value), _written_out(answer)


def _written_out(expression: ast.expr) -> str:
    """An expression as text; empty where it does not stand for one value, or Python does not write or read it."""
    if isinstance(expression, ast.Name):
        return expression.id
    try:
        text = "" if isinstance(expression, ast.Starred) else ast.unparse(expression)
    except (RecursionError, ValueError):  # deep code, and numbers of many digits
        return ""
    return text if parse(f"_ = {text}") else ""
