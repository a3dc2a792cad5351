import altair as alt
import ipywidgets
import pandas as pd
import pytest
import torch

from course_lib.charts_measures import mosaic_chart, panels_chart
from course_lib.model import ModelConfig, Transformer, patterns
from course_lib.plots import (
    attention_by_head,
    attention_chart,
    attention_film,
    attention_rows,
    head_table,
    lines_chart,
    loss_change_chart,
    phase_change_chart,
    token_grid,
)
from course_lib.widgets import explore_attention, live_chart

PATTERN = torch.tensor([[1.0, 0, 0], [0.25, 0.75, 0], [0.2, 0.3, 0.5]])
TOKENS = ["<start>", "a", "b"]


def rows_of(chart):
    return chart.to_dict()["data"]["values"]


def test_attention_rows_hold_the_pattern_without_the_future():
    rows = attention_rows(PATTERN)
    assert [(r["query"], r["key"], r["attention"]) for r in rows] == [
        (q, k, pytest.approx(PATTERN[q, k].item(), abs=1e-4)) for q in range(3) for k in range(q + 1)
    ]


def test_attention_chart_is_valid_and_carries_its_title():
    chart = attention_chart(PATTERN, TOKENS, title="what to see").to_dict()  # to_dict validates against the schema
    assert chart["title"] == "what to see"
    assert chart["encoding"]["color"]["scale"]["domain"] == [0, 1]


def test_the_film_has_a_slider_bound_in_the_client():
    chart = attention_film({0: PATTERN, 25: PATTERN, 50: PATTERN}, TOKENS, "film").to_dict()
    (param,) = chart["params"]
    assert param["bind"] == {"input": "range", "min": 0, "max": 50, "step": 25, "name": "training step "}
    assert param["value"] == 50
    assert {row["choice"] for row in chart["data"]["values"]} == {0, 25, 50}


def test_attention_by_head_has_a_menu():
    chart = attention_by_head({"0.0": PATTERN, "1.0": PATTERN}, TOKENS).to_dict()
    assert chart["params"][0]["bind"]["options"] == ["0.0", "1.0"]


def record(step, layers=2):
    return {
        "step": step,
        "tokens": step * 100,
        "validation_loss": 5.0 - step / 100,
        "icl": -step / 1000,
        "loss_by_index": torch.linspace(4, 3, 64),
        "prefix_matching": torch.arange(layers * 3).reshape(layers, 3) / 10,
    }


def test_head_table_names_heads_by_layer_and_head():
    table = head_table([record(0), record(10)], "prefix_matching")
    assert len(table) == 12
    assert table.query("head == '1.2' and tokens == 1000")["prefix_matching"].item() == pytest.approx(0.5)


@pytest.mark.parametrize("window", [None, (200.0, 600.0)])
def test_phase_change_chart_draws_every_head_and_the_window(window):
    runs = {"two": [record(0), record(10)], "one": [record(0, 1), record(10, 1)]}
    chart = phase_change_chart(runs, window, title="t").to_dict()
    assert len(chart["vconcat"]) == 3
    text = str(chart)
    assert all(f"two, head 1.{h}" in text for h in range(3)) and "one, head 0.2" in text
    assert ("'start': 200.0" in text) == (window is not None)


def test_phase_change_chart_has_a_colour_for_eight_layers():
    runs = {f"m{i}": [record(0), record(10)] for i in range(4)}
    scale = phase_change_chart(runs, None, "t").to_dict()["vconcat"][2]["layer"][0]["encoding"]["color"]["scale"]
    assert len(scale["domain"]) == len(set(scale["range"])) == 8


def test_loss_change_chart_and_lines():
    later = record(20) | {"loss_by_index": torch.linspace(4, 3, 64) - 0.5}
    chart = loss_change_chart([record(0), record(10), later], since=0, title="t").to_dict()
    bind = chart["params"][0]["bind"]
    assert (bind["min"], bind["max"], bind["step"]) == (10, 20, 10)
    assert {(r["step"], r["change"]) for r in chart["data"]["values"]} == {(10, 0.0), (20, -0.5)}
    table = pd.DataFrame({"x": [1, 2], "y": [3.0, 4.0], "kind": ["a", "b"]})
    assert lines_chart(table, "x", "y", "kind", title="t", window=(1.0, 2.0)).to_dict()["title"] == "t"


def test_the_first_record_may_stand_apart_from_the_evenly_spaced_later_ones():
    chart = loss_change_chart([record(0), record(30), record(40), record(50)], since=0, title="t").to_dict()
    bind = chart["params"][0]["bind"]
    assert (bind["min"], bind["max"], bind["step"]) == (30, 50, 10)


