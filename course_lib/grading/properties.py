"""What right answers have and the learner's lacks: finite numbers, rows that sum to one, no look into the future."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from course_lib.grading.evidence import Evidence

_ROUNDING = 1e-3
_NAN = (
    "Your result has NaN in it: 0 divided by 0, the mean of an empty selection, the logarithm of a negative number, "
    "or a softmax over a row of which every entry is -inf."
)
_ZERO = "Every number of yours is 0: what should be filled in never was, or a mask removes everything."


def find_emptiness(evidence: Evidence) -> str:
    """A sentence when the learner's numbers carry no information: NaN, or all zeros."""
    for expected, got in evidence.pairs:
        if got.isnan().any() and not expected.isnan().any():
            return _NAN
    if all(got.numel() and not got.any() for _, got in evidence.pairs):
        return _ZERO
    return ""


def is_emptiness(sentence: str) -> bool:
    """True for a sentence of `find_emptiness`: it says what came, hardly why."""
    return sentence.endswith((_NAN, _ZERO))


def find_property(evidence: Evidence) -> str:
    """The first property of the expected tensors that the learner's lack, or an empty string."""
    if not evidence.same_shape or evidence.n_axes < 2:
        return ""
    return next((sentence for finder in _FINDERS if (sentence := finder(evidence))), "")


def _causal(evidence: Evidence) -> str:
    if not all(_is_square(expected) and not _above(expected).any() for expected, _ in evidence.pairs):
        return ""
    if not any(_above(got).any() for _, got in evidence.pairs):
        return ""
    if not any(got.tril(-1).any() for _, got in evidence.pairs):
        return "Your numbers stand above the diagonal, they belong below it: the wrong triangle is kept."
    return "Your result is not causal: entries above the diagonal (key_pos > query_pos, the future) should be 0."


def _rows_sum_to_one(evidence: Evidence) -> str:
    if not all(_sums_to_one(expected, -1) for expected, _ in evidence.pairs):
        return ""
    if all(_sums_to_one(got, -1) for _, got in evidence.pairs):
        return _flat_rows(evidence)
    if all(_sums_to_one(got, -2) for _, got in evidence.pairs):
        return "Your columns sum to 1, the rows should: the softmax runs over the keys, the last axis (`dim=-1`)."
    sums = torch.cat([got.sum(dim=-1).flatten() for _, got in evidence.pairs])
    return f"Each row should sum to 1; yours sum to between {float(sums.min()):.3g} and {float(sums.max()):.3g}."


def _flat_rows(evidence: Evidence) -> str:
    """Rows whose largest entry stands in the right place and is too small."""
    if not all(_is_flatter(expected, got) for expected, got in evidence.pairs):
        return ""
    return (
        "The largest weight of every row stands in the right place, but the rows are too flat: "
        "the attention scores have to be further apart before the softmax."
    )


def _is_flatter(expected: Tensor, got: Tensor) -> bool:
    """True when no row peaks higher than it should, some peak lower, and every clear peak stays in its place."""
    excess = got.max(dim=-1).values - expected.max(dim=-1).values
    clear = expected.max(dim=-1).values > 0.5
    in_place = (expected.argmax(dim=-1) == got.argmax(dim=-1))[clear].all()
    return bool(clear.any() and in_place and (excess <= _ROUNDING).all() and (excess < -_ROUNDING).any())


def _is_square(value: Tensor) -> bool:
    return value.ndim >= 2 and value.shape[-1] == value.shape[-2] > 1


def _above(value: Tensor) -> Tensor:
    return value.triu(1)


def _sums_to_one(value: Tensor, dim: int) -> bool:
    return bool(((value.sum(dim=dim) - 1).abs() < _ROUNDING).all()) and bool((value >= 0).all())


_FINDERS: tuple[Callable[[Evidence], str], ...] = (_causal, _rows_sum_to_one)
