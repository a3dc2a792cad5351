"""How models change over training: where the phase change lies, the path of per-token losses, learning speed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from course_lib.config import check_counts, check_integers
from course_lib.icl import log_derivative

Numbers = Sequence[float | int] | np.ndarray
SURE = 5.0  # a fall must be this many times the noise of the smoothed score


def phase_change_window(
    tokens: Numbers, icl: Numbers, smooth: int = 3, share: float = 0.3, min_drop: float = 0.05
) -> tuple[float, float] | None:
    """The stretch of training in which the in-context-learning score falls fastest; None if it never does.

    Smoothing: the score is averaged over `smooth` neighbouring records; the first and last stand in for missing
    neighbours. Its slope per token is taken between records. The window is the run of steps around the steepest
    fall whose slope stays above `share` of the steepest. Noise can cut the run short: with noise above a tenth
    of the fall, or with more than about 50 records, raise `smooth`.

    Failure: None when the smoothed score falls in the window by less than `min_drop`, or by less than 5 times its
    own noise, which is read from the jitter between neighbouring records. A steady fall all through training is
    one long window, not None.

    Args:
        tokens: training tokens at each record, rising.
        icl: in-context-learning score in nats at each record; 10 records or more tell a change from noise.
        smooth: odd number of records to average; 1 for none.
        share: how much of the steepest slope a step must have to belong to the window, 0..1.
        min_drop: nats the smoothed score must fall inside the window; less is taken for noise.

    Returns:
        (start, end) in training tokens, both at a record, or None.

    Raises:
        ValueError: lengths that differ, fewer than `smooth` + 2 records, tokens that do not rise, NaN,
            an even `smooth`, a `share` outside 0..1, a `min_drop` below 0.

    Source: Olsson et al. 2022 choose the window from the derivative of the score and draw it on every other plot.
    """
    x, y = np.asarray(tokens, dtype=float), np.asarray(icl, dtype=float)
    _check_window(x, y, smooth, share, min_drop)
    noise = _jitter(y) / smooth**0.5
    half = smooth // 2
    y = np.convolve(np.pad(y, half, mode="edge"), np.ones(smooth) / smooth, mode="valid")
    slope = np.diff(y) / np.diff(x)
    steepest = int(slope.argmin())
    inside = slope <= share * slope[steepest]
    start, end = steepest, steepest + 1
    while start > 0 and inside[start - 1]:
        start -= 1
    while end < len(slope) and inside[end]:
        end += 1
    if y[start] - y[end] < max(min_drop, SURE * noise):
        return None
    return float(x[start]), float(x[end])


def _jitter(y: np.ndarray) -> float:
    """Standard deviation of independent noise on a smooth curve, from the lower quartile of its second differences.

    The quartile ignores the change itself, as long as it takes up less than three quarters of the records.
    """
    quartile = np.quantile(np.abs(np.diff(y, n=2)), 0.25)
    return float(quartile / (0.3186 * 6**0.5))  # |normal| has its quartile at 0.3186; y - 2y + y has variance 6


def _check_window(x: np.ndarray, y: np.ndarray, smooth: int, share: float, min_drop: float) -> None:
    check_counts(smooth=smooth)
    if smooth % 2 == 0:
        raise ValueError(f"smooth must be odd, got {smooth}")
    if not 0 < share <= 1:
        raise ValueError(f"share must lie above 0 and at most at 1, got {share}")
    if not min_drop >= 0:  # NaN too
        raise ValueError(f"min_drop must be 0 or more, got {min_drop}")
    if x.shape != y.shape or x.ndim != 1 or len(x) < smooth + 2:
        raise ValueError(
            f"need as many tokens as scores and at least {smooth + 2} of each, got {x.shape} and {y.shape}"
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("tokens or icl contain NaN or infinity")
    if not (np.diff(x) > 0).all():
        raise ValueError("tokens must rise from record to record")


def token_positions(examples: int, length: int, generator: torch.Generator) -> Int[Tensor, " examples"]:
    """One random position for each example, 0 to length - 1: draw once, use for every snapshot of every model.

    Raises:
        ValueError: `examples` or `length` below 1.

    Source: Olsson et al. 2022, appendix on data collection, "random token per example".
    """
    check_counts(examples=examples, length=length)
    return torch.randint(length, (examples,), generator=generator)


def fixed_token_losses(
    losses: Float[Tensor, "*snapshots b i"], positions: Int[Tensor, " b"]
) -> Float[Tensor, "*snapshots b"]:
    """The per-token-loss vector of a snapshot: from each example the loss at its own fixed position, in nats.

    Args:
        losses: per-token losses, [..., example, index].
        positions: entry to take from each example, from `token_positions`; the same for all that are compared,
            which is why the function does not draw them.

    Raises:
        ValueError: shapes that do not fit, positions outside the sequences, losses that are not finite.

    Source: Olsson et al. 2022, appendix on data collection.
    """
    if losses.ndim < 2 or losses.numel() == 0 or tuple(positions.shape) != (losses.shape[-2],):
        raise ValueError(
            f"losses must be [..., example, index] with one position an example, "
            f"got {list(losses.shape)} and positions {list(positions.shape)}"
        )
    check_integers("positions", positions, losses.shape[-1])
    if not losses.isfinite().all():
        raise ValueError("losses contain NaN or infinity")
    return losses[..., torch.arange(len(positions)), positions]


@dataclass(frozen=True)
class Trajectories:
    """What `pca_trajectories` finds."""

    coordinates: dict[str, Tensor]  # model -> [snapshot, component], in nats
    explained: Tensor  # share of the variance of all snapshots, [component], falling
    components: Tensor  # orthonormal, [component, example]
    mean: Tensor  # of all snapshots, [example]


def pca_trajectories(series: Mapping[str, Float[Tensor, "snapshot b"]], components: int = 2) -> Trajectories:
    """Principal components of the per-token losses of several models, one trajectory a model.

    All snapshots of all models are stacked and centred together, so trajectories share one plane. A turn of a
    trajectory means that training began to change other losses than before. Each component is signed so that
    its entry of largest size is positive. Computed in float64.

    Args:
        series: model -> per-token losses over training, [snapshot, example], from `fixed_token_losses`.
        components: how many.

    Raises:
        ValueError: models with other examples, no more snapshots in all than components, all snapshots equal, NaN.

    Source: Olsson et al. 2022, argument 1, "per-token losses".
    """
    shapes = {name: list(losses.shape) for name, losses in series.items()}
    if not series or any(len(s) != 2 or 0 in s for s in shapes.values()) or len({s[1] for s in shapes.values()}) > 1:
        raise ValueError(f"every model needs losses [snapshot, example] on the same examples, got {shapes}")
    stacked = torch.cat([losses.double() for losses in series.values()])
    check_counts(components=components)
    if components >= len(stacked) or components > stacked.shape[1]:
        raise ValueError(
            f"{components} components need more snapshots than that and as many examples, got {list(stacked.shape)}"
        )
    if not stacked.isfinite().all():
        raise ValueError("losses contain NaN or infinity")
    mean = stacked.mean(dim=0)
    _, spread, directions = torch.linalg.svd(stacked - mean, full_matrices=False)
    if spread[0] <= 1e-12 * stacked.abs().max() * len(stacked):
        raise ValueError("all snapshots are equal, so they have no principal components")
    directions = directions[:components]
    largest = directions.gather(1, directions.abs().argmax(dim=1, keepdim=True))
    directions = directions * largest.sign()
    coordinates = {name: (losses.double() - mean) @ directions.T for name, losses in series.items()}
    return Trajectories(coordinates, (spread**2 / (spread**2).sum())[:components], directions, mean)


def training_speed(tokens: Numbers, loss: Numbers, bins: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """d loss / d ln(training tokens), in nats per unit of ln, over one run.

    Negative while the loss falls; more negative is faster learning. Smoothing: records are averaged in `bins` equal
    parts of ln(tokens), as in `icl.log_derivative`.

    Args:
        tokens: training tokens at each record, positive and rising: leave out the record before training.
        loss: in nats, at each record.
        bins: at least 2.

    Returns:
        Training tokens between neighbouring bins and the speed there.

    Raises:
        ValueError: one record only, tokens that are not positive and rising, lengths that differ, NaN.

    Source: Olsson et al. 2022, discussion, on learning speeds of models of different size.
    """
    x, y = (torch.as_tensor(np.asarray(values, dtype=float)) for values in (tokens, loss))
    if x.ndim != 1 or x.shape != y.shape or len(x) < 2:
        raise ValueError(
            f"need at least 2 records with as many tokens as losses, got {list(x.shape)} and {list(y.shape)}"
        )
    if not x[0] > 0:
        raise ValueError(f"tokens must be positive, got {float(x[0]):g}: leave out the record before training")
    middle, speed = log_derivative(x, y, bins)
    return middle.numpy(), speed.numpy()


def speed_order(runs: Mapping[str, tuple[Numbers, Numbers]], at: Sequence[float | int], bins: int = 12) -> pd.DataFrame:
    """Which of several models learns fastest at given numbers of training tokens.

    Args:
        runs: model -> (tokens, loss), each as in `training_speed`.
        at: training tokens at which to compare, such as one before and one after the phase change.
        bins: as in `training_speed`; between its points the speed is interpolated in ln(tokens).

    Returns:
        Tidy table `tokens model speed rank`; rank 1 learns fastest. An order that inverts shows as swapped ranks.

    Raises:
        ValueError: no runs, a number of tokens outside a run's range; what `training_speed` raises.

    Source: Olsson et al. 2022, discussion: the order of speeds of small and large models inverts at the change.
    """
    if not runs:
        raise ValueError("runs must hold at least one model, got none")
    rows = []
    for model, (tokens, loss) in runs.items():
        x, speed = training_speed(tokens, loss, bins)
        outside = [value for value in at if not x[0] <= value <= x[-1]]
        if outside:
            raise ValueError(f"{model} has a speed from {x[0]:.4g} to {x[-1]:.4g} tokens, not at {outside}")
        speeds = np.interp(np.log(at), np.log(x), speed)
        rows += [{"tokens": t, "model": model, "speed": float(s)} for t, s in zip(at, speeds, strict=True)]
    table = pd.DataFrame(rows, columns=["tokens", "model", "speed"])
    table["rank"] = table.groupby("tokens")["speed"].rank(method="first").astype(int)
    return table.sort_values(["tokens", "rank"], ignore_index=True)
