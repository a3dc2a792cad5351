"""How an exercise or a submission can stand, in words and signs that all pages and exports share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

MAX_LISTED = 10  # names of files in a sentence


class Look(NamedTuple):
    """A state as people read it: a word, a sign that does without colour, and what the state means."""

    word: str
    sign: str
    meaning: str


LOOKS = {
    "ok": Look("passed", "✓", "right on every case"),
    "partial": Look("partly passed", "◐", "some exercises passed"),
    "wrong": Look("wrong", "✗", "it ran, and a result was not the wanted one"),
    "error": Look("error", "!", "the code raised an exception"),
    "timeout": Look("too slow", "…", "a call took longer than the exercise allows"),
    "oom": Look("out of memory", "M", "the code asked for more memory than it may use"),
    "crashed": Look("crashed", "#", "the process of the code ended before it had answered"),
    "unattempted": Look("not attempted", "○", "no answer, or the stub as it was given out"),
    "invalid_notebook": Look("cannot be read", "?", "the file is no notebook that can be read"),
    "grader_error": Look("not graded", "⚠", "the grader failed, not the learner: a person must look"),
}
OF_AN_EXERCISE = tuple(state for state in LOOKS if state != "partial")


def look(state: str) -> Look:
    """The words of a state; the same for all that this version does not know."""
    return LOOKS.get(state, Look("unknown", "?", "a state that this version does not know"))


def number(value: float | int) -> str:
    """Points without a needless ".0"."""
    return f"{value:.4g}"


def counted(count: int, noun: str, plural: str = "") -> str:
    """ "1 row", "2 rows"."""
    return f"{count} {noun if count == 1 else plural or noun + 's'}"


def ids_in_order(ids: Sequence[str]) -> list[str]:
    """Exercise ids by chapter and number: 2.10 stands after 2.9."""
    return sorted(set(ids), key=lambda one: [(not part.isdigit(), part.zfill(9)) for part in one.split(".")])


def listed(names: Sequence[str]) -> str:
    """Names of files for a sentence: the first few of them."""
    return ", ".join(names[:MAX_LISTED]) + ", ..." * (len(names) > MAX_LISTED)
