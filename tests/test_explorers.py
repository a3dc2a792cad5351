import json
import math
import re
from itertools import pairwise

import ipywidgets
import pandas as pd
import pytest
import torch
import vl_convert
from explorer_samples import (
    CHANCE,
    CHANGES,
    HEADS,
    KINDS,
    LOSS_OF,
    LOSSES,
    PATHS,
    RUNS,
    SCORES,
    STEPS,
    TOKENS,
    WHOLE,
    WITHOUT,
    explorers,
)

from course_lib import widgets
from course_lib.alternatives import tables_of
from course_lib.explorers import (
    ablation_explorer,
    composition_explorer,
    loss_explorer,
    mosaic_explorer,
    trajectory_explorer,
)
from course_lib.icl import loss_map
from course_lib.plots import attention_by_head, attention_chart
from course_lib.recorded import load_recorded

SPECS = {name: chart.to_dict() for name, chart in explorers().items()}  # to_dict validates against the schema
LARGEST = 300_000  # bytes of JSON


def params(name):
    return {param["name"]: param for param in SPECS[name]["params"] if "bind" in param}


def data_with(name, field):
    """The rows of the one set of data that has a field."""
    (rows,) = [rows for rows in SPECS[name]["datasets"].values() if field in rows[0]]
    return rows


def drawn(spec):
    """The texts of the chart as Vega draws it at first."""
    svg = vl_convert.vegalite_to_svg(spec)
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


@pytest.mark.parametrize("name", SPECS)
def test_every_choice_has_a_control_for_the_keyboard(name):
    for param in params(name).values():
        if "select" in param:
            assert set(param["bind"]) == set(param["select"]["fields"]) == set(param["value"][0])
            marks = {mark.split("_marks:")[0] for mark in param["select"]["on"].replace("@", "").split(", ")}
            assert all(f'"name": "{mark}"' in json.dumps(SPECS[name]) for mark in marks)
        else:
            assert param["value"] in param["bind"]["options"]


@pytest.mark.parametrize("name", SPECS)
def test_explorers_carry_a_text_and_tables_and_are_drawn_without_a_kernel(name):
    assert len(SPECS[name]["description"]) > 100
    for table in tables_of(SPECS[name]):
        assert 0 < len(table.rows) <= 30 and all(len(row) == len(table.columns) for row in table.rows)
    assert SPECS[name]["title"] in drawn(SPECS[name])
    assert all(part.get("width", 0) <= 560 for part in SPECS[name]["vconcat"])


@pytest.mark.parametrize("model, last", [("two", ["1.0", "1.1", "0.0", "0.1"])])
def test_the_mosaic_shows_the_last_scores_of_the_first_model_first(model, last):
    scores = RUNS[model][-1]["prefix_matching"]
    expected = {f"{head}: {scores[int(head[0]), int(head[2])]:.2f}" for head in last}
    assert expected <= set(drawn(SPECS["mosaic"]))


def test_the_mosaic_keeps_every_score_of_every_model():
    rows = {(row["model"], row["name"]): row for row in data_with("mosaic", "prefix_matching")}
    assert set(rows) == {("two", name) for name in HEADS} | {("one", "0.0"), ("one", "0.1")}
    for (model, name), row in rows.items():
        for score in ("prefix_matching", "previous_token"):
            film = [record[score][int(name[0]), int(name[2])].item() for record in RUNS[model]]
            assert row[score] == pytest.approx([100 * value for value in film], abs=0.501)
    table = tables_of(SPECS["mosaic"])[0]
    assert [row[:2] for row in table.rows] == [[s, pytest.approx(5 - s / 10)] for s in STEPS]
    best = RUNS["two"][-1]["prefix_matching"].max().item()
    assert table.rows[-1][2] == pytest.approx(best) and table.rows[-1][2] >= table.rows[-1][3]


def test_the_loss_explorer_averages_indices_in_bins():
    rows = data_with("losses", "film")
    binds = params("losses")["at"]["bind"]
    firsts = binds["first"]["options"]
    assert binds["step"]["step"] == 10 and firsts[0] == 1
    edges = [*firsts, 41]
    for row in rows:
        expected = [
            sum(LOSSES.loc[row["step"], i] for i in range(low, high)) / (high - low) for low, high in pairwise(edges)
        ]
        assert row["film"] == pytest.approx(expected, abs=6e-4)
    for first in firsts[1:]:  # equal parts of ln(index)
        assert math.floor(5 * math.log(first) / math.log(40)) > math.floor(5 * math.log(first - 1) / math.log(40))
    table = tables_of(SPECS["losses"])[0]
    assert [row[0] for row in table.rows] == STEPS and table.rows[2][1:] == rows[2]["film"]


