"""What all peers share: the same weights, the same tokens, and the tasks as a user of plain PyTorch writes them."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.specs import SCORED_ROWS, Job, Size

Task = Callable[[int], Tensor]  # how many calls -> what the last one gave

LR, BETAS, WEIGHT_DECAY, MAX_GRAD_NORM = 1e-3, (0.9, 0.98), 0.01, 1.0
BATCHES = 4  # training goes round these


class Subject:
    """One model of a peer, and the tasks on it. A peer replaces the tasks that its users write in another way."""

    model: nn.Module

    def __init__(self, size: Size, device: torch.device):
        self.size, self.device = size, device

    # What the tasks below are made of; a peer that replaces a task need not have them.

    def logits(self, tokens: Tensor) -> Tensor:
        """[batch, pos] -> [batch, pos, d_vocab]."""
        raise NotImplementedError

    def prefix_matching(self, tokens: Tensor) -> Tensor:
        """The prefix-matching score of every head, [layer, head]."""
        raise NotImplementedError

    def losses_without(self, tokens: Tensor, layer: int, head: int) -> Tensor:
        """Loss of every token but the first with one head set to zero, [batch, pos - 1]."""
        raise NotImplementedError

    def task(self, job: Job) -> Task:
        """What a job measures, ready to be called."""
        return getattr(self, job.task)(job)

    def training_step(self, job: Job) -> Task:
        """Some training steps; gives their mean loss."""
        batches = [random_tokens(self.size, self.device, seed) for seed in range(BATCHES)]
        optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=LR, betas=BETAS, weight_decay=WEIGHT_DECAY, fused=True
        )

        def steps(n: int) -> Tensor:
            losses = []
            for step in range(n):
                tokens = batches[step % BATCHES]
                with autocast(self.device, job.precision):
                    loss = F.cross_entropy(self.logits(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(self.model.parameters(), MAX_GRAD_NORM)
                optimizer.step()
                losses.append(loss.detach())
            return torch.stack(losses).mean()

        return steps

    def forward(self, job: Job) -> Task:
        """The loss of every token but the first, without gradients."""
        tokens = random_tokens(self.size, self.device)

        @torch.no_grad()
        def losses() -> Tensor:
            with autocast(self.device, job.precision):
                return token_losses(self.logits(tokens[:, :-1]), tokens)

        return repeated(losses)

    def head_scores(self, job: Job) -> Task:
        """The prefix-matching score of every head."""
        tokens = repeated_segments(job, self.device)
        return repeated(torch.no_grad()(lambda: self.prefix_matching(tokens)))

    def ablation_sweep(self, job: Job) -> Task:
        """Losses of the whole model and with every head in turn set to zero, [1 + layers * heads, batch, pos - 1]."""
        tokens = random_tokens(self.size, self.device)
        heads = [(layer, head) for layer in range(self.size.n_layers) for head in range(self.size.n_heads)]

        @torch.no_grad()
        def losses() -> Tensor:
            base = token_losses(self.logits(tokens[:, :-1]), tokens)
            return torch.stack([base, *(self.losses_without(tokens, layer, head) for layer, head in heads)])

        return repeated(losses)


def repeated(call: Callable[[], Tensor]) -> Task:
    """A task that makes the same call several times and gives what the last one gave."""

    def task(n: int) -> Tensor:
        for _ in range(n):
            result = call()
        return result

    return task


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Matrix products in bfloat16 if the job asks for them."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def token_losses(logits: Tensor, tokens: Tensor) -> Tensor:
    """Loss in nats of every token but the first, [batch, pos - 1], from logits of all but the last."""
    targets = tokens[:, 1:]
    return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="none").view(targets.shape)


def prefix_matching(patterns: Tensor, tokens: Tensor) -> Tensor:
    """Mean attention, over the queries that have one, to what followed earlier copies of the query's token.

    Patterns are [layer, batch, head, query, key]; gives [layer, head].
    """
    same = tokens[:, :, None] == tokens[:, None, :]  # b q k
    targets = F.pad(same[:, :, :-1], (1, 0)).tril()
    queries = targets.any(dim=-1).sum()
    return torch.einsum("lbhqk,bqk->lh", patterns, targets.to(patterns.dtype)) / queries


def random_tokens(size: Size, device: torch.device, seed: int = 0) -> Tensor:
    """[batch, n_ctx + 1]: a model reads all but the last token, and n_ctx are predicted."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, size.d_vocab, (size.batch, size.n_ctx + 1), generator=generator).to(device)


def repeated_segments(job: Job, device: torch.device) -> Tensor:
    """[SCORED_ROWS, 1 + length * repeats]: token 0, then a segment of different random tokens, repeated."""
    length, repeats = job.segment
    generator = torch.Generator().manual_seed(0)
    order = torch.rand(SCORED_ROWS, job.size.d_vocab - 1, generator=generator).argsort(dim=1) + 1
    rows = order[:, :length].repeat(1, repeats)
    return F.pad(rows, (1, 0)).to(device)


def weights(size: Size) -> dict[str, Tensor]:
    """The weights that every peer starts from, named as in the course and multiplied from the right."""
    generator = torch.Generator().manual_seed(0)

    def uniform(*shape: int) -> Tensor:
        return (torch.rand(shape, generator=generator) * 2 - 1) * size.d_model**-0.5

    def norm(name: str) -> dict[str, Tensor]:
        weight, bias = (0.1 * torch.randn(size.d_model, generator=generator) for _ in range(2))
        return {f"{name}.weight": 1 + weight, f"{name}.bias": bias}

    found = {
        "W_E": torch.randn(size.d_vocab, size.d_model, generator=generator),
        "W_pos": torch.randn(size.n_ctx, size.d_model, generator=generator),
        "W_U": uniform(size.d_model, size.d_vocab),
    }
    for layer in range(size.n_layers):
        found |= norm(f"blocks.{layer}.attn_norm")
        for name in ("W_Q", "W_K", "W_V"):
            found[f"blocks.{layer}.attn.{name}"] = uniform(size.n_heads, size.d_model, size.d_head)
        found[f"blocks.{layer}.attn.W_O"] = uniform(size.n_heads, size.d_head, size.d_model)
    return found | norm("final_norm")


def read_matrix(weight: Tensor) -> Tensor:
    """W_Q, W_K or W_V of all heads, [head, d_model, d_head], as one matrix, [d_model, head * d_head]."""
    return weight.transpose(0, 1).flatten(1)


def write_matrix(weight: Tensor) -> Tensor:
    """W_O of all heads, [head, d_head, d_model], as one matrix, [head * d_head, d_model]."""
    return weight.flatten(0, 1)


def without_head(output: nn.Module, d_head: int, head: int) -> torch.utils.hooks.RemovableHandle:
    """Set one head to zero in what the output projection of a layer reads, inside a `with` block."""

    def zero(module: nn.Module, inputs: tuple[Tensor]) -> Tensor:
        z = inputs[0].clone()  # b p (h e)
        z[..., head * d_head : (head + 1) * d_head] = 0.0
        return z

    return output.register_forward_pre_hook(zero)
