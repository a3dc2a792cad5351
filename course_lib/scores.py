"""What a head does, measured on arrays: attention patterns, tokens, what heads write, weights.

Any model can be scored (`adapters`). A score says what a head did on these inputs; it is no proof of a mechanism.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from course_lib.config import check_integers, check_shape

COPIES = ("sum", "mean")
SCALES = ("2r-1", "4r-1", "chance")


def previous_token_score(pattern: Float[Tensor, "*layers b h q k"]) -> Float[Tensor, "*layers h"]:
    """Mean attention from each position to the position just before it. 0..1; 1 is a perfect previous-token head.

    Args:
        pattern: attention, [..., batch, head, query_pos, key_pos]; the paper takes ordinary text.
            Position 0 has no predecessor and does not count.

    Returns:
        One score a head, averaged over batch and queries; leading axes (layers) are kept, here and below.

    Raises:
        ValueError: a pattern of another shape, with values outside 0..1, or of fewer than 2 positions.

    Source: Olsson et al. 2022, appendix on head activation evaluators.
    """
    _check_pattern(pattern)
    return pattern.diagonal(offset=-1, dim1=-2, dim2=-1).mean(dim=(-3, -1))


def first_token_score(pattern: Float[Tensor, "*layers b h q k"]) -> Float[Tensor, "*layers h"]:
    """Mean attention from each later position to position 0. 0..1; high where a head rests on the first token.

    Position 0 itself does not count: it has nothing else to attend to. Uniform attention scores
    the mean of 1 / (q + 1) over the queries q from 1. Arguments, return and errors as in `previous_token_score`.

    Source: not in Olsson et al. 2022; Xiao et al. 2023 call such a first token an attention sink.
    """
    _check_pattern(pattern)
    return pattern[..., 1:, 0].mean(dim=(-3, -1))


def prefix_matching_score(
    pattern: Float[Tensor, "*layers b h q k"], tokens: Int[Tensor, "b p"], copies: str = "sum"
) -> Float[Tensor, "*layers h"]:
    """Mean attention from a token to the tokens that FOLLOWED its earlier copies (offset +1). 0..1; 1 is perfect.

    Args:
        pattern: attention, [..., batch, head, query_pos, key_pos].
        tokens: the tokens the pattern was computed on, [batch, pos]; the paper takes a start token and
            25 random tokens repeated 4 times, `data.repeated_tokens(10, 25, 4, ...)`.
        copies: "sum" adds the attention over all earlier copies (the course's convention); "mean" averages it,
            so that a perfect head falls short of 1 wherever there is more than one earlier copy.

    Returns:
        One score a head, averaged over every query whose token occurred before.

    Raises:
        ValueError: shapes that do not fit, values outside 0..1, an unknown convention, or nothing that repeats.

    Source: Olsson et al. 2022, "prefix matching". The wording there can be read as offset -1; the mechanism is +1.
    """
    _check_pattern(pattern, tokens)
    return _attention_to(induction_targets(tokens), pattern, copies)


def duplicate_token_score(
    pattern: Float[Tensor, "*layers b h q k"], tokens: Int[Tensor, "b p"], copies: str = "sum"
) -> Float[Tensor, "*layers h"]:
    """Mean attention from a token to the earlier copies of itself. 0..1; 1 is a perfect duplicate-token head.

    Arguments, return and errors as in `prefix_matching_score`; the two differ by one position.

    Source: not in Olsson et al. 2022; Wang et al. 2022 (indirect object identification) name such heads.
    """
    _check_pattern(pattern, tokens)
    return _attention_to(duplicate_targets(tokens), pattern, copies)


def induction_targets(tokens: Int[Tensor, "b p"]) -> Tensor:
    """Where an induction head should look: True at [b, q, k] when token k - 1 equals token q and k - 1 < q."""
    same = tokens[:, :, None] == tokens[:, None, :]  # b q k: token k equals token q
    target = torch.zeros_like(same)
    target[:, :, 1:] = same[:, :, :-1]
    return target.tril()


def duplicate_targets(tokens: Int[Tensor, "b p"]) -> Tensor:
    """Where a duplicate-token head should look: True at [b, q, k] when token k equals token q and k < q."""
    return (tokens[:, :, None] == tokens[:, None, :]).tril(-1)


def queries_with(target: Bool[Tensor, "b q k"]) -> Tensor:
    """How many queries of all sequences have a target; a `ValueError` if none has."""
    queries = target.any(dim=-1).sum()
    if queries == 0:
        raise ValueError("no token of tokens occurred before, so there is nothing to match")
    return queries


def _attention_to(target: Tensor, pattern: Tensor, copies: str) -> Tensor:
    """Mean attention on the targets, over the queries that have one; a query's targets are summed or averaged."""
    if copies not in COPIES:
        raise ValueError(f"copies must be 'sum' or 'mean', got {copies!r}")
    queries = queries_with(target)
    b, q, k = target.nonzero(as_tuple=True)  # few: the rest of the pattern is not read
    attention = pattern[..., b, :, q, k]  # target ... h
    if copies == "mean":
        n_copies = target.sum(dim=-1)[b, q]
        attention = attention / n_copies.view(-1, *[1] * (attention.ndim - 1))
    return attention.sum(dim=0) / queries


def copying_score(
    outputs: Float[Tensor, "*layers b h k d"],
    W_U: Float[Tensor, "d v"],
    pattern: Float[Tensor, "*layers b h q k"],
    tokens: Int[Tensor, "b p"],
    scale: str = "2r-1",
) -> Float[Tensor, "*layers h"]:
    """How far a head raises the logit of the very token it attends to, on the direct path. -1..1; 1 is perfect.

    For each attended position the head's output goes through `W_U`, the mean logit over the vocabulary is
    subtracted, and a ReLU keeps what is raised. `r` compares the rise of the attended token with that of all
    different tokens of the same sample, both summed with the attention each position receives. It is taken for
    each example by itself and then averaged. A head that raises nothing has r = 0 and scores -1.

    Outputs are taken before attention mixes them: a head that copies perfectly scores 1 wherever it looks.
    Were they mixed first, diffuse attention would count as bad copying, and copying is a matter of OV alone.

    Args:
        outputs: what a head writes when it attends to one position, `v @ W_O`, [..., batch, head, key_pos, d_model].
        W_U: unembedding, [d_model, d_vocab]; with a final LayerNorm, its weight multiplied in.
        pattern: attention, [..., batch, head, query_pos, key_pos].
        tokens: [batch, pos]; the paper takes 25 random tokens without a start token.
        scale: the paper says that r ends at 0.5 and is rescaled to -1..1, not how. Three readings, same ends:
            "2r-1": r = attended / all, 0..1; an even rise of n tokens scores 2/n - 1. (Mean-free logits fall as
            much as they rise: if falls count in "all" too, r ends at 0.5, and 4r - 1 is this same number.)
            "4r-1": r = attended / (attended + all), 0..0.5; higher in between.
            "chance": 2r - 1 with r = attended / (attended + mean of the others), 0..1; an even rise scores 0,
            and heads with random weights lie around it.

    Raises:
        ValueError: shapes that do not fit, tokens beyond the vocabulary or not int64 or int32, an unknown scale,
            one token only, NaN.

    Source: Olsson et al. 2022, appendix on head activation evaluators, "copying".
    """
    _check_pattern(pattern, tokens)
    _check_copying(outputs, W_U, pattern, tokens, scale)
    columns = (W_U - W_U.mean(dim=1, keepdim=True)).T[tokens]  # b j d: mean-free, for the tokens of the sample only
    rise = torch.einsum("...bhkd,bjd->...bhkj", outputs, columns).relu()
    received = pattern.sum(dim=-2)  # ... b h k: attention from all queries
    attended = (received * rise.diagonal(dim1=-2, dim2=-1)).sum(dim=-1)  # ... b h
    first = ~duplicate_targets(tokens).any(dim=-1)  # b j: each different token counts once
    total = torch.einsum("...bhk,...bhkj,bj->...bh", received, rise, first.to(rise.dtype))
    others = (total - attended).clamp(min=0) / (first.sum(dim=-1) - 1)[:, None]  # mean over the other tokens
    whole = {"2r-1": total, "4r-1": attended + total, "chance": attended + others}[scale]
    return ((4 if scale == "4r-1" else 2) * _ratio(attended, whole) - 1).mean(dim=-2)


def eigenvalue_copying_score(
    W_E: Float[Tensor, "v d"],
    W_V: Float[Tensor, "*heads d e"],
    W_O: Float[Tensor, "*heads e d"],
    W_U: Float[Tensor, "d v"],
) -> Float[Tensor, "*heads"]:
    """Copying read from weights: sum of the eigenvalues of the full OV circuit over the sum of their sizes. -1..1.

    1: all eigenvalues are positive, and each eigenvector of tokens raises itself. Near 0 for random weights.
    -1: every one lowers itself. A head whose circuit is all zeros scores 0.
    The circuit `W_E W_V W_O W_U` is [d_vocab, d_vocab] and never built: `W_O W_U W_E W_V`, [d_head, d_head],
    has the same eigenvalues, apart from zeros. Computed in float64.

    Args:
        W_E, W_U: [d_vocab, d_model] and [d_model, d_vocab]; multiply LayerNorm weights into `W_V` and `W_U`.
        W_V, W_O: [..., d_model, d_head] and [..., d_head, d_model]; leading axes (layer, head) are kept.

    Raises:
        ValueError: shapes that do not fit, weights that are not finite or not floating-point.

    Source: Elhage et al. 2021, "detecting copying behavior"; Olsson et al. 2022, appendix.
    """
    weights = {"W_E": W_E, "W_V": W_V, "W_O": W_O, "W_U": W_U}
    if W_U.shape != W_E.mT.shape or W_V.shape[-2] != W_E.shape[1] or W_O.shape != W_V.mT.shape:
        shapes = ", ".join(f"{name} {list(W.shape)}" for name, W in weights.items())
        raise ValueError(f"want [v, d], [..., d, e], [..., e, d] and [d, v], got {shapes}")
    if not all(W.is_floating_point() and W.isfinite().all() for W in weights.values()):
        raise ValueError("W_E, W_V, W_O and W_U must be finite floating-point numbers, got NaN, infinity or integers")
    inner = W_U.double() @ W_E.double()  # d d, the same for all heads
    eigenvalues = torch.linalg.eigvals(W_O.double() @ inner @ W_V.double())  # ... e
    return _ratio(eigenvalues.sum(dim=-1).real, eigenvalues.abs().sum(dim=-1)).to(W_V.dtype)


def per_token_loss(logits: Float[Tensor, "b n v"], tokens: Int[Tensor, "b p"]) -> Float[Tensor, "b p-1"]:
    """Cross-entropy in nats of each token given the tokens before it; entry i is the loss of token i + 1.

    0 is a sure and right prediction, ln(d_vocab) a uniform guess.

    Args:
        logits: next-token logits, [batch, pos, d_vocab]. The last position predicts nothing and may be left out.
        tokens: the tokens the logits were computed on, [batch, pos].

    Raises:
        ValueError: shapes that do not fit, an empty batch, tokens beyond the vocabulary or not int64 or int32.

    Source: Olsson et al. 2022, "per-token losses".
    """
    check_shape(tokens, positions=2)
    predicted = tokens.shape[1] - 1
    if logits.ndim != 3 or logits.shape[0] != len(tokens) or logits.shape[1] not in (predicted, predicted + 1):
        raise ValueError(f"logits {list(logits.shape)} do not fit tokens {list(tokens.shape)}")
    check_integers("tokens", tokens, logits.shape[-1])  # -100 would be taken for "do not count this one"
    targets = tokens[:, 1:].flatten().long()
    losses = F.cross_entropy(logits[:, :predicted].flatten(0, 1).float(), targets, reduction="none")
    return losses.view(len(tokens), predicted)


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """`part / whole`, and 0 where both are 0."""
    return part / torch.where(whole > 0, whole, 1)


def _check_pattern(pattern: Tensor, tokens: Tensor | None = None) -> None:
    if pattern.ndim < 4 or pattern.shape[-1] != pattern.shape[-2] or pattern.numel() == 0:
        wanted = "[..., batch, head, query_pos, key_pos]"
        raise ValueError(f"pattern must have shape {wanted} and not be empty, got {list(pattern.shape)}")
    if pattern.shape[-1] < 2:
        raise ValueError("pattern has 1 position; a score needs at least 2")
    fitting = [pattern.shape[-4], pattern.shape[-1]]
    if tokens is not None and list(tokens.shape) != fitting:
        raise ValueError(f"tokens {list(tokens.shape)} do not fit pattern {list(pattern.shape)}: want {fitting}")
    check_attention(pattern)


def check_attention(pattern: Tensor) -> None:
    """Raise a `ValueError` if a pattern holds NaN or numbers that no softmax gives."""
    low, high = (float(value) for value in pattern.aminmax())
    if not (low >= -1e-3 and high <= 1 + 1e-3):
        raise ValueError(f"pattern must hold attention after the softmax, 0..1, got {low:.3g} to {high:.3g}")


def _check_copying(outputs: Tensor, W_U: Tensor, pattern: Tensor, tokens: Tensor, scale: str) -> None:
    if scale not in SCALES:
        raise ValueError(f"scale must be one of {SCALES}, got {scale!r}")
    wanted = [*pattern.shape[:-1], *W_U.shape[:1]]
    if W_U.ndim != 2 or list(outputs.shape) != wanted:
        raise ValueError(f"outputs {list(outputs.shape)} do not fit pattern and W_U {list(W_U.shape)}: want {wanted}")
    check_integers("tokens", tokens, W_U.shape[1])
    if bool((tokens == tokens[:, :1]).all(dim=1).any()):
        raise ValueError("a sample of tokens has one token only, so there is no other to compare it with")
    if not (outputs.isfinite().all() and W_U.isfinite().all()):
        raise ValueError("outputs and W_U must be finite, got NaN or infinity")
