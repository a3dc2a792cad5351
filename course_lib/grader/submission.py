"""From the bytes of a submission to the code that each exercise needs, or why there is none. Nothing is run.

An answer is what its function's name means when the notebook's check is reached: in the cell that the course gave for
it, or below it, up to the last `check` of the exercise. Without that cell, it is the last definition of the name.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from course_lib.grader.given import Chapter, chapter_of
from course_lib.grader.magics import Code, without_magics
from course_lib.grader.reading import Cell, InvalidNotebook, parse, read_cells
from course_lib.grader.slicing import Program, Statement, shown
from course_lib.grading.spec import Exercise

__all__ = ["Answers", "InvalidNotebook", "Notebook", "read_answers", "read_notebook"]

MAX_LISTED, MAX_LINE = 50, 200  # of the lines that were left out
_FUTURE = "__future__"


@dataclass(frozen=True)
class Answers:
    """The answers of one submission.

    Attributes:
        found: exercise id -> cells to run: the course's set-up, the learner's imports and helpers, the answer.
        problems: exercise id -> why there is no answer.
        skipped: lines that only a notebook understands; they were left out.
        unattempted: ids among the problems where nothing was handed in, or the stub as it was given.
        trees: exercise id -> the learner's own statements, imports excepted.
    """

    found: dict[str, tuple[str, ...]]
    problems: dict[str, str]
    skipped: tuple[str, ...]
    unattempted: frozenset[str] = frozenset()
    trees: Mapping[str, tuple[ast.stmt, ...]] = ()


def read_answers(data: bytes, exercises: Mapping[str, Exercise]) -> Answers:
    """The answers of a notebook, or of a Python file, to these exercises.

    Args:
        data: the bytes of the file, whatever they are.
        exercises: the exercises that count, by id.

    Raises:
        InvalidNotebook: the file is no notebook and no Python file.
    """
    return read_notebook(data).answers(exercises)


def read_notebook(data: bytes) -> Notebook:
    """Parse a submission.

    Raises:
        InvalidNotebook: the file is no notebook and no Python file.
    """
    return Notebook(read_cells(data))


class Notebook:
    """The code cells of a submission, parsed."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self._cells = tuple(cells)
        self._codes = tuple(without_magics(cell.code) for cell in cells)
        self._statements = [
            Statement(node, number)
            for number, code in enumerate(self._codes)
            for node in (code.tree.body if code.tree else ())
        ]
        self._checks = dict(_checks(self._statements, self._codes))
        self._futures = [node for code in self._codes if code.tree for node in code.tree.body if _is_future(node)]
        self._programs: dict[int, Program] = {}

    @property
    def skipped(self) -> tuple[str, ...]:
        """The lines that were left out, the first ones, each cut to a sensible length."""
        lines = [line for code in self._codes for line in code.skipped]
        shown_lines = tuple(line[:MAX_LINE] for line in lines[:MAX_LISTED])
        return (*shown_lines, f"and {len(lines) - MAX_LISTED} more") if len(lines) > MAX_LISTED else shown_lines

    def names(self, exercises: Mapping[str, Exercise]) -> tuple[str, ...]:
        """Ids of the exercises of every chapter that the notebook names: by a cell, a function or a check."""
        ids = {cell.id for cell in self._cells}
        defined = {name for statement in self._statements for name in statement.binds if not statement.is_import}
        chapters = set()
        for exercise_id, exercise in exercises.items():
            name = _name(exercise)
            if name in defined or exercise_id in self._checks or chapter_of(exercise).answers.get(name) in ids:
                chapters.add(exercise_id.partition(".")[0])
        return tuple(one for one in exercises if one.partition(".")[0] in chapters)

    def answers(self, exercises: Mapping[str, Exercise]) -> Answers:
        """The answers to these exercises."""
        found, problems, unattempted, trees = {}, {}, set(), {}
        for exercise_id, exercise in exercises.items():
            taken = _Search(self, exercise, exercises).result()
            if isinstance(taken, _Taken):
                found[exercise_id], trees[exercise_id] = taken.cells, taken.trees
            else:
                problems[exercise_id] = taken.text
                unattempted |= {exercise_id} if taken.unattempted else set()
        return Answers(found, problems, self.skipped, frozenset(unattempted), trees)

    def program(self, chapter: Chapter) -> Program:
        """The given statements of a chapter, then the learner's."""
        if id(chapter) not in self._programs:
            self._programs[id(chapter)] = Program([*chapter.setup, *self._statements])
        return self._programs[id(chapter)]


