from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from course_lib.ablation import KINDS
from course_lib.data import Corpus, repeated_tokens
from course_lib.data_parallel import Processes
from course_lib.evaluate import head_scores
from course_lib.model import ModelConfig
from course_lib.recorded import load_recorded, pack, recorded_model, to_json, unpack, write_whole
from course_lib.train import TrainConfig
from course_lib.trajectory import phase_change_window
from tools import recorded_runs
from tools.recorded_runs import Run


def test_the_recorded_series_is_complete_and_says_where_it_comes_from():
    series = load_recorded("series")
    assert {"command", "date", "hardware", "versions", "corpus", "train", "precision"} <= set(series["provenance"])
    assert [(run["name"], run["seed"]) for run in series["runs"]] == [(r.name, r.seed) for r in recorded_runs.SERIES]
    for run in series["runs"]:
        config = ModelConfig(**run["model"])
        assert len(run["records"]) >= 41 and run["records"][-1]["step"] == series["provenance"]["train"]["steps"]
        for record in run["records"]:
            assert record["prefix_matching"].shape == (config.n_layers, config.n_heads)
            assert record["loss_by_index"].shape == (512,) and record["token_losses"].shape == (192,)
        assert set(run["ablations"]) == {"none", *KINDS}
        assert run["ablations"]["zero"]["token_losses"].shape == (config.n_layers, config.n_heads, 48)


def test_induction_heads_ablated_together_are_those_ablated_one_at_a_time():
    """With none of them nothing changes; with one, the change is that head's own; runs of both kinds are there."""
    compared = []
    for run in load_recorded("series")["runs"]:
        heads = (run["records"][-1]["prefix_matching"] > recorded_runs.INDUCTION).nonzero().tolist()
        alone = [run["ablations"]["mean"]["icl"][layer, head] for layer, head in heads] or [
            run["ablations"]["none"]["icl"]
        ]
        if len(alone) == 1:
            assert run["joint_ablations"]["induction heads"] == pytest.approx(float(alone[0]), abs=1e-3)
            compared.append(len(heads))
    assert set(compared) == {0, 1}


def test_every_depth_from_two_on_forms_a_head_and_one_layer_and_the_control_do_not():
    """But for one seed of the deepest model with MLPs, whose head has only begun."""
    by_name = {}
    for run in load_recorded("series")["runs"]:
        by_name.setdefault(run["name"], []).append(run)
    assert len(by_name["2 layers"]) >= 3 and len(by_name["1 layer"]) >= 2
    assert {f"{n} layers{kind}" for n in range(2, 7) for kind in ("", ", MLP")} <= by_name.keys()
    for name, runs in by_name.items():
        highest = [max(record["prefix_matching"].max() for record in run["records"]) for run in runs]
        none = name in ("1 layer", "1 layer, MLP", "2 layers, MLP at full rate")
        least = 0.2 if name == "6 layers, MLP" else 0.4
        assert max(highest) < 0.1 if none else min(highest) > least and max(highest) > 0.5, name


def test_heads_of_two_layers_grow_inside_the_window_of_the_icl_score():
    for run in (run for run in load_recorded("series")["runs"] if run["name"] == "2 layers"):
        tokens = [record["tokens"] for record in run["records"]]
        start, end = phase_change_window(tokens, [record["icl"] for record in run["records"]], smooth=7)
        best = torch.stack([record["prefix_matching"][1].max() for record in run["records"]])
        assert best[tokens.index(end)] - best[tokens.index(start)] > 0.15


def test_the_weights_before_the_change_are_those_of_their_last_record():
    stored = load_recorded("before_change")
    last, (step,) = stored["records"][-1], map(int, stored["weights"])
    tokens = repeated_tokens(8, 25, 4, stored["model"]["d_vocab"], torch.Generator().manual_seed(0))
    found = head_scores(recorded_model("before_change"), tokens)
    assert last["step"] == step == stored["provenance"]["train"]["steps"]
    assert torch.allclose(found["prefix_matching"], last["prefix_matching"], atol=2e-3)
    assert found["prefix_matching"].max() < 0.2 and found["previous_token"][0].max() > 0.8


def test_the_kept_weights_are_those_of_the_series():
    stored, series = load_recorded("two_layers"), load_recorded("series")
    run = next(r for r in series["runs"] if (r["name"], r["seed"]) == (stored["name"], stored["seed"]))
    tokens = repeated_tokens(8, 25, 4, run["model"]["d_vocab"], torch.Generator().manual_seed(0))
    for step in map(int, stored["weights"]):
        record = next(r for r in run["records"] if r["step"] == step)
        found = head_scores(recorded_model("two_layers", step), tokens)
        assert torch.allclose(found["prefix_matching"], record["prefix_matching"], atol=2e-3)
    with pytest.raises(ValueError, match=r"keeps the weights after \[.*\] steps, not after 7"):
        recorded_model("two_layers", 7)


