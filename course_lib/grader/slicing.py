"""Which statements of a notebook an answer stands on: found by following names, without running anything."""

from __future__ import annotations

import ast
import builtins
import dis
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import CodeType

from course_lib.grader.sizes import size_of
from course_lib.grading import trees

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_NAMED = (*_FUNCTIONS, ast.ClassDef)
_IMPORTS = (ast.Import, ast.ImportFrom)
_CATCHES = (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)
_PLACES = (ast.Attribute, ast.Subscript)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_SCOPES = (*_FUNCTIONS, ast.ClassDef, ast.Lambda, *_COMPREHENSIONS)
_READS = {"LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL", "DELETE_GLOBAL", "DELETE_NAME", "LOAD_FROM_DICT_OR_GLOBALS"}
_READING = {dis.opmap[name]: int(name == "LOAD_GLOBAL") for name in _READS & dis.opmap.keys()}  # bits before the name
ALL = "*"  # what a star import binds
MAX_SIZE = 10_000  # nodes of what one answer stands on, about a thousand lines; the course's own have a few hundred


class TooMuchCode(ValueError):
    """More code for one answer than is looked at; the message is for its author."""

    def __init__(self) -> None:
        super().__init__(
            "the function and what it uses are too much code: write fewer lines, and no `finally` within a `finally`"
        )


@dataclass(frozen=True, eq=False)
class Statement:
    """A statement at the top level of a cell.

    Attributes:
        node: its syntax tree.
        cell: number of the cell it stands in.
        given: True when it is the course's own, not the learner's.
    """

    node: ast.stmt
    cell: int
    given: bool = False

    @cached_property
    def binds(self) -> frozenset[str]:
        """Names that it defines, imports or assigns."""
        return frozenset(name for part in self._parts for name in _bound(part))

    @cached_property
    def touches(self) -> frozenset[str]:
        """Names whose values it changes in place: `TABLE[0] = 1`, `LABELS.append("x")`."""
        return frozenset(name for part in self._parts for name in _touched(part)) - self.binds

    @cached_property
    def _parts(self) -> tuple[ast.AST, ...]:
        """The nodes that run in the scope of the cell itself, not in one of a function or a class."""
        return tuple(_own(self.node))

    @cached_property
    def reads(self) -> frozenset[str]:
        """Global names that it looks up, now or when what it defines is called.

        Raises:
            SyntaxError: Python cannot compile it, for example a `return` outside of a function.
            TooMuchCode: it is too large to be compiled here.
        """
        if self.size > MAX_SIZE:
            raise TooMuchCode
        return frozenset(_read(_compiled(self.node)))

    @cached_property
    def size(self) -> int:
        """How much there is to compile in it."""
        return size_of(self.node)

    @cached_property
    def tree(self) -> str:
        """Its syntax tree written out, which is the same for the same code."""
        return ast.dump(self.node)

    @cached_property
    def tried(self) -> str:
        """Its code, so that what comes behind it runs where it fails."""
        node = self.node
        if not isinstance(node, ast.FunctionDef) or node.decorator_list:  # of others `inspect` reads what is indented
            handler = ast.ExceptHandler(ast.Name("BaseException", ast.Load()), None, [ast.Pass()])
            node = ast.Try([node], [handler], [], [])
        return ast.unparse(ast.Module([node], []))

    @property
    def is_import(self) -> bool:
        """True for an import, which nothing changes in place."""
        return isinstance(self.node, _IMPORTS)


