"""Answers with the same syntax tree as the published solution or as another submission's: reported, never punished.

Names of variables, docstrings, comments, annotations and the order of keyword arguments do not count.
A short answer says little: many people write the same line. So each sentence tells how long the answer is.
"""

from __future__ import annotations

import ast
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any, NamedTuple

from course_lib.grader.given import chapter_of
from course_lib.grading import trees
from course_lib.grading.spec import Exercise

SHORT = 60  # nodes of a syntax tree, about three lines
MAX_NAMES = 3
PUBLISHED = "the published solution"
_DROPPED = {"annotation", "returns", "type_comment", "kind", "ctx", "type_params"}
_IMPORTS = (ast.Import, ast.ImportFrom)
_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")
_NAMED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


class Print(NamedTuple):
    """A hash of the normal form of some code, and how many nodes stand in it beyond what the course gave."""

    hash: str
    nodes: int


def print_of(exercise: Exercise, statements: Sequence[ast.stmt]) -> Print | None:
    """The print of an answer: its function with the learner's own helpers, imports excepted.

    None for an answer that is imported, and for code that cannot be written down, for example nested too deeply.
    """
    statements = [statement for statement in statements if not isinstance(statement, _IMPORTS)]
    if not statements:
        return None
    try:
        form, n_nodes = normal_form(statements)
    except MemoryError:
        raise
    except Exception:  # whatever it is, the answer is graded all the same
        return None
    return Print(
        hashlib.sha256(form.encode("utf-8", "replace")).hexdigest()[:16], max(n_nodes - _nodes_of_stub(exercise), 0)
    )


@lru_cache(maxsize=256)
def _nodes_of_stub(exercise: Exercise) -> int:
    stub = chapter_of(exercise).stubs.get(exercise.reference.__name__)
    return normal_form([stub])[1] if stub is not None else 0


def borrowed(exercise: Exercise, statements: Sequence[ast.stmt]) -> list[str]:
    """Modules of the course that an answer imports, although its exercise does not."""
    own = {name for statement in statements for inner in _statements(statement) for name in _modules(inner)}
    return sorted(
        name
        for name in own - _modules_given(exercise)
        if name.startswith("course_lib") and name != "course_lib.grading"
    )


def _statements(outer: ast.AST) -> list[ast.AST]:
    """A statement and those inside it, with the handlers and the cases that hold them."""
    found = [outer]
    for node in found:  # grows meanwhile
        for name in _BLOCKS:
            found += getattr(node, name, ())
    return found


@lru_cache(maxsize=256)
def _modules_given(exercise: Exercise) -> frozenset[str]:
    return frozenset(name for statement in chapter_of(exercise).setup for name in _modules(statement.node))


def _modules(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module == "course_lib":
        yield from (f"course_lib.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield node.module or ""


def published_print(exercise: Exercise) -> Print | None:
    """The print of the published solution; None for an exercise that no source defines."""
    statements = chapter_of(exercise).published.get(exercise.reference.__name__)
    return print_of(exercise, statements) if statements else None


def normal_form(statements: Sequence[ast.stmt]) -> tuple[str, int]:
    """(text that only the structure of the code decides, number of nodes)."""
    writer = _Writer(statements)
    return "\n".join(writer.text(statement) for statement in statements), writer.n_nodes


class _Writer:
    """Writes syntax trees as text, with names that the code itself binds replaced by numbers."""

    def __init__(self, statements: Sequence[ast.stmt]) -> None:
        self.n_nodes = 0
        bound = {name for statement in statements for node in trees.nodes(statement) for name in _bound(node)}
        self._numbers: dict[str, str | None] = dict.fromkeys(bound)
        self._used = 0

    def text(self, value: Any) -> str:
        if isinstance(value, list):
            return f"[{','.join(self.text(item) for item in _without_docstring(value))}]"
        if not isinstance(value, ast.AST):
            return hex(value) if type(value) is int else repr(value)  # `repr` refuses one of 4,301 digits
        self.n_nodes += 1
        if type(value) is ast.Name:  # the most frequent one, written as below
            return f"Name({self._name(value.id)})"
        if isinstance(value, ast.AnnAssign) and value.value is not None:
            value = ast.Assign(targets=[value.target], value=value.value)
        fields = [self._field(value, name, getattr(value, name, None)) for name in _fields(type(value))]
        return f"{type(value).__name__}({','.join(fields)})"

    def _field(self, node: ast.AST, name: str, value: Any) -> str:
        if name == "keywords":
            return ",".join(sorted(self.text(keyword) for keyword in value))
        if isinstance(value, str) and not isinstance(node, ast.Constant | ast.Attribute | ast.keyword | ast.alias):
            return self._name(value)
        if isinstance(node, ast.Global | ast.Nonlocal):
            return ",".join(self._name(one) for one in value)
        return self.text(value)

    def _name(self, name: str) -> str:
        if name not in self._numbers:
            return name
        if self._numbers[name] is None:
            self._numbers[name], self._used = f"#{self._used}", self._used + 1
        return self._numbers[name]


@cache
def _fields(kind: type[ast.AST]) -> tuple[str, ...]:
    return tuple(name for name in kind._fields if name not in _DROPPED)


def _bound(node: ast.AST) -> Iterator[str]:
    if isinstance(node, _NAMED):
        yield node.name
    elif isinstance(node, ast.arg):
        yield node.arg
    elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
        yield node.id
    elif isinstance(node, ast.ExceptHandler) and node.name:
        yield node.name


def _without_docstring(body: list[Any]) -> list[Any]:
    """A list of statements without its docstrings; any other list as it is."""
    return [item for item in body if not (isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant))]


class Alike:
    """Who wrote the same, over a whole class."""

    def __init__(self, published: Mapping[str, Print | None]) -> None:
        self._published = published
        self._groups: dict[tuple[str, str], list[str]] = defaultdict(list)
        self._first: dict[tuple[str, str], list[str]] = {}  # some of each group, by name

    def add(self, submission: str, prints: Mapping[str, Print]) -> None:
        """Note the answers of a submission."""
        for exercise_id, found in prints.items():
            self._groups[exercise_id, found.hash].append(submission)

    def sentences(self, submission: str, prints: Mapping[str, Print]) -> list[str]:
        """What to tell of a submission: one sentence for each answer that somebody else gave too."""
        return [text for one, found in prints.items() if (text := self._sentence(submission, one, found))]

    def _sentence(self, submission: str, exercise_id: str, found: Print) -> str:
        key = (exercise_id, found.hash)
        if key not in self._first:  # all have been added now, and a class may write the same
            self._first[key] = sorted(self._groups[key])[: MAX_NAMES + 1]
        others = [name for name in self._first[key] if name != submission][:MAX_NAMES]
        n_more = len(self._groups[key]) - 1 - len(others)
        published = self._published.get(exercise_id)
        same = [PUBLISHED] if published is not None and published.hash == found.hash else []
        if not same and not others:
            return ""
        more = [f"{n_more} more"] if n_more > 0 else []
        listed = ", ".join([*same, *others, *more])
        short = ": short, so many may write the same" if found.nodes < SHORT else ""
        return f"{exercise_id}: the same syntax tree as {listed} ({found.nodes} nodes{short})"


def prints_from(stored: Mapping[str, Iterable[Any]]) -> dict[str, Print]:
    """Prints as they stand in a file."""
    return {exercise_id: Print(*found) for exercise_id, found in stored.items()}
