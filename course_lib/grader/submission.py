"""From the bytes of a submission to the code that each exercise needs, or why there is none. Nothing is run.

An answer is what its function's name means when the notebook's check is reached: in the cell that the course gave for
it, or below it, up to the last `check` of the exercise. Without that cell, it is the last definition of the name.
Where there is none, or the stub alone, it is what a `check` of the exercise was given instead of the name.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import accumulate

from course_lib.grader.given import chapter_of
from course_lib.grader.notebook import NOTHING, Notebook, is_idle
from course_lib.grader.reading import InvalidNotebook, read_cells
from course_lib.grader.slicing import MAX_SIZE, Statement, TooMuchCode
from course_lib.grading.spec import Exercise

__all__ = ["Answers", "InvalidNotebook", "answers_of", "other_readings", "read_answers", "read_notebook", "second_try"]


MAX_SECOND = 200_000  # characters of code; a larger notebook gets no second try, which takes the grader its time
MAX_STATEMENTS = 3_000  # likewise; all solution notebooks together have about a thousand
SECOND_SIZE = 2 * MAX_SIZE  # of all that a second try runs; the course's own notebooks have up to 10,000
COLAB = "keep_long_runs_on_my_drive"  # what only the set-up for Colab speaks of, in every notebook of the course
FAULTS = (OSError, MemoryError)  # of this machine; whatever else goes wrong here lies in what is read
ALIKE = 0.75  # of 1: names less alike than this are two names, not one and its misspelling


@dataclass(frozen=True)
class Answers:
    """The answers of one submission.

    Attributes:
        found: exercise id -> cells to run: the course's set-up, the learner's imports and helpers, the answer.
        problems: exercise id -> why there is no answer.
        skipped: lines that only a notebook understands; they were left out.
        unattempted: ids among the problems where nothing was handed in, or the stub as it was given.
        trees: exercise id -> the learner's own statements among them.
    """

    found: dict[str, tuple[str, ...]]
    problems: dict[str, str]
    skipped: tuple[str, ...]
    unattempted: frozenset[str] = frozenset()
    trees: dict[str, tuple[ast.stmt, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Taken:
    cells: tuple[str, ...]
    trees: tuple[ast.stmt, ...]


@dataclass(frozen=True)
class _Problem:
    text: str
    unattempted: bool = False


def read_answers(data: bytes, exercises: Mapping[str, Exercise]) -> Answers:
    """The answers of a notebook, or of a Python file, to these exercises.

    Args:
        data: the bytes of the file, whatever they are.
        exercises: the exercises that count, by id.

    Raises:
        InvalidNotebook: the file is no notebook and no Python file.
    """
    return answers_of(read_notebook(data), exercises)


def read_notebook(data: bytes) -> Notebook:
    """Parse a submission.

    Raises:
        InvalidNotebook: the file is no notebook and no Python file.
    """
    try:
        return Notebook(read_cells(data))
    except (InvalidNotebook, *FAULTS):
        raise
    except Exception as error:
        raise InvalidNotebook(f"The code cannot be read ({type(error).__name__}).") from None


def answers_of(notebook: Notebook, exercises: Mapping[str, Exercise]) -> Answers:
    """The answers of a parsed submission to these exercises."""
    names = frozenset(exercise.reference.__name__ for exercise in exercises.values())
    results = {one: _Search(notebook, exercise, names).result() for one, exercise in exercises.items()}
    found = {one: result for one, result in results.items() if isinstance(result, _Taken)}
    problems = {one: result for one, result in results.items() if isinstance(result, _Problem)}
    return Answers(
        {one: taken.cells for one, taken in found.items()},
        {one: problem.text for one, problem in problems.items()},
        notebook.skipped,
        frozenset(one for one, problem in problems.items() if problem.unattempted),
        {one: taken.trees for one, taken in found.items()},
    )


def second_try(
    notebook: Notebook, exercise: Exercise, exercises: Mapping[str, Exercise], broken: bool
) -> tuple[str, ...]:
    """The cells of an answer that was not right, with all that the notebook runs; none where that changes nothing.

    What fails in them is passed over, as a notebook does, which goes on after a cell that failed.

    Args:
        notebook: the submission.
        exercise: one whose answer was found.
        exercises: all of the course, by id; the answers to the others, and what is given for them, change nothing.
        broken: the first try did not come to the answer; then the same statements get a second one.
    """
    if _is_large(notebook):
        return ()
    try:
        return _SecondSearch(notebook, exercise, exercises).cells(broken)
    except FAULTS:
        raise
    except Exception:  # deep code, too much of it, or a number of many digits, which cannot be written out
        return ()


def other_readings(
    notebook: Notebook, exercise: Exercise, exercises: Mapping[str, Exercise]
) -> Iterator[tuple[str, ...]]:
    """The cells of what else may be meant as an answer, where the one that was found is not right; as `second_try`.

    It is what the last check was given instead of the name, or the definition on the other side of that check, or
    what the name meant when the cells were last run, if that was not from top to bottom.
    """
    if _is_large(notebook):
        return
    for search, made in ((_CheckedSearch, notebook), (_FarSearch, notebook), (_SecondSearch, notebook.as_run)):
        try:
            cells = search(made, exercise, exercises).cells(broken=True) if made else ()
        except FAULTS:
            raise
        except Exception:  # as in `second_try`
            cells = ()
        if cells:
            yield cells


def _is_large(notebook: Notebook) -> bool:
    return len(notebook.statements) > MAX_STATEMENTS or sum(len(cell.code) for cell in notebook.cells) > MAX_SECOND


class _Search:
    """The search for one answer in a notebook. A place is the number of a statement, the given ones first."""

    def __init__(self, notebook: Notebook, exercise: Exercise, names: frozenset[str]) -> None:
        self.notebook, self.exercise, self.name = notebook, exercise, exercise.reference.__name__
        self.others = names - {self.name}
        self.chapter = chapter_of(exercise)
        self.program = notebook.program(self.chapter)
        self.n_given = len(self.chapter.setup)
        self.answer_id = self.chapter.answers.get(self.name)
        self.renamed = self._checked_as()
        if self.renamed and self._is_renamed():
            self.notebook = notebook.with_alias(self.renamed[0], self.name, self.renamed[1])
            self.program = self.notebook.program(self.chapter)

    def result(self) -> _Taken | _Problem:
        """The code of the answer, or why there is none."""
        try:
            return self._result()
        except RecursionError:
            return _Problem("the code is nested too deeply to be read")
        except TooMuchCode as problem:
            return _Problem(f"{problem} (in the cell of `{self.name}`)")
        except FAULTS:
            raise
        except Exception as error:
            return _Problem(f"the code cannot be read ({type(error).__name__})")

    def _result(self) -> _Taken | _Problem:
        place = self._definition()
        if place is None:
            return self._missing()
        problem = _unfit(self.program.statements[place], self.name)
        if problem is None and self._is_stub(place):
            problem = _Problem("not attempted: the function is as it was given out", unattempted=True)
        return problem or self._take(place)

    def _definition(self) -> int | None:
        """Place of the statement that defines the answer."""
        places = self._written()
        anchored = [place for place in places if self.answer_id and self._id(place) == self.answer_id]
        reach = self._reach(anchored)
        pools = ([place for place in places if place <= reach], places)
        written = (place for pool in pools for place in reversed(pool) if not self._is_stub(place))
        return next(written, places[-1] if places else None)

    def _reach(self, anchored: Sequence[int]) -> int:
        """The last place where a definition counts, given the places of those in the cell for it."""
        return max(anchored[-1], self._last_check()) if anchored else len(self.program.statements)

    def _written(self) -> list[int]:
        """Places of the learner's statements that bind the name of the answer."""
        return [place for place in self.program.binders(self.name) if place >= self.n_given]

    def _checked_as(self) -> tuple[int, str] | None:
        """The last check of this exercise that is given something else: its place, and the name or expression."""
        checks = reversed(self.notebook.checked.get(self.exercise.id, ()))
        return next((one for one in checks if self._may_be_answer(one[1])), None)

    def _is_renamed(self) -> bool:
        """True if what the check was given is the answer."""
        return all(map(self._is_stub, self._written()))

    def _may_be_answer(self, name: str) -> bool:
        """True for another name that the learner's own code binds, and that no other exercise asks for.

        And for an expression, such as `Answers().score`, that does not use the name of the answer itself.
        """
        if not name.isidentifier():
            return name not in ("", NOTHING) and not self._says_name(name)
        binders = self.program.binders(name)
        return name != self.name and name not in self.others and bool(binders) and binders[-1] >= self.n_given

    def _says_name(self, text: str) -> bool:
        return re.search(rf"\b{self.name}\b", text) is not None

    def _id(self, place: int) -> str:
        return self.notebook.cells[self.program.statements[place].cell].id

    def _last_check(self) -> int:
        """Place of the last check of this exercise; -1 without one."""
        return self.notebook.checks.get(self.exercise.id, -1 - self.n_given) + self.n_given

    def _is_stub(self, place: int) -> bool:
        node, stub = self.program.statements[place].node, self.chapter.stubs.get(self.name)
        if not isinstance(node, ast.FunctionDef) or node.decorator_list:  # what decorates it may do the work
            return False
        steps = _steps(node)
        if not steps or (len(steps) == 1 and _is_placeholder(steps[0])):
            return True
        given = _steps(stub) if stub is not None else []
        return len(steps) == len(given) and all(map(_same, steps, given))

    def _take(self, place: int) -> _Taken:
        setup, own = self._needed(place)
        return _Taken((*setup, *self._own_cells(own)), tuple(statement.node for statement in own))

    def _needed(self, place: int) -> tuple[list[str], list[Statement]]:
        """The course's set-up, as a cell or none, and the learner's statements, in the order in which to run them."""
        return self._parted(self.program.needed([place], self._end(place), self._not_taken(place)))

    def _end(self, place: int) -> int:
        """Place of the last statement that has been run when the answer is checked."""
        return max(self.program.end_of_cell(place), self._last_check())

    def _parted(self, places: list[int]) -> tuple[list[str], list[Statement]]:
        statements = self.program.statements
        setup = [statements[one].node for one in places if one < self.n_given]
        cells = [ast.unparse(ast.Module(setup, []))] if setup else []
        return cells, [statements[one] for one in places if one >= self.n_given]

    def _not_taken(self, answer: int) -> frozenset[int]:
        """Edits of the given cells, which stand already, and other definitions of the answer that do not count."""
        return (self.notebook.edited(self.chapter) - {answer}) | self._other_answers(answer)

    def _other_answers(self, answer: int) -> frozenset[int]:
        """Definitions of the answer that do not count: what stands below it, and stubs."""
        others = {place for place in self.program.binders(self.name) if place > answer or self._is_stub(place)}
        return frozenset(others - {answer})

    def _own_cells(self, own: list[Statement]) -> Iterator[str]:
        """The learner's cells with what is needed, in the order in which to run them."""
        kept: dict[int, set[int]] = defaultdict(set)
        for statement in own:
            kept[statement.cell].add(id(statement.node))
        return (self.notebook.excerpt(number, nodes) for number, nodes in kept.items())

    def _missing(self) -> _Problem:
        written = re.compile(rf"\bdef\s+{self.name}\b|^{self.name}\s*=", re.MULTILINE)
        for cell, code in zip(self.notebook.cells, self.notebook.codes, strict=True):
            if code.tree is None and (cell.id == self.answer_id or written.search(cell.code)):
                return _Problem(f"{code.problem} (in the cell of `{self.name}`)")
        likely, checked = self._likely(), self._checks_another()
        mean = f"; did you mean `{likely}`?" if likely else ""
        if checked and not likely:
            mean = f"; `check` was given something else: call that function `{self.name}`"
        return _Problem(f"missing: no cell defines `{self.name}`{mean}", unattempted=not (likely or checked))

    def _checks_another(self) -> bool:
        """True when a check of this exercise is given anything but the name of the answer."""
        checks = self.notebook.checked.get(self.exercise.id, ())
        return any(name not in self.others | {self.name, NOTHING} for _, name in checks)

    def _likely(self) -> str:
        """A function that may be the answer under another name: the one in its cell, or one that is spelt alike."""
        defined = [(cell, name) for cell, name in self.notebook.functions if name not in self.others]
        in_cell = [name for cell, name in defined if self.answer_id and self.notebook.cells[cell].id == self.answer_id]
        close = get_close_matches(self.name, sorted({name for _, name in defined}), n=1, cutoff=ALIKE)
        return (in_cell[-1:] or close or [""])[0]


