"""A GPU gives what a CPU gives, within TOLERANCE; without a GPU, the same is asked of float32 and float64."""

from __future__ import annotations

import json
from dataclasses import replace

import nbformat
import pytest
import torch
from nbformat import v4
from test_train import DATA, make

from course_lib.evaluate import head_scores, token_losses
from course_lib.train import TrainConfig, train
from tools import gpu_times

# Rounding, after 60 steps of training in float32: losses in nats, scores between 0 and 1.
TOLERANCE = {"train_loss": 1e-3, "losses": 5e-3, "scores": 5e-4}
RECIPE = TrainConfig(steps=60, warmup_steps=5, measure_every=60)


def trained(device: str, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """What a small model, trained on the device, says of fresh data; all on the CPU, in float64."""
    model = make().to(device, dtype)
    history = train(model, DATA, RECIPE)
    fresh = DATA(10**6)
    scores = head_scores(model, fresh)
    found = {
        "train_loss": torch.tensor(history.column("train_loss")),
        "losses": token_losses(model, fresh),
        "scores": torch.stack(list(scores.values())),
    }
    return {name: value.double().cpu() for name, value in found.items()}


def differences(one, two):
    return {name: (one[name] - two[name]).abs().max().item() for name in TOLERANCE}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_gives_what_a_cpu_gives():
    found = differences(trained("cpu"), trained("cuda"))
    assert all(found[name] <= TOLERANCE[name] for name in TOLERANCE), found


def test_the_tolerance_is_wide_enough_for_rounding_and_too_narrow_for_a_mistake(monkeypatch):
    exact, rounded = trained("cpu", torch.float64), trained("cpu")
    found = differences(exact, rounded)
    assert all(0 < 10 * found[name] <= TOLERANCE[name] for name in TOLERANCE), found
    monkeypatch.setattr("test_gpu.RECIPE", TrainConfig(steps=59, warmup_steps=5, measure_every=59))
    found = differences(rounded, trained("cpu"))  # one step less
    assert all(found[name] > TOLERANCE[name] for name in TOLERANCE), found


def test_times_of_notebooks_are_taken_and_failures_named(tmp_path):
    for name, code in {"good": "print(1)", "bad": "1 / 0"}.items():
        nbformat.write(v4.new_notebook(cells=[v4.new_code_cell(code)]), tmp_path / f"{name}.ipynb")
    good, bad = (gpu_times.run_notebook(tmp_path / f"{name}.ipynb", tmp_path) for name in ("good", "bad"))
    assert good["error"] == "" and 0 < good["seconds"] < 60
    assert bad["error"] == "ZeroDivisionError: division by zero"


def test_the_table_counts_what_ran_and_names_what_failed():
    record = json.loads(gpu_times.RECORD.read_text())
    text = gpu_times.table(record)
    failed = [name for name, entry in record["notebooks"].items() if entry["error"]]
    assert f"{len(record['notebooks']) - len(failed)} of {len(record['notebooks'])} notebooks ran" in text
    assert text.count("AssertionError") == sum(
        "AssertionError" in record["notebooks"][name]["error"] for name in failed
    )


def test_without_a_gpu_nothing_is_recorded(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(gpu_times, "RECORD", tmp_path / "times.json")
    assert gpu_times.main([]) == 2 and not list(tmp_path.iterdir())
    assert "no GPU here" in capsys.readouterr().err


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_step_recorded_as_a_graph_trains_as_plain_steps_do(precision, monkeypatch):
    monkeypatch.setattr("test_gpu.RECIPE", replace(RECIPE, precision=precision))
    recorded = trained("cuda")
    monkeypatch.setattr("course_lib.train.GraphedStep", lambda step: step)
    found = differences(recorded, trained("cuda"))
    assert all(found[name] <= TOLERANCE[name] / 10 for name in TOLERANCE), found


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_run_on_a_gpu_goes_on_exactly(tmp_path):
    recipe = replace(RECIPE, checkpoint_every=20, measure_every=20)

    def losses() -> list[float]:
        return train(make().cuda(), DATA, recipe, folder=tmp_path).column("train_loss")

    whole = losses()
    (tmp_path / "step-000000060.checkpoint").unlink()  # as if killed between steps 40 and 60
    assert losses() == whole


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_bad_tokens_are_named_on_a_gpu_too():
    model = make().cuda()

    def batches(step: int) -> torch.Tensor:
        return DATA(step) + 1000 * (step == 10)

    with pytest.raises(ValueError, match="tokens must lie in 0"):
        train(model, batches, RECIPE)