def test_token_grid_makes_white_space_visible():
    values = token_grid(["a b", "\n", "\t"], torch.tensor([0.5, -1.0, 0.0]), "t").to_dict()
    assert [row["token"] for row in values["data"]["values"]] == ["a·b", "↵", "→"]


def head_rows(**columns):
    heads = [(0, 0), (0, 1), (1, 0), (1, 1)]
    return pd.DataFrame([{"layer": layer, "head": h, "name": f"{layer}.{h}"} for layer, h in heads]).assign(**columns)


SCORED = head_rows(score="copying", value=[-1.0, 0.123456, 0.5, 1.0])
LABELLED = head_rows(label=["previous token", "other", "induction", "other"], strength=[0.9, 0.1, 0.8, 0.2])


def data_of(chart):
    """The rows of a chart made from a data frame."""
    (rows,) = chart.to_dict()["datasets"].values()
    return rows


def test_the_mosaic_has_a_named_tile_for_every_head():
    chart = mosaic_chart(SCORED, title="copying heads")
    values = {row["name"]: row["value"] for row in data_of(chart)}
    assert values == {"0.0": -1, "0.1": 0.123, "1.0": 0.5, "1.1": 1}
    _, tiles, names = chart.to_dict()["layer"]
    assert tiles["encoding"]["color"]["scale"]["domain"] == [-1, 0, 1]
    assert tiles["encoding"]["color"]["title"] == "copying"
    assert names["encoding"]["text"]["field"] == "name"
    assert chart.to_dict()["title"] == "copying heads"
    attention = mosaic_chart(SCORED.assign(score="prefix_matching")).to_dict()["layer"][1]["encoding"]["color"]
    assert attention["scale"]["domain"] == [0, 1] and attention["title"] == "prefix matching"


def test_the_labelled_mosaic_colours_by_label_always_in_the_same_colours():
    scale = mosaic_chart(LABELLED).to_dict()["layer"][1]["encoding"]["color"]["scale"]
    assert scale["domain"] == ["induction", "previous token", "other"]
    other = mosaic_chart(LABELLED.query("label != 'induction'")).to_dict()["layer"][1]["encoding"]["color"]["scale"]
    assert (
        dict(zip(other["domain"], other["range"], strict=True)).items()
        <= dict(zip(scale["domain"], scale["range"], strict=True)).items()
    )


SHORT = record(0) | {"loss_by_index": torch.zeros(31)}


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: mosaic_chart(SCORED.drop(columns="value")), r"no column \['value'\]"),
        (lambda: mosaic_chart(LABELLED.drop(columns="name")), r"no column \['name'\]"),
        (lambda: mosaic_chart(pd.concat([SCORED, SCORED])), "one row a head, got 8"),
        (lambda: mosaic_chart(SCORED[:0]), "one row a head, got 0"),
        (lambda: attention_chart(torch.rand(2, 3), TOKENS), r"\[3, 3\] for these tokens, got \[2, 3\]"),
        (
            lambda: attention_film({0: PATTERN}, TOKENS, "t"),
            r"training step must be at least 2 evenly.*got \[0\]",
        ),
        (lambda: attention_film({0: PATTERN, 1: PATTERN, 3: PATTERN}, TOKENS, "t"), "evenly spaced"),
        (lambda: lines_chart(pd.DataFrame({"x": [1]}), "x", "z"), r"no column 'z'; it has \['x'\]"),
        (
            lambda: loss_change_chart([record(0), record(10)], 10, "t"),
            "since=10 is not a recorded step before",
        ),
        (lambda: loss_change_chart([record(s) for s in (0, 10, 20, 40)], 0, "t"), r"evenly.* got \[10, 20, 40\]"),
        (lambda: loss_change_chart([record(0), record(10)], 0, "t"), r"at least 2 evenly.* got \[10\]"),
        (lambda: loss_change_chart([SHORT | {"step": s} for s in (0, 1, 2)], 0, "t"), "at least 32 tokens, got 31"),
        (lambda: token_grid(["a"], torch.tensor([torch.nan]), "t"), "values must be finite"),
        (lambda: attention_chart(PATTERN * torch.nan, TOKENS), "pattern must be finite, got NaN"),
        (lambda: token_grid(["a"], torch.zeros(2), "t"), "1 tokens do not fit 2 values"),
        (lambda: token_grid([], torch.zeros(0), "t"), r"tokens must hold at least 1 token, got \[\]"),
        (
            lambda: attention_film({0: PATTERN, 1: PATTERN[:2, :2]}, TOKENS, "t"),
            r"pattern of 1 must be \[3, 3\] for these tokens, got \[2, 2\]",
        ),
        (
            lambda: attention_by_head({"0.0": torch.rand(3, 5)}, TOKENS),
            r"pattern of '0.0' must be \[3, 3\] for these tokens, got \[3, 5\]",
        ),
        (lambda: attention_by_head({}, TOKENS), r"pattern of at least 1 head, got \{\}"),
        (lambda: phase_change_chart({}, None, "t"), r"at least 1 model, each with records, got \{\} records"),
        (lambda: phase_change_chart({"a": [record(0)], "b": []}, None, "t"), r"got \{'a': 1, 'b': 0\} records"),
        (
            lambda: phase_change_chart({f"m{i}": [record(0)] for i in range(5)}, None, "t"),
            r"10 layers to tell apart and there are 8 colours: \['m0', 'm1', 'm2', 'm3', 'm4'\]",
        ),
    ],
)
def test_bad_input(call, message, unchecked):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.fixture
def model():
    return Transformer(ModelConfig(n_layers=2, n_heads=2, d_model=16, d_head=8, d_vocab=20, n_ctx=16))


