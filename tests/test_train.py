import math
import os
import signal
import subprocess
import sys
import time
from functools import partial

import numpy as np
import pytest
import torch

from course_lib.data import RepeatedSegments
from course_lib.evaluate import head_scores, phase_change_record, token_losses
from course_lib.model import ModelConfig, Transformer
from course_lib.scores import per_token_loss
from course_lib.storage import read_checked, write_checked
from course_lib.train import TrainConfig, next_token_loss, train

DATA = RepeatedSegments(batch=4, d_vocab=20, n_ctx=17, min_length=3, max_length=6)
CONFIG = dict(steps=30, warmup_steps=5, measure_every=10, checkpoint_every=7, keep_snapshots=True)


def make(seed=0, **changes):
    return Transformer(
        ModelConfig(**dict(n_layers=2, n_heads=2, d_model=16, d_head=8, d_vocab=20, n_ctx=17) | changes), seed
    )


def spoilt():
    """As `make`, with other weights: what a checkpoint holds is seen to take their place."""
    model = make()
    for weight in model.parameters():
        weight.data.fill_(0.5)
    return model


def measure(model):
    return {"loss": token_losses(model, DATA(10**6), precision="float32").mean().item()}


def assert_same_weights(one, two):
    for name, weight in one.state_dict().items():
        assert torch.equal(weight, two.state_dict()[name]), name


def test_the_loss_falls_and_the_history_is_complete():
    model = make()
    history = train(model, DATA, TrainConfig(**CONFIG), measure)
    assert [r["step"] for r in history.records] == [0, 10, 20, 30]
    assert history.records[-1]["tokens"] == 30 * 4 * 16
    assert history.column("loss")[-1] < history.column("loss")[0]
    assert "train_loss" not in history.records[0]
    assert sorted(history.snapshots) == [0, 10, 20, 30]
    assert torch.equal(history.snapshots[30]["W_E"], model.W_E)
    assert not torch.equal(history.snapshots[0]["W_E"], model.W_E)


def test_who_watches_gets_all_records_after_each(tmp_path):
    class Killed(Exception):
        pass

    def watch(records):
        seen.append([r["step"] for r in records])
        if killed and records[-1]["step"] == 20:
            raise Killed

    seen, killed = [], True
    with pytest.raises(Killed):
        train(make(), DATA, TrainConfig(**CONFIG), folder=tmp_path, watch=watch)
    assert seen == [[0], [0, 10], [0, 10, 20]]
    seen, killed = [], False
    train(make(), DATA, TrainConfig(**CONFIG), folder=tmp_path, watch=watch)
    assert seen == [[0, 10, 20], [0, 10, 20, 30]]  # from the checkpoint after 14 steps


def test_one_step_is_adamw_with_warmup_and_clipping():
    model, plain = make(), make()
    train(model, DATA, TrainConfig(steps=1, warmup_steps=10, lr=1e-2, measure_every=1))
    optimizer = torch.optim.AdamW(plain.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0.01)
    next_token_loss(plain, DATA(0)).backward()
    norm = torch.sqrt(sum((p.grad**2).sum() for p in plain.parameters()))
    for p in plain.parameters():
        p.grad.mul_(min(1.0, 1.0 / (norm + 1e-6)))
    optimizer.step()
    for name, weight in plain.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], weight, atol=1e-6, rtol=1e-5)


def test_weights_of_mlps_may_learn_at_a_rate_of_their_own():
    before = dict(make(d_mlp=24).named_parameters())
    recipe = dict(steps=1, warmup_steps=0, lr=1e-2, weight_decay=0.0, measure_every=1)
    moved = {}
    for factor in (1.0, 0.1):
        model = make(d_mlp=24)
        train(model, DATA, TrainConfig(**recipe, mlp_lr_factor=factor))
        moved[factor] = {name: weight.detach() - before[name] for name, weight in model.named_parameters()}
    of_mlps = [name for name in before if ".mlp." in name]
    assert len(of_mlps) == 2 * 4  # two maps with a bias each, in two layers
    for name, change in moved[1.0].items():
        factor = 0.1 if name in of_mlps else 1.0
        torch.testing.assert_close(moved[0.1][name], factor * change, rtol=1e-3, atol=1e-6)
        assert change.any()


