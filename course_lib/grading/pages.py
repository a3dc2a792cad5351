"""Reads a solution source as a learner's page: its Markdown and code in order, its exercises, their answers.

Nothing of the source is run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from course_lib.grading.source import exercise_ids, fenced_blocks, read_cell

_TITLE = re.compile(r"^# (?:Solutions \d+: )?(.+)$", re.MULTILINE)
_HEADING = re.compile(r"^## (\d+\.\d+) (.+)$", re.MULTILINE)
_FACTS = re.compile(r"^\*Difficulty (\d) of 5, about (\d+) minutes\.\*$", re.MULTILINE)
_MARKER = re.compile(r"^ *### (BEGIN|END) SOLUTION *$")


@dataclass(frozen=True)
class Piece:
    """Some Markdown, or a code cell. A heading of the second level opens a new piece."""

    kind: str
    tags: frozenset[str]
    text: str

    @property
    def exercise(self) -> str:
        """The id of the exercise that this piece opens, or empty."""
        match = _HEADING.match(self.text) if self.kind == "markdown" else None
        return match[1] if match else ""


@dataclass(frozen=True)
class Listed:
    """What a source says of an exercise without being run."""

    id: str
    title: str
    minutes: int


@dataclass(frozen=True)
class Page:
    """The exercises of one chapter."""

    path: Path
    title: str
    exercises: tuple[Listed, ...]

    @property
    def chapter(self) -> int:
        """The number of the chapter."""
        return int(self.path.stem.partition("_")[0])


def read_pages(folder: Path) -> list[Page]:
    """All sources of a folder that register exercises, by chapter."""
    return [page for path in sorted(folder.glob("[0-9]*_*.md")) if (page := _page(path)).exercises]


def _page(path: Path) -> Page:
    text = path.read_text(encoding="utf-8")
    title = _TITLE.search(text)
    known = set(exercise_ids(text))
    listed = [_listed(piece) for piece in pieces(text) if piece.exercise in known]
    name = title[1] if title else path.stem
    return Page(path, name[:1].upper() + name[1:], tuple(listed))


def _listed(piece: Piece) -> Listed:
    number, title = _HEADING.match(piece.text).groups()
    facts = _FACTS.search(piece.text)
    return Listed(number, title.strip(), int(facts[2]) if facts else 0)


def pieces(text: str) -> list[Piece]:
    """The Markdown and the code cells of a MyST notebook in order, without its header; empty pieces left out."""
    found, lines, tags = [], [], frozenset()
    for kind, content, marked in _lines_and_cells(text):
        if kind == "line" and not (content.startswith("## ") and lines):
            lines.append(content)
            continue
        found.append(Piece("markdown", tags, "\n".join(lines).strip()))
        lines = [content] if kind == "line" else []
        tags = tags if kind == "line" else marked
        if kind == "code":
            found.append(Piece("code", marked, content))
            tags = frozenset()
    found.append(Piece("markdown", tags, "\n".join(lines).strip()))
    return [piece for piece in found if piece.text]


def _lines_and_cells(text: str) -> Iterator[tuple[str, str, frozenset[str]]]:
    """("line", text, no tags), ("break", "", tags of what follows) and ("code", code, tags), in order.

    A fenced block that is no cell comes as one "line", so that nothing in it counts as a heading or a break.
    """
    lines = text.splitlines()
    blocks = {start - 1: (info, body, start) for info, body, start in fenced_blocks(text)}
    number = lines.index("---", 1) + 2 if lines[:1] == ["---"] else 1
    while number <= len(lines):
        info, body, start = blocks.get(number, ("", [], number))
        end = start + len(body)  # the number of the closing fence; without a block, of this line
        if info.startswith("{code-cell}"):
            cell = read_cell(body, start)
            yield "code", cell.code.strip("\n"), cell.tags
        elif lines[number - 1].startswith("+++"):
            yield "break", "", _tags_of_break(lines[number - 1])
        else:
            yield "line", "\n".join(lines[number - 1 : end]), frozenset()
        number = end + 1


def _tags_of_break(line: str) -> frozenset[str]:
    options = line.removeprefix("+++").strip()
    return frozenset(json.loads(options).get("tags", ())) if options else frozenset()


def section(text: str, exercise_id: str) -> list[Piece]:
    """The pieces of one exercise, from its heading to the next heading of the same level."""
    found: list[Piece] = []
    for piece in pieces(text):
        opens = piece.kind == "markdown" and piece.text.startswith("## ")
        if found and opens:
            break
        if found or piece.exercise == exercise_id:
            found.append(piece)
    return found


def answer_of(text: str, exercise_id: str) -> str:
    """The code of the answer cell of an exercise, without its markers."""
    cells = [piece.text for piece in section(text, exercise_id) if "answer" in piece.tags]
    return "\n\n\n".join(_without_markers(cell) for cell in cells)


def _without_markers(code: str) -> str:
    return "\n".join(line for line in code.splitlines() if not _MARKER.match(line))


def explanation_of(text: str, exercise_id: str) -> str:
    """Why the answer is the answer: the text that only readers of the solution see."""
    shown = [piece for piece in section(text, exercise_id) if "solution-only" in piece.tags]
    return "\n\n".join(piece.text for piece in shown if piece.kind == "markdown")


def as_stub(code: str) -> str:
    """An answer cell as a learner gets it: between the markers only a line that says so."""
    kept, hidden = [], False
    for line in code.splitlines():
        marker = _MARKER.match(line)
        if marker and marker[1] == "BEGIN":
            indent = line[: len(line) - len(line.lstrip())]
            kept.append(f'{indent}raise NotImplementedError("your code here")')
        hidden = marker[1] == "BEGIN" if marker else hidden
        if not marker and not hidden:
            kept.append(line)
    return "\n".join(kept)
