"""What the rows of a class say together: counts for the class summary. Plain data in, plain data out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from course_lib.grader.states import OF_AN_EXERCISE, ids_in_order

Row = dict[str, Any]
NEEDS_A_PERSON = ("grader_error", "invalid_notebook")


@dataclass(frozen=True)
class Mistake:
    """A named wrong answer, and how many submissions gave it."""

    name: str
    sentence: str
    count: int


@dataclass(frozen=True)
class ExerciseTally:
    """One exercise over the whole class.

    Attributes:
        states: how many submissions stand how, in the order of `states.OF_AN_EXERCISE`; zeros left out.
        total: submissions that were asked for it.
        mistakes: the named ones, most frequent first.
        unnamed: wrong answers that equal no known mistake.
    """

    id: str
    title: str
    states: tuple[tuple[str, int], ...]
    total: int
    mistakes: tuple[Mistake, ...]
    unnamed: int

    @property
    def passed(self) -> int:
        """How many submissions passed it."""
        return dict(self.states).get("ok", 0)


@dataclass(frozen=True)
class Tally:
    """The class in numbers.

    Attributes:
        full: submissions with all points.
        middle: median share of the points, None without a graded submission.
        bins: (label, count) of the shares of points: none, in tenths, all.
        look_at: rows that a person must look at.
        alike: rows with answers that equal the published solution or another submission.
    """

    submissions: int
    graded: int
    full: int
    middle: float | int | None
    bins: tuple[tuple[str, int], ...]
    exercises: tuple[ExerciseTally, ...]
    look_at: tuple[Row, ...]
    alike: tuple[Row, ...]


def tally(rows: Sequence[Row], sentences: dict[str, dict[str, str]]) -> Tally:
    """Count a class.

    Args:
        rows: as in results.jsonl.
        sentences: exercise id -> mutant name -> the sentence that explains it.
    """
    graded = [row["score"] / row["max_score"] for row in rows if row["score"] is not None and row["max_score"]]
    return Tally(
        submissions=len(rows),
        graded=len(graded),
        full=sum(share >= 1 for share in graded),
        middle=median(graded) if graded else None,
        bins=share_bins(graded),
        exercises=tuple(_exercises(rows, sentences)),
        look_at=tuple(row for row in rows if _needs_a_person(row)),
        alike=tuple(row for row in rows if row["similar"]),
    )


def _needs_a_person(row: Row) -> bool:
    return row["state"] in NEEDS_A_PERSON or any(one["state"] == "grader_error" for one in row["exercises"])


def share_bins(shares: Iterable[float | int]) -> tuple[tuple[str, int], ...]:
    """How many shares are 0, in (0, 10%), [10%, 20%), ..., [90%, 100%), and 1."""
    counts = Counter(_bin(share) for share in shares)
    labels = ["0", *(f"{10 * tenth or 1}-{10 * tenth + 9}" for tenth in range(10)), "100"]
    return tuple((label, counts[place]) for place, label in enumerate(labels))


def _bin(share: float | int) -> int:
    if share <= 0:
        return 0
    return 11 if share >= 1 else 1 + int(10 * share + 1e-9)


def _exercises(rows: Sequence[Row], sentences: dict[str, dict[str, str]]) -> Iterable[ExerciseTally]:
    found = defaultdict(list)
    for row in rows:
        for one in row["exercises"]:
            found[one["id"]].append(one)
    for exercise_id in ids_in_order(list(found)):
        entries = found[exercise_id]
        states = Counter(one["state"] for one in entries)
        order = [*OF_AN_EXERCISE, *sorted(states.keys() - set(OF_AN_EXERCISE))]
        named = Counter(one["mutant"] for one in entries if one["mutant"])
        explain = sentences.get(exercise_id, {})
        yield ExerciseTally(
            exercise_id,
            entries[0]["title"],
            tuple((state, states[state]) for state in order if states[state]),
            len(entries),
            tuple(
                Mistake(name, explain.get(name, ""), count)
                for name, count in sorted(named.items(), key=lambda item: (-item[1], item[0]))
            ),
            sum(one["state"] == "wrong" and not one["mutant"] for one in entries),
        )