def test_static_explorer_is_a_chart(model, monkeypatch):
    monkeypatch.setenv("COURSE_STATIC", "1")
    chart = explore_attention(model, segment_length=4)
    assert isinstance(chart, alt.Chart)
    assert chart.to_dict()["params"][0]["bind"]["options"] == ["0.0", "0.1", "1.0", "1.1"]


def test_live_explorer_redraws_for_a_head_and_a_new_sequence(model, monkeypatch):
    monkeypatch.setenv("COURSE_STATIC", "0")
    drawn = []
    monkeypatch.setattr("course_lib.widgets.display", drawn.append)
    view = explore_attention(model, segment_length=4, repeats=2)
    assert isinstance(view, ipywidgets.VBox)
    menu, button = view.children[0].children
    first = rows_of(drawn[-1])
    menu.value = (0, 1)
    assert drawn[-1].to_dict()["title"] == "Head 0.1" and rows_of(drawn[-1]) != first
    labels = drawn[-1].to_dict()["transform"]
    button.click()
    assert drawn[-1].to_dict()["transform"] != labels
    assert drawn[-1].to_dict()["title"] == "Head 0.1"
    assert patterns(model, torch.zeros(1, 9, dtype=torch.long)).shape == (2, 1, 2, 9, 9)


def test_a_live_chart_is_shown_once_and_then_replaced(monkeypatch):
    monkeypatch.setenv("COURSE_STATIC", "0")
    shown, replaced = [], []

    class Handle:
        update = replaced.append

    monkeypatch.setattr("course_lib.widgets.display", lambda chart, display_id: shown.append(chart) or Handle)
    show = live_chart(len)
    for count in (1, 2, 3, 4):
        show([{}] * count)
    assert shown == [2] and replaced == [3, 4]


def test_a_live_chart_goes_on_where_a_run_was_cut_off_and_is_still_in_the_static_book(monkeypatch):
    monkeypatch.setenv("COURSE_STATIC", "0")
    shown = []
    monkeypatch.setattr("course_lib.widgets.display", lambda chart, display_id: shown.append(chart))
    live_chart(len)([{}] * 7)
    assert shown == [7]
    monkeypatch.setenv("COURSE_STATIC", "1")
    live_chart(len)([{}] * 7)
    assert shown == [7]


def test_panels_share_the_axis_of_tokens_and_the_window():
    data = pd.DataFrame({"tokens": [1, 2, 1, 2], "model": ["a", "a", "b", "b"], "loss": [3.0, 2, 3, 1], "icl": 0.0})
    chart = panels_chart(
        data, {"loss": "loss (nats)", "icl": "ICL (nats)"}, "model", "see", window=(1.0, 2.0)
    ).to_dict()
    assert chart["title"] == "see" and chart["resolve"]["scale"]["x"] == "shared"
    panels = [panel["layer"][-1]["encoding"] for panel in chart["vconcat"]]
    assert [panel["y"]["title"] for panel in panels] == ["loss (nats)", "ICL (nats)"]
    assert all(
        len(panel["layer"]) == 2 and "detail" not in panel["layer"][-1]["encoding"] for panel in chart["vconcat"]
    )
    seeded = panels_chart(data.assign(seed=0), {"loss": "nats"}, "model").to_dict()["vconcat"][0]["layer"]
    assert len(seeded) == 1 and seeded[0]["encoding"]["detail"]["field"] == "seed"


def test_panels_need_their_columns():
    with pytest.raises(ValueError, match=r"missing \['icl'\] in \['tokens', 'model'\]"):
        panels_chart(pd.DataFrame({"tokens": [1], "model": ["a"]}), {"icl": "nats"}, "model")
