"""`progress`: a small map of the course that shows which exercises are done, tried and open."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from course_lib.grading import load
from course_lib.grading.examine import PASSED
from course_lib.grading.journal import entries
from course_lib.grading.pages import Listed, Page, read_pages

DONE, TRIED, OPEN = "done", "tried", "open"
_SIGNS = {DONE: "✓", TRIED: "◐", OPEN: "○"}
_STYLES = {  # a filled, a thick and a thin box; the sign says the same as the colour
    DONE: "border:2px solid #0072b2;background:#0072b2;color:#fff",
    TRIED: "border:2px solid #e69f00",
    OPEN: "border:1px solid #888888",
}


@dataclass(frozen=True)
class Overview:
    """The map as `progress` shows it.

    Attributes:
        pages: the chapters that have exercises.
        states: "done", "tried" or "open" by exercise.
    """

    pages: tuple[Page, ...]
    states: dict[str, str]

    @property
    def next(self) -> Listed | None:
        """The first exercise that is not done."""
        return next((task for task in self._tasks() if self.states[task.id] != DONE), None)

    @property
    def minutes_left(self) -> int:
        """Minutes of all exercises that are not done."""
        return sum(task.minutes for task in self._tasks() if self.states[task.id] != DONE)

    def __repr__(self) -> str:
        width = max((len(page.title) for page in self.pages), default=0)
        rows = [
            f"{page.chapter:>3}  {page.title:<{width}}  "
            + "  ".join(f"{self._sign(task)} {task.id}" for task in page.exercises)
            for page in self.pages
        ]
        return "\n".join([self._headline(), *rows, _legend(), self._advice()])

    def _repr_html_(self) -> str:
        rows = "".join(
            '<div style="display:flex;flex-wrap:wrap;gap:.3em .4em;margin:.35em 0">'
            f'<span style="flex:0 0 15em">{page.chapter}. {escape(page.title)}</span>'
            '<span style="flex:1 1 15em;display:flex;flex-wrap:wrap;gap:.3em .4em">'
            f"{''.join(map(self._box, page.exercises))}</span></div>"
            for page in self.pages
        )
        return (
            '<div class="course-progress" style="margin:.5em 0;color:inherit">'
            f"<p><strong>{escape(self._headline())}</strong></p>{rows}"
            f'<p style="font-size:.85em">{escape(_legend())}</p><p>{escape(self._advice())}</p></div>'
        )

    def _tasks(self) -> list[Listed]:
        return [task for page in self.pages for task in page.exercises]

    def _sign(self, task: Listed) -> str:
        return _SIGNS[self.states[task.id]]

    def _box(self, task: Listed) -> str:
        state = self.states[task.id]
        words = escape(f"{task.id} {task.title}, {task.minutes} minutes: {state}")
        style = f"{_STYLES[state]};border-radius:6px;padding:0 .45em;white-space:nowrap"
        return (
            f'<span role="img" aria-label="{words}" title="{words}" style="{style}">{self._sign(task)} {task.id}</span>'
        )

    def _headline(self) -> str:
        counts = {state: list(self.states.values()).count(state) for state in _SIGNS}
        return (
            f"{counts[DONE]} of {len(self.states)} exercises done, {counts[TRIED]} tried, {counts[OPEN]} open; "
            f"about {self.minutes_left} minutes left"
        )

    def _advice(self) -> str:
        task = self.next
        if task is None:
            return "Next: nothing is left. Well done."
        page = next(page for page in self.pages if task in page.exercises)
        return f"Next: {task.id} {task.title}, about {task.minutes} minutes, in exercises/{page.path.stem}.ipynb"


def progress() -> Overview:
    """A map of the course: which exercises are done, tried and open, how many minutes are left, and what comes next.

    It is drawn from a file on this computer, which `check` writes: `$COURSE_PROGRESS`, or
    `induction-heads/progress.jsonl` in your data folder. Nothing is sent anywhere, and no grade depends on it.
    Delete the file to begin anew.
    """
    noted = entries()
    passed, tried = {entry.exercise for entry in noted if entry.state == PASSED}, {entry.exercise for entry in noted}
    pages = tuple(read_pages(load.source_folder()))
    ids = [task.id for page in pages for task in page.exercises]
    return Overview(pages, {one: DONE if one in passed else TRIED if one in tried else OPEN for one in ids})


def _legend() -> str:
    return "     " + "   ".join(f"{sign} {state}" for state, sign in _SIGNS.items())
