"""Notebook code that is no Python: `%magic`, `!shell`, `help?`. Such lines are left out, and listed.

What stands behind `%time` is Python, and stays.
"""

from __future__ import annotations

import ast
import re
import sys
from dataclasses import dataclass

from course_lib.grader.reading import parse, parse_strictly

READER = f"Python {sys.version_info[0]}.{sys.version_info[1]}"  # a learner's own may know newer syntax
MAX_TRIES = 20
MAX_PARSED = 2_000_000  # characters, in all tries
_LINE = re.compile(r"[%!?].*|[\w., ()\[\]*'\"]+\?{1,2}|[\w, ]+=\s*[%!].*")
_TIMED = re.compile(r"((?:[\w, ]+=\s*)?)%time[ \t]+(.+)")  # and what it times, which does run
_CELL = re.compile(r"^%%(\w*)")
_RUNS_PYTHON = {
    "time",
    "timeit",
    "capture",
    "prun",
    "memit",
    "mprun",
    "px",
    "debug",
    "heat",
    "ipytest",
    "python",
    "python3",
}


@dataclass(frozen=True)
class Code:
    """A cell as Python.

    Attributes:
        text: the code, with `pass` in place of what was left out, so that lines keep their numbers.
        tree: None where the code is not Python.
        problem: then what Python says.
        skipped: the lines that were left out.
    """

    text: str
    tree: ast.Module | None
    problem: str = ""
    skipped: tuple[str, ...] = ()


def without_magics(code: str) -> Code:
    """Parse a cell; where it is not Python, leave out the lines that only a notebook understands."""
    lines = code.split("\n")
    first = next((number for number, line in enumerate(lines) if line.strip()), 0)
    magic = _CELL.match(lines[first])
    skipped = [lines[first].strip()] if magic else []
    if magic and magic[1] not in _RUNS_PYTHON:
        return Code("", ast.Module(body=[], type_ignores=[]), skipped=tuple(skipped))
    if magic:
        lines[first] = ""
    tries = max(2, min(MAX_TRIES, MAX_PARSED // (len(code) or 1)))  # fewer for a cell that is large
    for attempt in range(tries + 1):
        try:
            return Code("\n".join(lines), parse_strictly("\n".join(lines)), skipped=tuple(skipped))
        except SyntaxError as error:
            problem = error
        left_out = _leave_out(lines, problem.lineno, everywhere=attempt == tries - 1)
        if not left_out:
            break
        skipped += left_out
    return Code("\n".join(lines), None, _describe(problem), tuple(skipped))


def _leave_out(lines: list[str], number: int | None, everywhere: bool) -> list[str]:
    """Put `pass` for the magic in the line that Python stumbled over, or for all; returns what was there."""
    places = range(len(lines)) if everywhere else [(number or 0) - 1]
    found = []
    for place in places:
        if 0 <= place < len(lines) and _LINE.fullmatch(lines[place].strip()):
            found.append("%time" if _keep_timed(lines, place) else _take_out(lines, place))
    return found


def _keep_timed(lines: list[str], place: int) -> bool:
    """Leave `x = 1` of `%time x = 1` in a line; False where that is not possible, and nothing is changed."""
    text = lines[place].strip()
    timed = _TIMED.fullmatch(text)
    if not timed or parse(timed[1] + timed[2]) is None:
        return False
    lines[place] = lines[place][: -len(lines[place].lstrip())] + timed[1] + timed[2]
    return True


def _take_out(lines: list[str], place: int) -> str:
    """Put `pass` for the magic in a line, and nothing for the lines that go on with it; returns what was there."""
    end = place + 1
    while lines[end - 1].endswith("\\") and end < len(lines):
        end += 1
    taken, indent = lines[place:end], len(lines[place]) - len(lines[place].lstrip())
    lines[place:end] = [lines[place][:indent] + "pass", *[""] * (end - place - 1)]
    return " ".join(line.removesuffix("\\").strip() for line in taken)


def _describe(error: SyntaxError) -> str:
    where = f" in line {error.lineno}" if error.lineno else ""
    return f"syntax error{where}: {error.msg}, as {READER} reads it"
