"""How often a check says what is wrong: exercises x mutants and general mistakes, for the page feedback.md.

`python -m tools.feedback_table` prints the table.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import groupby

from course_lib.grading import Exercise, load
from course_lib.grading.diagnose import GENERAL
from course_lib.grading.examine import PASSED, WRONG, Verdict, examine
from course_lib.grading.report import Report, make_report
from tools.remember import remembered
from tools.wrong_answers import WRONG_ANSWERS, WrongAnswer, is_wrong

SEED = 0


@dataclass(frozen=True)
class Trial:
    """A general mistake handed in to an exercise.

    Attributes:
        changes_something: False where the answer with the mistake is still right, so that nothing can be named.
        wanted: the state it should get.
        named: the report says what was done.
        by_mutant: it says so in the words of the exercise's author, written for this very result.
    """

    mistake: str
    changes_something: bool
    wanted: str
    report: Report
    named: bool
    by_mutant: bool


@dataclass(frozen=True)
class Row:
    """One exercise: how many mutants it has and who of them are not named, and its general mistakes."""

    id: str
    title: str
    n_mutants: int
    unnamed_mutants: tuple[str, ...]
    trials: tuple[Trial, ...]

    @property
    def tried(self) -> list[Trial]:
        """The mistakes that make the answer wrong."""
        return [trial for trial in self.trials if trial.changes_something]

    @property
    def unnamed(self) -> list[str]:
        """Mistakes that the report does not name."""
        return [trial.mistake for trial in self.tried if not trial.named]


@cache
def rows() -> tuple[Row, ...]:
    """All exercises of the course, in the order of their ids."""
    ids = sorted(load.index(load.source_folder()), key=lambda one: tuple(map(int, one.split("."))))
    return tuple(row(exercise_id) for exercise_id in ids)


@cache
def row(exercise_id: str) -> Row:
    """What the check says about every mutant and every general mistake of one exercise."""
    exercise = remembered(exercise_id)
    unnamed = tuple(mutant.name for mutant in exercise.mutants if not _names(exercise, mutant.function, mutant.name))
    trials = tuple(_try(exercise, wrong) for wrong in WRONG_ANSWERS)
    return Row(exercise.id, exercise.title, len(exercise.mutants), unnamed, trials)


def _names(exercise: Exercise, function: object, name: str) -> bool:
    verdict = examine(exercise, function, SEED)
    return verdict.state == WRONG and verdict.diagnosis is not None and verdict.diagnosis.name == name


def _try(exercise: Exercise, wrong: WrongAnswer) -> Trial:
    cases = exercise.draw(SEED)
    answer = wrong.make(exercise, cases)
    changes = wrong.seconds is not None or is_wrong(exercise, answer, cases)
    limited = exercise if wrong.seconds is None else replace(exercise, seconds=wrong.seconds)
    verdict = examine(limited, answer, SEED)
    report = make_report(verdict)
    by_mutant = _is_by_mutant(verdict)
    said = " ".join(sentence for label, sentence in report.points if label not in ("Case", "Expected"))
    named = by_mutant or re.search(wrong.words, said) is not None
    return Trial(wrong.name, changes, wrong.state if changes else PASSED, report, named, by_mutant)


def _is_by_mutant(verdict: Verdict) -> bool:
    return verdict.diagnosis is not None and verdict.diagnosis.name != GENERAL


def table(found: Sequence[Row] | None = None) -> str:
    """The page's table in Markdown; the last row counts all exercises together."""
    found = rows() if found is None else found
    head = "| Exercise | Mutants | named | General mistakes | named | Not named |"
    lines = [head, "|---|--:|--:|--:|--:|---|"]
    lines += [_line(f"{one.id} {one.title}", [one], ", ".join((*one.unnamed_mutants, *one.unnamed))) for one in found]
    lines.append(_line(f"**{len(found)} exercises**", found, ""))
    return "\n".join(lines)


def _line(label: str, some: Sequence[Row], rest: str) -> str:
    mutants, tried = sum(one.n_mutants for one in some), sum(len(one.tried) for one in some)
    cells = (label, mutants, percent(mutant_share(some)), tried, percent(named_share(some)), rest)
    return f"| {' | '.join(map(str, cells))} |"


def mutant_share(some: Sequence[Row]) -> float:
    """The share of mutants that are answered with their own sentence."""
    return 1 - sum(len(one.unnamed_mutants) for one in some) / sum(one.n_mutants for one in some)


def named_share(some: Sequence[Row]) -> float:
    """The share of general mistakes that are named."""
    return 1 - sum(len(one.unnamed) for one in some) / sum(len(one.tried) for one in some)


def by_mutant_share(some: Sequence[Row]) -> float:
    """The share of general mistakes that an author's own sentence names."""
    return sum(trial.by_mutant for one in some for trial in one.tried) / sum(len(one.tried) for one in some)


def by_mistake(found: Sequence[Row] | None = None) -> str:
    """The second table in Markdown: each general mistake over all exercises."""
    found = rows() if found is None else found
    trials = sorted((trial for one in found for trial in one.tried), key=lambda trial: _ORDER[trial.mistake])
    lines = ["| Mistake | Exercises | named |", "|---|--:|--:|"]
    for name, group in groupby(trials, key=lambda trial: trial.mistake):
        named = [trial.named for trial in group]
        lines.append(f"| {name} | {len(named)} | {percent(sum(named) / len(named))} |")
    return "\n".join(lines)


_ORDER = {wrong.name: number for number, wrong in enumerate(WRONG_ANSWERS)}


def percent(share: float) -> str:
    """A share in percent, rounded down, so that 100 % means all."""
    return f"{int(100 * share + 1e-9)} %"


if __name__ == "__main__":
    print(table(), by_mistake(), sep="\n\n")