class _SecondSearch(_Search):
    """The search for all that a notebook has run when it checks an answer."""

    def __init__(self, notebook: Notebook, exercise: Exercise, exercises: Mapping[str, Exercise]) -> None:
        super().__init__(notebook, exercise, frozenset(one.reference.__name__ for one in exercises.values()))
        self.chapters = {id(chapter): chapter for chapter in map(chapter_of, (exercise, *exercises.values()))}

    def cells(self, broken: bool) -> tuple[str, ...]:
        """As `second_try`."""
        place = self._definition()
        if place is None or self._is_stub(place):
            return ()
        places = self.program.needed([place], self._end(place), self._not_taken(place))
        whole = self._whole(place, frozenset(places))
        if self._more_matters(frozenset(places), whole):
            places = whole
        elif not broken:
            return ()
        setup, own = self._parted(places)
        return (*setup, self.notebook.sturdy(own))

    def _whole(self, answer: int, needed: frozenset[int]) -> list[int]:
        """Places of all that the learner wrote up to the check, and of what that needs of the course's."""
        end, statements = self._end(answer), self.program.statements
        places = [place for place in range(self.n_given, end + 1) if not is_idle(statements[place].node)]
        if any(size > SECOND_SIZE for size in accumulate(statements[place].size for place in places)):
            raise TooMuchCode
        set_up = {statements[place].binds for place in range(self.n_given)}
        written = {statements[place].tree for place in places if statements[place].binds in set_up}
        repeated = {place for place in range(self.n_given) if statements[place].tree in written}
        own = frozenset(range(self.n_given, len(statements)))
        without = self._other_answers(answer) | repeated | own.difference(places, needed)
        found = self.program.needed([*needed, *places], end, without, SECOND_SIZE)
        given = [place for place in found if place < self.n_given]
        return [*self.program.needed(given, self.n_given - 1, own), *found[len(given) :]]

    def _more_matters(self, needed: frozenset[int], whole: list[int]) -> bool:
        """True if something may change the answer that the first try left out."""
        first: dict[str, int] = {}  # name -> place of the first of the learner's needed statements that sets it
        for place in sorted(needed, reverse=True):
            statement = self.program.statements[place]
            if place >= self.n_given:
                first |= dict.fromkeys(statement.binds | statement.touches, place)
        more = (place for place in whole if place >= self.n_given and place not in needed)
        return any(self._matters(place, first) for place in more)

    def _matters(self, place: int, first: Mapping[str, int]) -> bool:
        statement = self.program.statements[place]
        if statement.is_import and place not in self.notebook.edited(self.chapter):
            return False
        if _answers_only(statement.node, self.others | {self.name}):
            return False
        if COLAB in statement.binds | statement.reads:
            return False
        given = any(statement.tree in chapter.copies for chapter in self.chapters.values())
        return not given or any(first.get(name, place) < place for name in statement.binds)


