"""Attention drawn on the tokens of a text: choose a token, and see where it looks.

As in `plots`: data in, chart out. The charts work on a page without a kernel.
"""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
from jaxtyping import Float
from torch import Tensor

from course_lib.alternatives import with_alternatives
from course_lib.chart_data import Table
from course_lib.config import check_whole
from course_lib.plots import COLORS, TILE_INK, TILE_PAPER, check_pattern, token_base, token_rows, token_texts

LEAST = 0.005  # attention below this is not kept: too pale to see, and most of the numbers
PALE_INK = "#8a8a8a"
TOLD = 15  # tokens in the table


def attention_on_tokens(
    tokens: Sequence[str], pattern: Float[Tensor, "q k"], title: str, query: int | None = None, columns: int = 10
) -> alt.LayerChart:
    """A text as tiles, shaded by how much attention one token, the query, pays to each of them.

    Hovering over a token, tapping it or moving the slider makes it the query, which is outlined. The tooltip gives
    token, position and attention. Tokens after the query are pale: it cannot see them. The shade grows with the square
    root of the attention, so that small amounts show.

    Args:
        tokens: one text a tile; line breaks and spaces are made visible.
        pattern: attention of one head on this text, [query_pos, key_pos].
        title: what to see.
        query: position of the query that is shown at first; the last by default.
        columns: tiles a line.

    Raises:
        ValueError: no tokens, a pattern that does not fit them or is not finite, a query that is not one of them,
            columns below 1.
    """
    check_pattern("pattern", pattern, tokens)
    rows = _rows(tokens, columns, pattern)
    query = len(tokens) - 1 if query is None else query
    check_whole("query", query)
    if not 0 <= query < len(tokens):
        raise ValueError(f"query must be a position 0..{len(tokens) - 1}, got {query}")
    chosen = alt.selection_point(
        fields=["position"],
        bind={"position": alt.binding_range(min=0, max=len(tokens) - 1, step=1, name="query ")},
        value=[{"position": query}],
        on="pointerover, click",
        clear=False,
        toggle=False,
    )
    now = f"({chosen.name}.position || [{query}])[0]"
    return _told(_on_tiles(rows, title, columns, now, chosen), title, rows, query)


def _rows(tokens: Sequence[str], columns: int, pattern: Tensor) -> list[dict]:
    """Tiles with what each token receives, `by`: query, a string as JSON wants it -> attention in percent."""
    rows = token_rows(tokens, columns)
    received = pattern.detach().float().cpu().tril().T.tolist()  # key query
    for key, row in enumerate(rows):
        row["position"] = key
        row["by"] = {str(query): round(100 * a, 1) for query, a in enumerate(received[key]) if a >= LEAST}
    return rows


def _on_tiles(rows: list[dict], title: str, columns: int, query: str, choice: alt.Parameter) -> alt.LayerChart:
    """Tiles, frame of the query and texts; `query` is an expression of the chart."""
    later = f"datum.position > {query}"
    told = f"datum.percent ? format(datum.percent, '.1f') + ' %' : 'under {LEAST:.1%}'"
    base = (
        token_base(rows)
        .transform_calculate(percent=f"{later} ? 0 : (datum.by[{query}] || 0)")
        .transform_calculate(attention=f"{later} ? 'none: comes after the query' : {told}")
        .encode(tooltip=["token:N", "position:Q", "attention:N"])
    )
    shade = alt.Scale(type="pow", exponent=0.5, domain=[0, 100], range=[TILE_PAPER, COLORS[5]])
    legend = alt.Legend(orient="bottom", gradientLength=200, values=[0, 10, 50, 100])
    tiles = base.mark_rect(stroke="white").encode(
        color=alt.Color("percent:Q", title="attention (%)", scale=shade, legend=legend)
    )
    frame = base.mark_rect(fill=None, stroke=COLORS[4], strokeWidth=2.5).transform_filter(f"datum.position == {query}")
    texts = token_texts(base, columns, color=alt.ExprRef(f"{later} ? '{PALE_INK}' : '{TILE_INK}'"))
    return alt.layer(tiles.add_params(choice), frame, texts, title=title)


def _told(chart: alt.LayerChart, title: str, rows: list[dict], query: int) -> alt.LayerChart:
    """The chart with a text, and a table of the tokens that the first query attends to most."""
    name = str(query)
    found = sorted(rows[: query + 1], key=lambda row: -row["by"].get(name, 0.0))[:TOLD]
    token = rows[query]["token"]
    most = f"{found[0]['token']!r} at {found[0]['position']} with {found[0]['by'].get(name, 0.0):.0f} %"
    return with_alternatives(
        chart,
        f"{title}. A text of {len(rows)} tokens as tiles, shaded by the attention that one of them, the query, pays "
        f"to each. A slider or hovering chooses it, at first {query}. The token {token!r} at {query} attends "
        f"most to {most}.",
        Table(
            f"what token {query}, {token!r}, attends to most",
            ["position", "token", "attention (%)"],
            [[row["position"], row["token"], row["by"].get(name, 0.0)] for row in found],
        ),
    )
