"""A small GPT in plain PyTorch, as somebody writes it who wants it short and fast: one matrix for q, k and v."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.peers import common
from benchmarks.specs import Size


class SelfAttention(nn.Module):
    """Causal attention of all heads of a layer, fused."""

    def __init__(self, size: Size):
        super().__init__()
        self.n_heads = size.n_heads
        self.qkv = nn.Linear(size.d_model, 3 * size.d_model, bias=False)
        self.output = nn.Linear(size.d_model, size.d_model, bias=False)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each [batch, head, pos, d_head]."""
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        return tuple(part.unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for part in (q, k, v))

    def forward(self, x: Tensor) -> Tensor:
        z = F.scaled_dot_product_attention(*self.split(x), is_causal=True)
        return self.output(z.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """An attention-only layer."""

    def __init__(self, size: Size):
        super().__init__()
        self.norm = nn.LayerNorm(size.d_model)
        self.attention = SelfAttention(size)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.attention(self.norm(x))


class GPT(nn.Module):
    """Embeddings, layers, final norm, unembedding that is not tied."""

    def __init__(self, size: Size):
        super().__init__()
        self.tokens = nn.Embedding(size.d_vocab, size.d_model)
        self.positions = nn.Embedding(size.n_ctx, size.d_model)
        self.blocks = nn.Sequential(*(Block(size) for _ in range(size.n_layers)))
        self.norm = nn.LayerNorm(size.d_model)
        self.head = nn.Linear(size.d_model, size.d_vocab, bias=False)

    def embed(self, tokens: Tensor) -> Tensor:
        """Token and position vectors, added."""
        return self.tokens(tokens) + self.positions.weight[: tokens.shape[1]]

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.embed(tokens))))


class Plain(common.Subject):
    """The plain model."""

    def __init__(self, size: Size, device: torch.device):
        super().__init__(size, device)
        self.model = GPT(size)
        self.model.load_state_dict(state(size))
        self.model.to(device)

    def logits(self, tokens: Tensor) -> Tensor:
        return self.model(tokens)

    def prefix_matching(self, tokens: Tensor) -> Tensor:
        """From patterns computed beside the fused attention, which does not give them."""
        x, patterns = self.model.embed(tokens), []
        future = torch.ones(tokens.shape[1], tokens.shape[1], dtype=torch.bool, device=tokens.device).triu(1)
        for block in self.model.blocks:
            q, k, _ = block.attention.split(block.norm(x))
            scores = q @ k.mT / math.sqrt(q.shape[-1])
            patterns.append(scores.masked_fill(future, -torch.inf).softmax(dim=-1))
            x = block(x)
        return common.prefix_matching(torch.stack(patterns), tokens)

    def losses_without(self, tokens: Tensor, layer: int, head: int) -> Tensor:
        with common.without_head(self.model.blocks[layer].attention.output, self.size.d_head, head):
            return common.token_losses(self.logits(tokens[:, :-1]), tokens)


def state(size: Size) -> dict[str, Tensor]:
    """The common weights under this model's names; nn.Linear multiplies from the left."""
    given = common.weights(size)
    found = {
        "tokens.weight": given["W_E"],
        "positions.weight": given["W_pos"],
        "norm.weight": given["final_norm.weight"],
        "norm.bias": given["final_norm.bias"],
        "head.weight": given["W_U"].T,
    }
    for layer in range(size.n_layers):
        theirs, ours = f"blocks.{layer}", f"blocks.{layer}.attn"
        qkv = torch.cat([common.read_matrix(given[f"{ours}.{name}"]) for name in ("W_Q", "W_K", "W_V")], dim=1)
        found |= {
            f"{theirs}.norm.weight": given[f"{ours}_norm.weight"],
            f"{theirs}.norm.bias": given[f"{ours}_norm.bias"],
            f"{theirs}.attention.qkv.weight": qkv.T,
            f"{theirs}.attention.output.weight": common.write_matrix(given[f"{ours}.W_O"]).T,
        }
    return found


build = Plain
