import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from course_lib.data import Corpus
from course_lib.data_parallel import Processes
from course_lib.model import ModelConfig
from course_lib.recorded import load_recorded, to_json
from course_lib.train import TrainConfig
from course_lib.trajectory import phase_change_window
from tools import recorded_runs


def test_the_recorded_series_is_complete_and_says_where_it_comes_from():
    series = load_recorded("phase_change")
    assert {"command", "date", "hardware", "versions", "corpus", "train"} <= set(series["provenance"])
    seeds = {"one layer": set(), "two layers": set()}
    for run in series["runs"]:
        seeds[run["name"]].add(run["seed"])
        layers = ModelConfig(**run["model"]).n_layers
        assert run["records"][-1]["step"] == series["provenance"]["train"]["steps"]
        assert all(len(record["prefix_matching"]) == layers for record in run["records"])
    assert len(seeds["two layers"]) >= 3 and len(seeds["one layer"]) >= 2


def test_every_two_layer_run_has_a_phase_change_and_no_one_layer_run_has_an_induction_head():
    for run in load_recorded("phase_change")["runs"]:
        scores = torch.tensor([record["prefix_matching"] for record in run["records"]])
        if run["name"] == "one layer":
            assert scores.max() < 0.1
            continue
        tokens = [record["tokens"] for record in run["records"]]
        start, end = phase_change_window(tokens, [record["icl"] for record in run["records"]])
        best = scores[:, 1].amax(-1)
        before, after = best[tokens.index(start)], best[tokens.index(end)]
        assert before < 0.2 and after > 0.3  # the heads form inside the window that the ICL score chose


def test_to_json_makes_plain_values():
    assert to_json({"a": torch.tensor([[0.123456]]), "b": [1, 2.00001], "c": "x"}) == {
        "a": [[0.1235]],
        "b": [1, 2.0],
        "c": "x",
    }


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
        "SERIES": [(2, 0), (1, 7)],
        "RECIPE": TrainConfig(steps=2, measure_every=1),
        "FOLDER": tmp_path / "runs",
        "load_corpus": lambda: corpus,
        "phase_change_record": lambda model, *tokens: {"loss": 1.0, "loss_by_index": [1.0]},
        "local_workers": lambda count: asked.append(count) or ThreadPoolExecutor(1),
        "dask_workers": lambda address: asked.append(address) or ThreadPoolExecutor(1),
    }
    for name, value in changes.items():
        monkeypatch.setattr(recorded_runs, name, value)
    monkeypatch.chdir(tmp_path)
    return asked


def test_the_series_is_made_by_workers_and_written(tiny, tmp_path, monkeypatch):
    recorded_runs.main(["--workers", "3"])
    series = json.loads((tmp_path / "runs" / "phase_change.json").read_text())
    assert [(run["name"], run["seed"], run["model"]["n_layers"]) for run in series["runs"]] == [
        ("two layers", 0, 2),
        ("one layer", 7, 1),
    ]
    assert all(set(run) == {"name", "seed", "model", "records"} for run in series["runs"])
    assert [record["step"] for record in series["runs"][1]["records"]] == [0, 1, 2]
    assert series["runs"][1]["records"][0] == {"step": 0, "tokens": 0, "loss": 1.0}
    assert f"1 x {torch.get_num_threads()} threads" in series["provenance"]["hardware"]
    assert series["provenance"]["versions"]["torch"] == torch.__version__
    monkeypatch.delattr(recorded_runs, "phase_change_record")  # nothing is measured again
    recorded_runs.main(["--scheduler", "tcp://there"])
    assert json.loads((tmp_path / "runs" / "phase_change.json").read_text())["runs"] == series["runs"]
    recorded_runs.main([])
    assert tiny == [3, "tcp://there", min(2, torch.get_num_threads())]


def test_only_the_first_of_several_processes_writes_the_series(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(recorded_runs, "join", lambda device: Processes(1, 2))
    recorded_runs.main([])
    assert (tmp_path / "_build" / "recorded" / "1-layer-seed-7").exists()
    assert not (tmp_path / "runs").exists()


def test_a_worker_with_another_text_is_refused(tiny):
    with pytest.raises(ValueError, match="need the corpus another, this machine has 0123456789ab"):
        recorded_runs.run_one("another", 1, 7)


def test_a_series_made_on_two_kinds_of_machine_names_both(tiny):
    one = {"precision": "float32", "hardware": "A", "python": "3.11", "torch": "2.6"}
    found = recorded_runs.provenance(recorded_runs.load_corpus(), [one | {"hardware": "B"}, one, one])
    assert found["hardware"] == "A; B" and found["precision"] == "float32"
