"""The assignment: exercises of the course, their answers, and what the checks of all graders compare with.

A submission answers every exercise right, wrong or not at all; the same cells go to every grader. Every second learner
scales floats by one of fifty factors close to 1, so that their last digits differ, as those of a sum in another order.
"""

from __future__ import annotations

import ast
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from course_lib.grading import load
from course_lib.grading.pages import answer_of
from course_lib.grading.run import run
from course_lib.grading.source import code_cells
from course_lib.grading.spec import Exercise

SEED = 7  # of the cases and of who answers what
SMALL = ("2.2", "3.1", "6.1", "7.1")
N_LARGE = 40
SHARES = {"right": 0.75, "wrong": 0.15, "missing": 0.10}
WRONG = """
def _changed(value):
    if isinstance(value, tuple):
        return tuple(_changed(part) for part in value)
    return value + value.dtype.is_floating_point + 1 if isinstance(value, torch.Tensor) else value + 1
"""
OWN_DIGITS = """

_exact_{name} = {name}

def {name}(*inputs):
    def rounded(value):
        if isinstance(value, tuple):
            return tuple(map(rounded, value))
        floats = isinstance(value, float) or (isinstance(value, torch.Tensor) and value.dtype.is_floating_point)
        return value * (1 + 1e-7 * (1 + {learner} % 100)) if floats else value
    return rounded(_exact_{name}(*inputs))
"""


@dataclass(frozen=True)
class Answer:
    """One exercise of the assignment.

    Attributes:
        name: of the function that a learner writes.
        right: the code of the published answer.
        case_file: inputs and expected results, for graders that compare inside the notebook.
    """

    id: str
    name: str
    right: str
    case_file: Path

    @property
    def missing(self) -> str:
        """The stub as it is handed out."""
        return f"def {self.name}(*inputs):\n    raise NotImplementedError('your code here')\n"

    @property
    def wrong(self) -> str:
        """The right answer, spoilt."""
        return f"{self.right}\n\n_right_{self.name} = {self.name}\n\ndef {self.name}(*inputs):\n" + (
            f"    return _changed(_right_{self.name}(*inputs))\n"
        )

    @property
    def check(self) -> str:
        """The test cell of the other graders: the same cases, the same reference, torch's own comparison."""
        return (
            "how = dict(rtol=1e-4, atol=1e-5, check_dtype=False, equal_nan=True)\n"
            f"for inputs, expected in torch.load({str(self.case_file)!r}, weights_only=False):\n"
            f"    torch.testing.assert_close({self.name}(*inputs), expected, **how)\n"
        )


@dataclass(frozen=True)
class Assignment:
    """The set-up cell and the answers."""

    name: str
    setup: str
    answers: tuple[Answer, ...]

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the exercises."""
        return tuple(answer.id for answer in self.answers)

    def handed_in(self, number: int) -> list[str]:
        """The answer cells of a learner; the number decides which are right, and no two learners hand in the same."""
        cells = []
        for answer, kind in zip(self.answers, self._kinds(number), strict=True):
            digits = OWN_DIGITS.format(name=answer.name, learner=number) if number % 2 and kind != "missing" else ""
            cells.append(f"# learner {number}\n{getattr(answer, kind)}{digits}")
        return cells

    def _kinds(self, number: int) -> list[str]:
        chance = random.Random(SEED * 1_000_003 + number)
        return chance.choices(list(SHARES), weights=list(SHARES.values()), k=len(self.answers))

    def score(self, number: int) -> int:
        """How many exercises that learner answered right."""
        return self._kinds(number).count("right")


def make_assignment(ids: Sequence[str], folder: Path) -> Assignment:
    """The assignment of these exercises; what is compared is written into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    where = load.index(load.source_folder())
    answers = tuple(_answer(load.find(one), where[one], folder) for one in ids)
    sources = dict.fromkeys(where[one] for one in ids)
    setup = "\n".join(line for source in sources for line in _setup(source, {answer.name for answer in answers}))
    return Assignment(folder.name, f"import torch\n{setup}\n{WRONG}", answers)


def large_ids() -> tuple[str, ...]:
    """The first exercises of the course whose values can be compared as they are."""
    ids = [one for one in load.index(load.source_folder()) if load.find(one).measure is None]
    return tuple(ids[:N_LARGE])


def _answer(exercise: Exercise, source: Path, folder: Path) -> Answer:
    file = folder / f"{exercise.id}.pt"
    torch.save([_case(exercise, dict(case.inputs)) for case in exercise.draw(SEED)], file)
    code = answer_of(source.read_text(encoding="utf-8"), exercise.id)
    return Answer(exercise.id, exercise.reference.__name__, code, file)


def _case(exercise: Exercise, inputs: dict[str, Any]) -> tuple[list[Any], Any]:
    return list(inputs.values()), run(exercise.reference, inputs).value


def _setup(source: Path, answers: set[str]) -> Iterator[str]:
    """What the course's notebook defines above its answers."""
    for cell in code_cells(source.read_text(encoding="utf-8")):
        if cell.tags & {"spec", "answer", "solution-only"}:
            continue
        try:
            body = ast.parse(cell.code).body
        except SyntaxError:  # a cell with a magic
            continue
        for node in body:
            kept = isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef)
            if kept and getattr(node, "name", "") not in answers and "course_lib.grading" not in ast.unparse(node):
                yield ast.unparse(node)


def notebook(cells: Sequence[dict[str, Any]]) -> str:
    """A notebook file of these cells, each with its source and its metadata."""
    made = [
        {"cell_type": "code", "id": f"cell-{number}", "execution_count": None, "outputs": [], "metadata": {}} | cell
        for number, cell in enumerate(cells)
    ]
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return json.dumps({"cells": made, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5})
