"""Every chart has a text and a table; both are made from what the chart draws."""

import re
import sys
from pathlib import Path

import altair as alt
import pandas as pd
import pytest
import torch

from course_lib.alternatives import (
    KEY,
    course_renderer,
    describe,
    for_jupyterlab,
    in_jupyterlab,
    tables_html,
    told,
    with_alternatives,
)
from course_lib.chart_data import Table, spread, tables
from course_lib.charts_measures import mosaic_chart, panels_chart
from course_lib.charts_text import attention_on_tokens
from course_lib.plots import attention_by_head, attention_chart, attention_film, lines_chart, token_grid

ROOT = Path(__file__).resolve().parent.parent
PATTERN = torch.tensor([[1.0, 0, 0], [0.25, 0.75, 0], [0.1, 0.4, 0.5]])
WORDS = ["a", "b", "c"]
LONG = pd.DataFrame({"x": list(range(40)) * 2, "y": range(80), "kind": ["p"] * 40 + ["q"] * 40})
LINES = lines_chart(LONG, "x", "y", "kind", title="two lines", x_title="steps", y_title="loss")


def one(chart):
    (table,) = tables(chart.to_dict())
    return table


def html(chart):
    return chart._repr_mimebundle_()["text/html"]


def test_a_short_table_is_the_data_and_its_heads_are_the_axis_titles():
    data = pd.DataFrame({"when": [1, 2], "value": [0.5, 0.25], "unused": [7, 8]})
    chart = alt.Chart(data).mark_line().encode(x=alt.X("when:Q", title="step"), y="value:Q")
    assert one(chart) == Table("", ["step", "value"], [[1, 0.5], [2, 0.25]])


def test_lines_become_columns_at_places_along_the_axis():
    table = one(LINES)
    assert table.columns == ["steps", "p", "q"] and table.note == "24 of 40 rows"
    assert table.rows[0] == [0, 0, 40] and table.rows[-1] == [39, 39, 79] and len(table.rows) == 24
    assert all(row[1] == row[0] and row[2] == row[0] + 40 for row in table.rows)


def test_tiles_become_the_largest_of_each_row():
    pattern = torch.softmax(torch.randn(9, 9, generator=torch.Generator().manual_seed(0)), dim=-1).tril()
    table = one(attention_chart(pattern, [str(i) for i in range(9)]))
    assert table.columns == ["query: attends from", "key: attended to of the largest", "largest attention"]
    for query, key, most in table.rows:
        assert key == pattern[query].argmax().item() and most == pytest.approx(pattern[query].max().item(), abs=1e-3)


def test_a_menu_shows_the_rows_that_it_shows_first():
    chart = attention_by_head({"0.0": PATTERN, "1.0": 1 - PATTERN.tril()}, WORDS, title="by head")
    table = one(chart)
    assert table.caption == "by head, choice 1.0" and [row[-1] for row in table.rows] == [0, 0.75, 0.25, 0.9, 0.6, 0.5]


def test_many_rows_are_thinned_and_the_note_says_so():
    chart = alt.Chart(LONG.assign(z=LONG["y"] * 2)).mark_point().encode(x="y:Q", y="z:Q")
    table = one(chart)
    assert table.note == "24 of 80 rows" and table.rows[0] == [0, 0] and table.rows[-1] == [79, 158]
    assert spread(list("abc"), 5) == ["a", "b", "c"] and spread(range(11), 3) == [0, 5, 10]


def test_layers_of_the_same_data_share_a_table_and_a_filter_of_one_of_them_hides_nothing():
    at = alt.param(name="at", value=0.5, bind=alt.binding_range(min=0, max=1))
    curve = alt.Data(values=[{"p": p / 4, "loss": p} for p in range(5)])
    line = alt.Chart(curve).mark_line().encode(x="p:Q", y="loss:Q")
    near = "abs(datum.p - at) < 0.001"
    chart = alt.layer(line, line.mark_point().transform_filter(near)).add_params(at)
    assert len(one(chart).rows) == 5
    both = alt.layer(line.transform_filter(near), line.mark_point().transform_filter(near)).add_params(at)
    assert one(both).rows == [[0.5, 2]] and one(both).caption == "p 0.5"


def test_names_without_a_number_are_no_table():
    bars = alt.Chart(alt.Data(values=[{"kind": "A"}, {"kind": "B"}])).mark_bar().encode(x="kind:N", y="computed:Q")
    assert tables(bars.to_dict()) == []


def test_points_at_heights_with_names_are_listed_as_they_are():
    names = [{"score": i / 40, "kind": "KQV"[i % 3], "head": f"0.{i % 4}"} for i in range(40)]
    chart = alt.Chart(pd.DataFrame(names)).mark_point().encode(x="score:Q", y="kind:N", color="head:N")
    (table,) = tables(chart.to_dict())
    assert table.note == "24 of 40 rows" and set(table.columns) == {"score", "kind", "head"}


def test_lines_over_names_keep_their_order_and_nested_values_stay_out():
    steps = [f"step {i}" for i in range(20)]
    rows = [{"at": step, "loss": i, "kind": kind} for i, step in enumerate(steps) for kind in "pq"]
    table = one(alt.Chart(pd.DataFrame(rows)).mark_line().encode(x="at:O", y="loss:Q", color="kind:N"))
    assert [row[0] for row in table.rows] == steps and table.columns == ["at", "p", "q"]
    mixed = alt.Data(values=[{"a": 1, "b": [1, 2]}, {"a": 2, "b": 3}, {"a": None, "b": 4}])
    assert one(alt.Chart(mixed).mark_point().encode(x="a:Q", y="b:Q")).columns == ["a"]


