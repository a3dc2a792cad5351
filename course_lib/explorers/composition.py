"""Composition scores of all pairs of heads, beside what pairs of random heads get."""

from __future__ import annotations

import altair as alt
import pandas as pd
from jaxtyping import Float
from torch import Tensor

from course_lib.alternatives import with_alternatives
from course_lib.chart_data import Table
from course_lib.explorers.linked import CHOSEN, CLICK, HALF, PLOT, bare, chosen, frame, menu, option, subtitle, targets
from course_lib.plots import COLORS, TILE_INK, TILE_PAPER

COLUMNS = ("model", "kind", "earlier", "later", "score")
TILE = 34


def composition_explorer(table: pd.DataFrame, baseline: Float[Tensor, " samples"], title: str) -> alt.VConcatChart:
    """Composition scores of every pair of heads as a mosaic; below, one pair's scores of all kinds among all others'.

    A grey band holds the scores of pairs of random heads.

    Args:
        table: a row a score, with `model` (or a moment of training), `kind` (such as "K"), the names of the `earlier`
            and the `later` head, and `score`, from `composition.composition_scores`.
        baseline: scores of random pairs, from `composition.composition_baseline`.
        title: what to see.

    Raises:
        ValueError: a missing column, no rows, two scores of one pair, fewer than 2 random pairs.
    """
    missing = set(COLUMNS) - set(table.columns)
    if missing or table.empty or len(baseline) < 2:
        raise ValueError(
            f"table must have rows and {COLUMNS}, and baseline 2 or more scores; missing {sorted(missing)}"
        )
    if table.duplicated(list(COLUMNS[:-1])).any():
        raise ValueError("table must have one score for each model, kind and pair of heads, got some twice")
    table = table.reset_index(drop=True)
    like_first = (table[["model", "kind"]] == table.loc[0, ["model", "kind"]]).all(axis=1)
    first = table.loc[table[like_first]["score"].idxmax()]
    heads = {side: sorted(table[side].unique()) for side in ("earlier", "later")}
    pair = chosen("pair", {side: (menu(heads[side], f"{side} head"), first[side]) for side in heads}, ["mosaic"], CLICK)
    limits = [float(baseline.min()), float(baseline.max())]
    rows = table[list(COLUMNS)].assign(score=table["score"].round(4)).to_dict("records")
    data = alt.Chart(alt.InlineData(values=rows)).transform_filter("datum.model == model")
    panels = [_mosaic(data, heads, limits, float(table["score"].max()), pair), _compared(data, limits, pair)]
    panels[0] = panels[0].add_params(*(option(name, list(table[name].unique()), name) for name in ("kind", "model")))
    best = table.nlargest(12, "score")
    return with_alternatives(
        alt.vconcat(*panels, title=title, spacing=14).resolve_scale(color="independent"),
        f"{title}. Tiles: head that writes downwards, head that reads across, shaded by their composition score, of a "
        "kind and a model that menus choose. Below, the scores of a chosen pair among those of all pairs. Random "
        f"pairs get {limits[0]:.3f} to {limits[1]:.3f}; the largest {first['kind']} score of {first['model']} is "
        f"{first['score']:.3f}, {first['earlier']} into {first['later']}.",
        Table(f"the largest scores; random pairs: {limits[0]:.3f} to {limits[1]:.3f}", COLUMNS, _rows(best)),
    )


def _rows(table: pd.DataFrame) -> list[list]:
    return table[list(COLUMNS)].astype(object).to_numpy().tolist()


def _mosaic(
    data: alt.Chart, heads: dict[str, list], limits: list[float], largest: float, pair: alt.Parameter
) -> alt.LayerChart:
    base = data.transform_filter("datum.kind == kind").encode(
        x=alt.X("later:O", title="later head: reads", scale=alt.Scale(domain=heads["later"]), axis=bare(labelAngle=0)),
        y=alt.Y("earlier:O", title="earlier head: writes", scale=alt.Scale(domain=heads["earlier"]), axis=bare()),
        tooltip=["earlier:N", "later:N", alt.Tooltip("score:Q", format=".3f")],
    )
    shade = alt.Scale(domain=[sum(limits) / 2, largest], range=[TILE_PAPER, COLORS[5]], clamp=True)
    tiles = base.mark_rect(stroke="white").encode(color=alt.Color("score:Q", title="score", scale=shade))
    texts = base.mark_text(fontSize=11, color=TILE_INK).encode(text=alt.Text("score:Q", format=".2f"))
    height = TILE * len(heads["earlier"])
    over = targets(base, "mosaic").add_params(pair)
    return alt.layer(tiles, texts, frame(base, pair), over, width=PLOT, height=height)


def _compared(data: alt.Chart, limits: list[float], pair: alt.Parameter) -> alt.LayerChart:
    band = alt.Chart(alt.InlineData(values=[{"low": limits[0], "high": limits[1]}]))
    chance = band.mark_rect(color=COLORS[7], opacity=0.3).encode(
        x=alt.X("low:Q", title="composition score (band: random pairs)"), x2="high:Q", tooltip=["low:Q", "high:Q"]
    )
    base = data.encode(
        x=alt.X("score:Q", title="composition score (band: random pairs)", scale=alt.Scale(zero=False)),
        y=alt.Y("kind:N", title="kind", sort=None),
        tooltip=["kind:N", "earlier:N", "later:N", alt.Tooltip("score:Q", format=".3f")],
    )
    ticks = base.mark_tick(color=COLORS[0], opacity=0.9, height=20, thickness=2)
    here = base.mark_point(size=130, strokeWidth=2.5, opacity=1, color=CHOSEN).transform_filter(pair)
    return alt.layer(
        chance, ticks, here, width=PLOT, height=HALF, title=subtitle("The chosen pair (rings) among all pairs")
    )
