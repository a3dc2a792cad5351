"""Trains the two-layer model up to just before its phase change: `python -m tools.before_change`, some minutes.

Chapter 6 trains on from these weights, so that its readers see the change and are spared most of the waiting.
The result is course_lib/assets/runs/before_change.npz; an interrupted command goes on where it stopped.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from pathlib import Path

import torch

from course_lib.data import load_corpus, repeated_tokens
from course_lib.evaluate import phase_change_record, token_losses
from course_lib.model import ModelConfig, Transformer
from course_lib.recorded import FOLDER, pack, write_whole
from course_lib.runtime import best_device
from course_lib.train import History, TrainConfig, train
from tools.recorded_runs import BATCH, CONTEXT, RECIPE, machine, provenance

SEED, STEPS, EXAMPLES = 1, 1080, 128  # the examples are those on which chapter 6 measures
CHECKPOINTS = Path("_build/recorded")


def recipe(steps: int) -> TrainConfig:
    """That of the series, cut off after `steps` steps and measured as often as chapter 6 does."""
    return replace(RECIPE, steps=steps, measure_every=120, checkpoint_every=60)


def waiting(seed: int, steps: int) -> tuple[Transformer, History]:
    """The model after `steps` steps of chapter 6's recipe, and what was measured on the way."""
    corpus = load_corpus()
    validation = corpus.validation(examples=EXAMPLES, n_ctx=CONTEXT)
    random_tokens = repeated_tokens(8, 25, 4, corpus.d_vocab, torch.Generator().manual_seed(0))
    config = ModelConfig(2, d_vocab=corpus.d_vocab, n_ctx=CONTEXT, learned_positions=False)
    model = Transformer(config, seed=seed).to(best_device())

    def measure(model: Transformer) -> dict:
        return phase_change_record(model, token_losses(model, validation, precision=RECIPE.precision), random_tokens)

    folder = CHECKPOINTS / f"before-change-{seed}-{steps}"
    return model, train(model, corpus.batches(BATCH, CONTEXT, seed=seed), recipe(steps), measure, folder)


def main() -> None:
    """Train and write the weights of the last step, with all records."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--to", type=Path, default=FOLDER / "before_change.npz")
    options = parser.parse_args()
    model, history = waiting(options.seed, options.steps)
    records = [{name: value for name, value in r.items() if name != "seconds"} for r in history.records]
    made = {"name": "2 layers", "seed": options.seed, "model": model.config.to_dict(), "records": records}
    source = provenance(load_corpus(), [machine()]) | {"command": "python -m tools.before_change", "examples": EXAMPLES}
    source["train"] = asdict(recipe(options.steps))
    made |= {"provenance": source, "weights": {str(options.steps): model.state_dict()}}
    write_whole(options.to, pack(made))


if __name__ == "__main__":
    main()
