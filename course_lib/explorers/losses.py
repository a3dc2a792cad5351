"""The loss over training and along the context, as a map that is cut in both directions."""

from __future__ import annotations

import altair as alt
import pandas as pd
import torch

from course_lib.alternatives import with_alternatives
from course_lib.chart_data import Table, spread
from course_lib.explorers.linked import CHOSEN, HALF, PLOT, chosen, frame, menu, step_axis, subtitle, targets
from course_lib.icl import log_bins
from course_lib.plots import COLORS, STEP, slider

INDEX = "token index (start of each bin)"
NATS = "loss (nats)"
LINE, LAST = COLORS[0], COLORS[7]


def loss_explorer(losses: pd.DataFrame, title: str, bins: int = 24) -> alt.VConcatChart:
    """Map of the loss over training (down) and along the context (right), with the two cuts through any of its tiles.

    Below the map: the loss along the context at the chosen step, with the last step in grey; and the loss over
    training at the chosen token index.

    Args:
        losses: from `icl.loss_map`: a row a training step (evenly spaced), a column a token index, nats.
        title: what to see.
        bins: token indices are averaged in at most this many equal parts of ln(index).

    Raises:
        ValueError: an empty table, fewer than 2 indices or bins, steps that are not evenly spaced.
    """
    if losses.empty or losses.shape[1] < 2:
        raise ValueError(f"losses must be a table of at least 2 token indices, got {list(losses.shape)}")
    firsts, lasts, binned = _binned(losses, bins)  # step, bin
    steps = [int(step) for step in losses.index]
    at = chosen(
        "at",
        {"step": (slider(steps, STEP), steps[-1]), "first": (menu(firsts, "token index"), firsts[-1])},
        ["map"],
    )
    rows = [{"step": step, "film": line} for step, line in zip(steps, binned, strict=True)]
    data = (
        alt.Chart(alt.InlineData(values=rows))
        .transform_flatten(["film"], as_=["loss"])
        .transform_window(place="row_number()", groupby=["step"])
        .transform_calculate(first=f"{firsts}[datum.place - 1]", last=f"{lasts}[datum.place - 1]")
        .transform_calculate(tokens="datum.first + ' to ' + datum.last")
    )
    limits = [min(map(min, binned)), max(map(max, binned))]
    panels = [
        _map(data, at, len(steps)),
        _along_the_context(data, at, steps[-1], limits),
        _over_training(data, at, steps, limits),
    ]
    chart = alt.vconcat(*panels, title=title, spacing=14).resolve_scale(color="independent")
    columns = ["training step", *(f"token {first}" for first in spread(firsts, 6))]
    return with_alternatives(
        chart,
        f"{title}. Tiles: training step downwards, {INDEX} across, shaded by the loss, which runs from {limits[0]:.2f} "
        f"to {limits[1]:.2f} nats. A tile is chosen by pointing or with two controls; below, lines show the loss "
        "along the context at that step, beside that of the last step, and the loss over training at that index.",
        Table(NATS, columns, _table(steps, firsts, binned)),
    )


def _binned(losses: pd.DataFrame, bins: int) -> tuple[list[int], list[int], list[list[float]]]:
    """First and last token index of every bin, and the mean losses, [step][bin]."""
    index = torch.tensor(list(losses.columns), dtype=torch.float64)
    means = log_bins(index, bins)  # bin index
    edges = [[int(value) for value in index[row > 0][[0, -1]]] for row in means]
    binned = (torch.tensor(losses.to_numpy()) @ means.mT).tolist()
    firsts, lasts = zip(*edges, strict=True)
    return list(firsts), list(lasts), [[round(loss, 3) for loss in line] for line in binned]


def _map(data: alt.Chart, at: alt.Parameter, rows: int) -> alt.LayerChart:
    base = data.encode(
        x=alt.X("first:O", title=INDEX, axis=alt.Axis(labelOverlap=True, labelAngle=0)),
        y=alt.Y("step:O", title=STEP, axis=alt.Axis(labelOverlap=True)),
        tooltip=["step:Q", "tokens:N", alt.Tooltip("loss:Q", title=NATS)],
    )
    shade = alt.Scale(scheme="viridis", reverse=True)
    tiles = base.mark_rect().encode(color=alt.Color("loss:Q", title=NATS, scale=shade))
    height = max(3, 2 * HALF // rows) * rows  # whole pixels: no seams
    return alt.layer(tiles, frame(base, at), targets(base, "map").add_params(at), width=PLOT, height=height)


def _along_the_context(data: alt.Chart, at: alt.Parameter, end: int, limits: list[float]) -> alt.LayerChart:
    base = data.encode(
        x=alt.X("first:O", title=INDEX, axis=alt.Axis(labelOverlap=True, labelAngle=0)),
        y=alt.Y("loss:Q", title=NATS, scale=alt.Scale(domain=limits)),
        tooltip=["step:Q", "tokens:N", alt.Tooltip("loss:Q", title=NATS)],
    )
    last = base.mark_line(color=LAST, strokeDash=[4, 3]).transform_filter(f"datum.step == {end}")
    now = base.mark_line(color=LINE, point=alt.OverlayMarkDef(size=16)).transform_filter(
        f"datum.step == {at.name}_step"
    )
    return alt.layer(
        last,
        now,
        width=PLOT,
        height=HALF,
        title=subtitle("Along the context, at the chosen step (dashed: at the last)"),
    )


def _over_training(data: alt.Chart, at: alt.Parameter, steps: list[int], limits: list[float]) -> alt.LayerChart:
    base = data.encode(
        x=step_axis(steps),
        y=alt.Y("loss:Q", title=NATS, scale=alt.Scale(domain=limits)),
        tooltip=["step:Q", "tokens:N", alt.Tooltip("loss:Q", title=NATS)],
    )
    line = base.mark_line(color=LINE, point=alt.OverlayMarkDef(size=16))
    here = base.mark_point(size=110, strokeWidth=2, opacity=1, color=CHOSEN).transform_filter(at)
    line = line.transform_filter(f"datum.first == {at.name}_first")
    return alt.layer(line, here, width=PLOT, height=HALF, title=subtitle("Over training, at the chosen token index"))


def _table(steps: list[int], firsts: list[int], binned: list[list[float]]) -> list[list]:
    places = spread(range(len(firsts)), 6)
    return [[steps[i], *(binned[i][j] for j in places)] for i in spread(range(len(steps)), 12)]
