"""How a head reads what an earlier head wrote, from the weights: composition scores and composed QK circuits.

The conventions of `course_lib.circuits` hold: `x @ W`, LayerNorms folded in up to their scale, biases left out.
"""

from __future__ import annotations

import math

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from course_lib.circuits import check_distance, factored_ov, factored_qk
from course_lib.config import Head, check_counts
from course_lib.factored import FactoredMatrix
from course_lib.model import ModelConfig, Transformer, check_head

KINDS = ("Q", "K", "V")


@torch.no_grad()
def composed_qk_circuit(model: Transformer, earlier: Head, later: Head, distance: int | None = None) -> FactoredMatrix:
    """`W_E W_QK W_OV^T W_E^T`, [d_vocab, d_vocab], the QK circuit of `later` whose key is what `earlier` wrote.

    Row: token of the query. Column: token that `earlier` attended to from the key's position. If `earlier` is a
    previous-token head, a large diagonal is prefix matching: each token looks for keys that stand after its own copies.

    Args:
        earlier, later: heads as (layer, head).
        model, distance: as in `qk_circuit`.

    Raises:
        ValueError: no such head; `earlier` not in a layer before that of `later`; `distance` as in `qk_circuit`.

    Source: Elhage et al. 2021; with columns first, the transpose of each factor makes it `W_E^T W_QK W_OV W_E`.
    """
    check_order(model.config, earlier, later)
    return model.W_E @ factored_qk(model, *later, distance) @ factored_ov(model, *earlier).T @ model.W_E.T


@torch.no_grad()
def qk_traces(
    model: Transformer, previous_scores: Float[Tensor, "layer h"], distance: int | None = None
) -> Float[Tensor, "layer h layer h"]:
    """Trace of `composed_qk_circuit` for every pair of heads, times the earlier head's previous-token score.

    Unbounded, in attention score times sqrt(d_head), summed over the vocabulary. Large and positive: the later head
    matches prefixes through that earlier one. Sum over the last two axes for one number a head.

    Args:
        model, distance: as in `qk_circuit`.
        previous_scores: `previous_token_score(patterns(model, tokens))`, [layer, head]; ones leave traces unweighted.

    Returns:
        [later layer, later head, earlier layer, earlier head]; 0 where the second head is not in an earlier layer.

    Raises:
        ValueError: scores of another shape or not finite; `distance` as in `qk_circuit`.

    Source: Olsson et al. 2022, trace of QK eigenvalues: the trace is their sum.
    """
    config = model.config
    heads = (config.n_layers, config.n_heads)
    if tuple(previous_scores.shape) != heads or not previous_scores.isfinite().all():
        got = f"{list(previous_scores.shape)} with {int(previous_scores.isfinite().sum())} finite"
        raise ValueError(f"previous_scores must be finite and [layer, head] = {list(heads)}, got {got}")
    check_distance(config, distance)
    gram = model.W_E.T @ model.W_E  # d d: the vocabulary is met once
    traces = torch.zeros(*heads, *heads, dtype=gram.dtype, device=gram.device)
    qk = [_stacked([factored_qk(model, layer, h, distance) for h in range(heads[1])]) for layer in range(heads[0])]
    ov = [_stacked([factored_ov(model, layer, h) for h in range(heads[1])]) for layer in range(heads[0])]
    for later in range(heads[0]):
        W_Q, W_K = gram @ qk[later][0], qk[later][1]  # h d e, h e d
        for earlier in range(later):
            W_V, W_O = ov[earlier]  # g d f, g f d
            tokens = einsum(W_V, W_Q, "g d f, h d e -> h g f e")
            reads = einsum(W_O, W_K, "g f d, h e d -> h g f e")
            traces[later, :, earlier] = (tokens * reads).sum(dim=(-2, -1))
    return traces * previous_scores.to(traces)


def _stacked(matrices: list[FactoredMatrix]) -> tuple[Tensor, Tensor]:
    return torch.stack([m.left for m in matrices]), torch.stack([m.right for m in matrices])