def _is_future(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == _FUTURE


def _checks(statements: list[Statement], codes: Sequence[Code]) -> Iterator[tuple[str, int]]:
    """(exercise id, place) of every `check("3.1", ...)` at the top level, in order."""
    for place, statement in enumerate(statements):
        if isinstance(statement.node, ast.Expr | ast.Assign) and "check" in codes[statement.cell].text:
            for node in ast.walk(statement.node):
                called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "check"
                if called and node.args and isinstance(node.args[0], ast.Constant):
                    yield str(node.args[0].value), place


def _name(exercise: Exercise) -> str:
    return exercise.reference.__name__


@dataclass(frozen=True)
class _Taken:
    cells: tuple[str, ...]
    trees: tuple[ast.stmt, ...]


@dataclass(frozen=True)
class _Problem:
    text: str
    unattempted: bool = False


class _Search:
    """The search for one answer in a notebook."""

    def __init__(self, notebook: Notebook, exercise: Exercise, others: Mapping[str, Exercise]) -> None:
        self.notebook, self.exercise, self.name = notebook, exercise, _name(exercise)
        self.others = {_name(other) for other in others.values()}
        self.chapter = chapter_of(exercise)
        self.program = notebook.program(self.chapter)
        self.n_given = len(self.chapter.setup)
        self.answer_id = self.chapter.answers.get(self.name)

    def result(self) -> _Taken | _Problem:
        """The code of the answer, or why there is none."""
        place = self._definition()
        if place is None:
            return self._missing()
        statement = self.program.statements[place]
        problem = _unfit(statement, self.name)
        if problem:
            return problem
        if self._is_stub(place):
            return _Problem("not attempted: the function is as it was given out", unattempted=True)
        return self._take(place)

    def _definition(self) -> int | None:
        """Place of the statement that defines the answer."""
        places = [place for place in self.program.binders(self.name) if place >= self.n_given]
        anchored = [place for place in places if self.answer_id and self._cell(place).id == self.answer_id]
        reach = max(anchored[-1], self._last_check() or 0) if anchored else len(self.program.statements)
        pools = ([place for place in places if place <= reach], places)
        done = (place for pool in pools for place in reversed(pool) if not self._is_stub(place))
        return next(done, places[-1] if places else None)

    def _cell(self, place: int) -> Cell:
        return self.notebook._cells[self.program.statements[place].cell]

    def _last_check(self) -> int | None:
        place = self.notebook._checks.get(self.exercise.id)
        return None if place is None else place + self.n_given

    def _is_stub(self, place: int) -> bool:
        node, stub = self.program.statements[place].node, self.chapter.stubs.get(self.name)
        if not isinstance(node, ast.FunctionDef):
            return False
        body = [step for step in node.body if not _is_docstring(step)]
        empty = not body or (len(body) == 1 and _is_placeholder(body[0]))
        return empty or (stub is not None and _essence(node) == _essence(stub))

    def _take(self, place: int) -> _Taken:
        check = self._last_check()
        end = place if check is None else max(place, check)
        needed = self.program.needed([place], end, without=self._not_taken(place, end))
        statements = self.program.statements
        own = [statements[one] for one in needed if one >= self.n_given and not statements[one].is_import]
        setup = [statements[one].node for one in needed if one < self.n_given]
        cells = [ast.unparse(ast.Module(setup, []))] if setup else []
        return _Taken((*cells, *self._own_cells(needed)), tuple(statement.node for statement in own))

    def _not_taken(self, answer: int, end: int) -> frozenset[int]:
        """Edits of the given cells, which stand already, and other definitions of the answer that do not count."""
        set_up = frozenset().union(*(statement.binds for statement in self.chapter.setup))
        others = {place for place in self.program.binders(self.name) if place > answer or self._is_stub(place)}
        edited = {
            place
            for place, statement in enumerate(self.program.statements)
            if place >= self.n_given and self._cell(place).id in self.chapter.ids
            if statement.binds and statement.binds <= set_up
        }
        return frozenset(others | edited) - {answer}

    def _own_cells(self, needed: list[int]) -> Iterator[str]:
        """The learner's cells with what is needed, in the order in which to run them."""
        wanted: dict[int, set[int]] = defaultdict(set)
        for place in needed:
            if place >= self.n_given:
                wanted[self.program.statements[place].cell].add(id(self.program.statements[place].node))
        for number, kept in wanted.items():
            yield _with_futures(self.notebook._codes[number], kept, self.notebook._futures)

    def _missing(self) -> _Problem:
        for cell, code in zip(self.notebook._cells, self.notebook._codes, strict=True):
            here = cell.id == self.answer_id or re.search(rf"\bdef\s+{self.name}\b|^{self.name}\s*=", cell.code, re.M)
            if here and code.tree is None:
                return _Problem(f"{code.problem} (in the cell of `{self.name}`)")
        likely = self._likely()
        mean = f"; did you mean `{likely}`?" if likely else ""
        return _Problem(f"missing: no cell defines `{self.name}`{mean}", unattempted=not likely)

    def _likely(self) -> str:
        """A function that may be the answer under another name: the one in its cell, or one that is spelt alike."""
        defined = [
            (statement, name)
            for statement in self.program.statements[self.n_given :]
            if isinstance(statement.node, ast.FunctionDef | ast.Assign)
            for name in sorted(statement.binds - self.others)
        ]
        in_cell = [name for statement, name in defined if self.notebook._cells[statement.cell].id == self.answer_id]
        functions = [name for name in in_cell if self.answer_id]
        close = get_close_matches(self.name, sorted({name for _, name in defined}), n=1)
        return functions[-1] if functions else close[0] if close else ""


def _unfit(statement: Statement, name: str) -> _Problem | None:
    """Why a definition cannot be an answer."""
    if isinstance(statement.node, ast.AsyncFunctionDef):
        return _Problem(f"`{name}` is an async function: leave out the word `async`")
    if isinstance(statement.node, ast.ClassDef):
        return _Problem(f"`{name}` is a class; wanted is a function: `def {name}(...)`")
    try:
        _ = statement.reads
    except SyntaxError as error:
        where = f" in line {error.lineno}" if error.lineno else ""
        return _Problem(f"syntax error{where}: {error.msg} (in the cell of `{name}`)")
    return None


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _is_placeholder(node: ast.stmt) -> bool:
    """`pass`, `...` or `raise NotImplementedError`, with a text or without."""
    if isinstance(node, ast.Raise) and node.exc is not None:
        raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        return isinstance(raised, ast.Name) and raised.id == "NotImplementedError"
    return isinstance(node, ast.Pass) or ast.unparse(node) == "..."


def _essence(node: ast.FunctionDef) -> list[str]:
    return [ast.dump(step) for step in node.body if not _is_docstring(step)]


def _with_futures(code: Code, kept: set[int], futures: Iterable[ast.stmt]) -> str:
    """The kept statements of a cell; the notebook's `from __future__ import ...` holds in every cell."""
    numbers = {number for number, node in enumerate(code.tree.body) if id(node) in kept and not _is_future(node)}
    text = shown(code.text, code.tree, numbers)
    if parse(text) is None:  # an odd layout that cannot be blanked out
        text = ast.unparse(ast.Module([node for number, node in enumerate(code.tree.body) if number in numbers], []))
    names = sorted({alias.name for node in futures for alias in node.names} & {"annotations"})
    return f"from __future__ import {', '.join(names)}\n{text}" if names else text
