"""An answer that is right on some cases only: which ones, and what their inputs have in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from course_lib.grading.spec import Case
from course_lib.grading.words import listed

Numbered = Sequence[tuple[int, Case]]


def explain_cases(passing: Numbered, failing: Numbered) -> str:
    """One or two sentences on which cases pass and which do not; empty when none or all pass.

    Args:
        passing: (number from 1, case) of each case that passes.
        failing: the same for those that do not.
    """
    if not passing or not failing:
        return ""
    n = len(passing) + len(failing)
    right, wrong = (listed([str(number) for number, _ in part]) for part in (passing, failing))
    plural = "s" if len(passing) > 1 else ""
    counted = f"Right on case{plural} {right} of {n}, wrong on {wrong}."
    return f"{counted} {_reason([case for _, case in passing], [case for _, case in failing], passing[-1][0])}".strip()


def _reason(passing: Sequence[Case], failing: Sequence[Case], last_right: int) -> str:
    limits = list(_limits(passing, failing))
    if len(limits) == 1 and len(passing) + len(failing) > 2:  # several would fit, or two cases: a guess
        return limits[0]
    sizes = [{_sizes(case) for case in part} for part in (passing, failing)]
    first_ones = last_right == len(passing)
    if first_ones and not sizes[0] & sizes[1]:
        return (
            "The sizes or numbers of the right ones do not come back in the others: is one of them written into "
            "your code, where it should be read from the input?"
        )
    return ""


def _limits(passing: Sequence[Case], failing: Sequence[Case]) -> Iterator[str]:
    """Every size or number of an input that is smaller in all cases of one kind than in all of the other."""
    quantities = [dict(_quantities(case)) for case in (*passing, *failing)]
    for what in quantities[0]:
        if any(what not in quantity for quantity in quantities):
            continue
        values = [quantity[what] for quantity in quantities]
        right, wrong = values[: len(passing)], values[len(passing) :]
        if max(right) < min(wrong):
            yield f"Wrong where {what} is {_bound(wrong, min)}, right where it is {_bound(right, max)}."
        elif max(wrong) < min(right):
            yield f"Wrong where {what} is {_bound(wrong, max)}, right where it is {_bound(right, min)}."


def _bound(values: Sequence[float], end: Any) -> str:
    if len(set(values)) == 1:
        return f"{values[0]:g}"
    return f"{end(values):g} or {'more' if end is min else 'less'}"


def _quantities(case: Case) -> Iterator[tuple[str, float]]:
    """What can be said in a number about each input: its value, or its sizes."""
    for name, value in case.inputs.items():
        if isinstance(value, Tensor):
            if value.ndim:
                yield from ((f"axis {axis} of `{name}`", size) for axis, size in enumerate(value.shape))
        elif type(value) in (int, float):
            yield f"`{name}`", value
        elif isinstance(value, list | tuple | str):
            yield f"the length of `{name}`", len(value)


def _sizes(case: Case) -> tuple:
    return tuple(sorted(_quantities(case)))
