"""Check that the answers, specifications, checks and hints of a solution source belong together."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from tools.nb_blocks import numbered, walk
from tools.nb_index import HEADING
from tools.nb_source import Cell, Report, Source, parse_code


@dataclass(frozen=True)
class Call:
    """`check("3.1", function)`, `hint("3.1")`, `solution("3.1")` or `exercise("3.1", title, function, ...)`."""

    name: str
    exercise: str
    function: str  # empty where none is named
    line: int
    cell: Cell


def check_exercises(source: Source, report: Report) -> list[Call]:
    """Report what does not belong together in one solution source; return the calls that register its exercises."""
    defined = _functions(source, report)
    calls = [call for cell in source.cells if cell.kind == "code" for call in _calls(cell, source.path, report)]
    specs = [call for call in calls if call.name == "exercise"]
    shown = [call for call in calls if call.name != "exercise" and _is_shown(call.cell)]
    checks = {call.exercise: call for call in shown if call.name == "check"}
    for call in specs:
        if not call.cell.has("spec"):
            report.add(source.path, call.line, f"exercise {call.exercise!r} is registered outside a cell tagged spec")
        if call.exercise not in checks:
            report.add(source.path, call.line, f"no untagged cell has check({call.exercise!r}, ...)")
    _check_functions(source.path, specs, checks, defined, report)
    _check_shown(source.path, specs, shown, report)
    _check_explanations(source, report)
    return specs


def _is_shown(cell: Cell) -> bool:
    return not any(cell.has(tag) for tag in ("answer", "spec", "solution-only"))


def _functions(source: Source, report: Report) -> set[str]:
    """Names of the functions that answer cells define; each may be defined once in the file."""
    first: dict[str, tuple[int, bool]] = {}
    for cell in source.cells:
        for name, line in _defined(cell):
            if name in first and (cell.has("answer") or first[name][1]):
                text = f"function {name!r} is defined already, in line {first[name][0]}: the check would find only one"
                report.add(source.path, line, text)
            first.setdefault(name, (line, cell.has("answer")))
        if cell.has("answer") and not any(_defined(cell)):
            report.add(source.path, cell.line, "an answer cell must define a function")
    return {name for name, (_line, is_answer) in first.items() if is_answer}


def _defined(cell: Cell) -> list[tuple[str, int]]:
    tree = parse_code(cell.source, cell.line, "", Report()) if cell.kind == "code" else None
    nodes = tree.body if tree else []
    return [(node.name, cell.line + node.lineno - 1) for node in nodes if isinstance(node, ast.FunctionDef)]


def _check_functions(path: str, specs: list[Call], checks: dict[str, Call], defined: set[str], report: Report) -> None:
    for call in specs:
        check = checks.get(call.exercise)
        for user in (call, check) if check else (call,):
            if user.function and user.function not in defined:
                report.add(path, user.line, f"exercise {call.exercise!r}: no answer cell defines {user.function!r}")
        if check and call.function and check.function and check.function != call.function:
            text = f"exercise {call.exercise!r} checks {check.function!r}, but its spec cell names {call.function!r}"
            report.add(path, check.line, text)


def _check_shown(path: str, specs: list[Call], shown: list[Call], report: Report) -> None:
    """Every check, hint and solution needs an exercise, and an exercise has one check."""
    seen: dict[str, int] = {}
    for call in shown:
        if call.exercise not in {spec.exercise for spec in specs}:
            report.add(path, call.line, f"{call.name}({call.exercise!r}) without a spec cell that registers it")
        if call.name == "check" and call.exercise in seen:
            report.add(path, call.line, f"exercise {call.exercise!r} is checked already, in line {seen[call.exercise]}")
        if call.name == "check":
            seen.setdefault(call.exercise, call.line)


def _check_explanations(source: Source, report: Report) -> None:
    """A heading inside solution-only text is most likely the next prompt, which the exercise would then lack."""
    text = "a heading inside a solution-only cell: is a '+++' missing before it?"
    for cell in source.cells:
        if cell.kind == "markdown" and cell.has("solution-only"):
            blocks = [block for block in walk(numbered(cell.source, cell.line)) if block.kind == "text"]
            lines = [line for block in blocks for line in block.lines]
            for line in lines[1:]:
                if HEADING.match(line.text):
                    report.add(source.path, line.number, text)


def report_duplicates(specs: list[tuple[str, Call]], report: Report) -> None:
    """Report exercise ids that several spec cells register; `specs` pairs each with the path of its source."""
    first: dict[str, str] = {}
    for path, call in specs:
        if call.exercise in first:
            report.add(path, call.line, f"duplicate exercise id {call.exercise!r}, first in {first[call.exercise]}")
        first.setdefault(call.exercise, f"{path}:{call.line}")


def _calls(cell: Cell, path: str, report: Report) -> Iterator[Call]:
    quiet = cell.has("raises-exception")
    tree = parse_code(cell.source, cell.line, path, Report() if quiet else report)
    for node in ast.walk(tree) if tree else ():
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        name, line = node.func.id, cell.line + node.lineno - 1
        if name not in ("check", "hint", "solution", "exercise"):
            continue
        first = node.args[0] if node.args else None
        if not isinstance(first, ast.Constant) or not isinstance(first.value, str):
            report.add(path, line, f'{name}(...) must be given the exercise as text, as in {name}("3.1", ...)')
            continue
        place = 2 if name == "exercise" else 1
        given = node.args[place] if len(node.args) > place else None
        yield Call(name, first.value, given.id if isinstance(given, ast.Name) else "", line, cell)
