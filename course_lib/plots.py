"""Charts of the course: pure functions, data in, `altair.Chart` out. Nothing is computed here but layout.

Colours are Okabe and Ito's, told apart in every common form of colour blindness.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise

import altair as alt
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from course_lib import alternatives
from course_lib.config import check_counts

alternatives.enable()  # all charts get a text and tables

COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#8C6D1F", "#777777")
WINDOW_COLOR = "#F0E442"
STEP = "training step"
WIDTH = 560  # wider charts are clipped by the book's text column
LEGEND = 120  # what a legend takes of it
TOKENS_AXIS = alt.Axis(format="~s", labelOverlap="greedy", labelSeparation=6)
TILE_HEIGHT, TILE_PAPER, TILE_INK = 22, "#f4f4f4", "#111111"  # of a token
TOKENS_A_LINE = 10


def attention_chart(
    pattern: Float[Tensor, "q k"], tokens: Sequence[str], title: str = "Who attends to whom", size: int = 360
) -> alt.Chart:
    """Heat map of one head's attention: a row a query, a column a key, the darker the more attention.

    Args:
        pattern: attention of one head on one sequence, [query_pos, key_pos].
        tokens: a label for each position.
        title: what to see.
        size: width and height in pixels.

    Raises:
        ValueError: a pattern that does not fit the labels, or is not finite.
    """
    check_pattern("pattern", pattern, tokens)
    return _heat_map(attention_rows(pattern), tokens, title, size)


def check_pattern(name: str, pattern: Tensor, tokens: Sequence[str]) -> None:
    """Raise a `ValueError` unless a pattern is [query_pos, key_pos] for these tokens and can be drawn."""
    want = [len(tokens), len(tokens)]
    if list(pattern.shape) != want:
        raise ValueError(f"{name} must be {want} for these tokens, got {list(pattern.shape)}")
    if not pattern.tril().isfinite().all():
        raise ValueError(f"{name} must be finite, got NaN or infinity")


def attention_rows(pattern: Float[Tensor, "q k"]) -> list[dict]:
    """Tidy rows of one attention pattern, future keys left out: `query key attention`."""
    values = pattern.detach().float().cpu().tolist()
    return [{"query": q, "key": k, "attention": round(row[k], 3)} for q, row in enumerate(values) for k in range(q + 1)]


def _heat_map(rows: list[dict], tokens: Sequence[str], title: str, size: int) -> alt.Chart:
    names = json.dumps(list(tokens))
    labels = alt.Axis(
        labelExpr=f"{names}[datum.value]", labelAngle=0, labelOverlap=True, labelSeparation=4, ticks=False, domain=False
    )
    shade = alt.Color("attention:Q", title="attention", scale=alt.Scale(scheme="blues", domain=[0, 1]))
    return (
        alt.Chart(alt.Data(values=rows), title=title, width=size, height=size)
        .transform_calculate(attends=f"{names}[datum.query]", attended=f"{names}[datum.key]")
        .mark_rect()
        .encode(
            x=alt.X("key:O", title="key: attended to", axis=labels),
            y=alt.Y("query:O", title="query: attends from", axis=labels),
            color=shade,
            tooltip=["query:O", "attends:N", "key:O", "attended:N", "attention:Q"],
        )
    )


def attention_film(
    film: Mapping[int, Float[Tensor, "q k"]], tokens: Sequence[str], title: str, size: int = 360
) -> alt.Chart:
    """One head's attention at several training steps, with a slider over the steps that works without a kernel.

    Args:
        film: training step -> attention [query_pos, key_pos]; steps evenly spaced.
        tokens, title, size: as in `attention_chart`.

    Raises:
        ValueError: fewer than 2 steps, or steps that are not evenly spaced; a pattern as in `attention_chart`.
    """
    control = slider(sorted(film), STEP)
    shown = alt.param(name="shown", value=max(film), bind=control)
    return _selectable(film, tokens, title, size, shown)


def slider(values: Sequence[int], name: str) -> alt.BindRange:
    """A slider over evenly spaced integers.

    Raises:
        ValueError: fewer than 2 values, or values that are not evenly spaced and rising.
    """
    gaps = {late - early for early, late in pairwise(values)}
    if len(gaps) != 1 or min(gaps) <= 0:
        raise ValueError(f"{name} must be at least 2 evenly spaced rising numbers, got {list(values)}")
    return alt.binding_range(min=values[0], max=values[-1], step=gaps.pop(), name=f"{name} ")


def attention_by_head(
    by_head: Mapping[str, Float[Tensor, "q k"]],
    tokens: Sequence[str],
    title: str = "Attention by head",
    size: int = 360,
) -> alt.Chart:
    """The attention of several heads on one sequence, with a menu of heads that works without a kernel.

    Raises:
        ValueError: no heads; a pattern as in `attention_chart`.
    """
    if not by_head:
        raise ValueError(f"by_head must have the pattern of at least 1 head, got {by_head}")
    menu = alt.binding_select(options=list(by_head), name="head ")
    return _selectable(by_head, tokens, title, size, alt.param(name="shown", value=list(by_head)[-1], bind=menu))


def _selectable(choices: Mapping, tokens: Sequence[str], title: str, size: int, choice: alt.Parameter) -> alt.Chart:
    for name, pattern in choices.items():
        check_pattern(f"pattern of {name!r}", pattern, tokens)
    rows = [row | {"choice": name} for name, pattern in choices.items() for row in attention_rows(pattern)]
    return _heat_map(rows, tokens, title, size).add_params(choice).transform_filter("datum.choice == shown")


def lines_chart(
    data: pd.DataFrame,
    x: str,
    y: str,
    color: str | None = None,
    title: str = "",
    x_title: str | None = None,
    y_title: str | None = None,
    window: tuple[float, float] | None = None,
    height: int = 220,
) -> alt.LayerChart:
    """Lines over a tidy table, with points to hover on and, if wanted, a marked window on the x axis.

    Args:
        data: tidy table; `x`, `y` and `color` name its columns.
        title: what to see.
        x_title, y_title: axis titles with units; the column names by default.
        window: (start, end) on the x axis, drawn as a band.
        height: in pixels; the width, with a legend, is the text column's.
    """
    for name in filter(None, (x, y, color)):
        if name not in data.columns:
            raise ValueError(f"data has no column {name!r}; it has {list(data.columns)}")
    encoding = {
        "x": alt.X(f"{x}:Q", title=x_title or x, axis=alt.Axis(labelOverlap="greedy", labelSeparation=6)),
        "y": alt.Y(f"{y}:Q", title=y_title or y, scale=alt.Scale(zero=False)),
        "tooltip": [name for name in (color, x, y) if name],
    }
    if color:
        encoding["color"] = alt.Color(f"{color}:N", scale=alt.Scale(range=list(COLORS)), title=color)
    one = {} if color else {"color": COLORS[0]}
    lines = alt.Chart(data).mark_line(point=alt.OverlayMarkDef(size=12, **one), **one).encode(**encoding)
    layers = [lines] if window is None else [window_band(window), lines]
    return alt.layer(*layers, title=title, width=WIDTH - LEGEND * bool(color), height=height)


def window_band(window: tuple[float, float]) -> alt.Chart:
    """A pale band from `window[0]` to `window[1]` on the x axis, to lay under a chart."""
    band = alt.Data(values=[{"start": window[0], "end": window[1]}])
    return alt.Chart(band).mark_rect(color=WINDOW_COLOR, opacity=0.35).encode(x="start:Q", x2="end:Q")


def head_table(records: Sequence[Mapping], score: str) -> pd.DataFrame:
    """Tidy table of one head score over training: `tokens score head layer`, heads named "layer.head"."""
    rows = []
    for record in records:
        for layer, scores in enumerate(torch.as_tensor(record[score]).tolist()):
            for head, value in enumerate(scores):
                rows.append({"tokens": record["tokens"], score: value, "head": f"{layer}.{head}", "layer": layer})
    return pd.DataFrame(rows)


def phase_change_chart(
    runs: Mapping[str, Sequence[Mapping]], window: tuple[float, float] | None, title: str
) -> alt.VConcatChart:
    """Loss, in-context-learning score and every head's prefix matching over one axis of training tokens.

    Args:
        runs: name of a model -> its records, each with `tokens validation_loss icl prefix_matching`.
        window: training tokens between which the phase change lies, drawn on all three panels; None for no band.
        title: what to see.

    Raises:
        ValueError: no models, one without records, more layers of all models together than there are colours.
    """
    if not runs or not all(len(records) for records in runs.values()):
        sizes = {name: len(records) for name, records in runs.items()}
        raise ValueError(f"runs must have at least 1 model, each with records, got {sizes} records")
    rows = [
        {"tokens": r["tokens"], "model": name, "loss": r["validation_loss"], "icl": r["icl"]}
        for name, records in runs.items()
        for r in records
    ]
    end = max(row["tokens"] for row in rows)
    settled = [row["loss"] for row in rows if row["tokens"] >= end / 8]  # the first fall would flatten the rest
    models = pd.DataFrame(rows)
    heads = pd.concat([_heads_of(name, records) for name, records in runs.items()], ignore_index=True)
    layers = heads["layer"].unique()
    if len(layers) > len(COLORS):
        raise ValueError(f"runs has {len(layers)} layers to tell apart and there are {len(COLORS)} colours: {[*runs]}")
    model_colors = dict(zip(runs, COLORS, strict=False))
    layer_colors = {last: model_colors[name] for name, last in heads.groupby("model")["layer"].max().items()}
    spare = iter(COLORS[len(runs) :])
    layer_colors |= {layer: next(spare) for layer in layers if layer not in layer_colors}
    panels = [
        _panel(models, "loss", "loss (nats)", ("model", model_colors), "model", window, (min(settled), max(settled))),
        _panel(models, "icl", "ICL score (nats)", ("model", model_colors), "model", window),
        _panel(heads, "prefix_matching", "prefix matching", ("layer", layer_colors), "head", window),
    ]
    return alt.vconcat(*panels, title=title, spacing=8).resolve_scale(color="independent", x="shared")


def _heads_of(model: str, records: Sequence[Mapping]) -> pd.DataFrame:
    table = head_table(records, "prefix_matching").assign(model=model)
    table["layer"] = model + ", layer " + table["layer"].astype(str)
    table["head"] = model + ", head " + table["head"]
    return table


def _panel(
    table: pd.DataFrame,
    y: str,
    y_title: str,
    colors: tuple[str, Mapping[str, str]],
    line: str,
    window: tuple[float, float] | None,
    limits: tuple[float, float] | None = None,
) -> alt.LayerChart:
    color, scale = colors[0], alt.Scale(domain=list(colors[1]), range=list(colors[1].values()))
    lines = (
        alt.Chart(table)
        .mark_line(point=alt.OverlayMarkDef(size=10), strokeWidth=1.5, clip=limits is not None)
        .encode(
            x=alt.X("tokens:Q", title="training tokens", axis=TOKENS_AXIS),
            y=alt.Y(f"{y}:Q", title=y_title, scale=alt.Scale(zero=False, **({"domain": limits} if limits else {}))),
            color=alt.Color(f"{color}:N", title=None, scale=scale),
            detail=f"{line}:N",
            tooltip=[f"{line}:N", alt.Tooltip("tokens:Q", format=".3s"), alt.Tooltip(f"{y}:Q", format=".3f")],
        )
    )
    layers = [lines] if window is None else [window_band(window), lines]
    return alt.layer(*layers, width=WIDTH - LEGEND, height=150)


def loss_change_chart(records: Sequence[Mapping], since: int, title: str) -> alt.Chart:
    """Change of the loss at each token index since a training step, with a slider over the later steps.

    Args:
        records: each with `step` and `loss_by_index`, [index], in nats, on the same examples.
        since: the step to compare with; one of the records. The later steps are evenly spaced, and at least 2.
        title: what to see.

    Raises:
        ValueError: `since` is not the step of a record before the last; later steps as in `slider`; fewer than 32
            tokens.
    """
    before = next((record["loss_by_index"] for record in records if record["step"] == since), None)
    later = [record for record in records if record["step"] > since]
    if before is None or not later:
        raise ValueError(
            f"since={since} is not a recorded step before the last; there are {[r['step'] for r in records]}"
        )
    if len(before) < 32:
        raise ValueError(f"loss_by_index must have at least 32 tokens, got {len(before)}")
    rows = []
    for record in later:
        smooth = (record["loss_by_index"] - before).unfold(0, 32, 8).mean(dim=-1).tolist()  # 32 neighbours, every 8th
        rows += [{"step": record["step"], "index": 8 * i + 16, "change": round(c, 3)} for i, c in enumerate(smooth)]
    steps = [record["step"] for record in later]
    shown = alt.param(name="shown_step", value=steps[-1], bind=slider(steps, STEP))
    changes = [row["change"] for row in rows]
    y = alt.Y("change:Q", title="change of loss (nats)", scale=alt.Scale(domain=[min(changes), max(0, *changes)]))
    return (
        alt.Chart(alt.Data(values=rows), title=title, width=WIDTH, height=220)
        .mark_line(color=COLORS[0])
        .encode(x=alt.X("index:Q", title="token index (mean of 32 neighbours)"), y=y, tooltip=["index:Q", "change:Q"])
        .add_params(shown)
        .transform_filter("datum.step == shown_step")
    )


def token_grid(tokens: Sequence[str], values: Float[Tensor, " p"], title: str) -> alt.LayerChart:
    """Tokens in reading order, each on a tile coloured by a value around 0: blue below, orange above.

    Args:
        tokens: one text a tile; line breaks and spaces are made visible.
        values: one number a token, such as a difference of losses in nats.

    Raises:
        ValueError: no tokens, not as many values, NaN or infinity.
    """
    if len(tokens) != len(values):
        raise ValueError(f"{len(tokens)} tokens do not fit {len(values)} values")
    if not torch.as_tensor(values).isfinite().all():
        raise ValueError("values must be finite, got NaN or infinity")
    rows = token_rows(tokens, TOKENS_A_LINE)
    for row, value in zip(rows, values, strict=True):
        row["value"] = round(float(value), 3)
    limit = max(1e-6, max(abs(row["value"]) for row in rows))
    base = token_base(rows).encode(tooltip=["token:N", "value:Q"])
    scale = alt.Scale(domain=[-limit, 0, limit], range=[COLORS[0], TILE_PAPER, COLORS[1]])
    tiles = base.mark_rect(stroke="white").encode(color=alt.Color("value:Q", scale=scale, title="difference (nats)"))
    return alt.layer(tiles, token_texts(base, TOKENS_A_LINE), title=title)


def token_rows(tokens: Sequence[str], columns: int) -> list[dict]:
    """Where each token stands in reading order: `row column token`, with line breaks and spaces made visible.

    Raises:
        ValueError: no tokens, columns below 1.
    """
    check_counts(columns=columns)
    if len(tokens) == 0:
        raise ValueError(f"tokens must hold at least 1 token, got {tokens!r}")
    return [{"row": i // columns, "column": i % columns, "token": _visible(token)} for i, token in enumerate(tokens)]


def token_base(rows: list[dict]) -> alt.Chart:
    """A chart with a place for every row of `token_rows`; marks, title and more columns are the caller's."""
    height = TILE_HEIGHT * (rows[-1]["row"] + 1)
    return alt.Chart(alt.Data(values=rows), width=WIDTH, height=height).encode(
        x=alt.X("column:O", axis=None), y=alt.Y("row:O", axis=None)
    )


def token_texts(base: alt.Chart, columns: int, color: object = TILE_INK) -> alt.Chart:
    """The tokens, cut to the width of a tile; `color` stays dark in dark mode, because tiles stay light."""
    room = alt.ExprRef(f"item.mark.group.width / {columns} - 4")  # the book makes charts narrower on phones
    return base.mark_text(fontSize=11, font="monospace", limit=room, color=color).encode(text="token:N")


def _visible(token: str) -> str:
    return token.replace("\n", "\u21b5").replace("\t", "\u2192").replace(" ", "\u00b7")
