"""Charts of a record of `benchmarks.compare`, as in `course_lib.plots`: data in, `altair.Chart` out."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import altair as alt
import pandas as pd

from benchmarks.specs import REFERENCE, Size
from benchmarks.summary import TITLES, by_title
from course_lib.plots import COLORS, WIDTH

NAMES = 130  # px that the names of the peers take beside a plot
AXIS = 65  # px that a y axis with its title takes
VARIED = {"n_layers": "layers", "n_ctx": "context (tokens)", "d_vocab": "vocabulary (tokens)"}
COSTS = {"tokens": "tokens a second", "MiB": "peak memory (MiB)"}


def ratio_chart(rows: Sequence[dict], title: str) -> alt.VConcatChart:
    """Bars from 1 to each peer's ratio on a log axis, a panel for each title; the thin line spans the quartiles.

    Args:
        rows: from `summary.rows`; those of the course, and those that failed, are left out.
        title: what to see.

    Raises:
        ValueError: no ratio to draw.
    """
    drawn = [row for row in rows if row["ratio"] is not None and row["peer"] != REFERENCE]
    if not drawn:
        raise ValueError("no peer has a ratio to the course; the record's messages say what failed")
    precisions = sorted({row["precision"] for row in drawn}, reverse=True)  # float32 first
    ends = [1.0, *(row[name] for row in drawn for name in ("ratio_low", "ratio_high"))]
    axis = alt.Scale(type="log", domain=[min(ends) / 1.15, max(ends) * 1.6], nice=False)  # room for the numbers
    panels = [_ratio_panel(pd.DataFrame(of_title), axis, precisions) for of_title in by_title(drawn).values()]
    return alt.vconcat(*panels, title=title, spacing=12)


def _ratio_panel(table: pd.DataFrame, axis: alt.Scale, precisions: Sequence[str]) -> alt.LayerChart:
    table = table.assign(end=table["ratio_high"].clip(lower=1), label=table["ratio"].map("{:.2f}".format))
    first = table.iloc[0]
    title = alt.Title(TITLES[first["task"]], subtitle=first["size"], anchor="start", fontSize=11)
    peers = alt.Y("peer:N", sort=list(dict.fromkeys(table["peer"])), title=None, axis=alt.Axis(labelLimit=NAMES))
    base = alt.Chart(table).encode(y=peers, tooltip=["peer:N", "precision:N", alt.Tooltip("ratio:Q", format=".3f")])
    if len(precisions) > 1:
        base = base.encode(yOffset=alt.YOffset("precision:N", sort=list(precisions)))
    colors = alt.Scale(domain=list(precisions), range=list(COLORS[: len(precisions)]))
    legend = alt.Legend(orient="bottom") if len(precisions) > 1 else None
    bars = base.mark_bar(height={"band": 0.8}).encode(
        x=alt.X("ratio:Q", scale=axis, title="ratio to the course (log)"),
        x2=alt.X2Datum(1),
        color=alt.Color("precision:N", scale=colors, title=None, legend=legend),
    )
    spans = base.mark_rule().encode(x="ratio_low:Q", x2="ratio_high:Q")
    labels = base.mark_text(align="left", dx=4).encode(x="end:Q", text="label:N")
    one = alt.Chart(alt.Data(values=[{"one": 1}])).mark_rule(strokeDash=[4, 3]).encode(x="one:Q")
    height = 14 + 15 * len(precisions) * table["peer"].nunique()
    return alt.layer(bars, spans, labels, one, title=title, width=WIDTH - NAMES, height=height)


def cost_table(sizes: Sequence[dict]) -> pd.DataFrame:
    """Tidy table of the course's training step: `varied value tokens MiB`; sizes that failed are left out."""
    rows = [
        {
            "varied": one["varied"],
            "value": one["size"][one["varied"]],
            "tokens": Size(**one["size"]).tokens / median(one["values"]),
            "MiB": one["bytes"] / 2**20,
        }
        for one in sizes
        if "failed" not in one
    ]
    return pd.DataFrame(rows, columns=["varied", "value", *COSTS])


