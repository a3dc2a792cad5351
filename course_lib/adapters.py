"""What a model must offer to be measured, and the course's own model made to offer it.

A model that is not ours needs two functions: `SimpleNamespace(logits=..., patterns=...)` is an `AttentionModel`.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor

from course_lib.circuits import folded
from course_lib.model import Transformer, keep, patterns


@runtime_checkable
class AttentionModel(Protocol):
    """What a model of any kind must offer for its losses and its attention to be scored."""

    def logits(self, tokens: Tensor) -> Tensor:
        """Logits [batch, pos, d_vocab] for tokens [batch, pos]."""
        ...

    def patterns(self, tokens: Tensor) -> Tensor:
        """Attention [layer, batch, head, query_pos, key_pos], after the softmax."""
        ...


@runtime_checkable
class OpenModel(AttentionModel, Protocol):
    """An `AttentionModel` whose values and weights can be had too, which the copying scores need."""

    def outputs(self, tokens: Tensor) -> Tensor:
        """What each head writes when it attends to one position, `v @ W_O`: [layer, batch, head, key_pos, d_model]."""
        ...

    def ov_weights(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """`W_E` [d_vocab, d_model], `W_V` and `W_O` [layer, head, ...], `W_U` [d_model, d_vocab]."""
        ...


class CourseModel:
    """A `Transformer` as an `OpenModel`.

    LayerNorms are folded into the weights that read their output: weight and centring exactly, while the division
    by each position's length is left out, since a positive factor turns no rise into a fall. Biases are left out.
    """

    def __init__(self, model: Transformer):
        self.model = model

    @torch.no_grad()
    def logits(self, tokens: Int[Tensor, "b p"]) -> Float[Tensor, "b p v"]:
        """Next-token logits."""
        return self.model(self._here(tokens))

    def patterns(self, tokens: Int[Tensor, "b p"]) -> Float[Tensor, "layer b h q k"]:
        """Every head's attention pattern."""
        return patterns(self.model, self._here(tokens))

    @torch.no_grad()
    def outputs(self, tokens: Int[Tensor, "b p"]) -> Float[Tensor, "layer b h k d"]:
        """What each head writes when it attends to one position alone."""
        values = keep(self.model, self._here(tokens), ["v"])
        return torch.stack(
            [
                einsum(values["v", layer], block.attn.W_O, "b h k e, h e d -> b h k d")
                for layer, block in enumerate(self.model.blocks)
            ]
        )

    @torch.no_grad()
    def ov_weights(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """`W_E W_V W_O W_U`, of all layers and heads."""
        W_V = torch.stack([folded(block.attn_norm, block.attn.W_V) for block in self.model.blocks])
        W_O = torch.stack([block.attn.W_O for block in self.model.blocks])
        return self.model.W_E, W_V, W_O, folded(self.model.final_norm, self.model.W_U)

    def _here(self, tokens: Tensor) -> Tensor:
        return tokens.to(self.model.W_E.device)


class DrawnPatterns:
    """A model of which nothing is known but its attention patterns: the softmax of scores by token and by position.

    Args of the constructor:
        by_token: a score for every pair of tokens, [layer, head, d_vocab, d_vocab].
        by_position: a score for every pair of positions, [layer, head, n_ctx, n_ctx].
    """

    def __init__(self, by_token: Float[Tensor, "layer h v v2"], by_position: Float[Tensor, "layer h p p2"]):
        self.by_token, self.by_position = by_token, by_position

    def patterns(self, tokens: Int[Tensor, "b p"]) -> Float[Tensor, "layer b h q k"]:
        """Every head's attention pattern."""
        n = tokens.shape[1]
        scores = self.by_token[:, :, tokens[:, :, None], tokens[:, None, :]] + self.by_position[:, :, None, :n, :n]
        future = torch.ones(n, n, dtype=torch.bool).triu(1)
        return scores.masked_fill(future, -torch.inf).softmax(dim=-1).transpose(1, 2)
