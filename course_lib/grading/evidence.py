"""What a diagnosis stands on: expected and returned numbers of all failing cases, and how close counts as equal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from course_lib.grading import compare
from course_lib.grading.spec import Tolerance

MIN_NUMBERS = 3  # fewer numbers than this fit an explanation by chance


@dataclass(frozen=True)
class Evidence:
    """Pairs (expected, got) of all failing cases, in float64; `close` compares two tensors, shapes included."""

    pairs: list[tuple[Tensor, Tensor]]
    close: Callable[[Tensor, Tensor], bool]
    axes: Sequence[str] = ()

    def fits(self, change: Callable[[Tensor], Tensor]) -> bool:
        """True when the change makes every expected tensor the one that came."""
        return all(self.close(change(expected), got) for expected, got in self.pairs)

    def name(self, axis: int) -> str:
        """The axis in words."""
        if axis < 0:
            return "the last axis" if axis == -1 else f"axis {axis}"
        return self.axes[axis] if len(self.axes) == self.n_axes else f"axis {axis}"

    @property
    def n_axes(self) -> int:
        """Axes of the expected tensors; -1 when the cases differ in that."""
        counts = {expected.ndim for expected, _ in self.pairs}
        return counts.pop() if len(counts) == 1 else -1

    @property
    def same_shape(self) -> bool:
        """True when every pair agrees in shape."""
        return all(expected.shape == got.shape for expected, got in self.pairs)

    @property
    def enough(self) -> bool:
        """True when there are more numbers than an explanation fits by chance."""
        return sum(got.numel() for _, got in self.pairs) >= MIN_NUMBERS


def make_evidence(
    pairs: Sequence[tuple[Tensor | None, Tensor | None]],
    tolerance: Tolerance | None = None,
    axes: Sequence[str] = (),
) -> Evidence | None:
    """Evidence from the tensors that were compared; None where one is missing or complex.

    Args:
        pairs: (expected, got), at least one pair.
        tolerance: None takes the default of the dtype.
        axes: names of the axes of the expected tensors.
    """
    if any(side is None or side.is_complex() for pair in pairs for side in pair):
        return None
    floats = [side.dtype for pair in pairs for side in pair if side.is_floating_point()]
    if not floats:  # labels and counts: compared as float64 below, where the default would be loose
        tolerance = compare.EXACT
    tolerance = tolerance or compare.default_tolerance(floats[0])

    def close(left: Tensor, right: Tensor) -> bool:
        return left.shape == right.shape and compare.equal(left, right, tolerance)

    return Evidence([(expected.double(), got.double()) for expected, got in pairs], close, axes)