def test_the_same_seed_gives_the_same_run():
    one, two = make(), make()
    train(one, DATA, TrainConfig(**CONFIG))
    train(two, DATA, TrainConfig(**CONFIG))
    assert_same_weights(one, two)


class Killed(Exception):
    pass


@pytest.mark.parametrize("at", [0, 6, 7, 8, 13, 20, 29])
def test_an_interrupted_run_ends_with_the_same_bits(at, tmp_path):
    whole, parts = make(), make()
    expected = train(whole, DATA, TrainConfig(**CONFIG), measure)

    class Interrupted(RepeatedSegments):
        def __call__(self, step):
            if step == at:
                raise Killed
            return super().__call__(step)

        __repr__ = lambda self: repr(DATA)  # noqa: E731

    with pytest.raises(Killed):
        train(parts, Interrupted(4, 20, 17, 3, 6), TrainConfig(**CONFIG), measure, tmp_path)
    resumed = spoilt()  # what stands in the model before is overwritten
    if at < 7:
        resumed = make()
    history = train(resumed, DATA, TrainConfig(**CONFIG), measure, tmp_path)
    assert_same_weights(whole, resumed)
    strip = [{k: v for k, v in r.items() if k != "seconds"} for r in history.records]
    assert strip == [{k: v for k, v in r.items() if k != "seconds"} for r in expected.records]
    assert sorted(history.snapshots) == sorted(expected.snapshots)


CHILD = """
import sys, torch
from course_lib.data import RepeatedSegments
from course_lib.model import ModelConfig, Transformer
from course_lib.train import TrainConfig, train
model = Transformer(ModelConfig(n_layers=2, n_heads=2, d_model=16, d_head=8, d_vocab=20, n_ctx=17))
train(model, RepeatedSegments(batch=4, d_vocab=20, n_ctx=17, min_length=3, max_length=6),
      TrainConfig(steps=600, checkpoint_every=5), folder=sys.argv[1])
torch.save(model.state_dict(), sys.argv[2])
"""


def newest_step(folder):
    return max([int(path.stem.removeprefix("step-")) for path in folder.glob("*.checkpoint")], default=0)


