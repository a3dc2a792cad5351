"""What a learner types: `check`, `hint`, `solution`. A notebook shows what they return as HTML, a terminal as text."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from html import escape
from typing import Any

from course_lib.grading import journal, load
from course_lib.grading.examine import NOT_ATTEMPTED, PASSED, examine
from course_lib.grading.load import find
from course_lib.grading.pages import answer_of, explanation_of
from course_lib.grading.report import Report, make_report
from course_lib.grading.words import inline_html, markdown_html, without_roles

STRICT = {"passed": PASSED, "not_attempted": NOT_ATTEMPTED}
_FRAME = '<div style="border-left:4px solid #56b4e9;padding:.1em 0 .1em 1em;margin:.5em 0;color:inherit">'
_hints_given: dict[str, int] = {}


class CheckFailed(AssertionError):
    """A check whose state is not the one that COURSE_STRICT asks for."""


def check(exercise_id: Any, answer: Any) -> Report:
    """Try the function on the exercise's cases and say how it stands; nothing is sent anywhere.

    A call of the function may take `Exercise.seconds`, by default 5.
    How the check ended is noted for `progress` in a file on this computer.

    Args:
        exercise_id: chapter and number, "3.1".
        answer: the function itself, without parentheses.

    Raises:
        ValueError: an unknown id; COURSE_STRICT set to anything but "passed" or "not_attempted".
        CheckFailed: only under COURSE_STRICT, which the tests of the notebooks set.
    """
    report = checked(exercise_id, answer)
    strict = os.environ.get("COURSE_STRICT")
    if strict and strict not in STRICT:
        raise ValueError(f"COURSE_STRICT must be one of {', '.join(STRICT)}, got {strict!r}")
    if strict and report.state != STRICT[strict]:
        raise CheckFailed(f"wanted state: {STRICT[strict]}\n{report!r}")
    return report


def checked(exercise_id: Any, answer: Any) -> Report:
    """As `check`, whatever COURSE_STRICT says: examine the answer and note how it ended if it was an attempt."""
    verdict = examine(find(exercise_id), answer)
    report = make_report(verdict)
    if verdict.state == NOT_ATTEMPTED or verdict.misuse:
        return report
    problem = journal.note(exercise_id, verdict.state)
    if not problem:
        return report
    *before, last = report.points
    told = ("Progress", f"This check could not be saved for `progress()`: {problem}.")
    return replace(report, points=(*before, told, last))


@dataclass(frozen=True)
class Note:
    """A short message to the learner, for example a hint."""

    headline: str
    text: str

    def __repr__(self) -> str:
        return f"{self.headline}\n{self.text}"

    def _repr_html_(self) -> str:
        return (
            f"{_FRAME}<strong>{inline_html(self.headline)}</strong>"
            f'<div style="white-space:pre-wrap">{inline_html(self.text)}</div></div>'
        )


def hint(exercise_id: Any) -> Note:
    """The next hint of an exercise; after the last, the last again.

    Raises:
        ValueError: an unknown id.
    """
    hints = find(exercise_id).hints
    number = min(_hints_given.get(exercise_id, 0) + 1, len(hints))
    _hints_given[exercise_id] = number
    return nth_hint(exercise_id, number)


def nth_hint(exercise_id: Any, number: int) -> Note:
    """The hint of this number, from 1.

    Raises:
        ValueError: an unknown id, or a number that no hint has.
    """
    hints = find(exercise_id).hints
    if number not in range(1, len(hints) + 1):
        raise ValueError(f"number must be 1 to {len(hints)}, got {number}")
    rest = " (the last one)" if number == len(hints) else ""
    return Note(f"Exercise {exercise_id}, hint {number} of {len(hints)}{rest}", hints[number - 1])


@dataclass(frozen=True)
class Solution:
    """The course's own answer as shown to the learner: code, and why it is right (Markdown)."""

    headline: str
    code: str
    why: str

    def __repr__(self) -> str:
        return f"{self.headline}\n\n{self.code}\n\n{without_roles(self.why).replace('**', '')}".rstrip()

    def _repr_html_(self) -> str:
        return (
            f"{_FRAME}<strong>{inline_html(self.headline)}</strong>"
            f'<pre style="overflow-x:auto"><code>{escape(self.code)}</code></pre>{markdown_html(self.why)}</div>'
        )


def solution(exercise_id: Any) -> Solution | Note:
    """The course's answer to an exercise and why it is right; before you have tried, a word of encouragement instead.

    You have tried when a `check` has run your function, in this session or in one that `progress` knows of.
    """
    try:
        task = find(exercise_id)
        text = load.index(load.source_folder())[exercise_id].read_text(encoding="utf-8")
    except (ValueError, KeyError, OSError) as problem:
        return Note("There is no solution to show.", str(problem))
    if not journal.was_attempted(exercise_id):
        return Note(
            f"Exercise {exercise_id}, {task.title}: try it first",
            "An answer of your own teaches more than a finished one, even if it is wrong. "
            f'Write one and run its `check` cell; then `solution("{exercise_id}")` shows the answer of the course. '
            f'`hint("{exercise_id}")` gives a nudge.',
        )
    headline = f"Exercise {exercise_id}, {task.title}: one right answer (others pass too)"
    return Solution(headline, answer_of(text, exercise_id), explanation_of(text, exercise_id))
