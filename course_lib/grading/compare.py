"""Compares what was expected with what came: exact shape, kind of dtype, then numbers in float64, no broadcasting."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from course_lib.grading import values
from course_lib.grading.spec import Tolerance

EXACT = Tolerance(0.0, 0.0)
_DEFAULTS = {
    torch.float64: Tolerance(1e-4, 1e-6),  # a learner may compute in float32, which float64 inputs do not forbid
    torch.complex128: Tolerance(1e-4, 1e-6),
    torch.float16: Tolerance(1e-2, 1e-3),
    torch.bfloat16: Tolerance(5e-2, 1e-2),
}
_UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)  # which torch compares with no other type
_SINGLE = Tolerance(1e-4, 1e-5)


@dataclass(frozen=True)
class Comparison:
    """How two values differ.

    Attributes:
        mismatch: a sentence when type, shape or dtype differ; then no numbers were compared.
        bad: True at every entry that is wrong; None after a mismatch.
        first_bad: index of the first wrong entry in reading order.
        worst: index of the largest error.
        worst_error: absolute; inf where NaN or infinity stand at different places.
    """

    mismatch: str = ""
    bad: Tensor | None = None
    first_bad: tuple[int, ...] | None = None
    worst: tuple[int, ...] | None = None
    worst_error: float = 0.0

    @property
    def equal(self) -> bool:
        """True when nothing differs."""
        return not self.mismatch and self.first_bad is None

    @property
    def n_bad(self) -> int:
        """How many entries are wrong."""
        return 0 if self.bad is None else int(self.bad.sum())


def default_tolerance(dtype: torch.dtype) -> Tolerance:
    """Exact for integers and bools; for floats what the rounding of a short computation in that dtype explains."""
    if not (dtype.is_floating_point or dtype.is_complex):
        return EXACT
    return _DEFAULTS.get(dtype, _SINGLE)


def as_tensor(value: Any) -> Tensor:
    """A tensor as it is, detached, on the CPU; a plain number as a tensor without axes, in float64."""
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        return value.long() if value.dtype in _UNSIGNED else value
    try:
        return torch.tensor(float(value), dtype=torch.float64)
    except OverflowError:  # a whole number beyond all floats
        return torch.tensor(torch.inf if value > 0 else -torch.inf, dtype=torch.float64)


def compare(expected: Any, got: Any, tolerance: Tolerance | None = None) -> Comparison:
    """Compare two tensors, or two numbers.

    Args:
        expected: tensor or number; it alone decides shape, dtype and the default tolerance.
        got: anything.
        tolerance: for floats, by default `default_tolerance` of the expected dtype; whole numbers and bools are exact.
    """
    mismatch = values.mismatch(expected, got)
    if mismatch:
        return Comparison(mismatch)
    expected, got = as_tensor(expected), as_tensor(got)
    bad = _bad_entries(expected, got, tolerance)
    if not bad.any():
        return Comparison(bad=bad)
    error = (_wide(got) - _wide(expected)).abs().nan_to_num(nan=torch.inf, posinf=torch.inf)
    error = error.masked_fill(~bad, 0.0)
    worst = (bad & (error == error.max())).nonzero()[0]
    return Comparison("", bad, tuple(bad.nonzero()[0].tolist()), tuple(worst.tolist()), float(error.max()))


def equal(expected: Any, got: Any, tolerance: Tolerance | None = None) -> bool:
    """`compare(...).equal`, without looking for the place and the size of a difference."""
    if values.mismatch(expected, got):
        return False
    expected, got = as_tensor(expected), as_tensor(got)
    return not _starts_badly(expected, got, tolerance) and not _bad_entries(expected, got, tolerance).any()


def _starts_badly(expected: Tensor, got: Tensor, tolerance: Tolerance | None) -> bool:
    """True where the first entries, both finite, lie too far apart: of two unlike tensors most begin so."""
    if not expected.numel() or expected.is_complex():
        return False
    tolerance = _tolerance(expected, tolerance)
    first = (0,) * expected.ndim
    wanted, given = float(expected[first]), float(got[first])
    return abs(given - wanted) > tolerance.atol + tolerance.rtol * abs(wanted) and isfinite(wanted) and isfinite(given)


def _tolerance(expected: Tensor, tolerance: Tolerance | None) -> Tolerance:
    default = default_tolerance(expected.dtype)
    return default if tolerance is None or default == EXACT else tolerance


def _bad_entries(expected: Tensor, got: Tensor, tolerance: Tolerance | None) -> Tensor:
    tolerance = _tolerance(expected, tolerance)
    if tolerance == EXACT or (expected.dtype == got.dtype and torch.equal(expected, got)):
        return expected != got
    expected, got = _wide(expected), _wide(got)
    allowed = tolerance.atol + tolerance.rtol * expected.abs()
    close = ((got - expected).abs() <= allowed) & expected.isfinite()  # an infinite allowance would pass anything
    both_nan = expected.isnan() & got.isnan()
    return ~(close | (expected == got) | both_nan)


def _wide(value: Tensor) -> Tensor:
    return value.to(torch.complex128 if value.is_complex() else torch.float64)
