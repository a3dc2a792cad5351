"""Record the model of the Induction Lab: `python -m tools.lab_run` (about two minutes; goes on where it was stopped).

A two-layer model learns from three kinds of rows, so that its head is strong enough to play with after minutes:
plain text, text in which a passage repeats, and random tokens that repeat. The weights are kept at several steps
around the change, as 8-bit codes, in `course_lib/assets/runs/lab.npz`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path

import torch
from torch import Tensor

from course_lib.data import Corpus, generator_for, load_corpus, repeated_tokens
from course_lib.evaluate import head_scores, token_losses
from course_lib.lab_weights import dequantised, quantised
from course_lib.model import ModelConfig, Transformer
from course_lib.recorded import FOLDER, pack, write_whole
from course_lib.runtime import best_device
from course_lib.train import History, TrainConfig, train
from tools.recorded_runs import machine

SEED = 0
BATCH = 8
CONTEXT = 128
SHORTEST, LONGEST = 6, 64  # tokens in a passage that repeats
PASSAGE, RANDOM = slice(4, 6), slice(6, 8)  # rows of a batch; the first four are plain text
FOLDER_OF_RUN = Path("_build/recorded")
RECIPE = TrainConfig(
    steps=2600,
    lr=4e-3,
    warmup_steps=100,
    precision="auto",
    measure_every=50,
    keep_snapshots=True,
    checkpoint_every=650,
)
COOL_DOWN = replace(RECIPE, steps=1000, lr=5e-4, warmup_steps=0, measure_every=200, checkpoint_every=500)


@dataclass(frozen=True)
class MixedRows:
    """Training batches [8, 129]: four rows of text, two in which a passage of it repeats, two of random tokens."""

    corpus: Corpus
    seed: int

    def __call__(self, step: int) -> Tensor:
        tokens = self.corpus.batches(BATCH, CONTEXT, self.seed)(step)
        generator = generator_for(1000 + self.seed, step)
        drawn = torch.randint(1, self.corpus.d_vocab, (2, CONTEXT), generator=generator)
        tokens[RANDOM, 1:] = drawn
        periods = torch.randint(SHORTEST, LONGEST + 1, (4, 1), generator=generator)
        where = torch.arange(CONTEXT) % periods  # 0, 1, ... period - 1, 0, 1, ...
        repeating = slice(PASSAGE.start, RANDOM.stop)
        tokens[repeating, 1:] = tokens[repeating, 1:].gather(1, where)
        return tokens


def measurements(corpus: Corpus):
    """Validation loss on text, loss of the first and second half of repeated random tokens, scores of all heads."""
    text = corpus.validation(64, CONTEXT)
    twice = repeated_tokens(32, 20, 2, corpus.d_vocab, torch.Generator().manual_seed(0))

    def measure(model: Transformer) -> dict:
        random = token_losses(model, twice)
        return {
            "text_loss": token_losses(model, text).mean().item(),
            "first_loss": random[:, :20].mean().item(),
            "repeat_loss": random[:, 21:].mean().item(),
        } | head_scores(model, twice)

    return measure


def film_steps(records: list[dict]) -> list[int]:
    """The first and the last step, and between them where the previous-token head grows and the loss of repeats falls.

    The frames between are the first steps at which the best previous-token score has risen to 0.3 and 0.9, and the
    loss of repeated tokens has fallen by a tenth, 0.3, 0.6 and 0.9 of all that it falls.
    """
    before = [max(record["previous_token"][0].tolist()) for record in records]
    losses = [record["repeat_loss"] for record in records]
    fallen = [(max(losses) - loss) / (max(losses) - min(losses)) for loss in losses]
    start = losses.index(max(losses))
    found = [next(i for i, score in enumerate(before) if score >= goal) for goal in (0.3, 0.9)]
    found += [next(i for i in range(start, len(losses)) if fallen[i] >= goal) for goal in (0.1, 0.3, 0.6, 0.9)]
    return sorted({records[i]["step"] for i in (0, *found, len(records) - 1)})


def trained(model: Transformer, corpus: Corpus, measure) -> History:
    """Both parts of the training as one history: the recipe, then a cool-down on the batches that follow."""
    whole = train(model, MixedRows(corpus, SEED), RECIPE, measure, FOLDER_OF_RUN / "lab")
    tokens = RECIPE.steps * BATCH * CONTEXT
    rest = train(model, MixedRows(corpus, SEED + 1), COOL_DOWN, measure, FOLDER_OF_RUN / "lab-cool-down")
    for record in rest.records[1:]:  # its first record is the last one of the recipe
        moved = {"step": record["step"] + RECIPE.steps, "tokens": record["tokens"] + tokens}
        whole.records.append(record | moved)
        whole.snapshots[moved["step"]] = rest.snapshots[record["step"]]
    return whole


def main() -> None:
    """Train, or go on training, and write `lab.npz`."""
    corpus = load_corpus()
    config = ModelConfig(d_vocab=corpus.d_vocab, n_ctx=CONTEXT, learned_positions=False)
    model = Transformer(config, seed=SEED).to(best_device())
    measure = measurements(corpus)
    history = trained(model, corpus, measure)
    frames, moved = {}, {}
    for step in film_steps(history.records):
        frames[str(step)] = quantised(history.snapshots[step])
        probe = Transformer(config, seed=None)
        probe.load_state_dict(dequantised(frames[str(step)]))
        full = next(record for record in history.records if record["step"] == step)
        moved[str(step)] = measure(probe)["text_loss"] - full["text_loss"]
    source = {"command": "python -m tools.lab_run", "date": date.today().isoformat(), "corpus": repr(corpus)}
    source |= {"seed": SEED, "batch": BATCH, "train": asdict(RECIPE), "cool_down": asdict(COOL_DOWN)} | machine()
    records = [{name: value for name, value in r.items() if name != "seconds"} for r in history.records]
    stored = {"provenance": source, "model": config.to_dict(), "records": records, "frames": frames, "moved": moved}
    write_whole(FOLDER / "lab.npz", pack(stored))
    print(f"kept the weights after {sorted(map(int, frames))} steps; 8 bits moved the text loss by {moved}")


if __name__ == "__main__":
    main()