def test_the_paths_and_the_losses_of_a_model_share_their_steps():
    rows = data_with("trajectories", "x")
    assert [(r["model"], r["step"], r["loss"]) for r in rows] == [
        (model, step, loss) for model in PATHS for step, loss in zip(STEPS, LOSS_OF[model], strict=True)
    ]
    for row in rows:
        assert [row["x"], row["y"]] == pytest.approx(PATHS[row["model"]][STEPS.index(row["step"])].tolist(), abs=6e-4)
    assert "component 1 (75% of the variance)" in drawn(SPECS["trajectories"])


def test_composition_starts_with_the_strongest_pair_of_the_first_kind():
    keys = SCORES[(SCORES["model"] == "end") & (SCORES["kind"] == "K")]
    best = keys.loc[keys["score"].idxmax()]
    assert params("composition")["pair"]["value"] == [{"earlier": best["earlier"], "later": best["later"]}]
    assert {f"{score:.2f}" for score in keys["score"]} <= set(drawn(SPECS["composition"]))
    assert data_with("composition", "low") == [{"low": pytest.approx(0.2), "high": pytest.approx(0.3)}]
    ranked = sorted(SCORES["score"], reverse=True)[:12]
    assert [row[-1] for row in tables_of(SPECS["composition"])[0].rows] == pytest.approx(ranked)


def test_the_tokens_of_the_ablation_have_the_losses_of_every_head():
    for i, row in enumerate(data_with("ablation", "position")):
        assert (row["position"], row["token"], row["whole"]) == (i, TOKENS[i], pytest.approx(WHOLE[i].item(), abs=6e-4))
        for kind in KINDS:
            expected = [WITHOUT[kind][int(head[0]), int(head[2]), i].item() for head in HEADS]
            assert row["by"][kind] == pytest.approx(expected, abs=6e-3)


def test_the_ablation_starts_with_the_longest_bar_and_the_token_that_loses_most():
    assert params("ablation")["picked"]["value"] == [{"head": "1.1", "kind": "zero"}]
    lost = WITHOUT["zero"][1, 1] - WHOLE
    assert params("ablation")["token"]["value"] == [{"position": lost.argmax().item()}]
    changes, tokens = tables_of(SPECS["ablation"])
    assert [list(row) for row in changes.rows] == CHANGES.to_numpy(dtype=object).tolist()
    assert [row[0] for row in tokens.rows] == lost.argsort(descending=True)[:8].tolist()


def test_the_recorded_series_makes_charts_of_a_few_hundred_kilobytes_at_most():
    runs = {r["name"]: r["records"] for r in load_recorded("series")["runs"] if r["seed"] == 0 and "," not in r["name"]}
    assert len(runs) == 6
    maps = loss_map({record["step"]: record["loss_by_index"] for record in runs["2 layers"]})
    for chart in (mosaic_explorer(runs, "t"), loss_explorer(maps, "t")):
        assert len(chart.to_json(indent=None)) < LARGEST


# --- in a live notebook ------------------------------------------------------------------------------------------


@pytest.fixture
def shown(monkeypatch):
    """Specifications of what a live notebook would display, the newest last."""
    found = []
    monkeypatch.setenv("COURSE_STATIC", "0")
    monkeypatch.setattr(widgets, "display", lambda chart: found.append(chart.to_dict()))
    return found


@pytest.mark.parametrize("name", SPECS)
def test_a_page_without_a_kernel_gets_the_chart_itself(name):
    chart = explorers()[name]
    assert widgets.explore(chart) is chart


@pytest.mark.parametrize("name", SPECS)
def test_a_live_notebook_gets_one_control_for_each_of_the_chart(name, shown):
    box = widgets.explore(explorers()[name])
    *controls, output = box.children
    wanted = [b for p in params(name).values() for b in ([p["bind"]] if "input" in p["bind"] else p["bind"].values())]
    assert [c.description for c in controls] == [b["name"].strip() for b in wanted]
    assert isinstance(output, ipywidgets.Output) and len(shown) == 1
    assert "bind" not in json.dumps(shown[-1]["params"])
    unbound = [{k: v for k, v in p.items() if k != "bind"} for p in params(name).values()]
    assert [p for p in shown[-1]["params"] if p["name"] in params(name)] == unbound and shown[-1][
        "description"
    ] == SPECS[name]["description"]


def test_moving_a_control_draws_the_chart_with_its_value(shown):
    box = widgets.explore(explorers()["mosaic"])
    by_name = {control.description: control for control in box.children[:-1]}
    by_name["training step"].value = 10
    by_name["score"].value = "previous_token"
    assert len(shown) == 3
    now = {param["name"]: param["value"] for param in shown[-1]["params"] if param["name"] in params("mosaic")}
    assert now == {"score": "previous_token", "model": "two", "moment": [{"step": 10}]}
    scores = RUNS["two"][1]["previous_token"]
    assert {f"{h}: {scores[int(h[0]), int(h[2])]:.2f}" for h in HEADS} <= set(drawn(shown[-1]))


