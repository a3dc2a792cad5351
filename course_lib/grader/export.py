"""Points for the grade books of Canvas and Moodle, as CSV files that no spreadsheet takes for a program.

A row that cannot be placed is told, never dropped silently; a fault of the grader is an empty cell, never a zero.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from course_lib.grader.roster import Matches, Table, match, match_nobody, read_table
from course_lib.grader.states import look, number
from course_lib.grader.tables import NUMBER, formula_safe, one_line
from course_lib.grader.tally import Row
from course_lib.recorded import write_whole

ID_COLUMNS = {"username": "Username", "email": "Email address", "idnumber": "ID number"}
_CANVAS_PEOPLE = ("Student", "ID", "SIS User ID", "SIS Login ID", "Root Account", "Integration ID", "Section")
_MOODLE_PEOPLE = ("Identifier", "Full name", "First name", "Last name", "Surname", *ID_COLUMNS.values())
_UNNAMED = "Exercises"  # the title of an assignment that the layout of the submissions does not name
_SHORT = 300  # characters of feedback on one exercise


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        written: how many grades.
        unplaced: sentences on the rows that are not in the file, one a row.
        notes: what else a person should know.
    """

    path: Path
    written: int
    unplaced: tuple[str, ...]
    notes: tuple[str, ...] = ()


def canvas(rows: Sequence[Row], out: Path, roster: Path, column: str = "") -> Exported:
    """The grade book that an instructor exported from Canvas, with the points filled in.

    Args:
        rows: as in results.jsonl.
        out: the file to write.
        roster: the CSV file that Canvas exported.
        column: header of the column to fill, as it stands in the roster; by default one with the assignment's name,
            which Canvas makes into a new assignment if it has none.

    Raises:
        ValueError: a roster that is no grade book of Canvas, or has no such column.
    """
    table = read_table(roster)
    if table.column("Student") is None or table.column("ID") is None:
        raise ValueError(f"the roster must be a grade book exported from Canvas, with Student and ID; got {roster}")
    titles = _canvas_titles(table, _assignments(rows), column)
    ready, failed = _graded(rows)
    matches = match(ready, table)
    people = _columns(table, _CANVAS_PEOPLE)
    lines = [[*(table.header[place] for place in people), *titles.values()]]
    for place, line in enumerate(table.lines):
        cells = _canvas_cells(table, line, matches.found.get(place, []), rows, titles)
        lines.append([*(line[column] for column in people), *cells])
    return _write(out, lines, matches, failed, _other_totals(table, rows, titles))


def _canvas_titles(table: Table, assignments: Sequence[str], column: str) -> dict[str, str]:
    """Assignment -> header of its column: the roster's own, "hw1 (123)", where there is one, else the name."""
    if column and column not in table.header:
        raise ValueError(f"--column must be one of the roster's: {', '.join(table.header)}; got {column}")
    if column and len(assignments) > 1:
        raise ValueError(f"--column takes the points of one assignment; there are {', '.join(assignments)}")
    known = {re.sub(r" \(\d+\)$", "", title).casefold(): title for title in reversed(table.header)}
    return {name: column or known.get(name.casefold(), name) for name in assignments}


def _canvas_cells(
    table: Table, line: tuple[str, ...], own: Sequence[Row], rows: Sequence[Row], titles: dict[str, str]
) -> list[str]:
    if _has_totals(table, line):
        return [number(_most(rows, name)) for name in titles]
    points = {_assignment(row): number(row["score"]) for row in own}
    return [points.get(name, "") for name in titles]


def _has_totals(table: Table, line: tuple[str, ...]) -> bool:
    return line[table.column("Student") or 0].strip().casefold() == "points possible"


def _other_totals(table: Table, rows: Sequence[Row], titles: dict[str, str]) -> tuple[str, ...]:
    """A sentence for every column of the roster that has another total than the grader."""
    totals = next((line for line in table.lines if _has_totals(table, line)), ("",) * len(table.header))
    there = {name: totals[table.header.index(title)] for name, title in titles.items() if title in table.header}
    return tuple(
        f"{titles[name]} has {found} points in Canvas, here up to {number(_most(rows, name))}: the points are as here."
        for name, found in there.items()
        if NUMBER.fullmatch(found.strip()) and float(found) != _most(rows, name)
    )


