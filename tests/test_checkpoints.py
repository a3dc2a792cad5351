"""Checkpoints of any model, measured alike and drawn on one axis."""

import pandas as pd
import pytest
import torch

from course_lib.checkpoints import checkpoint_record, checkpoint_table, checkpoints_chart, spaced_steps
from course_lib.data import repeated_tokens
from course_lib.evaluate import head_scores, token_losses
from course_lib.handbuilt import induction_circuit
from course_lib.icl import icl_score
from course_lib.model import ModelConfig, Transformer
from course_lib.pretrained import PYTHIA_STEPS

OPTIONS = dict(early=3, late=15, window=1)


def test_spaced_steps_of_pythia():
    chosen = spaced_steps(PYTHIA_STEPS, 10)
    assert len(chosen) == 10 and chosen == sorted(set(chosen)) and set(chosen) <= set(PYTHIA_STEPS)
    assert chosen[:2] == [0, 1] and chosen[-1] == PYTHIA_STEPS[-1]
    ratios = torch.tensor(chosen[1:], dtype=torch.float64).log().diff()
    assert ratios.max() < 2.5 * ratios.min()


def test_spaced_steps_without_a_zero_and_with_all():
    assert spaced_steps([1, 2, 4, 8, 16], 3) == [1, 4, 16]
    assert spaced_steps([0, 1, 10, 100], 4) == [0, 1, 10, 100]


@pytest.mark.parametrize("steps, count", [([1, 2], 3), ([1, 2, 3], 2), ([1, 3, 2], 3), ([-1, 2, 3], 3)])
def test_bad_steps(steps, count):
    with pytest.raises(ValueError, match="rising steps"):
        spaced_steps(steps, count)


def test_a_record_holds_what_the_parts_give(generator):
    model = induction_circuit(d_vocab=30, n_ctx=41)
    text = torch.randint(1, 30, (5, 21), generator=generator)
    repeated = repeated_tokens(4, 10, 4, 30, generator)
    record = checkpoint_record(model, text, repeated, **OPTIONS)
    losses, scores = token_losses(model, text), head_scores(model, repeated)
    assert {type(value) for name, value in record.items() if name != "head"} == {float}
    assert record["loss"] == pytest.approx(losses.mean().item())
    assert record["icl"] == pytest.approx(icl_score(losses, **OPTIONS).item())
    assert record["head"] == "1.0" and record["prefix_matching"] == pytest.approx(
        scores["prefix_matching"].max().item()
    )
    assert record["previous_token"] == pytest.approx(scores["previous_token"].max().item())


def test_a_table_loads_one_model_at_a_time(generator):
    model = Transformer(ModelConfig(n_layers=1, n_heads=2, d_model=8, d_head=4, d_vocab=30, n_ctx=41))
    alive = []

    def load():
        alive.append(len(alive))
        return model

    checkpoints = ((f"m{i}", i * 10.0, load) for i in range(3))
    text = torch.randint(1, 30, (2, 21), generator=generator)
    table = checkpoint_table(checkpoints, text, repeated_tokens(2, 10, 4, 30, generator), batch=1, **OPTIONS)
    assert alive == [0, 1, 2] and list(table["tokens"]) == [0, 10, 20] and list(table["model"]) == ["m0", "m1", "m2"]


def test_the_chart_leaves_out_the_start_and_needs_something_else():
    row = dict(model="m", loss=1.0, icl=-0.1, head="0.0", prefix_matching=0.5, previous_token=0.2)
    table = pd.DataFrame([row | {"tokens": tokens} for tokens in (0, 10, 100)])
    spec = checkpoints_chart(table, "Title").to_dict()
    assert spec["title"] == "Title" and len(spec["vconcat"]) == 3
    drawn = [entry for rows in spec["datasets"].values() for entry in rows]
    assert {entry["tokens"] for entry in drawn} == {10, 100}
    assert {entry["measurement"] for entry in drawn if "measurement" in entry} == {"prefix matching", "previous token"}
    assert all(panel["encoding"]["x"]["scale"]["type"] == "log" for panel in spec["vconcat"])
    with pytest.raises(ValueError, match="tokens above 0"):
        checkpoints_chart(table[:1], "Title")
