"""What a chapter says of itself: number, title, minutes and the chapters that it needs; and minutes of exercises."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ARGUMENTS = {6: 1, 7: 2, 8: 3, 9: 4, 10: 5, 11: 6}  # chapter -> argument of the paper that it reproduces
ARGUMENT = re.compile(r"\s*\(argument \d\)$")

FILE = re.compile(r"(\d\d)_\w+\.md")
TITLE = re.compile(r"^# (.+)$", re.M)
TIME = re.compile(r"\*\*Time\*\*: (?:about )?(\d+) minutes")
NEED = re.compile(r"\*\*You need\*\*:(.*?)^`{3,}|\*\*You need\*\*:(.*?)^:{3,}", re.M | re.S)
LINK = re.compile(r"\b(\d\d)_[a-z]\w*")
EXERCISE_TIME = re.compile(r"^ +minutes=(\d+),$", re.M)


@dataclass(frozen=True)
class Chapter:
    """One chapter, as its source describes it."""

    number: int
    file: str  # 03_previous_token_head
    title: str
    minutes: int
    needs: tuple[int, ...]  # numbers of the chapters named in its line "You need"
    exercise_minutes: int  # 0 where it has no exercises

    @property
    def argument(self) -> int | None:
        """Which of the paper's six arguments it reproduces."""
        return ARGUMENTS.get(self.number)

    @property
    def short_title(self) -> str:
        """The title up to a colon."""
        return self.title.partition(":")[0]

    @property
    def page(self) -> str:
        """Its page in the book, seen from the root."""
        return f"chapters/{self.file}.html"


def read_chapters(root: Path) -> list[Chapter]:
    """All chapters under `root`, in order. Raises ValueError with every chapter whose head cannot be read."""
    files = sorted(path for path in (root / "chapters").glob("*.md") if FILE.fullmatch(path.name))
    chapters, problems = [], []
    for path in files:
        solutions = root / "solutions" / path.name
        exercises = solutions.read_text(encoding="utf-8") if solutions.exists() else ""
        try:
            chapters.append(read_chapter(path.stem, path.read_text(encoding="utf-8"), exercises))
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ValueError("\n".join(problems))
    return chapters


def read_chapter(file: str, text: str, exercises: str = "") -> Chapter:
    """The chapter `file` from its source and from the source of its exercises."""
    title, time, need = TITLE.search(text), TIME.search(text), NEED.search(text)
    for what, found in (("title", title), ("'**Time**: N minutes'", time), ("'**You need**:' in its goals", need)):
        if not found:
            raise ValueError(f"chapters/{file}.md has no {what}")
    number = int(file[:2])
    needs = sorted({int(link) for link in LINK.findall(need[1] or need[2])} - {number})
    later = [other for other in needs if other > number]
    if later:
        raise ValueError(f"chapters/{file}.md needs a later chapter: {later}")
    # Chapter 0 says how to run a notebook: it comes first, and is a prerequisite of chapters that name no other.
    needs = [other for other in needs if other or len(needs) == 1]
    minutes = sum(map(int, EXERCISE_TIME.findall(exercises)))
    return Chapter(number, file, ARGUMENT.sub("", title[1]), int(time[1]), tuple(needs), minutes)
