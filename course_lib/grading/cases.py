"""An answer that is right on some cases only: which ones, and what their inputs have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from torch import Tensor

from course_lib.grading.spec import Case
from course_lib.grading.words import listed

Judged = Sequence[tuple[Case, bool]]


def explain_cases(judged: Judged) -> str:
    """One or two sentences on which cases pass and which do not; empty when none or all pass.

    Args:
        judged: (case, passed) for every case, in order.
    """
    right, wrong = (
        [str(number) for number, (_, passed) in enumerate(judged, 1) if passed is side] for side in (True, False)
    )
    if not right or not wrong:
        return ""
    plural = "s" if len(right) > 1 else ""
    return f"Right on case{plural} {listed(right)} of {len(judged)}, not on {listed(wrong)}. {_reason(judged)}".strip()


def _reason(judged: Judged) -> str:
    """What tells the passing cases from the others, where exactly one thing does; else a guess at a fixed size.

    A single case differs from the others in something by chance, so that counts only where its number is 1.
    """
    limits, passed = list(_limits(judged)), [passed for _, passed in judged]
    if len(limits) == 1 and len(judged) > 2:
        ((sentence, alone),) = limits
        return sentence if alone in (None, 1) else ""
    sizes = [{tuple(_quantities(case)) for case, passed in judged if passed is side} for side in (True, False)]
    if passed == sorted(passed, reverse=True) and not sizes[0] & sizes[1]:  # the first ones, which a learner tries
        return "Is a size or a number of the first written into your code, where it should be read from the input?"
    return ""


def _limits(judged: Judged) -> Iterator[tuple[str, int | None]]:
    """Every size or number of an input that is smaller in all cases of one kind than in all of the other.

    Each with the number of the only case of its kind, if there is one.
    """
    quantities = [(dict(_quantities(case)), passed) for case, passed in judged]
    shared = set.intersection(*(set(quantity) for quantity, _ in quantities))
    columns = {what: tuple(quantity[what] for quantity, _ in quantities) for what in quantities[0][0] if what in shared}
    first_of = {column: what for what, column in reversed(columns.items())}  # the axes of a square tell the same
    for what in first_of.values():
        right, wrong = ([quantity[what] for quantity, passed in quantities if passed is side] for side in (True, False))
        alone = next((numbers[0] for numbers in (right, wrong) if len(numbers) == 1), None)
        if max(right) < min(wrong):
            yield f"Right where {what} is {_bound(right, max)}, not where it is {_bound(wrong, min)}.", alone
        elif max(wrong) < min(right):
            yield f"Right where {what} is {_bound(right, min)}, not where it is {_bound(wrong, max)}.", alone


def _bound(found: Sequence[int], end: Callable[..., int]) -> str:
    if len(set(found)) == 1:
        return f"{found[0]:g}"
    return f"{end(found):g} or {'more' if end is min else 'less'}"


def _quantities(case: Case) -> Iterator[tuple[str, int]]:
    """What a number can say about each input: its value, or its sizes."""
    for name, value in case.inputs.items():
        if isinstance(value, Tensor):
            yield from ((f"axis {axis} of `{name}`", size) for axis, size in enumerate(value.shape))
        elif type(value) is int:
            yield f"`{name}`", value
        elif isinstance(value, list | tuple | str):
            yield f"the length of `{name}`", len(value)