def test_charts_with_one_menu_can_be_explored_too(shown):
    pattern = torch.eye(3)
    box = widgets.explore(attention_by_head({"0.0": pattern, "1.0": pattern}, ["a", "b", "c"]))
    box.children[0].value = "0.0"
    assert shown[-1]["params"][0]["value"] == "0.0"
    with pytest.raises(ValueError, match="a slider or a menu"):
        widgets.explore(attention_chart(pattern, ["a", "b", "c"]))


# --- bad input ---------------------------------------------------------------------------------------------------

EVEN = {"a": [{"step": 0, "validation_loss": 1.0, "prefix_matching": torch.rand(1, 2)}]}
SHORT = pd.DataFrame([[1.0, 2.0]], index=[0], columns=[1, 2])


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: mosaic_explorer({}, "t"), "same steps, got {}"),
        (lambda: mosaic_explorer(RUNS, "t", scores=[]), "at least one score"),
        (lambda: mosaic_explorer(RUNS, "t", scores=["copying"]), r"no \['copying'\]"),
        (lambda: mosaic_explorer(RUNS | {"x": RUNS["one"][1:]}, "t"), "same steps"),
        (lambda: mosaic_explorer(EVEN, "t", ["prefix_matching"]), r"at least 2 evenly spaced .* got \[0\]"),
        (lambda: loss_explorer(pd.DataFrame(), "t"), "at least 2 token indices"),
        (lambda: loss_explorer(LOSSES, "t", bins=1), "bins must be at least 2, got 1"),
        (lambda: loss_explorer(LOSSES.drop(index=10), "t"), r"evenly spaced rising numbers, got \[0, 20, 30\]"),
        (lambda: loss_explorer(SHORT, "t"), "training step must be at least 2"),
        (lambda: trajectory_explorer({}, torch.rand(2), {}, STEPS, "t"), "at least 2 components"),
        (lambda: trajectory_explorer({"a": torch.rand(4, 1)}, torch.rand(1), LOSS_OF, STEPS, "t"), "2 components"),
        (lambda: trajectory_explorer(PATHS, torch.rand(2), {"a": [1.0] * 4}, STEPS, "t"), r"'b': \(4, 0\)"),
        (lambda: trajectory_explorer(PATHS, torch.rand(2), LOSS_OF, STEPS[1:], "t"), "3 places and losses"),
        (lambda: composition_explorer(SCORES.drop(columns="kind"), CHANCE, "t"), r"missing \['kind'\]"),
        (lambda: composition_explorer(SCORES[:0], CHANCE, "t"), "must have rows"),
        (lambda: composition_explorer(SCORES, CHANCE[:1], "t"), "2 or more scores"),
        (lambda: composition_explorer(pd.concat([SCORES, SCORES]), CHANCE, "t"), "got some twice"),
        (lambda: ablation_explorer(CHANGES, WHOLE[1:], WITHOUT, TOKENS, "t"), r"\[layer, head, 11\]"),
        (lambda: ablation_explorer(CHANGES, WHOLE, WITHOUT, TOKENS[1:], "t"), "got 11 and 12"),
        (lambda: ablation_explorer(CHANGES[["head", "kind"]], WHOLE, WITHOUT, TOKENS, "t"), "a column of numbers"),
        (lambda: ablation_explorer(CHANGES[1:4], WHOLE, WITHOUT, TOKENS, "t"), "must have the heads"),
        (lambda: ablation_explorer(CHANGES, WHOLE, {}, TOKENS, "t"), "for every kind, got {}"),
        (lambda: ablation_explorer(CHANGES[1:], WHOLE, WITHOUT, TOKENS, "t"), "each once, got"),
        (lambda: ablation_explorer(pd.concat([CHANGES] * 2), WHOLE, WITHOUT, TOKENS, "t"), "each once, got"),
        (lambda: ablation_explorer(CHANGES.assign(model="a"), WHOLE, WITHOUT, TOKENS, "t"), "others in 'model'"),
        (lambda: ablation_explorer(CHANGES.assign(loss=math.nan), WHOLE, WITHOUT, TOKENS, "t"), "others in 'loss'"),
        (lambda: ablation_explorer(CHANGES, WHOLE / 0, WITHOUT, TOKENS, "t"), "losses and ablated must be finite"),
    ],
)
def test_bad_input(call, message, unchecked):
    with pytest.raises(ValueError, match=message):
        call()
