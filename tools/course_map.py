"""Draw the map of the course, and the reading paths with their minutes, from what the chapters say of themselves.

The build writes both into `_build/assets`, where `course_map.md` takes them from.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from pathlib import Path

from tools.chapters import Chapter, read_chapters

WIDTH, ROW, BOX = 290, 58, 44  # of the boxes, from row to row, height of a box; a phone shows about a pixel a unit
LANE, TOP = 13, 8  # from lane to lane, margin above and below
COLOURS = ("layer-0", "layer-1", "copy")  # classes of book.css, for both themes
FALLBACK = {"layer-0": "#0069a5", "layer-1": "#b84a00", "copy": "#00704f"}


@dataclass(frozen=True)
class Way:
    """A way through the course."""

    name: str
    hours: float  # what the name promises
    chapters: tuple[int, ...]
    exercises: bool
    why: str
    then: str  # what you can do afterwards


PATHS = (
    Way(
        "2 hours",
        2,
        (0, 3, 4),
        False,
        "the circuit, built by hand",
        "Explain to a colleague what an induction head is, why it takes two layers, and show one at work.",
    ),
    Way(
        "1 day",
        8,
        (0, 1, 2, 3, 4, 5, 6, 8),
        False,
        "from the circuit to two of the six arguments",
        "Find induction heads in a model, read a training run, and tell a coincidence in time from a cause.",
    ),
    Way(
        "1 week",
        40,
        tuple(range(13)),
        True,
        "everything, with the exercises",
        "Reproduce all six arguments, judge how far each one reaches, and start a small project of your own.",
    ),
)


def write(root: Path, target: Path) -> None:
    """Write `course_map.svg` and `paths.md` into the folder `target`."""
    chapters = read_chapters(root)
    target.mkdir(parents=True, exist_ok=True)
    (target / "course_map.svg").write_text(drawing(chapters), encoding="utf-8")
    (target / "paths.md").write_text(paths_table(chapters), encoding="utf-8")


def paths_table(chapters: Iterable[Chapter]) -> str:
    """A Markdown table of the paths; minutes are the sums of the chapters' own."""
    known = {chapter.number: chapter for chapter in chapters}
    lines = ["| Path | Chapters | Minutes | Afterwards you can |", "|---|---|---|---|"]
    for path in PATHS:
        links = ", ".join(_link(known[number]) for number in path.chapters if number in known)
        minutes = f"{reading_minutes(path, known)}"
        if path.exercises:
            minutes += f", and {exercise_minutes(path, known)} of exercises"
        lines.append(f"| **{path.name}**: {path.why} | {links} | {minutes} | {path.then} |")
    return "\n".join(lines) + "\n"


def reading_minutes(path: Way, known: dict[int, Chapter]) -> int:
    """Minutes of the path's chapters, without exercises."""
    return sum(known[number].minutes for number in path.chapters if number in known)


def exercise_minutes(path: Way, known: dict[int, Chapter]) -> int:
    """Minutes of the exercises of the path's chapters."""
    return sum(known[number].exercise_minutes for number in path.chapters if number in known)


def _link(chapter: Chapter) -> str:
    return f"[{chapter.number}](chapters/{chapter.file}.md)"


def drawing(chapters: list[Chapter]) -> str:
    """The map as SVG: one box a chapter, from top to bottom, and on the left a line from what each one needs."""
    lines = [(source, chapter.number) for chapter in chapters for source in direct_needs(chapter, chapters)]
    rows = {chapter.number: row for row, chapter in enumerate(chapters)}
    placed = lanes(lines, rows)
    left = LANE * (max(placed.values(), default=0) + 1) + 12
    height = 2 * TOP + ROW * len(chapters) - (ROW - BOX)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + WIDTH} {height}" role="group" '
        'aria-labelledby="map-title map-text" font-family="inherit" font-size="14">',
        '  <title id="map-title">Map of the course</title>',
        f'  <desc id="map-text">{escape(description(chapters))}</desc>',
        *map(_marker, COLOURS),
        *(_line(rows[source], rows[target], left, placed.get(source)) for source, target in lines),
        *(_box(chapter, left, TOP + ROW * rows[chapter.number]) for chapter in chapters),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def description(chapters: list[Chapter]) -> str:
    """The map in words."""
    sentences = []
    for chapter in chapters:
        needs = ", ".join(map(str, chapter.needs)) or "no other chapter"
        sentences.append(f"Chapter {chapter.number}, {chapter.title}, needs {needs}.")
    return " ".join(sentences)


