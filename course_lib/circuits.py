"""Heads read from their weights: QK and OV circuits, over the residual stream and over the vocabulary.

Everything multiplies from the right, `x @ W`, so a matrix reads on its rows and writes on its columns.
What the weights alone cannot tell is left out: biases, smeared keys, and the scale of each LayerNorm, a positive number
a position. Its centring and its weights are folded in.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from course_lib.config import check_whole
from course_lib.factored import FactoredMatrix
from course_lib.model import ModelConfig, Transformer, check_head
from course_lib.positions import rotate


def qk_circuit(
    model: Transformer, layer: int, head: int, distance: int | None = None
) -> Float[Tensor, "d_model d_model"]:
    """`W_Q W_K^T` of one head: rows are the query side, columns the key side; rank at most d_head.

    `x_query @ qk_circuit @ x_key` is the attention score before the division by sqrt(d_head). Here x is what the head
    reads: the residual stream plus what goes to queries and keys only; with LayerNorm, the stream over its standard
    deviation, and positions that go to queries and keys only bypass the norm and are left out.

    Args:
        model: any model of the course.
        layer, head: which head, both from 0.
        distance: with rotary positions, how far the key stands behind the query: the circuit depends on it.

    Raises:
        ValueError: no such head; no distance for a rotary model, or one for another model, or outside the context.

    Source: Elhage et al. 2021.
    """
    return factored_qk(model, layer, head, distance).dense(limit=model.config.d_model**2)


def ov_circuit(model: Transformer, layer: int, head: int) -> Float[Tensor, "d_model d_model"]:
    """`W_V W_O` of one head: rows are read at the attended position, columns written; rank at most d_head.

    `x_attended @ ov_circuit` is what the head adds to the residual stream when it attends there fully.

    Raises:
        ValueError: no such head.

    Source: Elhage et al. 2021.
    """
    return factored_ov(model, layer, head).dense(limit=model.config.d_model**2)


@torch.no_grad()
def factored_qk(model: Transformer, layer: int, head: int, distance: int | None = None) -> FactoredMatrix:
    """`qk_circuit` as two factors, [d_model, d_head] and [d_head, d_model]. Arguments and errors as there."""
    check_head(model.config, layer, head)
    check_distance(model.config, distance)
    block = model.blocks[layer]
    W_Q, W_K = folded(block.attn_norm, block.attn.W_Q[head]), folded(block.attn_norm, block.attn.W_K[head])
    if distance is not None:  # q_i and k_j turn by i and by j, so their product knows i - j only
        turn = block.attn.rotate
        at = slice(distance, distance + 1)
        W_Q = rotate(W_Q[:, None], turn.cos[at], turn.sin[at])[:, 0]
    return FactoredMatrix(W_Q.clone(), W_K.T.clone())  # copies: training on must not change them


@torch.no_grad()
def factored_ov(model: Transformer, layer: int, head: int) -> FactoredMatrix:
    """`ov_circuit` as two factors, [d_model, d_head] and [d_head, d_model]. Arguments and errors as there."""
    check_head(model.config, layer, head)
    block = model.blocks[layer]
    return FactoredMatrix(folded(block.attn_norm, block.attn.W_V[head]).clone(), block.attn.W_O[head].clone())


@torch.no_grad()
def full_ov_circuit(model: Transformer, layer: int, head: int) -> FactoredMatrix:
    """`W_E W_V W_O W_U`, [d_vocab, d_vocab]: attending fully to the token of a row adds that row to the logits.

    A large diagonal, or eigenvalues of positive real part, mean copying. Only the path from the embedding through this
    one head is in it. Never multiplied out unless asked: see `FactoredMatrix`, `top_entries`, `diagonal_statistics`.

    Raises:
        ValueError: no such head.

    Source: Elhage et al. 2021.
    """
    write = factored_ov(model, layer, head)
    norm = model.final_norm
    if not isinstance(norm, nn.Identity):  # as `folded`, but on the small side of `W_U`
        write = FactoredMatrix(write.left, (write.right - write.right.mean(dim=1, keepdim=True)) * norm.weight)
    return model.W_E @ write @ model.W_U


@torch.no_grad()
def full_qk_circuit(model: Transformer, layer: int, head: int, distance: int | None = None) -> FactoredMatrix:
    """`W_E W_Q W_K^T W_E^T`, [d_vocab, d_vocab]: how much the token of a row, as query, wants that of a column, as key.

    Before the division by sqrt(d_head), without positions, and from the embeddings alone: what earlier heads wrote
    is in `composed_qk_circuit`. A large diagonal means that a token attends to its own copies (duplicate-token head).
    Arguments and errors as in `qk_circuit`.

    Source: Elhage et al. 2021.
    """
    return model.W_E @ factored_qk(model, layer, head, distance) @ model.W_E.T


def folded(norm: nn.Module, weight: Float[Tensor, "*h d out"]) -> Float[Tensor, "*h d out"]:
    """`weight` as if it read what enters `norm`: times the norm's own weight, and blind to a shift of all dimensions.

    `norm(x) @ weight` is `x @ folded(norm, weight) / norm_scale(norm, x) + norm_bias(norm, weight)`.
    """
    if isinstance(norm, nn.Identity):
        return weight
    weighted = norm.weight[:, None] * weight
    return weighted - weighted.mean(dim=-2, keepdim=True)


def norm_scale(norm: nn.Module, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b 1"]:
    """What the norm divides each vector of `x` by, [..., 1]: above 0, and 1 if there is no norm."""
    if isinstance(norm, nn.Identity):
        return torch.ones_like(x[..., :1])
    centred = x - x.mean(dim=-1, keepdim=True)
    return (centred.square().mean(dim=-1, keepdim=True) + norm.eps).sqrt()


def norm_bias(norm: nn.Module, weight: Float[Tensor, "d out"]) -> Float[Tensor, " out"] | float:
    """What the norm's own bias gives through `weight`, [out]; 0.0 if there is no norm."""
    return 0.0 if isinstance(norm, nn.Identity) else norm.bias @ weight


def check_distance(config: ModelConfig, distance: int | None) -> None:
    """Raise a `ValueError` unless a distance is given exactly where QK circuits depend on it, inside the context."""
    if config.positions != "rotary":
        if distance is not None:
            raise ValueError(
                f"distance is for rotary positions only, got {distance} for {config.positions!r}: leave it"
            )
    elif distance is None:
        raise ValueError("distance must be given: with rotary positions a QK circuit depends on how far the key is")
    else:
        check_whole("distance", distance)
        if not 0 <= distance < config.n_ctx:
            raise ValueError(f"distance must lie in 0..{config.n_ctx - 1}, got {distance}")