def test_what_is_packed_comes_back():
    records = [{"step": 0, "icl": 0.5, "scores": torch.rand(2, 3)}]
    records += [{"step": 1, "icl": -0.25, "train_loss": 3.0, "scores": torch.rand(2, 3)}]
    weights = {"W": torch.rand(4), "ids": torch.arange(3)}
    back = unpack(pack({"runs": [{"name": "x", "records": records, "weights": weights}]}))["runs"][0]
    assert [{k: v for k, v in r.items() if k != "scores"} for r in back["records"]] == [
        {k: v for k, v in r.items() if k != "scores"} for r in records
    ]
    for ours, theirs in zip(back["records"], records, strict=True):
        assert torch.allclose(ours["scores"], theirs["scores"], atol=1e-3)
    assert torch.allclose(back["weights"]["W"], weights["W"], atol=1e-3)
    assert torch.equal(back["weights"]["ids"], weights["ids"])


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "runs" / "x.npz"
    write_whole(path, b"old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("course_lib.recorded.os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old" and list(path.parent.iterdir()) == [path]


def test_to_json_makes_plain_values():
    assert to_json({"a": torch.tensor([[0.123456]]), "b": [1, 2.00001], "c": "x"}) == {
        "a": [[0.1235]],
        "b": [1, 2.0],
        "c": "x",
    }


@pytest.mark.parametrize("name", ["series", "lab", "other_seeds"])
def test_a_series_without_weights_names_those_that_have_some(name):
    with pytest.raises(ValueError, match=rf"'{name}' keeps no weights; these do: \['before_change', 'two_layers'\]"):
        recorded_model(name)


def test_an_unknown_series_names_the_known_ones():
    with pytest.raises(ValueError, match=r"no recorded series 'x'; there are \["):
        load_recorded("x")


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """`recorded_runs` with two runs of two steps, made by one thread; the list says which workers were asked for."""
    text, asked = np.arange(400, dtype=np.uint16) % 50, []
    corpus = Corpus(text, text, d_vocab=50, n_files=2, n_bytes=800, hash="0123456789abcdef")
    changes = {
        "CONTEXT": 16,
        "SERIES": [Run(2), Run(1, 7)],
        "RECIPE": TrainConfig(steps=2, measure_every=1),
        "FOLDER": tmp_path / "runs",
        "load_corpus": lambda: corpus,
        "measurements": lambda validation: lambda model: {"icl": 1.0},
        "ablations": lambda model, validation: {"zero": torch.zeros(2)},
        "joint_ablations": lambda model, validation, last: {"induction heads": last["icl"]},
        "phase_change_window": lambda tokens, icl: (0, tokens[1]),
        "local_workers": lambda count: asked.append(count) or ThreadPoolExecutor(1),
        "dask_workers": lambda address: asked.append(address) or ThreadPoolExecutor(1),
    }
    for name, value in changes.items():
        monkeypatch.setattr(recorded_runs, name, value)
    monkeypatch.chdir(tmp_path)
    return asked


def test_the_series_is_made_by_workers_and_written(tiny, tmp_path, monkeypatch):
    recorded_runs.main(["--workers", "3"])
    series = unpack((tmp_path / "runs" / "series.npz").read_bytes())
    assert [(run["name"], run["seed"], run["model"]["n_layers"]) for run in series["runs"]] == [
        ("2 layers", 0, 2),
        ("1 layer", 7, 1),
    ]
    kept = {"name", "seed", "model", "lr", "mlp_lr_factor", "records", "ablations", "joint_ablations"}
    assert all(set(run) == kept for run in series["runs"])
    assert [record["step"] for record in series["runs"][1]["records"]] == [0, 1, 2]
    assert series["runs"][1]["records"][0] == {"step": 0, "tokens": 0, "icl": 1.0}
    assert f"1 x {torch.get_num_threads()} threads" in series["provenance"]["hardware"]
    assert series["provenance"]["versions"]["torch"] == torch.__version__
    kept = unpack((tmp_path / "runs" / "two_layers.npz").read_bytes())
    assert set(kept["weights"]) == {"0", "1", "2"} and kept["name"] == "2 layers"
    recorded_runs.main(["--scheduler", "tcp://there"])
    again = unpack((tmp_path / "runs" / "series.npz").read_bytes())["runs"]
    assert [run["records"] for run in again] == [run["records"] for run in series["runs"]]
    recorded_runs.main([])
    assert tiny == [3, "tcp://there", min(2, torch.get_num_threads())]


def test_only_the_first_of_several_processes_writes_the_series(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(recorded_runs, "join", lambda device: Processes(1, 2))
    recorded_runs.main([])
    assert (tmp_path / "_build" / "recorded" / "1-layer-7").exists()
    assert not (tmp_path / "runs").exists()


def test_a_series_made_on_two_kinds_of_machine_names_both(tiny):
    one = {"precision": "float32", "hardware": "A", "python": "3.11", "torch": "2.6"}
    found = recorded_runs.provenance(recorded_runs.load_corpus(), [one | {"hardware": "B"}, one, one])
    assert found["hardware"] == "A; B" and found["precision"] == "float32"
