"""The same measurements at several checkpoints of any model: ours, or published ones loaded one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import altair as alt
import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor

from course_lib.adapters import AttentionModel
from course_lib.config import check_whole
from course_lib.evaluate import all_head_scores, token_losses
from course_lib.icl import icl_score
from course_lib.model import Transformer
from course_lib.plots import COLORS, LEGEND, WIDTH

Checkpoint = tuple[str, float, Callable[[], Transformer | AttentionModel]]  # model, training tokens, how to load it

PANELS = {"loss": "loss (nats)", "icl": "ICL score (nats)", "score": "best head's score"}
SCORES = {"prefix_matching": "prefix matching", "previous_token": "previous token"}


def spaced_steps(steps: Sequence[int], count: int) -> list[int]:
    """About evenly spaced choice, in the logarithm, of the steps at which a model was kept: first and last included.

    Step 0 has no logarithm; if there is one it is taken as well, as one of the `count`.

    Args:
        steps: rising, from 0 or more, such as `pretrained.PYTHIA_STEPS`.
        count: how many to choose, at least 3; fewer come back where neighbours fall together.

    Raises:
        ValueError: steps that do not rise, a count below 3 or above the number of steps.
    """
    given = torch.as_tensor(steps, dtype=torch.float64)
    check_whole("count", count)
    if given.ndim != 1 or not 3 <= count <= len(given) or not (given.diff() > 0).all() or given[0] < 0:
        raise ValueError(
            f"need rising steps from 0 on and 3 <= count <= {len(steps)}, got {list(steps)[:4]} and {count}"
        )
    later = given[given > 0]
    wanted = torch.linspace(later[0].log(), later[-1].log(), count - int(given[0] == 0), dtype=torch.float64)
    nearest = (later.log()[None, :] - wanted[:, None]).abs().argmin(dim=1).unique()
    return [0] * int(given[0] == 0) + [int(step) for step in later[nearest]]


def checkpoint_record(
    model: Transformer | AttentionModel,
    text: Int[Tensor, "b p"],
    repeated: Int[Tensor, "n q"],
    batch: int = 4,
    **icl: int,
) -> dict[str, float | str]:
    """What this course asks of one checkpoint, as one row.

    Args:
        text: tokens to predict, for the loss and the in-context-learning score, [batch, pos].
        repeated: repeated random tokens for the head scores, from `data.repeated_tokens`.
        batch: sequences of `text` at once; unless the model is a `Transformer`, their logits over the whole
            vocabulary are held together.
        icl: `early`, `late`, `window` of `icl.icl_score`.

    Returns:
        `loss` and `icl` in nats; `head`, the name of the best prefix-matching head; `prefix_matching` and
        `previous_token`, the best scores of any head, 0..1.

    Raises:
        ValueError: as in `token_losses`, `icl_score` and `all_head_scores`.
    """
    losses = token_losses(model, text, batch=batch)
    scores = all_head_scores(model, repeated).pivot(index="name", columns="score", values="value")
    return {
        "loss": losses.mean().item(),
        "icl": icl_score(losses, **icl).item(),
        "head": scores["prefix_matching"].idxmax(),
        "prefix_matching": float(scores["prefix_matching"].max()),
        "previous_token": float(scores["previous_token"].max()),
    }


def checkpoint_table(
    checkpoints: Iterable[Checkpoint], text: Int[Tensor, "b p"], repeated: Int[Tensor, "n q"], **options: int
) -> pd.DataFrame:
    """`checkpoint_record` of every checkpoint, one after another: only one model is in memory at a time.

    Args:
        checkpoints: (name of the model, training tokens, a function that loads it).
        text, repeated, options: as in `checkpoint_record`.

    Returns:
        A row a checkpoint: `model tokens loss icl head prefix_matching previous_token`.
    """
    rows = [
        {"model": name, "tokens": tokens} | checkpoint_record(load(), text, repeated, **options)
        for name, tokens, load in checkpoints
    ]
    return pd.DataFrame(rows)


def checkpoints_chart(table: pd.DataFrame, title: str) -> alt.VConcatChart:
    """Loss, in-context-learning score and best head scores of checkpoints, over the logarithm of training tokens.

    The record before training, at 0 tokens, has no place on that axis and is left out.

    Args:
        table: from `checkpoint_table`.
        title: what to see.

    Raises:
        ValueError: no checkpoint after the start of training.
    """
    trained = table[table["tokens"] > 0]
    if trained.empty:
        raise ValueError("table must have a row with tokens above 0")
    scores = trained.melt(["model", "tokens"], list(SCORES), "measurement", "score").replace({"measurement": SCORES})
    models = list(dict.fromkeys(trained["model"]))
    color = alt.Color("model:N", title=None, scale=alt.Scale(domain=models, range=list(COLORS)))
    x = alt.X(
        "tokens:Q",
        title="training tokens",
        scale=alt.Scale(type="log", nice=False),
        axis=alt.Axis(format="~s", tickCount=5),
    )

    def panel(rows: pd.DataFrame, name: str, **more: alt.SchemaBase) -> alt.Chart:
        y = alt.Y(f"{name}:Q", title=PANELS[name], scale=alt.Scale(zero=False))
        tips = ["model:N", alt.Tooltip("tokens:Q", format=".3s"), alt.Tooltip(f"{name}:Q", format=".3f")]
        chart = alt.Chart(rows, width=WIDTH - LEGEND, height=110).mark_line(point=True)
        return chart.encode(x=x, y=y, color=color, tooltip=tips, **more)

    legend = alt.Legend(symbolType="stroke", symbolStrokeColor=COLORS[0], symbolStrokeWidth=2)
    dashes = alt.StrokeDash("measurement:N", title=None, sort=list(SCORES.values()), legend=legend)
    panels = [panel(trained, "loss"), panel(trained, "icl"), panel(scores, "score", strokeDash=dashes)]
    return alt.vconcat(*panels, title=title, spacing=8).resolve_scale(x="shared")
