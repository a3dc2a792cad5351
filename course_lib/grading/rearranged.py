"""Right numbers in the wrong places: axes swapped, lost, added, values shifted, reversed, in another order.

Every finder takes an `Evidence` and returns a sentence that holds in all failing cases, or an empty string.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import torch
from torch import Tensor

from course_lib.grading.evidence import MIN_NUMBERS, Evidence

MAX_ROWS = 64


def extra_axis(evidence: Evidence) -> str:
    """An axis of size 1 too many or too few."""
    if evidence.same_shape or not all(evidence.close(e.squeeze(), g.squeeze()) for e, g in evidence.pairs):
        return ""
    more = evidence.pairs[0][1].ndim > evidence.pairs[0][0].ndim
    return (
        "The numbers are right, but your result has an axis of size 1 too many: `squeeze`, or index, it away."
        if more
        else "The numbers are right, but an axis of size 1 is missing: keep it (`keepdim=True`), or `unsqueeze` it."
    )


def _lost_axis(evidence: Evidence) -> str:
    if evidence.same_shape:
        return ""
    for axis in _axes(evidence):
        for reduce, words in _REDUCTIONS:
            if evidence.fits(lambda expected, axis=axis, reduce=reduce: reduce(expected, axis)):
                return f"An axis is missing: yours is {words} along {evidence.name(axis)}. Keep that axis."
    return ""


_REDUCTIONS: tuple[tuple[Callable[[Tensor, int], Tensor], str], ...] = (
    (lambda value, axis: value.select(axis, 0) if value.shape[axis] else value, "only the first entry"),
    (lambda value, axis: value.select(axis, -1) if value.shape[axis] else value, "only the last entry"),
    (lambda value, axis: value.mean(axis), "the mean"),
    (lambda value, axis: value.sum(axis), "the sum"),
)


def _added_axis(evidence: Evidence) -> str:
    for axis in range(max(evidence.n_axes + 1, 0)):
        if all(_repeats_along(evidence, expected, got, axis) for expected, got in evidence.pairs):
            return f"Your result repeats the right numbers along one more axis, axis {axis}: index it away."
    return ""


def _repeats_along(evidence: Evidence, expected: Tensor, got: Tensor, axis: int) -> bool:
    if got.ndim != expected.ndim + 1 or not got.shape[axis] or got.select(axis, 0).shape != expected.shape:
        return False
    return evidence.close(expected.unsqueeze(axis).expand_as(got), got)


def _swapped_axes(evidence: Evidence) -> str:
    for first, second in combinations(_axes(evidence), 2):
        if evidence.fits(lambda expected, a=first, b=second: expected.transpose(a, b)):
            return f"Your result is transposed: {evidence.name(first)} and {evidence.name(second)} have changed places."
    return ""


def _shifted(evidence: Evidence) -> str:
    if not evidence.same_shape:
        return ""
    for axis in _axes(evidence):
        for late in (True, False):
            found = [_shift(evidence, expected, got, axis, late) for expected, got in evidence.pairs]
            if None not in found and any(found):
                side = "late" if late else "early"
                return f"Your values stand one place too {side} along {evidence.name(axis)}: a shift by one."
    return ""


def _shift(evidence: Evidence, expected: Tensor, got: Tensor, axis: int, late: bool) -> bool | None:
    """None when the pair speaks against a shift; True when it proves one, False when it is too short to tell."""
    n = expected.shape[axis]
    if n < 2:
        return None
    first, second = (value.narrow(axis, start, n - 1) for value, start in ((expected, 0), (expected, 1)))
    moved = got.narrow(axis, 1 if late else 0, n - 1)
    if not evidence.close(first if late else second, moved):
        return None
    return n >= MIN_NUMBERS and not evidence.close(first, second) and bool((moved != moved.flatten()[0]).any())


def _flipped(evidence: Evidence) -> str:
    for axis in _axes(evidence):
        if evidence.fits(lambda expected, axis=axis: expected.flip(axis)):
            return f"Your values run backwards along {evidence.name(axis)}."
    return ""


def _reordered(evidence: Evidence) -> str:
    if not evidence.same_shape:
        return ""
    for axis in _axes(evidence):
        if all(_same_rows(evidence, e.movedim(axis, 0), g.movedim(axis, 0)) for e, g in evidence.pairs):
            return f"The right rows stand in another order along {evidence.name(axis)}."
    return ""


def _same_rows(evidence: Evidence, expected: Tensor, got: Tensor) -> bool:
    if not 1 < len(expected) <= MAX_ROWS:
        return False
    left = list(range(len(got)))
    for row in expected:
        found = next((index for index in left if evidence.close(row, got[index])), None)
        if found is None:
            return False
        left.remove(found)
    return True


def _diagonal(evidence: Evidence) -> str:
    if evidence.same_shape and all(_differ_on_diagonal(evidence, *pair) for pair in evidence.pairs):
        return "Only the main diagonal is wrong: a diagonal too many or too few (`diagonal=0`, `1` or `-1`?)."
    return ""


def _differ_on_diagonal(evidence: Evidence, expected: Tensor, got: Tensor) -> bool:
    if expected.ndim < 2 or expected.shape[-1] != expected.shape[-2] or expected.shape[-1] < MIN_NUMBERS:
        return False
    on = torch.eye(expected.shape[-1], dtype=torch.bool)
    return evidence.close(expected.masked_fill(on, 0.0), got.masked_fill(on, 0.0))


def _only_at_an_end(evidence: Evidence) -> str:
    if not evidence.same_shape:
        return ""
    for axis in _axes(evidence):
        for start, end in ((1, "first"), (0, "last")):
            if all(_rest_is_right(evidence, expected, got, axis, start) for expected, got in evidence.pairs):
                return f"Only the {end} place along {evidence.name(axis)} is wrong; all others are right."
    return ""


def _rest_is_right(evidence: Evidence, expected: Tensor, got: Tensor, axis: int, start: int) -> bool:
    n = expected.shape[axis]
    if n < MIN_NUMBERS:
        return False
    return evidence.close(expected.narrow(axis, start, n - 1), got.narrow(axis, start, n - 1))


def _axes(evidence: Evidence) -> range:
    """All axes; where cases differ in how many there are, those that all have, counted from the end."""
    if evidence.n_axes >= 0:
        return range(evidence.n_axes)
    return range(-min(expected.ndim for expected, _ in evidence.pairs), 0)


SHAPES: tuple[Callable[[Evidence], str], ...] = (_swapped_axes, _lost_axis, _added_axis)
PLACES: tuple[Callable[[Evidence], str], ...] = (_shifted, _flipped)
LEFTOVERS: tuple[Callable[[Evidence], str], ...] = (_diagonal, _only_at_an_end, _reordered)