def cost_chart(sizes: Sequence[dict], cost: str, title: str) -> alt.HConcatChart:
    """One cost of the course's training step, with a panel for each size that was varied.

    Args:
        sizes: the `sizes` of a record.
        cost: "tokens" or "MiB".
        title: what to see.

    Raises:
        ValueError: an unknown cost.
    """
    if cost not in COSTS:
        raise ValueError(f"cost must be one of {list(COSTS)}, got {cost!r}")
    table = cost_table(sizes)
    top = alt.Scale(domain=[0, float(table[cost].max()) * 1.05])
    y = alt.Y(f"{cost}:Q", title=COSTS[cost], scale=top, axis=alt.Axis(format="~s"))
    panels = []
    for varied, of_one in table.groupby("varied", sort=False):
        values = sorted(int(value) for value in of_one["value"])
        scale = alt.Scale(type="linear" if varied == "n_layers" else "log", base=2, nice=False, zero=False)
        x_axis = alt.Axis(values=values, format="~s", labelOverlap=True)
        chart = alt.Chart(of_one).mark_line(point=True, color=COLORS[0])
        encoding = {
            "x": alt.X("value:Q", title=VARIED[varied], scale=scale, axis=x_axis),
            "y": y,
            "tooltip": ["value:Q", alt.Tooltip(f"{cost}:Q", format=",.0f")],
        }
        panels.append(chart.encode(**encoding).properties(width=(WIDTH - 3 * AXIS) // 3, height=150))
    return alt.hconcat(*panels, title=title)


FILM_PANELS = {  # title of the y axis -> names in the records, and what they are called
    "loss (nats)": {"train_loss": "training loss", "validation_loss": "validation loss"},
    "ICL score (nats)": {"icl": "ICL score"},
    "attention score": {
        "previous_token": "best previous-token score of the first layer",
        "prefix_matching": "best prefix matching of the last layer",
    },
}


def formation(records: Sequence[dict], threshold: float) -> int | None:
    """Training tokens at the first record with `prefix_matching` above the threshold; None if there is none."""
    return next((record["tokens"] for record in records if record["prefix_matching"] > threshold), None)


def film_chart(records: Sequence[dict], threshold: float, title: str) -> alt.VConcatChart:
    """Losses, ICL score and attention scores of one run over training tokens; a dashed line where a head has formed.

    Args:
        records: of a film of `race.film`.
        threshold: prefix matching of a head that counts as formed, 0..1.
        title: what to see.
    """
    formed = formation(records, threshold)
    end = records[-1]["tokens"]
    panels = []
    for color, (y_title, lines) in enumerate(FILM_PANELS.items()):
        table = pd.DataFrame(
            [
                {"tokens": record["tokens"], "line": label, "value": record[name]}
                for record in records
                for name, label in lines.items()
                if name in record
            ]
        )
        settled = table.loc[table["tokens"] >= end / 8, "value"]  # the first fall would flatten the rest
        domain = [settled.min(), settled.max()] if "nats" in y_title else [0, 1]
        colors = alt.Scale(domain=list(lines.values()), range=list(COLORS[2 * color :][: len(lines)]))
        legend = alt.Legend(orient="top", labelLimit=WIDTH)
        chart = (
            alt.Chart(table)
            .mark_line(point=alt.OverlayMarkDef(size=10), strokeWidth=1.5, clip=True)
            .encode(
                x=alt.X("tokens:Q", title="training tokens", axis=alt.Axis(format="~s")),
                y=alt.Y("value:Q", title=y_title, scale=alt.Scale(domain=domain)),
                color=alt.Color("line:N", title=None, scale=colors, legend=legend),
                tooltip=["line:N", alt.Tooltip("tokens:Q", format=".3s"), alt.Tooltip("value:Q", format=".3f")],
            )
        )
        layers = [chart]
        if formed is not None:
            mark = alt.Chart(alt.Data(values=[{"tokens": formed}]))
            layers.append(mark.mark_rule(strokeDash=[4, 3]).encode(x="tokens:Q"))
        panels.append(alt.layer(*layers, width=WIDTH - AXIS, height=130))
    return alt.vconcat(*panels, title=title, spacing=8).resolve_scale(color="independent", x="shared")
