"""From a model, the course's or any other (`AttentionModel`), to its losses and the scores of all its heads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from course_lib.adapters import AttentionModel, CourseModel, OpenModel
from course_lib.config import check_counts, check_shape, check_tokens
from course_lib.fast import attention_at, rows_at_once
from course_lib.icl import icl_score
from course_lib.model import Transformer
from course_lib.runtime import precision_dtype, reuse_freed_memory
from course_lib.scores import (
    copying_score,
    duplicate_token_score,
    eigenvalue_copying_score,
    first_token_score,
    induction_targets,
    per_token_loss,
    prefix_matching_score,
    previous_token_score,
    queries_with,
)

if TYPE_CHECKING:
    import pandas as pd  # loaded where a table is made: much slower to import than all else here

LABELS = {  # score -> what a head is called that has it
    "previous_token": "previous token",
    "prefix_matching": "induction",
    "duplicate_token": "duplicate token",
    "first_token": "first token",
}


@torch.no_grad()
def token_losses(
    model: Transformer | AttentionModel, tokens: Int[Tensor, "b p"], batch: int = 16, precision: str = "float32"
) -> Float[Tensor, "b p-1"]:
    """Loss in nats of every token but the first, on the CPU; entry i is the loss of token i + 1.

    Args:
        model: any model; tokens may be one longer than its context, since the last one is only predicted.
        tokens: sequences, [batch, pos].
        batch: how many sequences go through the model at once.
        precision: dtype of the matrix products of a `Transformer`, as in `TrainConfig`.

    Raises:
        ValueError: no sequences, fewer than 2 positions, a batch below 1; what the model and `per_token_loss` raise.
    """
    check_counts(batch=batch)
    check_shape(tokens, positions=2)
    if not isinstance(model, Transformer):
        return torch.cat([per_token_loss(model.logits(part[:, :-1]).cpu(), part) for part in tokens.split(batch)])
    reuse_freed_memory()
    device = next(model.parameters()).device
    dtype = precision_dtype(precision, device)
    losses = []
    for part in tokens.split(batch):
        part = part.to(device)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            losses.append(losses_of(model, model.residual(part[:, :-1]), part))
    return torch.cat(losses).cpu()


def losses_of(model: Transformer, resid: Float[Tensor, "b n d"], tokens: Int[Tensor, "b p"]) -> Float[Tensor, "b p-1"]:
    """Loss in nats of every token but the first from the final residual stream; few logits stand at any time."""
    check_tokens(tokens[:, 1:], model.config)
    rows = 2 * rows_at_once(model.config.d_vocab, resid.device)
    pieces = zip(resid.flatten(0, 1).split(rows), tokens[:, 1:].flatten().long().split(rows), strict=True)
    losses = [F.cross_entropy(model.unembed(r).float(), targets, reduction="none") for r, targets in pieces]
    return torch.cat(losses).view(tokens[:, 1:].shape)


@torch.no_grad()
def head_scores(model: Transformer, tokens: Int[Tensor, "b p"]) -> dict[str, Float[Tensor, "layer h"]]:
    """Previous-token and prefix-matching score of every head, each [layer, head], on repeated random tokens.

    The same as `previous_token_score` and `prefix_matching_score` of `patterns(model, tokens)`, to rounding. No whole
    pattern is ever made, and the model stops at the queries and keys of its last layer.

    Raises:
        ValueError: as in `Transformer.forward`; fewer than 2 positions, nothing that repeats, NaN.
    """
    reuse_freed_memory()
    tokens = tokens.to(model.W_E.device)
    check_tokens(tokens, model.config)
    check_shape(tokens, positions=2)
    induction = induction_targets(tokens)
    row, key = torch.ones_like(tokens[:, 1:]).nonzero(as_tuple=True)
    previous = row, key + 1, key  # b q k, of all queries but the first
    at = tuple(torch.cat(parts) for parts in zip(previous, induction.nonzero(as_tuple=True), strict=True))
    n_previous, n_induction = len(previous[0]), queries_with(induction)
    scores = []
    for attention in _attention_at(model, tokens, at):  # n h
        of_layer = attention[:n_previous].sum(dim=0) / n_previous, attention[n_previous:].sum(dim=0) / n_induction
        scores.append(torch.stack(of_layer))
    scores = torch.stack(scores, dim=1)  # score layer h
    if not scores.isfinite().all():
        raise ValueError("attention after the softmax must lie in 0..1, got nan")
    return dict(zip(("previous_token", "prefix_matching"), scores.cpu(), strict=True))


def _attention_at(model: Transformer, tokens: Tensor, at: tuple[Tensor, ...]) -> list[Float[Tensor, "n h"]]:
    """Entries of the pattern in every layer. What the last layer does with its pattern is not computed."""
    found = []

    def tap(name: str, layer: int, value: Tensor) -> Tensor:
        return value

    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        entries, z = attention_at(q, k, v, at)
        found.append(entries)
        return z

    tap.names, tap.attention = set(), attention
    resid, qk_positions = model.embed(tokens)
    for block in model.blocks[:-1]:
        resid = block(resid, qk_positions, tap)
    last = model.blocks[-1]
    q, k = last.attn.queries_and_keys(last.attn_inputs(resid, qk_positions)[0])
    return [*found, attention_at(q, k, None, at)[0]]


@torch.no_grad()
def all_head_scores(
    model: Transformer | AttentionModel,
    repeated: Int[Tensor, "b p"],
    random: Int[Tensor, "n m"] | None = None,
    text: Int[Tensor, "t s"] | None = None,
) -> pd.DataFrame:
    """Every score of every head, as a tidy table for `charts_measures.mosaic_chart`.

    Args:
        model: a `Transformer`, or any `AttentionModel`.
        repeated: for `prefix_matching` and `duplicate_token`; in the paper `data.repeated_tokens(10, 25, 4, ...)`.
        random: for `copying` and `copying_chance` (see `scores.copying_score`); in the paper random tokens without a
            start token, `data.repeated_tokens(10, 25, 1, ..., start_token=None)`. Left out when None.
        text: for `previous_token` and `first_token`; ordinary text in the paper. `repeated` when None.

    Returns:
        Columns `layer head name score value`; name is "layer.head". The copying scores, from `random` and
        from weights (`eigenvalue_copying`), are there for an `OpenModel`, which every `Transformer` is.

    Raises:
        ValueError: `random` for a model without `outputs` and `ov_weights`; what the scores raise.
    """
    model = CourseModel(model) if isinstance(model, Transformer) else model
    if random is not None and not isinstance(model, OpenModel):
        raise ValueError("copying needs a model with outputs and ov_weights; pass random=None for this one")
    pattern = model.patterns(repeated)
    on_text = pattern if text is None else model.patterns(text)
    on_device = repeated.to(pattern.device)
    scores = {
        "previous_token": previous_token_score(on_text),
        "prefix_matching": prefix_matching_score(pattern, on_device),
        "duplicate_token": duplicate_token_score(pattern, on_device),
        "first_token": first_token_score(on_text),
    }
    if isinstance(model, OpenModel):
        scores |= _copying_scores(model, random)
    return _tidy(scores)


def _copying_scores(model: OpenModel, random: Tensor | None) -> dict[str, Tensor]:
    weights = model.ov_weights()
    from_weights = {"eigenvalue_copying": eigenvalue_copying_score(*weights)}
    if random is None:
        return from_weights
    pattern, outputs = model.patterns(random), model.outputs(random)
    random = random.to(pattern.device)
    scales = {"copying": "2r-1", "copying_chance": "chance"}
    return {
        name: copying_score(outputs, weights[-1], pattern, random, scale) for name, scale in scales.items()
    } | from_weights


def _tidy(scores: dict[str, Tensor]) -> pd.DataFrame:
    import pandas as pd

    rows = [
        {"layer": layer, "head": head, "name": f"{layer}.{head}", "score": score, "value": value}
        for score, values in scores.items()
        for layer, heads in enumerate(values.tolist())
        for head, value in enumerate(heads)
    ]
    return pd.DataFrame(rows)


def head_value(table: pd.DataFrame, name: str, score: str) -> float:
    """One score of one head, such as `head_value(table, "1.0", "copying")`, from a table of `all_head_scores`.

    Raises:
        ValueError: a head or a score that the table does not have.
    """
    for column, wanted in (("name", name), ("score", score)):
        known = list(table[column].unique())
        if wanted not in known:
            raise ValueError(f"no {column} {wanted!r} in the table; it has {known}")
    return float(table.query("name == @name and score == @score")["value"].item())


def head_labels(table: pd.DataFrame, threshold: float = 0.4) -> pd.DataFrame:
    """What each head is called: the attention score it is highest in, if that reaches `threshold`, else "other".

    A prefix-matching head is called "induction" if it also copies better than chance (`copying_chance` above 0),
    else "prefix matching"; without that score in the table it gets the benefit of the doubt.
    A label is a threshold on a score. It is no proof of a mechanism, and another threshold gives other labels.

    Args:
        table: from `all_head_scores`.
        threshold: attention, 0..1.

    Returns:
        A row a head: `layer head name label strength`; strength is the highest attention score, 0..1.

    Raises:
        ValueError: a threshold outside 0..1, a table without one of these scores.
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold must lie in 0..1, got {threshold}")
    wide = table.pivot(index=["layer", "head", "name"], columns="score", values="value")
    if missing := LABELS.keys() - set(wide):
        raise ValueError(f"table has no score {sorted(missing)}; it has {list(wide)}")
    attention = wide[list(LABELS)]
    label = attention.idxmax(axis=1).map(LABELS).where(attention.max(axis=1) >= threshold, "other")
    if "copying_chance" in wide:
        label = label.mask((label == "induction") & (wide["copying_chance"] <= 0), "prefix matching")
    return label.to_frame("label").assign(strength=attention.max(axis=1)).reset_index()


def phase_change_record(
    model: Transformer,
    losses: Float[Tensor, "n p"],
    random_tokens: Int[Tensor, "b q"],
    window: int = 12,
) -> dict[str, float | Tensor]:
    """All that chapter 6 follows over training, as one record.

    Args:
        losses: `token_losses` of the model on text of at least 512 tokens after the start token, [example, index].
        random_tokens: repeated random tokens for the head scores, from `data.repeated_tokens`.
        window: half-width in tokens of the averages in the in-context-learning score.

    Returns:
        `validation_loss` and `icl` in nats, `loss_by_index` [index] in nats, and the scores of `head_scores`.
    """
    return {
        "validation_loss": losses.mean().item(),
        "icl": icl_score(losses, early=50, late=500, window=window).item(),
        "loss_by_index": losses.mean(dim=0),
    } | head_scores(model, random_tokens)
