"""General wrong turns: what would have to be done to the expected tensor to get the learner's, in words.

Every finder takes an `Evidence` and returns a sentence that holds in all failing cases, or an empty string.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from course_lib.grading.evidence import MIN_NUMBERS, Evidence
from course_lib.grading.rearranged import LEFTOVERS, PLACES, SHAPES, extra_axis

Finder = Callable[[Evidence], str]


def find_transform(evidence: Evidence) -> str:
    """The first general explanation that fits, or an empty string."""
    finders = _FINDERS if evidence.enough else (extra_axis,)
    return next((sentence for finder in finders if (sentence := finder(evidence))), "")


def find_logarithm(evidence: Evidence) -> str:
    """A logarithm of what is wanted; to be asked before a NaN in it is taken for the whole story."""
    return _simple_change(evidence, torch.log, "Yours is the logarithm of what is wanted.") if evidence.enough else ""


def is_scale(sentence: str) -> bool:
    """True for a sentence of this module on a factor, which may be a matter of taste in a built thing."""
    return sentence.startswith((_FACTOR, _FACTORS))


def varies(sentence: str) -> bool:
    """True for a sentence on a factor that is not the same everywhere."""
    return sentence.startswith(_FACTORS)


def _simple_changes(evidence: Evidence) -> str:
    found = (_simple_change(evidence, change, sentence) for change, sentence in _CHANGES)
    return next((sentence for sentence in found if sentence), "")


def _simple_change(evidence: Evidence, change: Callable[[Tensor], Tensor], sentence: str) -> str:
    some = any(got.isfinite().any() for _, got in evidence.pairs)  # NaN and infinity alone fit many changes
    return sentence if some and evidence.fits(change) else ""


_EXP = "Yours is exp of what is wanted: stay in log space."
_CHANGES: tuple[tuple[Callable[[Tensor], Tensor], str], ...] = (
    (torch.neg, "Every number has the wrong sign."),
    (lambda expected: 1 - expected, "Yours is one minus what is wanted: the condition is the wrong way round."),
    (torch.exp, _EXP),
    (lambda expected: torch.exp(expected.float()).double(), _EXP),  # infinite where float32 ends
    (torch.log, "Yours is the logarithm of what is wanted."),
    (torch.square, "Yours is the square of what is wanted."),
    (torch.sqrt, "Yours is the square root of what is wanted."),
    (torch.reciprocal, "Yours is one divided by what is wanted."),
    (torch.trunc, "Your numbers are whole, the fractions are cut off: by `//`, `int` or `.long()`?"),
    (torch.round, "Your numbers are rounded to whole ones."),
    (torch.abs, "Yours is the absolute value of what is wanted: negative numbers have lost their sign."),
    (torch.relu, "Negative numbers have become 0 in yours; they should stay."),
)


def _summed(evidence: Evidence) -> str:
    """A sum where a mean is wanted multiplies each number by how many were added; the other way round divides it."""
    if not evidence.same_shape:
        return ""
    expected, got = (torch.cat([pair[side].flatten() for pair in evidence.pairs]) for side in (0, 1))
    return _counts(evidence, got, expected, _SUM_FOR_MEAN) or _counts(evidence, expected, got, _MEAN_FOR_SUM)


def _counts(evidence: Evidence, whole: Tensor, part: Tensor, sentence: str) -> str:
    """The sentence, if `whole` is `part` times whole numbers; they count only where the part is no whole number."""
    counts = torch.where(part != 0, (whole / part).round(), 1.0)
    telling = counts[(counts > 1) & (part != part.round())]
    if len(telling) < MIN_NUMBERS or not ((counts >= 1) & (counts <= MAX_COUNT)).all():
        return ""
    if not evidence.close(counts * part, whole):
        return ""
    different = [f"{count:.0f}" for count in telling.unique().tolist()]
    return f"{sentence} ({', '.join(different[:4])}{', ...' if len(different) > 4 else ''})?"


def _scaled(evidence: Evidence) -> str:
    if not evidence.same_shape:
        return ""
    expected, got = (torch.cat([pair[side].flatten() for pair in evidence.pairs]) for side in (0, 1))
    factor = _factor(expected, got)
    if factor is not None and evidence.fits(lambda value: value * factor):
        return f"{_FACTOR} {factor:.4g} times what is wanted{_known_factor(factor)}."
    factors = [_factor(expected, got) for expected, got in evidence.pairs]
    if None in factors or len(factors) < 2:
        return ""
    if all(evidence.close(e * factor, g) for (e, g), factor in zip(evidence.pairs, factors, strict=True)):
        listed = ", ".join(f"{factor:.4g}" for factor in factors)
        return (
            f"{_FACTORS} off by one factor, which differs from case to case ({listed}): "
            "often a sum where a mean is wanted, or a division by the wrong size."
        )
    return ""


_FACTOR, _FACTORS = "Every number is", "Within a case all numbers are"
_SUM_FOR_MEAN = f"{_FACTOR} a whole multiple of what is wanted: a sum where a mean is wanted, over so many"
_MEAN_FOR_SUM = f"{_FACTOR} what is wanted, divided by a whole number: a mean where a sum is wanted, over so many"
MAX_COUNT = 200  # with more, almost every number is close to a whole multiple


def _factor(expected: Tensor, got: Tensor) -> float | None:
    """The one factor that could lead from expected to got; None with too few numbers to tell."""
    if int((expected != 0).sum()) < MIN_NUMBERS or not (expected.isfinite().all() and got.isfinite().all()):
        return None
    factor = float((expected * got).sum() / (expected * expected).sum())
    return factor if factor != 0 else None


def _known_factor(factor: float) -> str:
    known = {1.442695: "bits instead of nats", 0.693147: "nats instead of bits"}
    return next((f" ({words})" for value, words in known.items() if abs(factor - value) < 1e-4), "")


def _scaled_slices(evidence: Evidence) -> str:
    return _slice_by_slice(
        evidence, _slice_factors, "is off by its own factor: was something divided by the wrong size?"
    )


def _slice_factors(expected: Tensor, got: Tensor) -> Tensor | None:
    """What the slices, rows of a matrix, would become; None with too few numbers to tell."""
    if ((expected != 0).sum(dim=1) < MIN_NUMBERS).any():
        return None
    factors = (expected * got).sum(dim=1) / (expected * expected).sum(dim=1)
    return expected * factors[:, None]


def _offset(evidence: Evidence) -> str:
    if not evidence.same_shape:
        return ""
    differences = torch.cat([(got - expected).flatten() for expected, got in evidence.pairs])
    if len(differences) < MIN_NUMBERS or not differences.isfinite().all():
        return ""
    offset = float(differences.mean())
    if evidence.fits(lambda expected: expected + offset):
        return f"Every number differs from what is wanted by the same amount, {offset:+.4g}."
    return ""


def _offset_slices(evidence: Evidence) -> str:
    return _slice_by_slice(
        evidence,
        _slice_offsets,
        "is off by an amount of its own: was a mean or a normaliser not taken away?",
    )


def _slice_offsets(expected: Tensor, got: Tensor) -> Tensor | None:
    if expected.shape[1] < MIN_NUMBERS:
        return None
    return expected + (got - expected).mean(dim=1, keepdim=True)


def _slice_by_slice(evidence: Evidence, change: Callable[[Tensor, Tensor], Tensor | None], words: str) -> str:
    """A sentence when one change for each index of an axis explains everything."""
    if not evidence.same_shape or evidence.n_axes < 2:
        return ""
    if not all(side.numel() and side.isfinite().all() for pair in evidence.pairs for side in pair):
        return ""
    for axis in range(evidence.n_axes):
        rows = [[side.movedim(axis, 0).flatten(1) for side in pair] for pair in evidence.pairs]
        changed = [change(expected, got) for expected, got in rows]
        if all(new is not None and evidence.close(new, got) for new, (_, got) in zip(changed, rows, strict=True)):
            return f"Along {evidence.name(axis)}, each slice {words}"
    return ""


def _up_to_sign(evidence: Evidence) -> str:
    if not evidence.same_shape or not all(evidence.close(e.abs(), g.abs()) for e, g in evidence.pairs):
        return ""
    opposite = sum(int((e * g < 0).sum()) for e, g in evidence.pairs)
    signed = sum(int((e != 0).sum()) for e, _ in evidence.pairs)
    return f"The sizes are right, but {opposite} of {signed} numbers have the wrong sign." if opposite else ""


_FINDERS: tuple[Finder, ...] = (
    extra_axis,
    *SHAPES,
    _simple_changes,
    _scaled,
    *PLACES,
    _offset,
    _up_to_sign,
    _scaled_slices,
    _offset_slices,
    _summed,
    *LEFTOVERS,
)
