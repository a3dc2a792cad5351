"""Charts of the measurements: mosaic of heads, panels over training. As in `plots`: data in, chart out."""

from __future__ import annotations

from collections.abc import Mapping

import altair as alt
import pandas as pd

from course_lib.plots import COLORS, LEGEND, TOKENS_AXIS, WIDTH, window_band

TILE = 44
SIGNED = ("copying", "copying_chance", "eigenvalue_copying")  # -1..1; the others are attention, 0..1
KINDS = ("induction", "previous token", "duplicate token", "first token", "prefix matching", "other")


def mosaic_chart(table: pd.DataFrame, title: str = "") -> alt.LayerChart:
    """Mosaic of all heads: a tile a head, a row a layer, named "layer.head".

    Args:
        table: one row a head. With a column `label` (`evaluate.head_labels`) the colour is the label, the fuller
            the stronger; with `score` and `value` (one score of `evaluate.all_head_scores`) it is the value.
        title: what to see.

    Raises:
        ValueError: missing columns, more than one row a head.
    """
    shown = ("label", "strength") if "label" in table.columns else ("score", "value")
    missing = {"layer", "head", "name", *shown} - set(table.columns)
    if missing:
        raise ValueError(f"table has no column {sorted(missing)}; it has {list(table.columns)}")
    if table.empty or table["name"].duplicated().any():
        raise ValueError(f"table must have one row a head, got {len(table)}: choose one score, or use head_labels")
    rows = table.assign(**{shown[1]: table[shown[1]].round(3)})
    heads = alt.X("head:O", title="head", axis=alt.Axis(labelAngle=0, ticks=False, domain=False))
    layers = alt.Y("layer:O", title="layer", sort="descending", axis=alt.Axis(ticks=False, domain=False))
    base = alt.Chart(rows).encode(x=heads, y=layers, tooltip=["name:N", f"{shown[0]}:N", f"{shown[1]}:Q"])
    paper = base.mark_rect(color="white", stroke="white", strokeWidth=2)  # under the tiles, for dark mode
    tiles = base.mark_rect(stroke="white", strokeWidth=2).encode(**_tile_color(rows))
    names = base.mark_text(fontSize=11, color="#111111").encode(text="name:N")
    width = min(TILE * table["head"].nunique(), WIDTH - LEGEND)
    height = TILE * table["layer"].nunique() * 2 // 3
    return alt.layer(paper, tiles, names, title=title, width=width, height=height)


def _tile_color(rows: pd.DataFrame) -> dict[str, alt.SchemaBase]:
    if "label" in rows:
        kinds = [kind for kind in KINDS if kind in set(rows["label"])]
        colors = [dict(zip(KINDS, COLORS, strict=False))[kind] if kind != "other" else "#CCCCCC" for kind in kinds]
        scale = alt.Scale(domain=kinds, range=colors)
        fullness = alt.Opacity("strength:Q", scale=alt.Scale(domain=[0, 1], range=[0.25, 0.65]), legend=None)
        return {"color": alt.Color("label:N", title=None, scale=scale), "opacity": fullness}
    score = rows["score"].iloc[0]
    if score in SIGNED:
        scale = alt.Scale(domain=[-1, 0, 1], range=[COLORS[1], "#f4f4f4", COLORS[5]])
    else:
        scale = alt.Scale(domain=[0, 1], range=["#f4f4f4", COLORS[5]])
    return {"color": alt.Color("value:Q", title=score.replace("_", " "), scale=scale)}


def panels_chart(
    data: pd.DataFrame,
    panels: Mapping[str, str],
    color: str,
    title: str = "",
    window: tuple[float, float] | None = None,
) -> alt.VConcatChart:
    """Several quantities of several models, one panel each, over one axis of training tokens.

    Args:
        data: tidy table with `tokens`, the column `color`, and a column a panel; a column `seed`, if there is one,
            tells apart lines of the same colour.
        panels: column -> title of its axis, with the unit.
        color: column that tells the models apart.
        title: what to see.
        window: training tokens between which a band is drawn; None for no band.

    Raises:
        ValueError: an empty table, no panels, a column that the table does not have.
    """
    missing = [name for name in ("tokens", color, *panels) if name not in data.columns]
    if data.empty or not panels or missing:
        raise ValueError(f"need rows, panels and their columns; missing {missing} in {list(data.columns)}")
    rows = []
    for name, axis in panels.items():
        lines = (
            alt.Chart(data)
            .mark_line(point=alt.OverlayMarkDef(size=10), strokeWidth=1.5)
            .encode(
                x=alt.X("tokens:Q", title="training tokens", axis=TOKENS_AXIS),
                y=alt.Y(f"{name}:Q", title=axis, scale=alt.Scale(zero=False)),
                color=alt.Color(f"{color}:N", title=None, scale=alt.Scale(range=list(COLORS))),
                tooltip=[f"{color}:N", alt.Tooltip("tokens:Q", format=".3s"), alt.Tooltip(f"{name}:Q", format=".3f")],
            )
        )
        lines = lines.encode(detail="seed:N") if "seed" in data.columns else lines
        layers = [lines] if window is None else [window_band(window), lines]
        rows.append(alt.layer(*layers, width=WIDTH - LEGEND, height=150))
    return alt.vconcat(*rows, title=title, spacing=8).resolve_scale(x="shared")