def test_a_process_killed_at_any_moment_resumes_exactly(tmp_path):
    def child(folder, result):
        environment = os.environ | {"COURSE_STATIC": "1", "OMP_NUM_THREADS": "1"}
        return subprocess.Popen([sys.executable, "-c", CHILD, str(folder), str(result)], env=environment)

    assert child(tmp_path / "whole", tmp_path / "whole.pt").wait() == 0
    folder, result = tmp_path / "killed", tmp_path / "killed.pt"
    kills = 0
    for wanted in (1, 2, 4):  # kill it once it has come this far
        process = child(folder, result)
        while process.poll() is None and newest_step(folder) < wanted * 25:
            time.sleep(0.002)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
    assert kills, "the child was never caught alive"
    assert child(folder, result).wait() == 0
    whole, resumed = torch.load(tmp_path / "whole.pt"), torch.load(result)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_damaged_checkpoint_is_passed_over(tmp_path):
    whole = make()
    train(whole, DATA, TrainConfig(**CONFIG), folder=tmp_path)
    newest = max(tmp_path.glob("*.checkpoint"))
    content = newest.read_bytes()
    for damage in (content[: len(content) // 2], b"", content[:-1] + bytes([content[-1] ^ 1])):
        newest.write_bytes(damage)
        resumed = spoilt()
        train(resumed, DATA, TrainConfig(**CONFIG), folder=tmp_path)
        assert_same_weights(whole, resumed)


def test_a_finished_run_is_loaded_not_repeated(tmp_path):
    whole = make()
    train(whole, DATA, TrainConfig(**CONFIG), measure, tmp_path)

    def never(model):
        raise AssertionError("measured again")

    loaded = spoilt()
    history = train(loaded, DATA, TrainConfig(**CONFIG), never, tmp_path)
    assert_same_weights(whole, loaded)
    assert len(history.records) == 4
    assert len(list(tmp_path.iterdir())) == 2  # two checkpoints, no leftovers


def test_another_run_in_the_folder_is_refused(tmp_path):
    train(make(), DATA, TrainConfig(**CONFIG), folder=tmp_path)
    with pytest.raises(ValueError, match=r"another run \(train.lr: 0.003 there, 0.1 here\)"):
        train(make(), DATA, TrainConfig(**CONFIG, lr=0.1), folder=tmp_path)
    with pytest.raises(ValueError, match="model.n_layers: 2 there, 1 here"):
        train(make(n_layers=1), DATA, TrainConfig(**CONFIG), folder=tmp_path)
    with pytest.raises(ValueError, match="seed=0.*seed=8"):
        train(make(), RepeatedSegments(4, 20, 17, 3, 6, seed=8), TrainConfig(**CONFIG), folder=tmp_path)
    with pytest.raises(ValueError, match="model.seed: 0 there, 1 here"):
        train(make(seed=1), DATA, TrainConfig(**CONFIG), folder=tmp_path)


def test_a_place_in_memory_is_no_part_of_what_a_run_is(tmp_path):
    class Drawn:
        def __call__(self, step):
            return DATA(step)

    for _ in range(2):
        kept_alive = Drawn()  # so that the next one lies elsewhere
        assert len(train(make(), partial(Drawn.__call__, kept_alive), TrainConfig(**CONFIG), folder=tmp_path).records)
    with pytest.raises(ValueError, match="another run"):
        train(make(), kept_alive, TrainConfig(**CONFIG), folder=tmp_path)


def test_a_model_in_mid_training_begins_no_run_in_an_empty_folder(tmp_path):
    def until_five(step):
        if step == 5:
            raise KeyboardInterrupt
        return DATA(step)

    model = make()
    with pytest.raises(KeyboardInterrupt):
        train(model, until_five, TrainConfig(**CONFIG), folder=tmp_path / "one")
    with pytest.raises(
        ValueError, match="broken off after step 4, and .*two holds no checkpoint of it: build the model"
    ):
        train(model, DATA, TrainConfig(**CONFIG), folder=tmp_path / "two")
    whole = make()
    train(whole, DATA, TrainConfig(**CONFIG), folder=tmp_path / "two")
    train(model, DATA, TrainConfig(**CONFIG), folder=tmp_path / "two")  # a finished run is loaded
    assert_same_weights(whole, model)


def test_records_keep_what_was_measured_and_checkpoints_can_hold_it(tmp_path):
    def measured(model):
        scores = [np.float64(0.5), (np.int64(2), "name", None, True)]
        return {"row": model.W_E[1], "scores": scores, "numpy": np.float32(0.25)}

    first = train(make(), DATA, TrainConfig(**CONFIG), measured, tmp_path)
    again = train(make(), DATA, TrainConfig(**CONFIG), measured, tmp_path)
    assert not torch.equal(first.records[0]["row"], first.records[-1]["row"])
    for ours, theirs in zip(first.records, again.records, strict=True):
        assert torch.equal(ours.pop("row"), theirs.pop("row")) and ours == theirs
    assert [type(part) for part in again.records[0]["scores"][1]] == [int, str, type(None), bool]


@pytest.mark.parametrize(
    ("measured", "words"),
    [
        ({"a": np.ones(3)}, "measure returns 'a' as ndarray; wanted are numbers, strings and tensors"),
        ({"a": [1.0, {}]}, "'a' as dict"),
        ({"step": 3}, "measure returns step, which every record has already"),
    ],
)
def test_what_no_checkpoint_can_hold_is_refused_before_training(measured, words):
    model = make()
    with pytest.raises(ValueError, match=words):
        train(model, DATA, TrainConfig(**CONFIG), lambda model: measured)
    assert_same_weights(model, make())


def test_a_last_token_out_of_the_vocabulary_is_named():
    for wrong in (-100, 20):
        batch = DATA(0)
        batch[1, -1] = wrong
        with pytest.raises(ValueError, match=str(wrong)):
            train(make(), lambda step, batch=batch: batch, TrainConfig(**CONFIG))


def test_a_loss_that_is_not_a_number_stops_the_run_and_is_not_saved(tmp_path):
    model = make()
    with torch.no_grad():
        model.W_U.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="nan at step 7; try a smaller lr"):
        train(model, DATA, TrainConfig(**CONFIG), folder=tmp_path)
    assert not list(tmp_path.glob("*"))


def test_bfloat16_is_close_to_float32():
    loss32, loss16 = (next_token_loss(make(), DATA(0), dtype).item() for dtype in (torch.float32, torch.bfloat16))
    assert loss32 != loss16 and abs(loss32 - loss16) < 0.05


def test_token_losses_in_parts_equal_the_whole():
    model, tokens = make(), DATA(0)
    with torch.no_grad():
        whole = per_token_loss(model(tokens), tokens)
    torch.testing.assert_close(token_losses(model, tokens, batch=3, precision="float32"), whole)


def test_head_scores_have_a_value_a_head():
    scores = head_scores(make(), DATA(0))
    assert {name: tuple(value.shape) for name, value in scores.items()} == {
        "previous_token": (2, 2),
        "prefix_matching": (2, 2),
    }


def test_phase_change_record_is_what_its_parts_say(generator):
    model = make(n_ctx=512)
    validation = torch.randint(0, 20, (3, 513), generator=generator)
    record = phase_change_record(model, token_losses(model, validation), DATA(0))
    losses = token_losses(model, validation)
    assert losses.shape == (3, 512)
    assert record["validation_loss"] == pytest.approx(losses.mean().item())
    assert record["icl"] == pytest.approx((losses[:, 487:512].mean() - losses[:, 37:62].mean()).item(), abs=1e-5)
    assert torch.equal(record["prefix_matching"], head_scores(model, DATA(0))["prefix_matching"])


def test_checked_files_are_whole_or_absent(tmp_path):
    path = tmp_path / "a" / "file"
    assert read_checked(path) is None
    write_checked(path, b"hello")
    assert read_checked(path) == b"hello"
    path.write_bytes(path.read_bytes() + b"x")
    assert read_checked(path) is None
    assert [p.name for p in path.parent.iterdir()] == ["file"]


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(steps=0), "steps must be at least 1, got 0"),
        (dict(steps=2.5), "steps must be a whole number, got 2.5"),
        (dict(lr=0.0), "lr must be above 0 and finite, got 0.0"),
        (dict(lr=math.inf), "lr must be above 0 and finite, got inf"),
        (dict(lr=math.nan), "lr must be above 0 and finite, got nan"),
        (dict(lr="3e-3"), "lr must be above 0 and finite, got '3e-3'"),
        (dict(mlp_lr_factor=0.0), "mlp_lr_factor must be above 0"),
        (dict(max_grad_norm=-1), "max_grad_norm must be above 0 and finite, got -1"),
        (dict(measure_every=0), "measure_every must be at least 1, got 0"),
        (dict(measure_every=7.5), "measure_every must be a whole number, got 7.5"),
        (dict(checkpoint_every=0), "checkpoint_every must be at least 1, got 0"),
        (dict(warmup_steps=-1), "warmup_steps must be at least 0, got -1"),
        (dict(weight_decay=-0.1), "weight_decay must be 0 or more and finite, got -0.1"),
        (dict(weight_decay=math.nan), "weight_decay must be 0 or more and finite, got nan"),
        (dict(betas=(0.9, 1.0)), r"betas must be two numbers from 0 to below 1, got \(0.9, 1.0\)"),
        (dict(betas=(0.9,)), "betas must be two numbers"),
    ],
)
def test_bad_configuration(changes, message, unchecked):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**changes)


def test_bad_precision_and_column():
    with pytest.raises(ValueError, match="precision must be one of .* got 'float16'"):
        train(make(), DATA, TrainConfig(precision="float16"))
    history = train(make(), DATA, TrainConfig(steps=1, measure_every=1))
    with pytest.raises(ValueError, match="no 'icl'; it has"):
        history.column("icl")
