"""What the course gives for an exercise: set-up, stub, ids of cells, published answer, what its verdict hangs on.

All of it is read from the solution source; nothing is run.
"""

from __future__ import annotations

import ast
import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from pathlib import Path

from course_lib.grader.reading import parse_strictly
from course_lib.grader.slicing import Program, Statement
from course_lib.grader.states import ids_in_order
from course_lib.grading import load
from course_lib.grading.pages import as_stub
from course_lib.grading.source import CodeCell, code_cells
from course_lib.grading.spec import Exercise

_NOT_SHOWN = {"spec", "solution-only"}
_PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True)
class Chapter:
    """The code of one solution source.

    Attributes:
        setup: statements of the given cells that define something; `cell` counts from below 0, so that they come first.
        ids: of the given cells, answer cells excepted.
        answers: function name -> id of its answer cell.
        stubs: function name -> the function as a learner gets it.
        published: function name -> the statements of the answer cell.
    """

    setup: tuple[Statement, ...]
    ids: frozenset[str]
    answers: dict[str, str]
    stubs: dict[str, ast.stmt]
    published: dict[str, tuple[ast.stmt, ...]]

    @cached_property
    def copies(self) -> frozenset[str]:
        """The statements of the given cells, each written out as `Statement.tree` is."""
        return frozenset(statement.tree for statement in self.setup)


EMPTY = Chapter((), frozenset(), {}, {}, {})


def known_exercises() -> dict[str, Exercise]:
    """All exercises of the course, by id, in order."""
    sources = sorted(set(load.index(load.source_folder()).values()))
    found = {one: exercise for path in sources for one, exercise in load.load_source(path).items()}
    return {one: found[one] for one in ids_in_order(list(found))}


@lru_cache(maxsize=256)  # by the exercise itself: one that is loaded again is looked up again
def chapter_of(exercise: Exercise) -> Chapter:
    """What the source of an exercise gives; nothing for one that no source defines."""
    path = _sources(load.source_folder()).get(exercise.id)
    return _read_chapter(path, path.stat().st_mtime_ns) if path else EMPTY


@cache
def _sources(folder: Path) -> dict[str, Path]:
    return load.index(folder)


@lru_cache(maxsize=64)
def _read_chapter(path: Path, _changed: int) -> Chapter:
    cells = code_cells(path.read_text(encoding="utf-8"))
    names = dict(zip(cells, cell_ids(cells), strict=True))
    given = [cell for cell in cells if not cell.tags & {*_NOT_SHOWN, "answer"}]
    answers = {name: cell for cell in cells if "answer" in cell.tags for name in _functions(cell.code)}
    return Chapter(
        tuple(_setup(given)),
        frozenset(names[cell] for cell in given),
        {name: names[cell] for name, cell in answers.items()},
        {name: _function(as_stub(cell.code), name) for name, cell in answers.items()},
        {name: tuple(parse_strictly(cell.code).body) for name, cell in answers.items()},
    )


def cell_ids(cells: list[CodeCell]) -> list[str]:
    """The ids that the exercise notebooks give these cells: made from what a learner sees of them."""
    seen: Counter[str] = Counter()
    found = []
    for cell in cells:
        text = (as_stub(cell.code) if "answer" in cell.tags else cell.code).strip("\n")
        seen[text] += 1
        found.append(hashlib.sha256(f"code\0{seen[text]}\0{text}".encode()).hexdigest()[:12])
    return found


def _functions(code: str) -> list[str]:
    return [node.name for node in parse_strictly(code).body if isinstance(node, ast.FunctionDef)]


def _function(code: str, name: str) -> ast.stmt:
    return next(node for node in parse_strictly(code).body if isinstance(node, ast.FunctionDef) and node.name == name)


def _setup(cells: list[CodeCell]) -> Iterator[Statement]:
    for number, cell in enumerate(cells, start=-len(cells)):
        for node in _parsed(cell.code):
            yield Statement(node, number, given=True)


def _parsed(code: str) -> list[ast.stmt]:
    """The statements of a given cell; none of a cell with a notebook's magic."""
    try:
        return parse_strictly(code).body
    except SyntaxError:
        return []


@lru_cache(maxsize=256)
def specification(exercise: Exercise) -> str:
    """A hash of what the verdict on an exercise hangs on: its specification with all that it uses, and this package.

    A change in another exercise, or in the prose, leaves it as it is.
    """
    path = _sources(load.source_folder()).get(exercise.id)
    text = _specification(path, path.stat().st_mtime_ns, exercise.id) if path else _without_source(exercise)
    return hashlib.sha256(f"{package_hash()}\0{text}".encode()).hexdigest()[:16]


def _specification(path: Path, _changed: int, exercise_id: str) -> str:
    program = _program(path, _changed)
    places = [place for place, found in enumerate(program.statements) if _registers(found.node, exercise_id)]
    needed = program.needed(places, end=len(program.statements))
    return "\0".join(ast.dump(program.statements[place].node) for place in needed)


@lru_cache(maxsize=16)
def _program(path: Path, _changed: int) -> Program:
    cells = [cell for cell in code_cells(path.read_text(encoding="utf-8")) if "solution-only" not in cell.tags]
    return Program([Statement(node, number) for number, cell in enumerate(cells) for node in _parsed(cell.code)])


def _registers(node: ast.stmt, exercise_id: str) -> bool:
    call = node.value if isinstance(node, ast.Expr) else None
    named = isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "exercise"
    return named and isinstance(call.args[0], ast.Constant) and call.args[0].value == exercise_id


def _without_source(exercise: Exercise) -> str:
    """For an exercise made by hand: what it says, and the code of its functions."""
    functions = [exercise.reference, exercise.cases, *(mutant.function for mutant in exercise.mutants)]
    codes = [getattr(function, "__code__", None) for function in functions]
    said = (exercise.id, exercise.title, exercise.difficulty, exercise.seconds, exercise.tolerance)
    return repr((said, [(code.co_code, repr(code.co_names)) for code in codes if code]))


@cache
def package_hash() -> str:
    """A hash of the code of this package: two graders with the same one judge alike."""
    found = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*.py"), key=lambda path: path.relative_to(_PACKAGE).as_posix()):
        found.update(path.relative_to(_PACKAGE).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()[:16]