def _compiled(node: ast.stmt) -> CodeType:
    try:
        return trees.compile_tree(ast.Module([node], []), "<cell>", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except (RecursionError, MemoryError, ValueError) as error:
        raise SyntaxError(f"the code cannot be compiled ({type(error).__name__})") from None


def _read(code: CodeType) -> Iterator[str]:
    """The names, as `dis.get_instructions` tells them, which takes ten times as long."""
    waiting = [code]
    while waiting:
        current, extended = waiting.pop(), 0
        for operation, argument in zip(*[iter(current.co_code)] * 2, strict=True):
            argument |= extended
            extended = argument << 8 if operation == dis.EXTENDED_ARG else 0
            if operation in _READING:
                yield current.co_names[argument >> _READING[operation]]
        waiting += [constant for constant in current.co_consts if isinstance(constant, CodeType)]


def outside_scopes(node: ast.AST) -> list[ast.AST]:
    """A node and all below it, but for the bodies of functions and classes."""
    found = [node]
    for current in found:  # grows meanwhile
        found += _around(current) if isinstance(current, _NAMED) else ast.iter_child_nodes(current)
    return found


def _own(node: ast.AST) -> Iterator[ast.AST]:
    waiting = [node]
    while waiting:
        current = waiting.pop()
        yield current
        if not isinstance(current, _SCOPES):
            waiting.extend(ast.iter_child_nodes(current))
        elif isinstance(current, _COMPREHENSIONS):  # `[last := x for x in xs]` binds `last` around it
            waiting += [part.target for part in trees.nodes(current) if isinstance(part, ast.NamedExpr)]
        else:
            waiting += _around(current)


def _around(scope: ast.AST) -> list[ast.AST]:
    """The parts of a function or class that run outside of it: defaults, decorators, bases."""
    defaults = [*scope.args.defaults, *filter(None, scope.args.kw_defaults)] if hasattr(scope, "args") else []
    return [part for name in ("decorator_list", "bases", "keywords") for part in getattr(scope, name, ())] + defaults


def _bound(part: ast.AST) -> Iterator[str]:
    if isinstance(part, ast.Name):
        if not isinstance(part.ctx, ast.Load):
            yield part.id
    elif isinstance(part, _NAMED):
        yield part.name
    elif isinstance(part, ast.Import):
        yield from (alias.asname or alias.name.partition(".")[0] for alias in part.names)
    elif isinstance(part, ast.ImportFrom):
        yield from (alias.asname or alias.name for alias in part.names)
    elif isinstance(part, _CATCHES) and part.name:
        yield part.name
    elif isinstance(part, ast.MatchMapping) and part.rest:
        yield part.rest


def _touched(part: ast.AST) -> Iterator[str]:
    if isinstance(part, _PLACES) and not isinstance(part.ctx, ast.Load):
        yield _base(part)
    elif isinstance(part, ast.Expr) and isinstance(part.value, ast.Call):
        yield _changed(part.value)


def _changed(call: ast.Call) -> str:
    """`TABLE` of `TABLE.append(1)` and of `setattr(TABLE, "rows", 1)`; empty for other calls."""
    if isinstance(call.func, ast.Attribute):
        return _base(call.func)
    sets = isinstance(call.func, ast.Name) and call.func.id == "setattr" and call.args
    return _base(call.args[0]) if sets else ""


def _base(node: ast.AST) -> str:
    """`TABLE` of `TABLE.rows[0].append`; empty where no name stands at the start."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


class Program:
    """The statements of a whole notebook, in order, with who binds which name."""

    def __init__(self, statements: Sequence[Statement]) -> None:
        self.statements = tuple(statements)
        self._binders: dict[str, list[int]] = defaultdict(list)
        self._touchers: dict[str, list[int]] = defaultdict(list)
        self._ends = {statement.cell: place for place, statement in enumerate(self.statements)}
        for place, statement in enumerate(self.statements):
            for name in statement.binds:
                self._binders[name].append(place)
            for name in statement.touches:
                self._touchers[name].append(place)

    def binders(self, name: str) -> list[int]:
        """Places of the statements that bind a name."""
        return self._binders.get(name, [])

    def end_of_cell(self, place: int) -> int:
        """Place of the last statement in the same cell."""
        return self._ends[self.statements[place].cell]

    def needed(
        self, places: Iterable[int], end: int, without: frozenset[int] = frozenset(), most: int = MAX_SIZE
    ) -> list[int]:
        """Places of all statements that these ones need, themselves included, in the order in which to run them.

        A name that several statements bind takes them all, up to `end`; one that nothing binds up to there is looked
        for behind it, and what is found there comes first.

        Args:
            places: where to start.
            end: the last statement that has been run when the answer is called.
            without: statements that are never taken.
            most: how large they may be together.

        Raises:
            TooMuchCode: they are too many, or too large.
        """
        kept: set[int] = set()
        size = 0
        seen: set[str] = set()
        waiting = [*places, *_up_to(self.binders(ALL), end)]
        while waiting:
            place = waiting.pop()
            if place in kept or place in without:
                continue
            size += self.statements[place].size
            if size > most:
                raise TooMuchCode
            try:
                names = self.statements[place].reads
            except SyntaxError:
                continue
            kept.add(place)
            for name in names - seen:
                seen.add(name)
                waiting += self._suppliers(name, end)
        return sorted(kept, key=lambda place: (not self.statements[place].given, place <= end, place))

    def _suppliers(self, name: str, end: int) -> list[int]:
        binders = self.binders(name)
        early = _up_to(binders, end)
        if not early and hasattr(builtins, name):
            return []
        found = early or binders
        if all(self.statements[place].is_import for place in found):
            return found
        touchers = self._touchers.get(name, [])
        return found + (_up_to(touchers, end) if early else touchers)


def _up_to(places: list[int], end: int) -> list[int]:
    """Those of some places, in order, that are not behind the end."""
    return places[: bisect_right(places, end)]


def shown(text: str, tree: ast.Module, keep: set[int]) -> str:
    """A cell's text with its unneeded statements blanked out: lines and columns of the others stay where they were.

    Args:
        text: the cell.
        tree: its syntax tree.
        keep: numbers of the statements in `tree.body` that stay.
    """
    lines = [bytearray(line.encode()) for line in text.split("\n")]
    for number, node in enumerate(tree.body):
        if number not in keep:
            _blank(lines, node)
    return "\n".join(line.decode() for line in lines).rstrip() + "\n"


def first_line(node: ast.stmt) -> int:
    """Where a statement begins, its decorators included."""
    decorators = getattr(node, "decorator_list", ())
    return decorators[0].lineno if decorators else node.lineno


def _blank(lines: list[bytearray], node: ast.stmt) -> None:
    """Leave `0` of a statement, which runs anywhere: between semicolons too."""
    first, start = first_line(node), 0 if getattr(node, "decorator_list", ()) else node.col_offset
    for number in range(first, node.end_lineno + 1):
        line = lines[number - 1]
        left = start if number == first else 0
        right = node.end_col_offset if number == node.end_lineno else len(line)
        line[left:right] = b" " * (right - left)
    lines[first - 1][start : start + 1] = b"0"
