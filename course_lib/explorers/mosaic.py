"""The mosaic of all heads at any moment of training, with the score of every head and the loss of the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt
import torch

from course_lib.alternatives import with_alternatives
from course_lib.chart_data import Table, spread
from course_lib.explorers.linked import HALF, PLOT, bare, chosen, moments, option, step_axis
from course_lib.plots import COLORS, STEP, TILE_INK, TILE_PAPER, slider

TILE = 26  # height of a tile
LEVELS = 100  # a score is kept in hundredths
ROWS = 12  # of the table


def mosaic_explorer(
    runs: Mapping[str, Sequence[Mapping]],
    title: str,
    scores: Sequence[str] = ("prefix_matching", "previous_token"),
) -> alt.VConcatChart:
    """All heads of a model at a moment of training, a tile a head; below, every head's score and the model's loss.

    Args:
        runs: model -> its records, each with `step`, `validation_loss` and every score, [layer, head] in 0..1; the
            steps are evenly spaced and the same in all models.
        title: what to see.
        scores: names of the scores to choose from; the first is shown first.

    Raises:
        ValueError: no models, no scores, records without a score, steps that differ or are not evenly spaced.
    """
    steps = _steps(runs, [*scores, "validation_loss"])
    if not scores:
        raise ValueError("scores must name at least one score, got none")
    shown = [option("score", list(scores), "score"), option("model", list(runs), "model")]
    moment = chosen("moment", {"step": (slider(steps, STEP), steps[-1])}, ["score_steps", "loss_steps"])
    heads, losses = _head_rows(runs, scores), _loss_rows(runs)
    panels = [_mosaic(heads, steps, moment), _score_lines(heads, steps, moment), _losses(losses, steps, moment)]
    panels[0] = panels[0].add_params(*shown)
    chart = alt.vconcat(*panels, title=title, spacing=14).resolve_scale(color="independent")
    names = [f"{layer}.{head}" for layer, head in _strongest(runs, scores[0])]
    columns = ["training step", "loss (nats)", *(f"{scores[0].replace('_', ' ')} of {name}" for name in names)]
    return with_alternatives(
        chart,
        f"{title}. Tiles: one a head, a row a layer, shaded by {scores[0]} at a training step that is chosen with a "
        f"slider or by pointing at the curves below: the score of every head, and the loss of the model. "
        f"{next(iter(runs))} is shown first; its strongest heads are {', '.join(names)}.",
        Table(f"{next(iter(runs))}: loss and its strongest heads", columns, _table(runs, scores[0])),
    )


def _steps(runs: Mapping[str, Sequence[Mapping]], names: Sequence[str]) -> list[int]:
    found = {model: [int(record["step"]) for record in records] for model, records in runs.items()}
    if not found or len(set(map(tuple, found.values()))) > 1:
        raise ValueError(f"runs must hold models with the same steps, got {found}")
    for model, records in runs.items():
        missing = [name for name in names if any(name not in record for record in records)]
        if missing:
            raise ValueError(f"records of {model!r} have no {missing}; the first has {sorted(records[0])}")
    return next(iter(found.values()))


def _head_rows(runs: Mapping[str, Sequence[Mapping]], scores: Sequence[str]) -> list[dict]:
    """A row a head, with each of its scores over the steps in hundredths."""
    rows = []
    for model, records in runs.items():
        values = {name: torch.stack([torch.as_tensor(r[name]) for r in records]) for name in scores}  # step layer head
        _, n_layers, n_heads = values[scores[0]].shape
        for layer, head in ((layer, head) for layer in range(n_layers) for head in range(n_heads)):
            row = {"model": model, "name": f"{layer}.{head}", "layer": layer, "head": head}
            films = {name: (LEVELS * v[:, layer, head]).round().int().tolist() for name, v in values.items()}
            rows.append(row | films)
    return rows


def _loss_rows(runs: Mapping[str, Sequence[Mapping]]) -> list[dict]:
    return [
        {"model": model, "step": int(r["step"]), "loss": round(float(r["validation_loss"]), 3)}
        for model, records in runs.items()
        for r in records
    ]


def _mosaic(heads: list[dict], steps: list[int], moment: alt.Parameter) -> alt.LayerChart:
    place = f"(({moment.name}.step || [{steps[-1]}])[0] - {steps[0]}) / {steps[1] - steps[0]}"
    layers = {row["layer"] for row in heads}
    base = (
        alt.Chart(alt.InlineData(values=heads))
        .transform_filter("datum.model == model")
        .transform_calculate(value=f"datum[score][{place}] / {LEVELS}")
        .transform_calculate(told="datum.name + ': ' + format(datum.value, '.2f')")
        .encode(
            x=alt.X("head:O", title="head", axis=bare(labelAngle=0)),
            y=alt.Y("layer:O", title="layer", sort="descending", axis=bare()),
            tooltip=["name:N", alt.Tooltip("value:Q", format=".2f")],
        )
    )
    shade = alt.Scale(domain=[0, 1], range=[TILE_PAPER, COLORS[5]])
    tiles = base.mark_rect(stroke="white").encode(color=alt.Color("value:Q", title="score", scale=shade))
    names = base.mark_text(fontSize=11, color=TILE_INK).encode(text="told:N")
    return alt.layer(tiles, names, width=PLOT, height=TILE * max(4, len(layers)))


def _score_lines(heads: list[dict], steps: list[int], moment: alt.Parameter) -> alt.LayerChart:
    lines = (
        alt.Chart(alt.InlineData(values=heads))
        .transform_filter("datum.model == model")
        .transform_calculate(film="datum[score]")
        .transform_flatten(["film"])
        .transform_window(place="row_number()", groupby=["name"])
        .transform_calculate(
            step=f"{steps[0]} + (datum.place - 1) * {steps[1] - steps[0]}", value=f"datum.film / {LEVELS}"
        )
        .mark_line(strokeWidth=1.5)
        .encode(
            x=step_axis(steps),
            y=alt.Y("value:Q", title="score of every head", scale=alt.Scale(domain=[0, 1])),
            detail="name:N",
            color=alt.Color("layer:N", title="layer", scale=alt.Scale(range=list(COLORS))),
        )
    )
    rule, columns = moments(steps, "score_steps", moment)
    return alt.layer(lines, rule, columns, width=PLOT, height=HALF)


def _losses(losses: list[dict], steps: list[int], moment: alt.Parameter) -> alt.LayerChart:
    line = (
        alt.Chart(alt.InlineData(values=losses))
        .transform_filter("datum.model == model")
        .mark_line(strokeWidth=1.5, color=COLORS[0])
        .encode(x=step_axis(steps), y=alt.Y("loss:Q", title="loss (nats)", scale=alt.Scale(zero=False)))
    )
    rule, columns = moments(steps, "loss_steps", moment)
    return alt.layer(line, rule, columns.add_params(moment), width=PLOT, height=HALF)


def _strongest(runs: Mapping[str, Sequence[Mapping]], score: str) -> list[tuple[int, int]]:
    """Layer and head of the three highest scores at the end of the first model."""
    last = torch.as_tensor(next(iter(runs.values()))[-1][score])
    order = last.flatten().argsort(descending=True)[:3].tolist()
    return [divmod(place, last.shape[1]) for place in order]


def _table(runs: Mapping[str, Sequence[Mapping]], score: str) -> list[list]:
    records, heads = next(iter(runs.values())), _strongest(runs, score)
    return [
        [r["step"], float(r["validation_loss"]), *(float(torch.as_tensor(r[score])[head]) for head in heads)]
        for r in spread(records, ROWS)
    ]
