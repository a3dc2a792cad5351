"""Cut the answers out of a solution source, and make sure that none is left in the exercise."""

from __future__ import annotations

import re
from dataclasses import replace

from tools.nb_blocks import Line, numbered
from tools.nb_source import HIDING_TAGS, Cell, Report, Source, parse_code

STUB = 'raise NotImplementedError("your code here")'
MARKER = re.compile(r"^(?P<indent> *)### (?P<edge>BEGIN|END) SOLUTION$")
LIKE_A_MARKER = re.compile(r"\b(begin|end)[\s_-]*solution", re.IGNORECASE)
TRIVIAL = 20  # characters: a shorter line gives nothing away


def cut_answers(source: Source, report: Report) -> list[Line]:
    """Give every answer cell its stub, in place; return the lines of code that were cut out."""
    hidden: list[Line] = []
    for position, cell in enumerate(source.cells):
        if cell.has("answer") and cell.kind == "code":
            stub, answer = _cut(cell, source.path, report)
            source.cells[position] = replace(cell, stub=stub)
            hidden += answer
            parse_code(stub, cell.line, source.path, report, "without its answer this cell is not valid Python")
        else:
            _report_markers(cell, source.path, report)
    return hidden


def _cut(cell: Cell, path: str, report: Report) -> tuple[str, list[Line]]:
    """The cell with a stub in place of what stands between the markers, and those lines."""
    kept: list[str] = []
    answer: list[Line] = []
    opened: Line | None = None
    regions = before = 0  # pairs of markers so far; lines cut before the pair that is open
    for line in numbered(cell.source, cell.line):
        marker = MARKER.match(line.text.rstrip())
        if marker is None:
            is_first = not any(part.text.strip() for part in answer[before:])
            _check_line(line, opened, is_first, path, report)
            if opened:
                answer.append(line)
            else:
                kept.append(line.text)
        elif marker["edge"] == "BEGIN":
            _check_begin(line, opened, path, report)
            opened, regions, before = line, regions + 1, len(answer)
            kept.append(marker["indent"] + STUB)
        else:
            _check_end(line, opened, path, report)
            if opened and not any(part.text.strip() for part in answer[before:]):
                report.add(path, opened.number, "nothing stands between the markers")
            opened = None
    if opened:
        report.add(path, opened.number, "'### BEGIN SOLUTION' without '### END SOLUTION' in this cell")
    if not regions:
        report.add(path, cell.line, "an answer cell needs '### BEGIN SOLUTION' and '### END SOLUTION'")
    return "\n".join(kept), answer


def _indent(line: Line) -> int:
    return len(line.text) - len(line.text.lstrip())


def _check_line(line: Line, opened: Line | None, is_first: bool, path: str, report: Report) -> None:
    """An answer starts in the column of its markers and never goes left of it: there the stub will stand."""
    if LIKE_A_MARKER.search(line.text):
        report.add(path, line.number, f"misspelt marker {line.text.strip()!r}: a line of its own, '### BEGIN SOLUTION'")
    elif opened and line.text.strip() and not _fits(line, opened, is_first):
        report.add(path, line.number, f"misindented: not in the column of its marker in line {opened.number}")


def _fits(line: Line, opened: Line, is_first: bool) -> bool:
    return _indent(line) == _indent(opened) if is_first else _indent(line) >= _indent(opened)


def _check_begin(line: Line, opened: Line | None, path: str, report: Report) -> None:
    if opened:
        report.add(path, line.number, f"nested marker: '### BEGIN SOLUTION' of line {opened.number} is still open")
    if not _indent(line):
        text = "a marker outside of a function: an untouched exercise would stop here; put the answer into a function"
        report.add(path, line.number, text)


def _check_end(line: Line, opened: Line | None, path: str, report: Report) -> None:
    if opened is None:
        report.add(path, line.number, "'### END SOLUTION' without '### BEGIN SOLUTION' before it")
    elif _indent(line) != _indent(opened):
        report.add(path, line.number, f"misindented marker: not in the column of its partner in line {opened.number}")


def _report_markers(cell: Cell, path: str, report: Report) -> None:
    """Markers anywhere but in an answer cell: nothing would be cut there."""
    for line in numbered(cell.source, cell.line):
        exact = MARKER.match(line.text.rstrip())
        if exact or (cell.kind == "code" and LIKE_A_MARKER.search(line.text)):
            report.add(path, line.number, f"marker {line.text.strip()!r} outside a cell tagged answer")


def exercise_cells(cells: list[Cell]) -> list[Cell]:
    """The cells a learner gets: stubs instead of answers, no specification, no explanation of the answer."""
    shown = [cell for cell in cells if not cell.has("spec") and not cell.has("solution-only")]
    return [_as_exercise(cell) for cell in shown]


def _as_exercise(cell: Cell) -> Cell:
    """A cell as a learner sees it: the title is that of exercises, and an answer is never folded away."""
    if cell.stub is None:
        return replace(cell, source=re.sub(r"\A# Solutions ", "# Exercises ", cell.source))
    return replace(cell, source=cell.stub, tags=tuple(tag for tag in cell.tags if tag not in HIDING_TAGS))


def report_leaks(source: Source, answers: list[Line], report: Report) -> None:
    """Report every line of an answer that the exercise notebook shows all the same.

    Short lines, comments, imports and lines that only open a block (`for ...:`) give nothing away.
    """
    cut = {line.number for line in answers}
    visible = [cell for cell in source.cells if not cell.has("spec") and not cell.has("solution-only")]
    shown = [line for cell in visible for line in numbered(cell.source, cell.line) if line.number not in cut]
    for answer in answers:
        wanted = " ".join(answer.text.split()).removeprefix("return ")
        if len(wanted) < TRIVIAL or wanted.startswith(("#", "import ", "from ")) or wanted.endswith(":"):
            continue
        for line in shown:
            if wanted in " ".join(line.text.split()):
                text = f"the exercise shows a line of the answer: {wanted} (if learners may see it, move line "
                report.add(source.path, line.number, f"{text}{answer.number} above its '### BEGIN SOLUTION')")
