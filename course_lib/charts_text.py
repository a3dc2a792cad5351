"""Attention drawn on the tokens of a text: choose a token, and see where it looks.

As in `plots`: data in, chart out. The charts work on a page without a kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import altair as alt
from jaxtyping import Float
from torch import Tensor

from course_lib.alternatives import with_alternatives
from course_lib.chart_data import Table
from course_lib.plots import COLORS, TILE_INK, TILE_PAPER, step_slider, token_base, token_rows, token_texts

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
        ValueError: no tokens, a pattern that does not fit them, a query that is not one of them, columns below 1.
    """
    query = len(tokens) - 1 if query is None else query
    _check(tokens, {"pattern": pattern}, query, columns)
    values = pattern.detach().float().cpu().tolist()
    rows = _rows(tokens, columns, lambda key: {q: values[q][key] for q in range(key, len(tokens))})
    chosen = alt.selection_point(
        fields=["position"],
        bind={"position": alt.binding_range(min=0, max=len(tokens) - 1, step=1, name="query ")},
        value=[{"position": query}],
        on="pointerover, click",
        clear=False,
        toggle=False,
    )
    now = f"({chosen.name}.position || [{query}])[0]"
    chart = _on_tiles(rows, title, columns, query=now, attention=f"datum.by[{now}]", choice=chosen)
    return _told(chart, title, rows, query, str(query), f"A slider or hovering chooses it, at first {query}")


def film_on_tokens(
    film: Mapping[int, Float[Tensor, "q k"]], tokens: Sequence[str], query: int, title: str, columns: int = 10
) -> alt.LayerChart:
    """The attention that one token pays to the others at several training steps, with a slider over the steps.

    Args:
        film: training step -> attention [query_pos, key_pos]; steps evenly spaced.
        tokens, title, columns: as in `attention_on_tokens`.
        query: position of the token that looks.

    Raises:
        ValueError: as in `attention_on_tokens`, and fewer than 2 steps or steps that are not evenly spaced.
    """
    slider = step_slider(film)
    _check(tokens, {f"film[{step}]": pattern for step, pattern in film.items()}, query, columns)
    values = {step: film[step][query].detach().float().cpu().tolist() for step in sorted(film)}
    rows = _rows(tokens, columns, lambda key: {step: row[key] for step, row in values.items() if key <= query})
    chart = _on_tiles(rows, title, columns, query=str(query), attention="datum.by[shown]", choice=slider)
    return _told(chart, title, rows, query, str(max(film)), f"A slider chooses the training step, at first {max(film)}")


def _check(tokens: Sequence[str], patterns: Mapping[str, Tensor], query: int, columns: int) -> None:
    n = len(tokens)
    if n == 0 or columns < 1:
        raise ValueError(f"need at least 1 token and 1 column, got {n} and {columns}")
    for name, pattern in patterns.items():
        if tuple(pattern.shape) != (n, n):
            raise ValueError(f"{name} must be [{n}, {n}] for {n} tokens, got {list(pattern.shape)}")
    if not 0 <= query < n:
        raise ValueError(f"query must be a position 0..{n - 1}, got {query}")


def _rows(tokens: Sequence[str], columns: int, received: Callable[[int], dict]) -> list[dict]:
    """Tiles with what each token receives, `by`: query or step, a string as JSON wants it -> attention in percent."""
    return [
        row | {"position": key, "by": {str(name): round(100 * a, 1) for name, a in received(key).items() if a >= LEAST}}
        for key, row in enumerate(token_rows(tokens, columns))
    ]


def _on_tiles(
    rows: list[dict], title: str, columns: int, query: str, attention: str, choice: alt.Parameter
) -> alt.LayerChart:
    """Tiles, frame of the query and texts; `query` and `attention` are expressions of the chart."""
    later = f"datum.position > {query}"
    told = f"datum.percent ? format(datum.percent, '.1f') + ' %' : 'under {LEAST:.1%}'"
    base = (
        token_base(rows)
        .transform_calculate(percent=f"{later} ? 0 : ({attention} || 0)")
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


def _told(chart: alt.LayerChart, title: str, rows: list[dict], query: int, name: str, how: str) -> alt.LayerChart:
    """The chart with a text, and a table of the tokens that the query attends to most; `name` says under what."""
    found = sorted(rows[: query + 1], key=lambda row: -row["by"].get(name, 0.0))[:TOLD]
    token = rows[query]["token"]
    most = f"{found[0]['token']!r} at {found[0]['position']} with {found[0]['by'].get(name, 0.0):.0f} %"
    return with_alternatives(
        chart,
        f"{title}. A text of {len(rows)} tokens as tiles, shaded by the attention that one of them, the query, pays "
        f"to each. {how}. The token {token!r} at {query} attends most to {most}.",
        Table(
            f"what token {query}, {token!r}, attends to most",
            ["position", "token", "attention (%)"],
            [[row["position"], row["token"], row["by"].get(name, 0.0)] for row in found],
        ),
    )
