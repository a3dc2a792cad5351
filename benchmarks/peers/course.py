"""The course, through the functions that its chapters call."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.peers import common
from benchmarks.specs import Job, Size
from course_lib.evaluate import head_scores, token_losses
from course_lib.model import ModelConfig, Transformer
from course_lib.sweep import ablation_sweep
from course_lib.train import TrainConfig, train

SHAPE = ("d_model", "d_head", "d_vocab", "n_heads", "n_layers", "n_ctx")


class Course(common.Subject):
    """A `Transformer` of the course."""

    def __init__(self, size: Size, device: torch.device):
        super().__init__(size, device)
        shape = {name: getattr(size, name) for name in SHAPE}
        self.model = Transformer(ModelConfig(**shape, positions="residual", layer_norm=True), seed=None)
        self.model.load_state_dict(common.weights(size))
        self.model.to(device)

    def logits(self, tokens: Tensor) -> Tensor:
        return self.model(tokens)

    def training_step(self, job: Job) -> common.Task:
        """`train` as chapters call it. Each call sets up a new optimiser, which the other peers keep."""
        batches = [common.random_tokens(self.size, self.device, seed) for seed in range(common.BATCHES)]

        def steps(n: int) -> Tensor:
            config = TrainConfig(
                steps=n,
                lr=common.LR,
                warmup_steps=0,
                betas=common.BETAS,
                weight_decay=common.WEIGHT_DECAY,
                max_grad_norm=common.MAX_GRAD_NORM,
                precision=job.precision,
                measure_every=n,
            )
            history = train(self.model, lambda step: batches[step % common.BATCHES], config)
            return torch.tensor(history.column("train_loss")[-1])

        return steps

    def forward(self, job: Job) -> common.Task:
        """`token_losses`."""
        tokens = common.random_tokens(self.size, self.device)
        return common.repeated(lambda: token_losses(self.model, tokens, precision=job.precision))

    def prefix_matching(self, tokens: Tensor) -> Tensor:
        """`head_scores`, which gives the previous-token scores as well."""
        return head_scores(self.model, tokens)["prefix_matching"]

    head_scores_by_cache = common.Subject.head_scores

    def ablation_sweep(self, job: Job) -> common.Task:
        """`ablation_sweep` with the losses themselves as the measurement."""
        tokens = common.random_tokens(self.size, self.device)

        def losses() -> Tensor:
            sweep = ablation_sweep(self.model, tokens, lambda losses: losses)
            return torch.cat([sweep.base[None], sweep.ablated.flatten(0, 1)])

        return common.repeated(losses)


build = Course
