"""What is lost without each head, and on which tokens of a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import altair as alt
import numpy as np
import pandas as pd
from jaxtyping import Float
from torch import Tensor

from course_lib.alternatives import with_alternatives
from course_lib.chart_data import Table
from course_lib.explorers.linked import CHOSEN, CLICK, HALF, PLOT, chosen, frame, menu, option, targets
from course_lib.plots import COLORS, TILE_HEIGHT, TILE_PAPER, TOKENS_A_LINE, slider, token_rows, token_texts

WHOLE, WITHOUT = COLORS[0], COLORS[1]


def ablation_explorer(
    changes: pd.DataFrame,
    losses: Float[Tensor, " p"],
    ablated: Mapping[str, Float[Tensor, "layer h p"]],
    tokens: Sequence[str],
    title: str,
) -> alt.VConcatChart:
    """Bars of what each ablation changes; below, one text's losses with and without the chosen head, token by token.

    Args:
        changes: a row a head and kind of ablation, with `head` ("1.0"), `kind`, and one or more columns of numbers,
            each a change that the bars can show, such as that of the ICL score in nats.
        losses: loss of every token of one text under the whole model, in nats.
        ablated: kind -> losses of the same tokens without each head in turn, [layer, head, token].
        tokens: the text, as many as losses.
        title: what to see.

    Raises:
        ValueError: shapes that do not fit, losses that are not finite; other kinds or heads in `changes` than in
            `ablated`, a pair of them missing or doubled, no column of finite numbers.
    """
    names = _check(changes, losses, ablated, tokens)
    measures = [name for name in changes.columns if name not in ("head", "kind")]
    changes = changes.reset_index(drop=True)
    first = changes.loc[changes[changes["kind"] == changes.loc[0, "kind"]][measures[0]].idxmax()]
    picked = chosen(
        "picked",
        {"head": (menu(names, "head"), first["head"]), "kind": (menu(list(ablated), "ablation"), first["kind"])},
        ["bars"],
        CLICK,
    )
    rows = _token_rows(losses, ablated, tokens, names)
    lost = _by_loss(rows, names, first)
    token = chosen("token", {"position": (slider(range(len(tokens)), "token"), lost[0][0])}, ["tiles", "tokens_at"])
    shown = f"datum.by[{picked.name}_kind][indexof({names}, {picked.name}_head)]"
    data = alt.Chart(alt.InlineData(values=rows)).transform_calculate(without=shown, change=f"{shown} - datum.whole")
    panels = [_bars(changes, measures, picked), _lines(data, len(rows) - 1, token), _tiles(data, rows, token)]
    return with_alternatives(
        alt.vconcat(*panels, title=title, spacing=14).resolve_scale(color="independent"),
        f"{title}. Bars: one for each head and kind of ablation, {measures[0]} upwards; the largest is head "
        f"{first['head']}, {first['kind']}, {first[measures[0]]:.3f}. A bar is chosen by a click or with menus. Below, "
        "lines show the losses of one text with and without that head, and tiles its tokens, shaded by the difference.",
        Table("changes", ["head", "kind", *measures], _change_rows(changes, measures)),
        Table(
            f"tokens that lose most without head {first['head']} ({first['kind']})",
            ["position", "token", "loss", "loss without the head"],
            lost[:8],
        ),
    )


def _check(changes: pd.DataFrame, losses: Tensor, ablated: Mapping[str, Tensor], tokens: Sequence[str]) -> list[str]:
    """Names of the heads; a `ValueError` says what does not fit."""
    shapes = {kind: tuple(values.shape) for kind, values in ablated.items()}
    if len(set(shapes.values())) != 1 or {shape[2:] for shape in shapes.values()} != {(len(losses),)}:
        raise ValueError(f"ablated must hold [layer, head, {len(losses)}] for every kind, got {shapes}")
    if not all(values.isfinite().all() for values in (losses, *ablated.values())):
        raise ValueError("losses and ablated must be finite, got NaN or infinity")
    if len(tokens) != len(losses) or len(tokens) < 2:
        raise ValueError(f"need at least 2 tokens and a loss for each, got {len(tokens)} and {len(losses)}")
    n_layers, n_heads, _ = next(iter(shapes.values()))
    names = [f"{layer}.{head}" for layer in range(n_layers) for head in range(n_heads)]
    if not {"head", "kind"} < set(changes.columns):
        raise ValueError(f"changes must have head, kind and a column of numbers, got {list(changes.columns)}")
    found = sorted(zip(changes["head"], changes["kind"], strict=True))
    if found != sorted(product(names, ablated)):
        raise ValueError(f"changes must have the heads {names} with the kinds {list(ablated)}, each once, got {found}")
    for name in changes.columns.drop(["head", "kind"]):
        if not (pd.api.types.is_numeric_dtype(changes[name]) and np.isfinite(changes[name]).all()):
            raise ValueError(f"changes must have finite numbers beside head and kind, got others in {name!r}")
    return names


def _token_rows(
    losses: Tensor, ablated: Mapping[str, Tensor], tokens: Sequence[str], names: Sequence[str]
) -> list[dict]:
    films = {kind: values.flatten(0, 1).T.double().tolist() for kind, values in ablated.items()}  # token, head
    return [
        row
        | {"position": i, "whole": round(float(losses[i]), 3)}
        | {"by": {kind: [round(value, 2) for value in film[i]] for kind, film in films.items()}}
        for i, row in enumerate(token_rows(tokens, TOKENS_A_LINE))
    ]


def _bars(changes: pd.DataFrame, measures: Sequence[str], picked: alt.Parameter) -> alt.LayerChart:
    kinds = list(dict.fromkeys(changes["kind"]))
    rows = changes.assign(**changes[list(measures)].round(4)).to_dict("records")
    base = (
        alt.Chart(alt.InlineData(values=rows))
        .transform_calculate(shown="datum[measure]")
        .encode(
            x=alt.X("head:N", title="head", axis=alt.Axis(labelAngle=0)),
            xOffset=alt.XOffset("kind:N", sort=kinds),
            y=alt.Y("shown:Q", title="change (nats)"),
            tooltip=["head:N", "kind:N", alt.Tooltip("shown:Q", title="change (nats)", format=".3f")],
        )
    )
    scale = alt.Scale(domain=kinds, range=list(COLORS[:3]))
    legend = alt.Legend(labelExpr="replace(datum.label, '_', '-')")
    colour = alt.Color("kind:N", title=None, scale=scale, legend=legend)
    bars = base.properties(name="bars").mark_bar().encode(color=colour).add_params(picked)
    outline = base.mark_bar(fill=None, stroke=CHOSEN, strokeWidth=2.5).transform_filter(picked)
    return alt.layer(bars, outline, width=PLOT, height=HALF).add_params(option("measure", list(measures), "change of"))


def _lines(data: alt.Chart, last: int, token: alt.Parameter) -> alt.LayerChart:
    folded = data.transform_fold(["whole", "without"], as_=["model", "loss"])
    scale = alt.Scale(domain=["whole", "without"], range=[WHOLE, WITHOUT])
    lines = folded.mark_line(strokeWidth=1.3).encode(
        x=alt.X("position:Q", title="token", scale=alt.Scale(domain=[-0.5, last + 0.5], nice=False)),
        y=alt.Y("loss:Q", title="loss (nats)"),
        color=alt.Color("model:N", title="model", scale=scale),
    )
    rule = data.mark_rule(strokeDash=[4, 3], color=CHOSEN, strokeWidth=1.5).encode(x="position:Q")
    columns = data.transform_calculate(start="datum.position - 0.5", end="datum.position + 0.5")
    columns = targets(columns, "tokens_at").encode(x="start:Q", x2="end:Q", tooltip=_told())
    return alt.layer(lines, rule.transform_filter(token), columns, width=PLOT, height=HALF)


def _tiles(data: alt.Chart, rows: list[dict], token: alt.Parameter) -> alt.LayerChart:
    base = data.encode(x=alt.X("column:O", axis=None), y=alt.Y("row:O", axis=None), tooltip=_told())
    scale = alt.Scale(domain=[-4, 0, 4], range=[COLORS[0], TILE_PAPER, COLORS[1]], clamp=True)
    tiles = base.mark_rect(stroke="white").encode(
        color=alt.Color("change:Q", title=["loss without", "minus whole", "(nats)"], scale=scale)
    )
    height = TILE_HEIGHT * (rows[-1]["row"] + 1)
    over = targets(base, "tiles").add_params(token)
    return alt.layer(tiles, token_texts(base, TOKENS_A_LINE), frame(base, token), over, width=PLOT, height=height)


def _told() -> list[alt.Tooltip]:
    shown = {"token:N": "token", "position:Q": "position", "whole:Q": "loss", "without:Q": "loss without the head"}
    return [alt.Tooltip(field, title=title) for field, title in shown.items()]


def _change_rows(changes: pd.DataFrame, measures: Sequence[str]) -> list[list]:
    return changes[["head", "kind", *measures]].astype(object).to_numpy().tolist()


def _by_loss(rows: list[dict], names: Sequence[str], first: pd.Series) -> list[list]:
    """Position, token and the two losses under the bar that is shown first; the token that loses most leads."""
    head = names.index(first["head"])
    found = [[row["position"], row["token"], row["whole"], row["by"][first["kind"]][head]] for row in rows]
    return sorted(found, key=lambda row: row[2] - row[3])