class _CheckedSearch(_SecondSearch):
    """The search that goes by what the last check was given, whatever else has the name of the answer."""

    def cells(self, broken: bool) -> tuple[str, ...]:
        """As `second_try`."""
        return super().cells(broken) if self.renamed else ()

    def _checked_as(self) -> tuple[int, str] | None:
        found = super()._checked_as()
        if found is None or not self._says_name(found[1]):
            return found
        return found[0], f"(lambda {self.name}: {found[1]})({self.name})"  # which the name means from here on

    def _is_renamed(self) -> bool:
        return True

    def _may_be_answer(self, name: str) -> bool:
        if name == self.name:  # made by `exec`, `globals()` and the like
            return not self._written() and any(self.name in one.tree for one in self._running())
        if name.isidentifier():
            return super()._may_be_answer(name)
        return name not in ("", NOTHING)

    def _running(self) -> Iterator[Statement]:
        return (statement for statement in self.notebook.statements if not is_idle(statement.node))


class _FarSearch(_SecondSearch):
    """The search on the other side of the last check."""

    def cells(self, broken: bool) -> tuple[str, ...]:
        """As `second_try`."""
        near = _Search(self.notebook, self.exercise, self.others)
        return super().cells(broken) if self._definition() != near._definition() else ()

    def _reach(self, anchored: Sequence[int]) -> int:
        return len(self.program.statements) if anchored else self._last_check()


