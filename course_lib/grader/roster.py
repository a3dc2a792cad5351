"""Who is who: the rows of a grading matched with the people of an instructor's exported list, or told why not."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from course_lib.grader.layouts import named
from course_lib.grader.tally import Row

# Strongest first: a name is asked only where no number and no login decides.
_TIERS = (
    ("id", "identifier", "userid"),
    ("sis login id", "sis user id", "email address", "email", "username", "id number", "idnumber", "login"),
    ("student", "full name", "name", "first name last name"),
)


@dataclass(frozen=True)
class Table:
    """A CSV file: its header, and its lines as they stand."""

    header: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]

    def column(self, *names: str) -> int | None:
        """The place of the first column with one of these names, whatever its case; None without one."""
        folded = [title.strip().casefold() for title in self.header]
        return next((folded.index(name.casefold()) for name in names if name.casefold() in folded), None)


@dataclass(frozen=True)
class Matches:
    """Which rows belong to which line of the roster.

    Attributes:
        found: line number, from 0 -> its rows.
        missing: (row, why it belongs to nobody).
    """

    found: dict[int, list[Row]]
    missing: tuple[tuple[Row, str], ...]


def read_table(path: Path) -> Table:
    """Read a CSV file as Canvas and Moodle export it: UTF-8, with or without its mark, comma, semicolon or tab.

    Raises:
        ValueError: a file that is no such table.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"the roster must be a CSV file in UTF-8, and {path} cannot be read: {_why(error)}") from None
    first = text.partition("\n")[0]
    lines = list(csv.reader(text.splitlines(keepends=True), delimiter=max(",;\t", key=first.count)))
    if len(lines) < 2 or len(lines[0]) < 2:
        raise ValueError(f"the roster must have a header with columns and at least one person; {path} has not")
    width = len(lines[0])
    return Table(tuple(lines[0]), tuple(tuple((line + [""] * width)[:width]) for line in lines[1:] if line))


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__


def match(rows: Sequence[Row], table: Table) -> Matches:
    """Give every row to one person, by number, else by login or mail, else by name.

    A row that fits nobody or more than one person is in `missing`, and so are two rows of one assignment that fit the
    same person: which of them counts is not for a program to choose.
    """
    keys = [_keys_of_people(table, names) for names in _TIERS]
    return _once_each([(row, *_find(row, keys)) for row in rows], lambda line: _name(table, line))


def match_nobody(rows: Sequence[Row], title: str) -> tuple[Table, Matches]:
    """Without a roster: a table of the learners that the rows name, under one title, and their rows."""
    students = sorted({row["student"] for row in rows if row["student"]})
    lines = {student: line for line, student in enumerate(students)}
    tried = [(row, lines.get(row["student"]), "its file name does not say whose it is") for row in rows]
    table = Table((title,), tuple((student,) for student in students))
    return table, _once_each(tried, lambda line: students[line])


def _once_each(tried: Sequence[tuple[Row, int | None, str]], name: Callable[[int], str]) -> Matches:
    """Matches out of (row, line or None, why none), without rows of the same assignment and person."""
    twice = Counter((line, row["assignment"]) for row, line, _ in tried)
    found, missing = defaultdict(list), []
    for row, line, why in tried:
        if line is None:
            missing.append((row, why))
        elif twice[line, row["assignment"]] > 1:
            missing.append((row, f"another submission fits the same person, {name(line)}"))
        else:
            found[line].append(row)
    return Matches(dict(found), tuple(missing))


def _find(row: Row, keys: Sequence[dict[str, set[int]]]) -> tuple[int | None, str]:
    for place, people in enumerate(keys):
        wanted = _numbers(row) if place == 0 else [fold(row["student"])]
        lines = set().union(*(people.get(key, set()) for key in wanted if key))
        if len(lines) == 1:
            return lines.pop(), ""
        if lines:
            return None, f"it fits {len(lines)} people of the roster"
    return None, "nobody in the roster has this number, login, mail or name"


def _numbers(row: Row) -> list[str]:
    """The user's number in the name that the platform gave to a file or folder, if there is one, else the student.

    Of several names the outermost counts, and none below nbgrader's folders: the others are the learner's own.
    """
    by_nbgrader = row["assignment"] and f"/{row['student']}/{row['assignment']}/" in f"/{row['submission']}"
    parts = () if by_nbgrader else PurePosixPath(row["submission"].replace("!", "/")).parts
    export = next((found for part in parts if (found := named(part))), {})
    return [fold(export.get("number", row["student"]))]


def _keys_of_people(table: Table, names: Iterable[str]) -> dict[str, set[int]]:
    """Every way to name a person -> the lines that it names."""
    people = defaultdict(set)
    for column in [place for name in names if (place := table.column(name)) is not None]:
        for number, line in enumerate(table.lines):
            for key in _ways(line[column]):
                people[key].add(number)
    if "name" in names and None not in (places := (table.column("first name"), table.column("last name", "surname"))):
        for number, line in enumerate(table.lines):
            for key in _ways(f"{line[places[1]]}, {line[places[0]]}"):
                people[key].add(number)
    return people


def _ways(cell: str) -> set[str]:
    """A name in both orders, a mail also by what stands before the @, "Participant 12" also as 12."""
    last, comma, first = cell.partition(",")
    ways = {cell, f"{first} {last}", f"{last} {first}"} if comma else {cell}
    if "@" in cell:
        ways.add(cell.partition("@")[0])
    if number := re.fullmatch(r"\D+ (\d+)", cell.strip()):
        ways.add(number[1])
    return {fold(way) for way in ways} - {""}


def fold(text: str) -> str:
    """Letters and digits only, without case and accents, so that spellings of one name agree."""
    plain = unicodedata.normalize("NFKD", text).casefold()
    return "".join(letter for letter in plain if letter.isalnum())


def _name(table: Table, line: int) -> str:
    place = table.column("student", "full name", "name", "email address", "username")
    return table.lines[line][place or 0]
