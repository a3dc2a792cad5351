"""Knock heads out and measure what is lost: zero, mean and pattern-preserving ablation of any set of heads.

A head is a pair (layer, head), both from 0. An ablation is a tap: `model(tokens, tap=zero_ablation(model, [(1, 0)]))`.
It acts on `result`, what a head adds to the residual stream; a bias that belongs to no single head stays.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from course_lib.config import Head, check_counts, check_head, check_shape
from course_lib.evaluate import losses_of
from course_lib.model import Tap, Transformer, keep

KINDS = ("zero", "mean", "pattern_preserving")


def zero_ablation(model: Transformer, heads: Iterable[Head]) -> Tap:
    """Full ablation: the result of these heads becomes 0, and everything after them reacts to that.

    Raises:
        ValueError: a head that does not exist.

    Source: Olsson et al. 2022, argument 3.
    """
    return ablation_tap(check_heads(model, heads))


def mean_ablation(model: Transformer, heads: Iterable[Head], reference: Int[Tensor, "b p"], batch: int = 16) -> Tap:
    """The result of these heads becomes their mean over `reference`, one vector a head: see `mean_results`.

    Unlike zero ablation it leaves what a head always adds, on which later layers may rely as on a bias.

    Raises:
        ValueError: a head that does not exist, reference tokens that do not fit the model.
    """
    return ablation_tap(check_heads(model, heads), means=mean_results(model, reference, batch))


def pattern_preserving_ablation(model: Transformer, heads: Iterable[Head], tokens: Int[Tensor, "b p"]) -> Tap:
    """The result of these heads becomes 0 while all attention stays as it was on `tokens`: only value paths change.

    A first run, made here, saves every pattern; the run with the tap, on the same tokens, is forced to them.
    In an attention-only model without normalisation this subtracts every term that contains one of the heads.

    Raises:
        ValueError: a head that does not exist, tokens that do not fit the model; when used on tokens of another shape.

    Source: Olsson et al. 2022, argument 3; the terms are those of Elhage et al. 2021.
    """
    return ablation_tap(check_heads(model, heads), saved=keep(model, tokens, ["pattern"]))


@torch.no_grad()
def mean_results(model: Transformer, reference: Int[Tensor, "b p"], batch: int = 16) -> Float[Tensor, "layer h d"]:
    """What every head adds to the residual stream, [layer, head, d_model], averaged over all sequences and positions.

    One vector a head: it tells nothing of the token or the position. Some published code averages over the sequences
    only and keeps one mean a position; what the position does then survives the ablation.

    Args:
        reference: the data, [batch, pos].
        batch: how many sequences go through the model at once.
    """
    sums: dict[int, Tensor] = {}

    def add(name: str, layer: int, value: Tensor) -> Tensor:
        if name == "result":
            sums[layer] = sums.get(layer, 0.0) + value.sum(dim=(0, 2), dtype=torch.float64)  # h d
        return value

    for part in in_batches(model, reference, batch):
        model.residual(part, add)
    means = torch.stack([sums[layer] for layer in range(model.config.n_layers)]) / reference.numel()
    return means.to(model.W_E.dtype)


def ablated_logits(
    model: Transformer,
    tokens: Int[Tensor, "b p"],
    heads: Iterable[Head],
    kind: str = "zero",
    reference: Int[Tensor, "r q"] | None = None,
    batch: int = 16,
) -> Float[Tensor, "b p v"]:
    """Next-token logits with all of `heads` ablated at once, on the CPU; with no heads, those of the whole model.

    Args:
        tokens: sequences that the model reads, [batch, pos].
        heads: (layer, head) pairs, as many as you like.
        kind: "zero", "mean" or "pattern_preserving".
        reference: for "mean", the tokens to take it over; by default those that the model reads.
        batch: how many sequences go through the model at once.

    Raises:
        ValueError: a head that does not exist, an unknown kind, a reference with another kind, tokens that do not fit.
    """
    return _ablated(model, tokens, heads, kind, reference, batch, "logits")


def ablated_losses(
    model: Transformer,
    tokens: Int[Tensor, "b p"],
    heads: Iterable[Head],
    kind: str = "zero",
    reference: Int[Tensor, "r q"] | None = None,
    batch: int = 16,
) -> Float[Tensor, "b p-1"]:
    """Loss in nats of every token but the first with all of `heads` ablated at once, on the CPU; 0 or more.

    Entry i is the loss of token i + 1. The model reads all tokens but the last.
    Arguments and errors as in `ablated_logits`.
    """
    return _ablated(model, tokens, heads, kind, reference, batch, "losses")


def ablation_tap(
    heads: set[Head], means: Tensor | None = None, saved: dict[tuple[str, int], Tensor] | None = None
) -> Tap:
    """The one mechanism of all kinds: swap the results of `heads` for zeros or means, and patterns for saved ones."""

    def tap(name: str, layer: int, value: Tensor) -> Tensor:
        if name == "pattern" and saved is not None:
            if saved[name, layer].shape != value.shape:
                want, got = list(saved[name, layer].shape), list(value.shape)
                raise ValueError(f"patterns were saved for {want}, this run has {got}: use the same tokens")
            return saved[name, layer]
        ablated = sorted(head for at, head in heads if at == layer)
        if name == "result" and ablated:
            value = value.clone()  # b h p d
            value[:, ablated] = 0.0 if means is None else means[layer, ablated, None]
        return value

    return tap


@torch.no_grad()
def _ablated(
    model: Transformer,
    tokens: Tensor,
    heads: Iterable[Head],
    kind: str,
    reference: Tensor | None,
    batch: int,
    of: str,
) -> Tensor:
    chosen, means = check_heads(model, heads), means_for(model, model_input(tokens, of), kind, reference, batch)
    outputs = []
    for part in in_batches(model, tokens, batch):
        read = model_input(part, of)
        saved = keep(model, read, ["pattern"]) if kind == "pattern_preserving" else None
        outputs.append(losses_or_logits(model, model.residual(read, ablation_tap(chosen, means, saved)), part, of))
    return torch.cat(outputs)


def losses_or_logits(model: Transformer, resid: Tensor, tokens: Tensor, of: str) -> Tensor:
    """Logits, or losses of `tokens`, from the final residual stream, on the CPU."""
    if of == "logits":
        return model.unembed(resid).cpu()
    return losses_of(model, resid, tokens).cpu()


def model_input(tokens: Tensor, of: str) -> Tensor:
    """What the model reads: all tokens, or for losses all but the last, which is only predicted."""
    if of == "logits":
        return tokens
    check_shape(tokens, positions=2)
    return tokens[:, :-1]


def means_for(model: Transformer, read: Tensor, kind: str, reference: Tensor | None, batch: int) -> Tensor | None:
    """The means that an ablation of this kind puts in place of results: None for zeros."""
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {KINDS}, got {kind!r}")
    if kind == "mean":
        return mean_results(model, read if reference is None else reference, batch)
    if reference is not None:
        raise ValueError(f"reference is used by kind 'mean' only, got kind {kind!r}")
    return None


def in_batches(model: Transformer, tokens: Tensor, batch: int) -> tuple[Tensor, ...]:
    """`batch` sequences at a time, where the model is."""
    check_shape(tokens, positions=1)
    check_counts(batch=batch)
    return tokens.to(model.W_E.device).split(batch)


def check_heads(model: Transformer, heads: Iterable[Head]) -> set[Head]:
    """The heads as a set of (layer, head); a `ValueError` says what is wrong with one that the model does not have."""
    chosen = set()
    for pair in heads:
        try:
            layer, head = map(operator.index, pair if isinstance(pair, tuple) else ())
        except (TypeError, ValueError):  # not integers, not two of them
            wanted = "(layer, head) pairs of integers such as [(1, 0)]"
            raise ValueError(f"heads must be {wanted}, got {pair!r} among them") from None
        check_head(model.config, layer, head)
        chosen.add((layer, head))
    return chosen