def moodle(rows: Sequence[Row], out: Path, roster: Path | None = None, id_column: str = "username") -> Exported:
    """A file for Moodle's import of grades as CSV: who, points, feedback; two columns for each assignment.

    Args:
        rows: as in results.jsonl.
        out: the file to write.
        roster: a grading worksheet or a list of participants, exported from Moodle as CSV. Without one each row's
            learner stands in a column of its own.
        id_column: what that column is in Moodle: "username", "email" or "idnumber".

    Raises:
        ValueError: a roster without a column that names people, an unknown `id_column`.
    """
    if id_column not in ID_COLUMNS:
        raise ValueError(f"--id must be one of {', '.join(ID_COLUMNS)}; got {id_column}")
    ready, failed = _graded(rows)
    if roster is None:
        table, matches = match_nobody(ready, ID_COLUMNS[id_column])
    else:
        table = read_table(roster)
        matches = match(ready, table)
    people, names = _columns(table, _MOODLE_PEOPLE), _assignments(rows)
    if not people:
        raise ValueError(f"the roster must have one of the columns {', '.join(_MOODLE_PEOPLE)}; got {roster}")
    titles = [title for name in names for title in (name, f"{name} feedback")]
    lines = [[*(table.header[place] for place in people), *titles]]
    for place, own in sorted(matches.found.items()):
        lines.append([*(table.lines[place][column] for column in people), *_moodle_cells(own, names)])
    return _write(out, lines, matches, failed)


def _moodle_cells(own: Sequence[Row], names: Sequence[str]) -> list[str]:
    cells = {_assignment(row): (number(row["score"]), feedback(row)) for row in own}
    return [cell for name in names for cell in cells.get(name, ("", ""))]


def feedback(row: Row) -> str:
    """One line on each exercise that did not pass, escaped: Moodle shows feedback as HTML."""
    parts = [f"{number(row['score'])} of {number(row['max_score'])} points.", *map(str, row["problems"])]
    for one in row["exercises"]:
        if one["state"] != "ok":
            message = " ".join(one["message"].split())
            cut = message if len(message) <= _SHORT else message[: _SHORT - 3] + "..."
            parts.append(f"{one['id']} {one['title']}: {look(one['state']).word}. {cut}".strip())
    return escape(" | ".join(" ".join(part.split()) for part in parts), quote=False)


def _points(row: Row) -> str:
    return "no points" if row["score"] is None else f"{number(row['score'])} points"


def _assignment(row: Row) -> str:
    return row["assignment"] or _UNNAMED


def _assignments(rows: Sequence[Row]) -> list[str]:
    return sorted({_assignment(row) for row in rows})


def _most(rows: Sequence[Row], assignment: str) -> float | int:
    return max(row["max_score"] for row in rows if _assignment(row) == assignment)


def _columns(table: Table, names: Sequence[str]) -> list[int]:
    return [place for name in names if (place := table.column(name)) is not None]


def _graded(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Rows that the grader finished, and those in which it failed."""
    failed = [row for row in rows if "grader_error" in (row["state"], *(one["state"] for one in row["exercises"]))]
    return [row for row in rows if row not in failed], failed


def _write(
    out: Path, lines: Sequence[Sequence[str]], matches: Matches, failed: Sequence[Row], notes: tuple[str, ...] = ()
) -> Exported:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows([formula_safe(one_line(cell)) for cell in line] for line in lines)
    write_whole(out, text.getvalue().encode("utf-8", "replace"))
    unplaced = [(row, why) for row, why in matches.missing] + [(row, "the grader failed on it") for row in failed]
    told = sorted(f"{row['submission']} ({_points(row)}): {why}." for row, why in unplaced)
    return Exported(out, sum(map(len, matches.found.values())), tuple(told), notes)