def composition_score(W_A: Tensor, W_B: Tensor) -> float:
    """How much of what `W_A` writes `W_B` reads: `||W_A W_B||_F / (||W_A||_F ||W_B||_F)`, in 0..1.

    The order follows `x @ W_A @ W_B`: the earlier map stands first, and the columns of `W_A` meet the rows of `W_B`.

    Args:
        W_A: the earlier map, [rows, inner].
        W_B: the later map, [inner, columns].

    Raises:
        ValueError: not two matrices that multiply, NaN or infinity, or one is all zeros, where the score is undefined.

    Source: Elhage et al. 2021; its columns-first notation writes the same product in the opposite order.
    """
    if W_A.ndim != 2 or W_B.ndim != 2 or W_A.shape[1] != W_B.shape[0]:
        raise ValueError(
            "W_A and W_B must be matrices with as many columns in W_A as rows in W_B, "
            f"got shapes {list(W_A.shape)} and {list(W_B.shape)}"
        )
    norms = [float(torch.linalg.matrix_norm(W)) for W in (W_A, W_B)]
    for name, norm in zip(("W_A", "W_B"), norms, strict=True):
        if not math.isfinite(norm):
            raise ValueError(f"{name} must be finite, got NaN or infinity, or numbers whose squares overflow")
        if norm == 0:
            raise ValueError(f"{name} must not be all zeros: a map that writes or reads nothing has no score")
    return float(torch.linalg.matrix_norm(W_A @ W_B)) / math.prod(norms)


def composition_scores(
    model: Transformer, kind: str = "K", distance: int | None = None
) -> dict[tuple[str, str], float]:
    """The composition score of every head with every head of a later layer, 0..1; compare `composition_baseline`.

    With `W_OV` of the earlier head and `W_QK`, `W_OV` of the later one, the score is taken of
    Q: `W_OV W_QK` (it enters the query, the rows); K: `W_OV W_QK^T` (it enters the key, the columns);
    V: `W_OV W_OV` (it enters the value). High: much of what the earlier head writes is read there.

    Args:
        model, distance: as in `qk_circuit`; kind "V" takes no distance.
        kind: which input of the later head: "Q", "K" or "V".

    Returns:
        `{(earlier, later): score}`, heads named "layer.head", as in `("0.0", "1.0")`; empty for one layer.

    Raises:
        ValueError: another `kind`; a head whose circuit is all zeros or not finite; `distance` as in `qk_circuit`.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {KINDS}, got {kind!r}")
    heads = [(layer, head) for layer in range(model.config.n_layers) for head in range(model.config.n_heads)]
    if kind == "V":
        if distance is not None:
            raise ValueError(f"distance is for kinds 'Q' and 'K' only, got {distance} for 'V': values do not turn")
        later = {at: factored_ov(model, *at) for at in heads}
    else:
        later = {at: factored_qk(model, *at, distance) for at in heads}
    # The score needs norms only, so each circuit is rotated into d_head rows, or columns, first.
    writes = {at: factored_ov(model, *at).compact_rows() for at in heads}
    reads = {at: (W if kind == "K" else W.T).compact_rows().T for at, W in later.items()}
    return {
        (f"{a[0]}.{a[1]}", f"{b[0]}.{b[1]}"): composition_score(writes[a], reads[b])
        for a in heads
        for b in heads
        if a[0] < b[0]
    }


def composition_baseline(
    d_model: int, d_head: int, generator: torch.Generator, samples: int = 100
) -> Float[Tensor, " samples"]:
    """Composition scores of pairs of heads with random Gaussian weights: what chance gives, the same for Q, K and V.

    The scores gather around `1 / sqrt(d_model)`: the mean of their squares is `1 / d_model`, whatever `d_head` is.

    Args:
        d_model: width of the residual stream.
        d_head: rank of each circuit.
        generator: draws the weights.
        samples: number of pairs.

    Raises:
        ValueError: `d_model`, `d_head` or `samples` below 1.
    """
    check_counts(d_model=d_model, d_head=d_head, samples=samples)

    def draw() -> FactoredMatrix:
        read, write = (torch.randn(d_model, d_head, generator=generator) for _ in range(2))
        return FactoredMatrix(read, write.T)

    return torch.tensor([composition_score(draw().compact_rows(), draw().T.compact_rows().T) for _ in range(samples)])


def check_order(config: ModelConfig, earlier: Head, later: Head) -> None:
    """Raise a `ValueError` unless both heads exist and `earlier` can reach `later`: a layer before it."""
    for name, head in (("earlier", earlier), ("later", later)):
        if not isinstance(head, tuple | list) or len(head) != 2:
            raise ValueError(f"{name} must be a pair (layer, head) such as (0, 3), got {head!r}")
        check_head(config, *head)
    if earlier[0] >= later[0]:
        raise ValueError(
            f"earlier must be in a layer before that of later, got {earlier[0]}.{earlier[1]} and {later[0]}.{later[1]}"
        )