def test_the_text_says_title_marks_axes_and_controls():
    assert describe(LINES.to_dict()) == "two lines. Lines: steps across, loss upwards, kind by colour."
    film = attention_film({0: PATTERN, 5: PATTERN}, WORDS, "a film").to_dict()
    assert describe(film).startswith("a film. Tiles: key: attended to across, query: attends from upwards")
    assert describe(film).endswith("Below it, controls for training step.")
    assert describe(film | {"description": "mine"}) == "mine"


def test_the_page_gets_the_text_and_a_closed_table():
    page = html(LINES)
    assert '"description": "two lines. Lines: steps across' in page
    assert page.count("<details") == 1 and "<details open" not in page and page.count("<tr>") == 25
    assert '<th scope="col">steps</th>' in page


def test_tables_of_its_own_replace_those_that_are_made_and_stay_out_of_the_chart():
    chart = with_alternatives(LINES, "said", Table("<mine>", ["a"], [[1.23456], ["x<y"]], "note"))
    page = html(chart)
    assert '"description": "said"' in page and KEY not in page
    assert "&lt;mine&gt;. note" in page and "<td>1.235</td>" in page and "x&lt;y" in page and page.count("<tr>") == 3
    assert tables_html([], "t") == ""


def test_a_chart_without_alternatives_is_still_drawn_but_not_in_the_book(monkeypatch):
    def fail(_spec):
        raise KeyError("odd")

    monkeypatch.setattr("course_lib.alternatives.tables", fail)
    monkeypatch.delenv("COURSE_STATIC")
    with pytest.warns(UserWarning, match="without a text and a table of its own: KeyError"):
        assert "vega" in html(LINES)
    monkeypatch.setenv("COURSE_STATIC", "1")
    with pytest.raises(KeyError, match="odd"):
        html(LINES)


@pytest.mark.parametrize(
    "value, text",
    [(None, ""), (float("nan"), ""), (3, "3"), (2.0, "2"), (0.123456, "0.1235"), (123456.5, "123456"), (True, "True")],
)
def test_numbers_have_four_digits(value, text):
    assert told(value) == text


HEADS = pd.DataFrame({"layer": [0, 0], "head": [0, 1], "name": ["0.0", "0.1"], "score": "copying", "value": [0.5, 1.0]})
CHARTS = {
    "attention": attention_chart(PATTERN, WORDS),
    "lines": LINES,
    "grid": token_grid(WORDS, torch.tensor([1.0, 2.0, 3.0]), "grid"),
    "mosaic": mosaic_chart(HEADS, "mosaic"),
    "panels": panels_chart(LONG.assign(tokens=LONG["x"]), {"y": "loss"}, "kind", "panels"),
    "tokens": attention_on_tokens(WORDS, PATTERN, "tokens"),
}


@pytest.mark.parametrize("name", CHARTS)
def test_charts_of_the_course_say_their_title_and_have_a_table(name):
    chart = CHARTS[name]
    page = html(chart)
    said = re.search(r'"description": "([^"]*)"', page)[1]
    assert chart.to_dict()["title"] in said and len(said) > 30
    assert re.search(r"<tbody><tr><td>[^<]+</td>", page)


def test_the_table_of_a_text_lists_what_its_query_attends_to_most():
    page = html(CHARTS["tokens"])
    rows = re.findall(r"<tr><td>(\d)</td><td>(\w)</td><td>([\d.]+)</td></tr>", page)
    assert rows == [("2", "c", "50"), ("1", "b", "40"), ("0", "a", "10")]


def test_charts_side_by_side_keep_their_texts_and_tables():
    other = attention_on_tokens(WORDS, PATTERN, "other", query=1)
    page = html(alt.hconcat(CHARTS["tokens"], other, title="both"))
    said = re.search(r'"description": "(both\.[^"]*)"', page)[1]
    assert said.count("A text of 3 tokens") == 2 and page.count("<table") == 2 and KEY not in page


DRAWS = re.compile(r"\balt\.(?:Chart|layer|hconcat|vconcat)\(")
TEACHES = re.compile(r"^from course_lib\.(?:plots|charts_\w+|widgets|explorers|checkpoints)\b", re.M)


@pytest.mark.parametrize("path", sorted((ROOT / "chapters").glob("*.md")), ids=lambda path: path.stem[:2])
def test_chapters_load_the_renderer_before_they_draw(path):
    """A chapter's own charts get texts and tables only if something that imports `plots` was imported before."""
    text = path.read_text(encoding="utf-8")
    drawn, taught = DRAWS.search(text), TEACHES.search(text)
    assert drawn is None or (taught is not None and taught.start() < drawn.start())


def test_in_jupyterlab_charts_need_no_network(monkeypatch, capsys):
    """The specification itself goes there, with its text; the table comes before it."""
    monkeypatch.setenv("JPY_SESSION_NAME", "notebook.ipynb")
    assert not in_jupyterlab(), "the book's charts are HTML wherever it is built"
    monkeypatch.delenv("COURSE_STATIC")
    assert in_jupyterlab()
    shown = []
    monkeypatch.setattr("course_lib.alternatives.display", shown.append)
    bundle = course_renderer(for_jupyterlab)(LINES.to_dict())
    assert "text/html" not in bundle and bundle["text/plain"].startswith("two lines.")
    drawn = bundle["application/vnd.vegalite.v5+json"]
    assert drawn["description"] == bundle["text/plain"] and KEY not in str(drawn)
    assert [box.data.count("<table") for box in shown] == [1]
    with monkeypatch.context() as on_colab:
        on_colab.setitem(sys.modules, "google.colab", None)
        assert not in_jupyterlab()
    monkeypatch.setattr(alt, "SCHEMA_VERSION", "v6.1.0")
    assert not in_jupyterlab(), "JupyterLab 4 knows Vega-Lite up to 5"
