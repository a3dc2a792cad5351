"""Paths of models through the plane of two principal components, beside their losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt
from torch import Tensor

from course_lib.alternatives import with_alternatives
from course_lib.chart_data import Table, spread
from course_lib.explorers.linked import HALF, PLOT, chosen, moments, step_axis
from course_lib.plots import COLORS, STEP, slider


def trajectory_explorer(
    coordinates: Mapping[str, Tensor],
    explained: Tensor,
    losses: Mapping[str, Sequence[float]],
    steps: Sequence[int],
    title: str,
) -> alt.VConcatChart:
    """Paths of models through the plane of two principal components, and their losses; both mark the same moment.

    An open ring marks the first snapshot of a path, a filled one the chosen moment.

    Args:
        coordinates: model -> [snapshot, 2 or more], from `trajectory.pca_trajectories`.
        explained: share of the variance of each component.
        losses: model -> loss of every snapshot, in nats.
        steps: training step of every snapshot, evenly spaced.
        title: what to see.

    Raises:
        ValueError: no models, fewer than 2 components, models or numbers of snapshots that differ, uneven steps.
    """
    if not coordinates or len(explained) < 2 or any(path.shape[-1] < 2 for path in coordinates.values()):
        raise ValueError(f"need models with at least 2 components, got {list(coordinates)} and {len(explained)}")
    lengths = {name: (len(path), len(losses.get(name, ()))) for name, path in coordinates.items()}
    if set(losses) != set(coordinates) or any(pair != (len(steps),) * 2 for pair in lengths.values()):
        raise ValueError(
            f"each of {list(losses)} needs {len(steps)} places and losses, as many as steps, got {lengths}"
        )
    moment = chosen("moment", {"step": (slider(steps, STEP), steps[-1])}, ["places", "loss_steps"])
    rows = _rows(coordinates, losses, steps)
    colour = alt.Color("model:N", scale=alt.Scale(domain=list(coordinates), range=list(COLORS)), title=None)
    panels = [_paths(rows, explained, colour, moment), _losses(rows, steps, colour, moment)]
    chart = alt.vconcat(*panels, title=title, spacing=14)
    return with_alternatives(
        chart,
        f"{title}. Lines: the paths of {', '.join(coordinates)} in the plane of the first two principal components, "
        f"which hold {float(explained[0]):.0%} and {float(explained[1]):.0%} of the variance; below, their losses. A "
        f"moment is chosen by pointing at either, or with a slider, and is marked on both.",
        Table("places on the two components and loss, at four moments", _HEADS, _table(rows, steps)),
    )


_HEADS = ["model", "training step", "component 1", "component 2", "loss (nats)"]


def _rows(coordinates: Mapping[str, Tensor], losses: Mapping[str, Sequence[float]], steps: Sequence[int]) -> list[dict]:
    return [
        {"model": model, "step": step, "x": round(float(x), 3), "y": round(float(y), 3), "loss": round(float(loss), 3)}
        for model, path in coordinates.items()
        for step, (x, y), loss in zip(steps, path[:, :2], losses[model], strict=True)
    ]


def _paths(rows: list[dict], explained: Tensor, colour: alt.Color, moment: alt.Parameter) -> alt.LayerChart:
    titles = [f"component {i + 1} ({float(explained[i]):.0%} of the variance)" for i in range(2)]
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        x=alt.X("x:Q", title=titles[0]),
        y=alt.Y("y:Q", title=titles[1]),
        color=colour,
        tooltip=["model:N", "step:Q", "loss:Q"],
    )
    paths = base.mark_line(strokeWidth=1.2).encode(order="step:Q")
    starts = base.mark_point(size=90, filled=False).transform_filter(f"datum.step == {rows[0]['step']}")
    now = base.mark_circle(size=110, opacity=1).transform_filter(moment)
    places = base.mark_circle(size=16, opacity=1)
    over = base.properties(name="places").mark_circle(size=120, aria=False).encode(color=alt.value("transparent"))
    return alt.layer(paths, starts, places, now, over.add_params(moment), width=PLOT, height=2 * HALF)


def _losses(rows: list[dict], steps: Sequence[int], colour: alt.Color, moment: alt.Parameter) -> alt.LayerChart:
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        x=step_axis(steps), y=alt.Y("loss:Q", title="loss (nats)", scale=alt.Scale(zero=False)), color=colour
    )
    lines = base.mark_line(strokeWidth=1.2)
    now = base.mark_circle(size=70, opacity=1).transform_filter(moment)
    rule, columns = moments(steps, "loss_steps", moment)
    return alt.layer(lines, rule, now, columns, width=PLOT, height=HALF)


def _table(rows: list[dict], steps: Sequence[int]) -> list[list]:
    kept = spread(steps, 4)
    return [[row[name] for name in ("model", "step", "x", "y", "loss")] for row in rows if row["step"] in kept]
