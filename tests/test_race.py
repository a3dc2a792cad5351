"""The race to an induction head, on tiny models: what is run, kept and written. No time is judged."""

import json
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks import race
from benchmarks.charts import FILM_PANELS, film_chart, formation
from course_lib.data import Corpus
from course_lib.recorded import load_recorded

TWO_SYNTHETIC, ONE_SYNTHETIC, TWO_TEXT, ONE_TEXT = race.quick(race.SETTINGS)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Kept runs and records go to a folder of the test; the text is 4,000 tokens that are no text."""
    tokens = np.random.default_rng(0).integers(1, 1024, 4000).astype(np.uint16)
    corpus = Corpus(tokens, tokens, d_vocab=1024, n_files=2, n_bytes=8000, hash="0123456789abcdef")
    monkeypatch.setattr(race, "load_corpus", lambda: corpus)
    race.corpus.cache_clear()
    for name in ("RECORD", "FLOAT32_RECORD", "QUICK_RECORD", "KEPT"):
        monkeypatch.setattr(race, name, tmp_path / name.lower())
    return tmp_path


@pytest.fixture
def scripted(monkeypatch):
    """Prefix-matching scores that the next measurements find."""
    scores = []

    def found(model, tokens):
        return dict.fromkeys(("previous_token", "prefix_matching"), torch.tensor([[0.1, scores.pop(0)]]))

    monkeypatch.setattr(race, "head_scores", found)
    return scores


def test_the_quick_race_writes_a_whole_record(elsewhere, capsys):
    assert race.main(["--quick"]) == 0
    assert not race.RECORD.exists() and not race.FLOAT32_RECORD.exists()
    record = json.loads(race.QUICK_RECORD.read_text())
    wanted = {
        "command",
        "date",
        "commit",
        "hardware",
        "device",
        "threads",
        "versions",
        "quick",
        "load before",
        "corpus",
    }
    assert wanted <= set(record["provenance"]) and record["provenance"]["quick"]
    assert [one["name"] for one in record["settings"]] == [setting.name for setting in race.SETTINGS]
    for one, setting in zip(record["settings"], race.quick(race.SETTINGS), strict=True):
        assert one["recipe"]["model"] == setting.model.to_dict()
        assert one["recipe"]["train"]["lr"] == setting.train.lr
        assert [run["seed"] for run in one["runs"]] == [0, 1]
        for run in one["runs"]:
            assert not run["reached"] and run["steps"] == 4
            assert run["tokens"] == 4 * one["recipe"]["tokens_a_step"]
            assert 0 < run["seconds_without_measuring"] < run["seconds"]
            assert len(run["prefix_matching"]) == 3
        assert one["runs"][0]["prefix_matching"] != one["runs"][1]["prefix_matching"]
        assert ("film" in one) == isinstance(setting.data, race.Text)
    assert [one["name"] for one in record["undone"]] == [setting.name for setting in race.UNDONE]
    assert all(len(one["runs"]) == 2 and "film" not in one for one in record["undone"])
    out = capsys.readouterr().out
    assert out.count("0 of 2") == len(race.SETTINGS + race.UNDONE)


def test_what_is_undone_differs_from_the_recipe_in_one_place():
    def flat(setting):
        return pd.json_normalize(race.recipe(setting)).iloc[0].astype(str).to_dict()

    whole = flat(race.TWO_LAYERS)
    different = [{name for name, value in flat(setting).items() if value != whole[name]} for setting in race.UNDONE]
    assert different == [{"model.d_vocab", "data.corpus"}, {"later_qk"}]


def test_queries_and_keys_of_later_layers_begin_smaller():
    model, usual = race.new_model(TWO_TEXT, seed=3), race.Transformer(TWO_TEXT.model, seed=3)
    for name, weight in usual.named_parameters():
        size = TWO_TEXT.later_qk if name in ("blocks.1.attn.W_Q", "blocks.1.attn.W_K") else 1
        assert torch.equal(model.get_parameter(name), weight * size), name


def test_a_head_forms_on_synthetic_data_and_ends_the_run():
    setting = replace(
        race.SETTINGS[1],
        data=replace(race.SEGMENTS, batch=16, d_vocab=64),
        model=replace(race.SETTINGS[1].model, d_vocab=64),
        train=replace(race.ON_SYNTHETIC, steps=400, measure_every=20),
    )
    run = race.race(setting, seed=0)
    *before, last = run["prefix_matching"]
    assert run["reached"] and last > race.THRESHOLD >= max(before)
    assert run["steps"] == 20 * len(before) < 400
    assert run["tokens"] == run["steps"] * 16 * 80


def test_a_run_ends_at_the_first_score_above_the_threshold(scripted):
    scripted += [0.2, 0.5, 0.6, 0.9]  # before training, after 2 steps, after 4
    run = race.race(replace(TWO_SYNTHETIC, train=replace(TWO_SYNTHETIC.train, steps=50)), seed=0)
    assert (run["reached"], run["steps"], run["tokens"]) == (True, 4, 4 * 2 * 80)
    assert run["prefix_matching"] == [0.2, 0.5, 0.6] and scripted == [0.9]


def test_a_run_without_a_head_counts_the_steps_of_its_limit(scripted):
    scripted += [0.1] * 4
    run = race.race(replace(TWO_SYNTHETIC, train=replace(TWO_SYNTHETIC.train, steps=5)), seed=0)
    assert (run["reached"], run["steps"]) == (False, 5)  # measured after 0, 2, 4 and 5 steps


def test_a_finished_run_is_not_made_again_unless_something_changed(monkeypatch):
    made = []

    def fake(setting, seed):
        made.append((setting.name, seed))
        if made == [(TWO_SYNTHETIC.name, 0), (TWO_SYNTHETIC.name, 1)]:
            raise KeyboardInterrupt
        run = {"seed": seed, "reached": True, "steps": 2, "tokens": 320, "seconds": 1.0}
        return run | {"seconds_without_measuring": 0.5, "prefix_matching": [0.1, 0.6]}

    monkeypatch.setattr(race, "race", fake)
    monkeypatch.setattr(race, "SETTINGS", [TWO_SYNTHETIC])
    monkeypatch.setattr(race, "UNDONE", [])
    assert race.main(["--quick"]) == 130
    assert not race.QUICK_RECORD.exists()
    assert race.main(["--quick"]) == 0
    assert [seed for _, seed in made] == [0, 1, 1]  # seed 0 was kept, the interrupted one began again
    assert race.main(["--quick"]) == 0 and len(made) == 3

    def again(count, **changes):
        with monkeypatch.context() as patch:
            for name, value in changes.items():
                patch.setattr(race, name, value)
            race.main(["--quick"])
        assert len(made) == count

    again(5, THRESHOLD=0.4)
    again(7, machine=lambda: {"hardware": "another"})
    again(9, SETTINGS=[replace(TWO_SYNTHETIC, train=replace(TWO_SYNTHETIC.train, lr=1e-3))])
    again(11, SETTINGS=[replace(TWO_SYNTHETIC, later_qk=1.0)])
    again(11)


def test_the_film_goes_on_to_twice_the_formation_or_to_the_limit(monkeypatch):
    steps = []
    monkeypatch.setattr(race, "film", lambda setting, seed, count: steps.append(count) or {"records": []})
    run = {"tokens": 1, "seconds": 1.0, "prefix_matching": []}
    for reached, setting in ((True, TWO_TEXT), (False, ONE_TEXT)):
        monkeypatch.setattr(race, "race", lambda setting, seed, r=reached: run | {"steps": 60, "reached": r})
        race.make_record([setting], [], [0], command="", quick=True)
    assert steps == [120, ONE_TEXT.train.steps]


def test_the_film_has_the_scores_of_its_race():
    run = race.race(TWO_TEXT, seed=0)
    records = race.film(ONE_TEXT, 0, steps=4)["records"]
    assert [record["step"] for record in records] == [0, 2, 4]
    assert [record["tokens"] for record in records] == [0, 1024, 2048]
    assert "train_loss" not in records[0] and all("train_loss" in record for record in records[1:])
    scores = [record["prefix_matching"] for record in records]  # four digits
    assert scores == pytest.approx(race.race(ONE_TEXT, seed=0)["prefix_matching"], abs=6e-5)
    assert scores != pytest.approx(run["prefix_matching"], abs=6e-5)
    assert abs(records[0]["validation_loss"] - np.log(512)) < 2 and "seconds" not in records[0]


def settings_of(*runs):
    """The settings of a record, one; a run is (reached, tokens, seconds)."""
    model, train = ONE_TEXT.model.to_dict(), {"steps": 1000, "lr": 4e-3, "measure_every": 20}
    recipe = {"model": model, "train": train, "precision": "bfloat16", "tokens_a_step": 2048}
    names = ("reached", "tokens", "seconds", "seconds_without_measuring")
    runs = [dict(zip(names, (*run, run[-1] / 2), strict=True)) for run in runs]
    return [{"name": "a setting", "recipe": recipe, "runs": runs}]


def last_row(table):
    return [cell.strip() for cell in table.splitlines()[-1].strip("|").split("|")]


def test_the_table_has_median_and_worst():
    settings = settings_of((True, 900_000, 9.0), (True, 2_000_000, 14.0), (True, 1_200_000, 21.0))
    row = last_row(race.race_table(settings))
    assert row == ["a setting", "3 of 3", "1.20M", "2.00M", "14.0 s", "21.0 s", "7.0 s"]
    assert len(row) == len(race.HEADERS)


def test_the_table_tells_which_runs_found_no_head():
    formed, not_formed = (True, 1_000_000, 10.0), (False, 50, 0.1)
    row = last_row(race.race_table(settings_of(formed, not_formed, formed)))
    assert row[1:6] == ["2 of 3", "1.00M", "not reached", "10.0 s", "not reached"]
    row = last_row(race.race_table(settings_of(formed, not_formed, not_formed)))
    assert row[1:] == ["1 of 3"] + ["not reached"] * 5


def test_the_recipes_tell_the_limit():
    row = last_row(race.recipe_table(settings_of((True, 1, 1.0))))
    assert row[2:] == ["2,048 tokens a step, lr 0.004, bfloat16", "20 steps", "2.05M tokens"]
    assert "begin at" not in row[1]


def test_the_recipes_tell_the_first_size_of_queries_and_keys():
    (one,) = settings_of((True, 1, 1.0))
    two_layers = TWO_TEXT.model.to_dict()
    for model, size, told in ((two_layers, 0.5, True), (two_layers, 1, False), (ONE_TEXT.model.to_dict(), 0.5, False)):
        row = last_row(race.recipe_table([one | {"recipe": one["recipe"] | {"model": model, "later_qk": size}}]))
        assert ("begin at 0.5 of the usual size" in row[1]) == told


def test_the_film_marks_where_a_head_has_formed():
    names = [name for lines in FILM_PANELS.values() for name in lines if name != "train_loss"]
    records = [{"tokens": 100 * i} | dict.fromkeys(names, i / 10) for i in range(9)]
    records = [records[0], *(record | {"train_loss": 1.0 + record["tokens"]} for record in records[1:])]
    assert formation(records, 0.5) == 600 and formation(records, 0.8) is None
    panels = film_chart(records, 0.5, "what to see").to_dict()["vconcat"]
    assert [panel["layer"][0]["encoding"]["y"]["title"] for panel in panels] == list(FILM_PANELS)
    assert all(panel["layer"][1]["data"]["values"] == [{"tokens": 600}] for panel in panels)
    without = film_chart(records, 0.8, "").to_dict()["vconcat"]
    assert all(len(panel["layer"]) == 1 for panel in without)


@pytest.mark.parametrize(("name", "of_text"), [("race", "bfloat16"), ("race_float32", "float32")])
def test_the_shipped_record_fits_the_page(name, of_text):
    record = load_recorded(name)
    assert [one["name"] for one in record["settings"]] == [setting.name for setting in race.SETTINGS]
    for one, setting in zip(record["settings"], race.SETTINGS, strict=True):
        assert one["recipe"]["precision"] == (of_text if isinstance(setting.data, race.Text) else "float32")
        assert one["recipe"]["train"] == json.loads(json.dumps(asdict(setting.train)))
        assert_raced(one, record["threshold"])
    films = [one["film"]["records"] for one in record["settings"] if "film" in one]
    assert len(films) == 2 and all(film[-1]["step"] > film[0]["step"] == 0 for film in films)


def assert_raced(one, threshold):
    """All seeds, each until the first score above the threshold."""
    assert [run["seed"] for run in one["runs"]] == list(race.SEEDS)
    for run in one["runs"]:
        assert run["reached"] == (run["prefix_matching"][-1] > threshold)
        assert max(run["prefix_matching"][:-1]) <= threshold


def test_the_newer_record_is_of_the_recipes_as_they_are():
    record = load_recorded("race_float32")
    assert [one["name"] for one in record["undone"]] == [setting.name for setting in race.UNDONE]
    made = [*record["settings"], *record["undone"]]
    for one, setting in zip(made, (*race.SETTINGS, *race.UNDONE), strict=True):
        assert one["recipe"]["model"] == setting.model.to_dict()
        assert one["recipe"]["later_qk"] == setting.later_qk
        assert one["recipe"]["data"]["batch"] == setting.data.batch
        assert_raced(one, record["threshold"])


@pytest.mark.parametrize(("dtype", "name"), [(torch.float32, "float32_record"), (torch.bfloat16, "record")])
def test_a_machine_without_bfloat16_writes_a_record_of_its_own(dtype, name, elsewhere, monkeypatch):
    monkeypatch.setattr(race, "precision_dtype", lambda precision, device: dtype)
    assert race.record_path() == elsewhere / name