def _answers_only(node: ast.stmt, answers: frozenset[str]) -> bool:
    """True for a function that is an answer, and for another name of one."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return node.name in answers and not node.decorator_list
    alias = isinstance(node, ast.Assign) and isinstance(node.value, ast.Name) and node.value.id in answers
    return alias and all(isinstance(target, ast.Name) for target in node.targets)


def _unfit(statement: Statement, name: str) -> _Problem | None:
    """Why a definition cannot be an answer."""
    if isinstance(statement.node, ast.AsyncFunctionDef) and not statement.node.decorator_list:
        return _Problem(f"`{name}` is an async function: leave out the word `async`")
    if isinstance(statement.node, ast.ClassDef) and not _may_give_results(statement.node):
        return _Problem(f"`{name}` is a class; wanted is a function: `def {name}(...)`")
    try:
        _ = statement.reads
    except SyntaxError as error:
        where = f" in line {error.lineno}" if error.lineno else ""
        return _Problem(f"syntax error{where}: {error.msg} (in the cell of `{name}`)")
    return None


def _may_give_results(node: ast.ClassDef) -> bool:
    """True for a class whose call need not make an object of it."""
    makes = any(isinstance(step, ast.FunctionDef) and step.name == "__new__" for step in node.body)
    return makes or bool(node.decorator_list or node.bases or node.keywords)


def _steps(node: ast.FunctionDef) -> list[ast.stmt]:
    """The body of a function without its docstring."""
    return node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body


def _same(one: ast.AST, other: ast.AST) -> bool:
    """True for equal syntax trees; the second is ours, so it is not deep."""
    alike = type(one) is type(other) and len(list(ast.iter_child_nodes(one))) == len(list(ast.iter_child_nodes(other)))
    children = zip(ast.iter_child_nodes(one), ast.iter_child_nodes(other), strict=False)
    return alike and all(_same(*pair) for pair in children) and _own_words(one) == _own_words(other)


def _own_words(node: ast.AST) -> list[object]:
    """What a node says beside its children: names, constants."""
    return [(name, value) for name, value in ast.iter_fields(node) if not isinstance(value, ast.AST | list)]


def _is_placeholder(node: ast.stmt) -> bool:
    """`pass`, `...` or `raise NotImplementedError`, with a text or without."""
    if isinstance(node, ast.Raise) and node.exc is not None:
        raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        return isinstance(raised, ast.Name) and raised.id == "NotImplementedError"
    dots = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and node.value.value is ...
    return dots or isinstance(node, ast.Pass)