def direct_needs(chapter: Chapter, chapters: Iterable[Chapter]) -> list[int]:
    """What a chapter needs, without what follows from its other needs, and without chapters that are not there."""
    known = {other.number: other for other in chapters}
    needs = [number for number in chapter.needs if number in known]
    implied = set().union(*(all_needs(known[number], known) for number in needs))
    return [number for number in needs if number not in implied]


def all_needs(chapter: Chapter, known: dict[int, Chapter]) -> set[int]:
    """Numbers of all chapters that must be read before this one."""
    found = {number for number in chapter.needs if number in known}
    return found.union(*(all_needs(known[number], known) for number in found))


def lanes(lines: list[tuple[int, int]], rows: dict[int, int]) -> dict[int, int]:
    """A lane for each chapter whose lines reach further than the next row; lines in one lane do not meet."""
    spans: dict[int, tuple[int, int]] = {}
    for source, target in lines:
        if rows[target] > rows[source] + 1:
            last = max(rows[target], spans.get(source, (0, 0))[1])
            spans[source] = (rows[source], last)
    found: dict[int, int] = {}
    for source in sorted(spans, key=lambda source: (spans[source][1] - spans[source][0], source)):
        found[source] = next(lane for lane in range(len(spans)) if _is_free(lane, source, found, spans))
    return found


def _is_free(lane: int, source: int, found: dict[int, int], spans: dict[int, tuple[int, int]]) -> bool:
    first, last = spans[source]
    others = (spans[other] for other, used in found.items() if used == lane)
    return all(last < start or end < first for start, end in others)


def _line(start: int, end: int, left: int, lane: int | None) -> str:
    """From row to row: straight to the next one, through a lane to one further down."""
    if end == start + 1:
        colour, shape = COLOURS[0], f"M{left + 24} {TOP + ROW * start + BOX} V{TOP + ROW * end - 2}"
    else:
        x, top, bottom = left - 12 - LANE * lane, TOP + ROW * start + BOX - 12, TOP + ROW * end + 12
        colour = COLOURS[lane % len(COLOURS)]
        down = f"Q{x} {top} {x} {top + 6} V{bottom - 6} Q{x} {bottom} {x + 6} {bottom}"
        shape = f"M{left} {top} H{x + 6} {down} H{left - 2}"
    return (
        f'  <path class="{colour}" stroke="{FALLBACK[colour]}" fill="none" stroke-width="1.8" '
        f'marker-end="url(#map-{colour})" d="{shape}"/>'
    )


def _marker(colour: str) -> str:
    return (
        f'  <marker id="map-{colour}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="5" markerHeight="5" '
        f'orient="auto"><path class="fill-{colour}" fill="{FALLBACK[colour]}" d="M0 0 L8 4 L0 8 z"/></marker>'
    )


def _box(chapter: Chapter, left: int, y: int) -> str:
    """A box with the title, the minutes and the argument; all of it is the link to the chapter."""
    note = f"{chapter.minutes} minutes" + (f", argument {chapter.argument}" if chapter.argument else "")
    edge = 3 if chapter.argument else 1.2
    return (
        f'  <a href="{chapter.page}" aria-label="Chapter {chapter.number}: {escape(chapter.title)}">'
        f'<rect x="{left}" y="{y}" width="{WIDTH - 4}" height="{BOX}" rx="6" fill="#88888814" '
        f'stroke="currentColor" stroke-width="{edge}"/>'
        f'<text x="{left + 12}" y="{y + 19}" fill="currentColor" font-weight="600">'
        f"{chapter.number}. {escape(chapter.short_title)}</text>"
        f'<text x="{left + 12}" y="{y + 36}" fill="currentColor" font-size="12.5">{note}</text></a>'
    )
