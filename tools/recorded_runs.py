"""Make the recorded runs of chapter 6: `python -m tools.recorded_runs` (or `make recorded`).

Every run keeps checkpoints below `_build/recorded`, so an interrupted command goes on where it stopped.
The series is written to `course_lib/assets/runs/phase_change.json` when all its runs are complete.

    python -m tools.recorded_runs --workers 2                         two runs at a time, on this machine
    python -m tools.recorded_runs --scheduler tcp://HOST:8786         on the workers of a Dask cluster
    torchrun --standalone --nproc_per_node 2 -m tools.recorded_runs   one run after another, each by two processes
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from functools import partial
from pathlib import Path

import torch

from course_lib.data import Corpus, load_corpus, repeated_tokens
from course_lib.data_parallel import join
from course_lib.evaluate import phase_change_record
from course_lib.many_runs import dask_workers, local_workers, run_all
from course_lib.model import ModelConfig, Transformer
from course_lib.recorded import FOLDER, to_json
from course_lib.runtime import best_device, precision_dtype
from course_lib.train import TrainConfig, train
from tools.status import processor

CONTEXT = 512
BATCH = 4
RECIPE = TrainConfig(steps=5000, lr=4e-3, warmup_steps=100, measure_every=125, precision="auto")
SERIES = [(2, 0), (2, 1), (2, 2), (1, 0), (1, 1)]  # layers, seed
NAMES = {1: "one layer", 2: "two layers"}


def run_one(corpus_hash: str, n_layers: int, seed: int) -> dict:
    """Train one model of the series, or load it if it is complete.

    Raises:
        ValueError: the text on this machine is not the one of the series.
    """
    corpus = load_corpus()
    if corpus.hash != corpus_hash:
        found = f"need the corpus {corpus_hash[:12]}, this machine has {corpus.hash[:12]}"
        raise ValueError(f"{found}: it differs between versions of Python and PyTorch")
    config = ModelConfig(n_layers=n_layers, d_vocab=corpus.d_vocab, n_ctx=CONTEXT, learned_positions=False)
    model = Transformer(config, seed=seed).to(best_device())
    validation = corpus.validation(examples=192, n_ctx=CONTEXT)
    random_tokens = repeated_tokens(8, 25, 4, corpus.d_vocab, torch.Generator().manual_seed(0))
    folder = Path("_build/recorded") / f"{n_layers}-layer-seed-{seed}"
    history = train(
        model,
        corpus.batches(BATCH, CONTEXT, seed=seed),
        RECIPE,
        lambda model: phase_change_record(model, validation, random_tokens),
        folder,
    )
    left_out = {"loss_by_index", "seconds"}  # large; and not to be compared, since other work ran beside it
    records = [{name: value for name, value in r.items() if name not in left_out} for r in history.records]
    run = {"name": NAMES[n_layers], "seed": seed, "model": config.to_dict(), "records": to_json(records)}
    return run | {"machine": machine()}


def machine() -> dict[str, str]:
    """What the runs of this process are computed on and with."""
    device = best_device()
    return {
        "precision": str(precision_dtype(RECIPE.precision, device)),
        "hardware": f"{processor()}, {os.cpu_count()} cores, "
        f"{join(device).world} x {torch.get_num_threads()} threads, {device.type}",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def provenance(corpus: Corpus, machines: Sequence[dict[str, str]]) -> dict:
    """Where and how the series was made, on one kind of machine or on several."""
    used = {name: "; ".join(sorted({each[name] for each in machines})) for name in machines[0]}
    return {
        "command": "make recorded",
        "date": date.today().isoformat(),
        "corpus": repr(corpus),
        "batch": BATCH,
        "context": CONTEXT,
        "train": asdict(RECIPE),
        "precision": used["precision"],
        "hardware": used["hardware"],
        "versions": {"python": used["python"], "torch": used["torch"]},
    }


def main(words: Sequence[str] | None = None) -> None:
    """Make the whole series and write it."""
    parser = argparse.ArgumentParser(description="Make the recorded runs of chapter 6.")
    workers = min(torch.get_num_threads(), len(SERIES))
    parser.add_argument("--workers", type=int, default=workers, help="runs at a time on this machine, %(default)s here")
    parser.add_argument("--scheduler", help="address of a Dask scheduler, whose workers make the runs instead")
    options = parser.parse_args(words)
    corpus = load_corpus()
    with dask_workers(options.scheduler) if options.scheduler else local_workers(options.workers) as executor:
        runs = run_all(partial(run_one, corpus.hash), SERIES, executor)
    if join(best_device()).rank > 0:
        return
    machines = [run.pop("machine") for run in runs]
    FOLDER.mkdir(parents=True, exist_ok=True)
    series = {"provenance": provenance(corpus, machines), "runs": runs}
    (FOLDER / "phase_change.json").write_text(json.dumps(series, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    from tools.recorded_runs import main as importable  # so that workers of a cluster find `run_one` by its name

    importable()
