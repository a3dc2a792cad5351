"""Make the recorded runs of the book: `python -m tools.recorded_runs` (or `make recorded`).

Every run keeps checkpoints below `_build/recorded`, so an interrupted command goes on where it stopped.
When all runs are complete, the series is written to `course_lib/assets/runs/series.npz`, and the weights of one
two-layer model around its phase change to `two_layers.npz`.

    python -m tools.recorded_runs --workers 2                         two runs at a time, on this machine
    python -m tools.recorded_runs --scheduler tcp://HOST:8786         on the workers of a Dask cluster
    torchrun --standalone --nproc_per_node 2 -m tools.recorded_runs   one run after another, each by two processes
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path

import torch
from torch import Tensor

from course_lib.ablation import KINDS, ablated_losses
from course_lib.data import Corpus, load_corpus, repeated_tokens
from course_lib.data_parallel import join
from course_lib.evaluate import phase_change_record, token_losses
from course_lib.icl import icl_score
from course_lib.many_runs import dask_workers, local_workers, run_all
from course_lib.model import ModelConfig, Transformer
from course_lib.recorded import FOLDER, pack, write_whole
from course_lib.runtime import best_device, precision_dtype
from course_lib.sweep import ablation_sweep
from course_lib.train import History, TrainConfig, train
from course_lib.trajectory import fixed_token_losses, phase_change_window, token_positions
from tools.status import processor

CONTEXT = 512
BATCH = 4
EXAMPLES = 192  # of the validation text, for every measurement
ABLATED_EXAMPLES = 48  # of these, for the ablations of every head
INDUCTION = 0.3  # prefix matching from which a head is ablated together with the others
RECIPE = TrainConfig(
    steps=2520,
    lr=4e-3,
    mlp_lr_factor=0.1,
    warmup_steps=100,
    measure_every=60,
    precision="auto",
    checkpoint_every=420,
)


@dataclass(frozen=True)
class Run:
    """One model of the series."""

    n_layers: int
    seed: int = 0
    mlp: bool = False
    smeared: bool = False
    full_rate: bool = False  # a control: MLPs that learn as fast as the rest form no induction head in these steps

    @property
    def name(self) -> str:
        """As charts show it: "2 layers, MLP"."""
        layers = "1 layer" if self.n_layers == 1 else f"{self.n_layers} layers"
        return layers + ", MLP" * self.mlp + " at full rate" * self.full_rate + ", smeared keys" * self.smeared

    @property
    def recipe(self) -> TrainConfig:
        """How it is trained. At the learning rate of one and two layers, some deep models form no head, or diverge."""
        lr = RECIPE.lr if self.n_layers < 3 else 3e-3
        factor = 1.0 if self.full_rate else RECIPE.mlp_lr_factor
        return replace(RECIPE, lr=lr, mlp_lr_factor=factor, keep_snapshots=self == KEPT)

    @property
    def folder(self) -> Path:
        """Where its checkpoints are."""
        return Path("_build/recorded") / f"{self.name} {self.seed}".replace(",", "").replace(" ", "-")


SERIES = [
    *(Run(n_layers) for n_layers in (1, 2, 3, 4, 5, 6)),
    *(Run(n_layers, mlp=True) for n_layers in (1, 2, 3, 4, 5, 6)),
    *(Run(n_layers, smeared=True) for n_layers in (1, 2)),
    *(Run(2, seed) for seed in (1, 2, 3)),
    *(Run(n_layers, seed) for n_layers in (3, 4, 5, 6) for seed in (1, 2)),
    *(Run(n_layers, 1, mlp=True) for n_layers in (2, 3, 4, 5, 6)),
    Run(1, 1),
    Run(2, mlp=True, full_rate=True),
    *(Run(n_layers, 1, smeared=True) for n_layers in (1, 2)),
]
KEPT = Run(2)  # the run whose weights are shipped


def run_one(run: Run) -> dict:
    """Train one model of the series and ablate its heads, or load what is complete."""
    corpus = load_corpus()
    config = ModelConfig(
        n_layers=run.n_layers,
        d_vocab=corpus.d_vocab,
        n_ctx=CONTEXT,
        d_mlp=512 if run.mlp else 0,
        smeared_keys=run.smeared,
        learned_positions=False,
    )
    model = Transformer(config, seed=run.seed).to(best_device())
    validation = corpus.validation(examples=EXAMPLES, n_ctx=CONTEXT)
    batches = corpus.batches(BATCH, CONTEXT, seed=run.seed)
    history = train(model, batches, run.recipe, measurements(validation), run.folder)
    records = [{name: value for name, value in r.items() if name != "seconds"} for r in history.records]
    made = {"name": run.name, "seed": run.seed, "model": config.to_dict(), "records": records}
    made |= {"lr": run.recipe.lr, "mlp_lr_factor": run.recipe.mlp_lr_factor}
    made |= {"ablations": ablations(model, validation), "machine": machine()}
    made |= {"joint_ablations": joint_ablations(model, validation, records[-1])}
    return made | ({"weights": around_the_change(history)} if run == KEPT else {})


def measurements(validation: Tensor):
    """What is measured at every snapshot: all of `phase_change_record`, and the fixed per-token losses for the PCA."""
    d_vocab = int(load_corpus().d_vocab)
    random_tokens = repeated_tokens(8, 25, 4, d_vocab, torch.Generator().manual_seed(0))

    def measure(model: Transformer) -> dict[str, float | Tensor]:
        losses = token_losses(model, validation, precision=RECIPE.precision)
        return phase_change_record(model, losses, random_tokens) | {
            "token_losses": fixed_token_losses(losses, pca_positions())
        }

    return measure


def pca_positions() -> Tensor:
    """For each validation example the entry of its losses that the PCA follows."""
    return token_positions(EXAMPLES, CONTEXT, torch.Generator().manual_seed(0))


def ablations(model: Transformer, validation: Tensor) -> dict[str, dict[str, Tensor]]:
    """The ICL score and the fixed per-token losses of the trained model, whole and without each head in turn."""
    part, positions = validation[:ABLATED_EXAMPLES], pca_positions()[:ABLATED_EXAMPLES]

    def measure(losses: Tensor) -> Tensor:
        return torch.cat([icl_score(losses, window=12)[None], fixed_token_losses(losses, positions)])

    found = {}
    for kind in KINDS:
        sweep = ablation_sweep(model, part, measure, kind)
        base, ablated = sweep.base, sweep.ablated  # 1 + example; layer, head, 1 + example
        found[kind] = {"icl": ablated[..., 0], "token_losses": ablated[..., 1:]}
        found["none"] = {"icl": base[0], "token_losses": base[1:]}
    return found


def joint_ablations(model: Transformer, validation: Tensor, last: dict) -> dict[str, float]:
    """The ICL score without all induction heads of the last record at once, and without the rest of the last layer."""
    induction = {(layer, head) for layer, head in (last["prefix_matching"] > INDUCTION).nonzero().tolist()}
    last_layer = {(model.config.n_layers - 1, head) for head in range(model.config.n_heads)}
    teams = {"induction heads": induction, "others of the last layer": last_layer - induction}
    part = validation[:ABLATED_EXAMPLES]
    return {
        name: icl_score(ablated_losses(model, part, heads, "mean"), window=12).item() for name, heads in teams.items()
    }


def around_the_change(history: History) -> dict[str, dict[str, Tensor]]:
    """Weights at the start and the end of the phase-change window and at the end of training, by step."""
    window = phase_change_window(history.column("tokens"), history.column("icl"))
    steps = [r["step"] for r in history.records if window and r["tokens"] in window] + [history.records[-1]["step"]]
    return {str(step): history.snapshots[step] for step in steps}


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
        "examples": EXAMPLES,
        "ablated_examples": ABLATED_EXAMPLES,
        "induction_above": INDUCTION,
        "train": asdict(RECIPE),
        "precision": used["precision"],
        "hardware": used["hardware"],
        "versions": {"python": used["python"], "torch": used["torch"]},
    }


def main(words: Sequence[str] | None = None) -> None:
    """Make the whole series and write it."""
    parser = argparse.ArgumentParser(description="Make the recorded runs of the book.")
    workers = min(torch.get_num_threads(), len(SERIES))
    parser.add_argument("--workers", type=int, default=workers, help="runs at a time on this machine, %(default)s here")
    parser.add_argument("--scheduler", help="address of a Dask scheduler, whose workers make the runs instead")
    options = parser.parse_args(words)
    corpus = load_corpus()
    with dask_workers(options.scheduler) if options.scheduler else local_workers(options.workers) as executor:
        runs = run_all(run_one, [(run,) for run in SERIES], executor)
    if join(best_device()).rank > 0:
        return
    source = provenance(corpus, [run.pop("machine") for run in runs])
    kept = [run for run in runs if "weights" in run]
    for run in kept:
        weights = {"name": run["name"], "seed": run["seed"], "model": run["model"], "weights": run.pop("weights")}
        write_whole(FOLDER / "two_layers.npz", pack({"provenance": source} | weights))
    write_whole(FOLDER / "series.npz", pack({"provenance": source, "runs": runs}))


if __name__ == "__main__":
    from tools.recorded_runs import main as importable  # so that workers of a cluster find `run_one` by its name

    importable()
