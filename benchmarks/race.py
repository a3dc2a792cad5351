"""Time to induction, from random weights to a head with prefix matching: `python -m benchmarks.race` (`make race`).

One run after another, each with all threads that torch takes on this machine, through `course_lib.train.train`. A run
ends as soon as a head has formed, or at its limit of steps; then the record says that none did.

The wall clock of a run starts before the model is made and includes measuring. Before it starts, the text is loaded
and a model of the same setting takes one step, so that no run pays for what torch loads at its first step.

The record is written when all runs are complete. Finished runs stay below `_build/race`, so an interrupted race goes
on where it stopped. A run is made again only when its recipe, the machine, the versions or the code of the course that
it uses changed; remove `_build/race` to race again with everything as it was.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from functools import cache, partial
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from benchmarks.compare import say, shortened, write_json
from benchmarks.process import ROOT
from benchmarks.summary import markdown
from course_lib.data import Batches, Corpus, RepeatedSegments, load_corpus, repeated_tokens
from course_lib.evaluate import head_scores, token_losses
from course_lib.icl import icl_score
from course_lib.model import ModelConfig, Transformer
from course_lib.recorded import to_json
from course_lib.runtime import best_device, precision_dtype
from course_lib.train import TrainConfig, train
from tools.status import commit, processor

RECORD = ROOT / "course_lib" / "assets" / "runs" / "race.json"
FLOAT32_RECORD = RECORD.with_name("race_float32.json")  # of a machine without fast bfloat16
QUICK_RECORD = ROOT / "_build" / "race-quick.json"
KEPT = ROOT / "_build" / "race"  # finished runs
THRESHOLD = 0.5  # prefix matching of a head that counts as formed
SEEDS = (0, 1, 2, 3, 4)  # each of the weights and of the data
VALIDATION_ROWS = 192
ICL = {"early": 50, "late": 240, "window": 12}  # tokens, of a context of 256

HEADERS = (
    "setting",
    "seeds with a head",
    "tokens, median",
    "tokens, worst",
    "time, median",
    "time, worst",
    "median without measuring",
)


@dataclass(frozen=True)
class Text:
    """Training data from `load_corpus`: the arguments of `Corpus.batches`."""

    batch: int = 8
    n_ctx: int = 256  # half of chapter 6: in trials, 512 needed more tokens


@dataclass(frozen=True)
class Setting:
    """What is raced: a recipe, with every seed."""

    name: str
    model: ModelConfig
    data: RepeatedSegments | Text
    train: TrainConfig  # its `steps` are the limit
    later_qk: float = 0.5  # initial size of W_Q and W_K in all layers but the first, 1 as usual


SEGMENTS = RepeatedSegments(batch=24)
SYNTHETIC = ModelConfig(n_layers=2, n_heads=2, d_model=64, d_head=32, d_vocab=SEGMENTS.d_vocab, n_ctx=101)
TEXT = ModelConfig(n_layers=2, d_vocab=512, n_ctx=256, learned_positions=False)
ON_SYNTHETIC = TrainConfig(steps=1000, lr=8e-3, measure_every=10)
ON_TEXT = TrainConfig(steps=3000, lr=4e-3, warmup_steps=100, precision="auto", measure_every=50)
SMEARED = {"n_layers": 1, "smeared_keys": True}

TWO_LAYERS = Setting("real text, two layers", TEXT, Text(), ON_TEXT)
SETTINGS = (
    Setting("synthetic, two layers", SYNTHETIC, SEGMENTS, ON_SYNTHETIC),
    Setting("synthetic, one layer with smeared keys", replace(SYNTHETIC, **SMEARED), SEGMENTS, ON_SYNTHETIC),
    TWO_LAYERS,
    Setting(
        "real text, one layer with smeared keys",
        replace(TEXT, **SMEARED, learned_positions=True),  # large positions disturb where no head needs them
        Text(),
        replace(ON_TEXT, steps=1000, lr=8e-3, measure_every=20),
    ),
)
# What the recipe for two layers on real text owes to its parts: one of them undone at a time.
UNDONE = (
    replace(TWO_LAYERS, name="the same, vocabulary 1,024", model=replace(TEXT, d_vocab=1024)),
    replace(TWO_LAYERS, name="the same, W_Q and W_K of the usual size", later_qk=1.0),
)


def quick(settings: Sequence[Setting]) -> tuple[Setting, ...]:
    """The same settings with tiny models and four steps, to try the machinery."""
    return tuple(
        replace(
            setting,
            model=replace(setting.model, n_heads=2, d_model=16, d_head=8),
            data=replace(setting.data, batch=2),
            train=replace(setting.train, steps=4, measure_every=2),
        )
        for setting in settings
    )


class _HeadFormed(Exception):
    """Ends a training run from inside its measurement."""


class _Watch:
    """A `measure` of `train` that keeps the best prefix-matching score and ends the run when a head has formed."""

    def __init__(self, random_tokens: Tensor):
        self.random_tokens = random_tokens
        self.scores: list[float] = []  # one a measurement, the first before training
        self.seconds = 0.0  # spent on measuring

    def __call__(self, model: Transformer) -> dict:
        started = time.perf_counter()
        self.scores.append(float(head_scores(model, self.random_tokens)["prefix_matching"].max()))
        self.seconds += time.perf_counter() - started
        if self.scores[-1] > THRESHOLD:
            raise _HeadFormed
        return {}


def batches_of(setting: Setting, seed: int) -> Batches:
    """The training data of one seed."""
    if isinstance(setting.data, RepeatedSegments):
        return replace(setting.data, seed=seed)
    return corpus(setting.model.d_vocab).batches(**asdict(setting.data), seed=seed)


@cache
def corpus(d_vocab: int) -> Corpus:
    """The text of the course in so many tokens, loaded once."""
    return load_corpus().with_vocabulary(d_vocab)


def new_model(setting: Setting, seed: int) -> Transformer:
    """The model of one seed, with random weights.

    Without smaller queries and keys in the second layer, that layer gets the previous-token head with some seeds. No
    later head can read it there.
    """
    model = Transformer(setting.model, seed=seed)
    with torch.no_grad():
        for block in model.blocks[1:]:
            block.attn.W_Q *= setting.later_qk
            block.attn.W_K *= setting.later_qk
    return model.to(best_device())


def random_tokens_of(setting: Setting) -> Tensor:
    """The repeated random tokens that heads are scored on, [8, 101]."""
    return repeated_tokens(8, 25, 4, setting.model.d_vocab, torch.Generator().manual_seed(0))


def race(setting: Setting, seed: int) -> dict:
    """One run, until a head has formed or its limit is reached.

    Returns:
        `reached`; `steps`, `tokens` and wall `seconds` until then, or spent in vain; `seconds_without_measuring`;
        `prefix_matching`: the best head's score at each measurement.
    """
    batches, watch = batches_of(setting, seed), _Watch(random_tokens_of(setting))
    train(new_model(setting, seed), batches, replace(setting.train, steps=1))
    started = time.perf_counter()
    model = new_model(setting, seed)
    reached = False
    try:
        train(model, batches, setting.train, watch)
    except _HeadFormed:
        reached = True
    seconds = time.perf_counter() - started
    steps = min((len(watch.scores) - 1) * setting.train.measure_every, setting.train.steps)
    return {
        "seed": seed,
        "reached": reached,
        "steps": steps,
        "tokens": steps * tokens_a_step(setting),
        "seconds": shortened(seconds),
        "seconds_without_measuring": shortened(seconds - watch.seconds),
        "prefix_matching": [shortened(score) for score in watch.scores],
    }


def tokens_a_step(setting: Setting) -> int:
    """Predicted tokens of one batch."""
    return batches_of(setting, 0)(0)[:, 1:].numel()


def film(setting: Setting, seed: int, steps: int) -> dict:
    """A run on real text once more, without a clock and with more measurements.

    Returns:
        `records` with `step`, `tokens`, `train_loss` (but at step 0), `validation_loss` and `icl` in nats, and the best
        scores `previous_token` in layer 0 and `prefix_matching` in the last layer.
    """
    validation = corpus(setting.model.d_vocab).validation(VALIDATION_ROWS, setting.data.n_ctx)
    random_tokens = random_tokens_of(setting)

    def measure(model: Transformer) -> dict:
        losses, scores = token_losses(model, validation), head_scores(model, random_tokens)
        return {
            "validation_loss": losses.mean().item(),
            "icl": icl_score(losses, **ICL).item(),
            "previous_token": scores["previous_token"][0].max().item(),
            "prefix_matching": scores["prefix_matching"][-1].max().item(),
        }

    model = new_model(setting, seed)
    history = train(model, batches_of(setting, seed), replace(setting.train, steps=steps), measure)
    records = [{name: value for name, value in to_json(r).items() if name != "seconds"} for r in history.records]
    return {"seed": seed, "records": records}


def recipe(setting: Setting) -> dict:
    """All that a setting fixes, as plain values."""
    data = {"kind": type(setting.data).__name__} | asdict(setting.data)
    data.pop("seed", None)  # another one in each run
    if isinstance(setting.data, Text):
        data["corpus"] = corpus(setting.model.d_vocab).hash
    return {
        "model": setting.model.to_dict(),
        "later_qk": setting.later_qk,
        "data": data,
        "train": asdict(setting.train),
        "precision": str(precision_dtype(setting.train.precision, best_device())).removeprefix("torch."),
        "tokens_a_step": tokens_a_step(setting),
    }


def record_path() -> Path:
    """Where the record of this machine belongs."""
    return FLOAT32_RECORD if precision_dtype("auto", best_device()) == torch.float32 else RECORD


def machine() -> dict:
    """What the runs are computed on and with."""
    return {
        "hardware": f"{processor()}, {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.release()}",
        "device": best_device().type,
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "course code": code_hash()},
    }


def code_hash() -> str:
    """Short hash of the modules of the course that are loaded: what `train` and the measurements consist of."""
    loaded = sorted(name for name in sys.modules if name.split(".")[0] == "course_lib")
    return hashlib.sha256(b"".join(Path(sys.modules[name].__file__).read_bytes() for name in loaded)).hexdigest()[:12]


def kept(identity: dict, make: Callable[[], dict], load: float) -> dict:
    """What `make` gives and when it was made; from `KEPT`, if it is there.

    Args:
        identity: all that makes a run this run, as plain values.
        make: the run.
        load: of the machine before the race.
    """
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    path = KEPT / f"{key}.json"
    if not path.is_file():
        write_json(path, make() | {"date": date.today().isoformat(), "load before": round(load, 2)})
    return json.loads(path.read_text(encoding="utf-8"))


def make_record(
    settings: Sequence[Setting], undone: Sequence[Setting], seeds: Sequence[int], command: str, quick: bool
) -> dict:
    """Race every setting with every seed, one after another; the whole record."""
    load, on, raced = os.getloadavg()[0], machine(), []
    for setting in (*settings, *undone):
        identity = {"recipe": recipe(setting), "threshold": THRESHOLD, "machine": on}
        runs = []
        for seed in seeds:
            runs.append(kept(identity | {"seed": seed}, partial(race, setting, seed), load))
            say(f"{setting.name}, seed {seed}: {outcome(runs[-1])}")
        one = {"name": setting.name, "recipe": identity["recipe"], "runs": runs}
        if isinstance(setting.data, Text) and setting in settings:
            steps = 2 * runs[0]["steps"] if runs[0]["reached"] else setting.train.steps
            filmed = identity | {"film": {"rows": VALIDATION_ROWS, "icl": ICL, "steps": steps}, "seed": seeds[0]}
            one["film"] = kept(filmed, partial(film, setting, seeds[0], steps), load)
            say(f"{setting.name}, film of {steps} steps")
        raced.append(one)
    made = [run for one in raced for run in one["runs"]]
    provenance = {
        "command": command,
        "date": max(run["date"] for run in made),
        "commit": commit(),
        "quick": quick,
        "corpus": repr(corpus(TEXT.d_vocab)),
        "load before": max(run["load before"] for run in made),
    }
    return {
        "provenance": provenance | on,
        "threshold": THRESHOLD,
        "settings": raced[: len(settings)],
        "undone": raced[len(settings) :],
    }


def outcome(run: dict) -> str:
    """One run in words."""
    spent = f"{run['tokens']:,} tokens, {run['seconds']:.1f} s"
    return f"a head after {spent}" if run["reached"] else f"no head in {spent}"


def race_table(raced: Sequence[dict]) -> str:
    """The `settings` of a record as a Markdown table, a row a setting.

    A run without a head counts as later than any other, so a median or a worst that falls on one has no number.
    """
    rows = [HEADERS, ("---",) * len(HEADERS)]
    for one in raced:
        runs = one["runs"]
        tokens = median_and_worst(runs, "tokens", lambda value: f"{value / 1e6:.2f}M")
        seconds = [
            *median_and_worst(runs, "seconds", "{:.1f} s".format),
            median_and_worst(runs, "seconds_without_measuring", "{:.1f} s".format)[0],
        ]
        rows.append((one["name"], f"{sum(run['reached'] for run in runs)} of {len(runs)}", *tokens, *seconds))
    return markdown(rows)


def median_and_worst(runs: Sequence[dict], name: str, text: Callable[[float], str]) -> list[str]:
    """Median and largest value of the runs, as texts; "not reached" where that is a run without a head."""
    values = [run[name] if run["reached"] else math.inf for run in runs]
    return [text(value) if value < math.inf else "not reached" for value in (median(values), max(values))]


def recipe_table(raced: Sequence[dict]) -> str:
    """What every setting trains on and how, as a Markdown table; the limit is where a run is given up."""
    rows = [("setting", "model", "training", "measured every", "limit")]
    rows.append(("---",) * len(rows[0]))
    for one in raced:
        model, train, tokens = (one["recipe"][name] for name in ("model", "train", "tokens_a_step"))
        shape = f"d_model {model['d_model']}, {model['n_heads']} heads a layer, vocabulary {model['d_vocab']}"
        later_qk = one["recipe"].get("later_qk", 1)  # old records have none
        if model["n_layers"] > 1 and later_qk != 1:
            shape += f", W_Q and W_K of the second layer begin at {later_qk:g} of the usual size"
        how = f"{tokens:,} tokens a step, lr {train['lr']:g}, {one['recipe']['precision']}"
        limit = f"{train['steps'] * tokens / 1e6:.2f}M tokens"
        rows.append((one["name"], shape, how, f"{train['measure_every']} steps", limit))
    return markdown(rows)


def main(words: Sequence[str]) -> int:
    """Race, write the record, print the table; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.race", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="try the machinery on tiny models, two seeds, four steps")
    tiny = parser.parse_args(words).quick
    settings, undone, seeds, path = SETTINGS, UNDONE, SEEDS, record_path()
    if tiny:
        settings, undone, seeds, path = quick(SETTINGS), quick(UNDONE), SEEDS[:2], QUICK_RECORD
    os.environ["COURSE_STATIC"] = "1"  # no progress bars beside the clock
    try:
        record = make_record(settings, undone, seeds, " ".join(["python -m benchmarks.race", *words]), tiny)
    except KeyboardInterrupt:
        print(f"Stopped. Finished runs are kept in {KEPT}; the same command goes on from there.", file=sys.stderr)
        return 130
    write_json(path, record)
    print(race_table(record["settings"]))
    print(race_table(record["undone"]))
    print(f"{path} is written.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
