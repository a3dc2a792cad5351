"""In-context learning, measured on per-token losses: scores, slopes, intervals, the map of loss over training.

Tokens are counted from 1 after the start token: token n is entry n - 1 of `scores.per_token_loss`. Losses are in
nats. Every measure is a mean over examples: leading axes (snapshots, models) are kept, and the measure of a
difference of losses is the difference of the measures. It is taken in float32 or, of float64 losses, in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from course_lib.config import check_counts, check_whole

if TYPE_CHECKING:
    import pandas as pd  # loaded where a table is made: much slower to import than all else here

AGAINST = ("index", "ln index")


def icl_score(
    losses: Float[Tensor, "*snapshots b i"], early: int = 50, late: int = 500, window: int = 0
) -> Float[Tensor, "*snapshots"]:
    """In-context-learning score in nats: mean loss of token `late` minus mean loss of token `early`.

    Any sign; more negative means that the context helps more. In the paper above -0.15 before the phase change,
    about -0.4 after it. It is no proof of induction: counting the context's tokens lowers it too.

    Args:
        losses: per-token losses, [..., example, index], from `per_token_loss`.
        early, late: which tokens to compare; 50 and 500 are the paper's.
        window: average over the tokens from n - window to n + window; 0 is the paper's definition.
            A single token needs thousands of examples before its mean is steady, a window fewer.

    Raises:
        ValueError: a token outside the sequences, losses that are empty or not finite.

    Source: Olsson et al. 2022, "in-context learning score".
    """
    losses = _checked(losses)
    n = losses.shape[-1]
    if window < 0 or early - window < 1 or early >= late or late + window > n:
        raise ValueError(
            f"early={early}, late={late}, window={window} do not fit sequences of {n} tokens: "
            "need 1 <= early - window, early < late, late + window <= tokens"
        )
    return windowed_icl_score(losses, (early - window, early + window), (late - window, late + window))


def windowed_icl_score(
    losses: Float[Tensor, "*snapshots b i"], early: tuple[int, int] = (26, 75), late: tuple[int, int] = (462, 511)
) -> Float[Tensor, "*snapshots"]:
    """Mean loss of the tokens of the window `late` minus that of the window `early`, in nats.

    Any sign; more negative means that the context helps more. Steadier than two single tokens.

    Args:
        losses: per-token losses, [..., example, index].
        early, late: first and last token of each window, both included.

    Raises:
        ValueError: a window that is empty, outside the sequences or in the wrong order; losses empty or not finite.

    Source: the course's own; Olsson et al. 2022 compare two single tokens.
    """
    losses = _checked(losses)
    n = losses.shape[-1]
    for name, end in (("early", early[0]), ("early", early[1]), ("late", late[0]), ("late", late[1])):
        check_whole(name, end)
    if not (1 <= early[0] <= early[1] <= n and 1 <= late[0] <= late[1] <= n and early[0] < late[0]):
        need = f"need 1 <= first <= last <= {n}, and late to begin after early"
        raise ValueError(f"early={early} and late={late} do not fit sequences of {n} tokens: {need}")
    by_token = losses.mean(dim=-2)  # average over examples first: both terms are means
    at_late, at_early = (by_token[..., first - 1 : last].mean(dim=-1) for first, last in (late, early))
    return at_late - at_early


def index_slope(
    losses: Float[Tensor, "*snapshots b i"], against: str = "ln index", first: int = 1, last: int | None = None
) -> Float[Tensor, "*snapshots"]:
    """Least-squares slope of the mean loss against the token index or its natural logarithm.

    Any sign; more negative means that loss falls faster along the context. It uses every token, not two.

    Args:
        losses: per-token losses, [..., example, index].
        against: "index" gives nats per token; "ln index" gives nats per unit of ln(index):
            multiply by ln 2 for nats per doubling of the context.
        first, last: tokens to fit, both included; all by default.

    Raises:
        ValueError: an unknown `against`, fewer than 2 tokens, losses that are empty or not finite.

    Source: the course's own; Olsson et al. 2022 study the derivative in ln(index), see `loss_derivative`.
    """
    losses = _checked(losses)
    n = losses.shape[-1]
    last = n if last is None else last
    check_whole("first", first)
    check_whole("last", last)
    if against not in AGAINST:
        raise ValueError(f"against must be one of {AGAINST}, got {against!r}")
    if not 1 <= first < last <= n:
        raise ValueError(
            f"first={first}, last={last} do not fit sequences of {n} tokens: need 1 <= first < last <= {n}"
        )
    x = torch.arange(first, last + 1, dtype=losses.dtype, device=losses.device)
    x = x.log() if against == "ln index" else x
    x = x - x.mean()
    return losses.mean(dim=-2)[..., first - 1 : last] @ (x / (x * x).sum())


@dataclass(frozen=True)
class Estimate:
    """A measured value and the ends of its interval, each with the leading axes of the losses it came from."""

    value: Tensor
    low: Tensor
    high: Tensor


def bootstrap(
    measure: Callable[..., Tensor],
    losses: Float[Tensor, "*snapshots b i"],
    generator: torch.Generator,
    samples: int = 1000,
    level: float = 0.95,
    **options: object,
) -> Estimate:
    """A measure of in-context learning with a bootstrap interval over examples: `bootstrap(icl_score, losses, g)`.

    Examples are drawn with replacement; the interval lies between two percentiles of the redrawn means. Snapshots
    and models stacked in `losses` share each draw. To compare two models, pass the difference of their losses:
    their examples are paired, so the interval of the difference is far narrower than its parts'.
    The interval covers the choice of examples only, not the seed of the model.

    Args:
        measure: `icl_score`, `windowed_icl_score`, `index_slope`, or any mean over examples of a function of one.
        losses: [..., example, index], at least 2 examples; below about 20 the interval is too narrow.
        generator: draws the examples.
        samples: number of redrawn sets.
        level: share of intervals that should cover the truth, between 0 and 1.
        options: passed on to the measure, such as `late=250`.

    Raises:
        ValueError: one example, `level` or `samples` out of range, a measure that is no mean; what it raises itself.

    Source: Efron 1979, percentile method.
    """
    losses = _checked(losses)
    examples = losses.shape[-2]
    check_counts(2, samples=samples)
    if examples < 2 or not 0 < level < 1:
        raise ValueError(f"need 2 examples and 0 < level < 1, got {examples} and {level}")
    value = measure(losses, **options)
    by_example = measure(losses.unsqueeze(-2), **options)  # every example a data set of its own: ... b
    if by_example.shape != losses.shape[:-1] or not torch.allclose(by_example.mean(-1), value, rtol=1e-3, atol=1e-4):
        raise ValueError("measure must be a mean over examples: its value is not the mean of its values one by one")
    drawn = torch.randint(examples, (samples, examples), generator=generator)
    times = torch.zeros(samples, examples).scatter_add_(1, drawn, torch.ones(samples, examples))  # samples b
    means = by_example @ times.to(by_example).mT / examples  # ... samples
    low, high = means.quantile(torch.tensor([(1 - level) / 2, (1 + level) / 2]).to(means), dim=-1)
    return Estimate(value, low, high)


def loss_map(snapshots: Mapping[int, Tensor]) -> pd.DataFrame:
    """Mean loss by training step and token index, in nats: a row a step, a column an index, counted from 1.

    Args:
        snapshots: training step -> losses, [example, index], or their mean over examples, [index].

    Returns:
        A table of floats; `.to_numpy()` is the array [step, index]. The steps rise.

    Raises:
        ValueError: no snapshots, other shapes, lengths that differ, losses that are not finite.

    Source: Olsson et al. 2022, argument 1, the loss over training and token index.
    """
    import pandas as pd

    rows = {}
    for step in sorted(snapshots):
        losses = snapshots[step]
        if losses.ndim not in (1, 2):
            raise ValueError(f"losses of step {step} must be [example, index] or [index], got {list(losses.shape)}")
        losses = _checked(losses if losses.ndim == 2 else losses[None])
        rows[step] = losses.mean(dim=0).tolist()
    lengths = {len(row) for row in rows.values()}
    if len(lengths) != 1:
        raise ValueError(f"snapshots must not be empty and must have one number of tokens, got {sorted(lengths)}")
    columns = pd.RangeIndex(1, lengths.pop() + 1, name="index")
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis(index="step")


def loss_derivative(
    losses: Float[Tensor, "*snapshots b i"], bins: int = 12
) -> tuple[Float[Tensor, " m"], Float[Tensor, "*snapshots m"]]:
    """d loss / d ln(token index), in nats per unit of ln: how fast the loss falls along the context, and where.

    Any sign; negative where more context still helps. Losses are averaged over examples and then, as in
    `log_derivative` (smoothing, return), over bins of token indices.

    Raises:
        ValueError: losses that are empty or not finite; fewer than 2 tokens or bins.

    Source: Olsson et al. 2022, argument 1, "derivative of loss with respect to the log token index".
    """
    losses = _checked(losses)
    index = torch.arange(1, losses.shape[-1] + 1, dtype=losses.dtype, device=losses.device)
    return log_derivative(index, losses.mean(dim=-2), bins)


def log_derivative(
    x: Float[Tensor, " n"], y: Float[Tensor, "*lines n"], bins: int = 12
) -> tuple[Float[Tensor, " m"], Float[Tensor, "*lines m"]]:
    """d y / d ln(x) by differences between neighbouring bins. Exact for `y = a + b ln(x)`.

    Smoothing: the range of x is cut into `bins` equal parts of ln(x); in each, y and ln(x) are averaged, and empty
    parts are left out. More bins show more detail and more noise.

    Args:
        x: positive and rising, at least 2.
        y: one value for each x, [..., n]; leading axes are kept.
        bins: how many parts, at least 2.

    Returns:
        The geometric middle of each pair of neighbouring bins, and the derivative there: at most bins - 1.

    Raises:
        ValueError: x that is not positive and rising, lengths that differ, NaN or infinity, fewer than 2 bins.
    """
    if x.ndim != 1 or len(x) < 2 or y.shape[-1:] != x.shape:
        raise ValueError(f"need at least 2 of x, and as many y; got {list(x.shape)}, {list(y.shape)}")
    if not (x.isfinite().all() and y.isfinite().all()):
        raise ValueError("x and y must be finite, got NaN or infinity")
    if not (x[0] > 0 and (x.diff() > 0).all()):
        raise ValueError(f"x must be positive and rise, got {x[:3].tolist()} and so on")
    y = _wide(y)
    x = x.to(y)
    means = log_bins(x, bins)  # m n
    ln_x, y = means @ x.log(), y @ means.mT
    return ((ln_x[1:] + ln_x[:-1]) / 2).exp(), y.diff(dim=-1) / ln_x.diff()


def log_bins(x: Float[Tensor, " n"], bins: int) -> Float[Tensor, "m n"]:
    """Averaging matrix: row m takes the mean of what falls into the m-th non-empty of `bins` equal parts of ln(x).

    Raises:
        ValueError: fewer than 2 bins.
    """
    check_counts(2, bins=bins)
    place = (x / x[0]).log() / (x[-1] / x[0]).log()  # 0..1
    part = (place * bins).floor().clamp(max=bins - 1)
    inside = (part[None, :] == part.unique()[:, None]).to(x.dtype)
    return inside / inside.sum(dim=-1, keepdim=True)


def _wide(values: Tensor) -> Tensor:
    """In float32 at least: in bfloat16 the token indices themselves are rounded from 257 on."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _checked(losses: Tensor) -> Tensor:
    """The losses in float32 at least, once they have a shape that fits and no NaN."""
    if losses.ndim < 2 or losses.numel() == 0:
        raise ValueError(f"losses must have shape [..., example, index] and not be empty, got {list(losses.shape)}")
    if not losses.isfinite().all():
        raise ValueError("losses contain NaN or infinity")
    return _wide(losses)
