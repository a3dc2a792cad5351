"""Ablate every head in turn: any measurement of the model without it, and what each is worth for learning in context.

The measurements are exactly those of `ablation.ablated_losses` and `ablated_logits`; only the work is shared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from course_lib.ablation import (
    ablated_losses,
    ablation_tap,
    check_heads,
    in_batches,
    losses_or_logits,
    means_for,
    model_input,
)
from course_lib.circuits import folded, norm_bias, norm_scale
from course_lib.config import Head, check_counts, check_tokens
from course_lib.fast import rows_at_once
from course_lib.icl import icl_score
from course_lib.model import Transformer
from course_lib.runtime import reuse_freed_memory

Measure = Callable[[Tensor], Tensor | float | int]

MEASURED = ("losses", "logits")


@dataclass(frozen=True)
class Sweep:
    """One measurement of the whole model (`base`), and of the model without each head in turn (`ablated`).

    Axes after [layer, head] are those of the measurement itself; a single number has none.
    """

    kind: str
    base: Float[Tensor, "*measured"]
    ablated: Float[Tensor, "layer h *measured"]

    @property
    def change(self) -> Float[Tensor, "layer h *measured"]:
        """Ablated minus base, [layer, head, ...]: what taking the head away does to the measurement."""
        return self.ablated - self.base

    def rows(self) -> list[dict]:
        """Tidy rows `head layer kind base ablated change`, heads named "layer.head"; for single numbers only.

        Raises:
            ValueError: the measurement is not a single number.
        """
        if self.base.ndim:
            raise ValueError(f"rows need a measurement that is one number, this one has shape {list(self.base.shape)}")
        base = self.base.item()
        return [
            {"head": f"{layer}.{head}", "layer": layer, "kind": self.kind, "base": base}
            | {"ablated": value, "change": value - base}
            for layer, values in enumerate(self.ablated.tolist())
            for head, value in enumerate(values)
        ]


@torch.no_grad()
def ablation_sweep(
    model: Transformer,
    tokens: Int[Tensor, "b p"],
    measure: Measure,
    kind: str = "zero",
    of: str = "losses",
    reference: Int[Tensor, "r q"] | None = None,
    batch: int = 16,
) -> Sweep:
    """Any measurement with every head ablated in turn, and once without ablation.

    Example: `ablation_sweep(model, tokens, torch.mean).change[1, 0]` is the mean loss that head 1.0 saves, in nats.

    Args:
        tokens: sequences, [batch, pos]; for losses the model reads all but the last token.
        measure: takes the losses in nats, [batch, pos - 1], or the logits, [batch, pos, d_vocab], of all sequences;
            gives a number or a tensor.
        of: what `measure` takes, "losses" or "logits". Logits are large: those of all sequences are held at once.
        kind, reference, batch: as in `ablated_logits`.

    Raises:
        ValueError: as in `ablated_logits`; an unknown `of`; a measurement that is NaN or infinite.
    """
    if of not in MEASURED:
        raise ValueError(f"of must be one of {MEASURED}, got {of!r}")
    check_counts(batch=batch)
    reuse_freed_memory()
    means = means_for(model, model_input(tokens, of), kind, reference, batch)
    measured, losses = {}, {}
    for part in in_batches(model, tokens, batch if of == "losses" else len(tokens)):
        for at, output in _one_at_a_time(model, part, kind, means, of):
            if of == "losses":
                losses.setdefault(at, []).append(output)
            else:  # all sequences are in this one part
                measured[at] = _number(measure(output), _heads(at))
    measured |= {at: _number(measure(torch.cat(pieces)), _heads(at)) for at, pieces in losses.items()}
    base = measured.pop(None)
    ablated = torch.stack(list(measured.values()))
    return Sweep(kind, base, ablated.unflatten(0, (model.config.n_layers, model.config.n_heads)))


def icl_attribution(
    model: Transformer,
    tokens: Int[Tensor, "b p"],
    kind: str = "zero",
    together: Iterable[Head] = (),
    measure: Measure = icl_score,
) -> list[dict]:
    """How much of the in-context-learning score goes with each head, as tidy rows.

    Columns: `heads` ("1.0"), `layer`, `kind`, `base` and `ablated` (the score in nats of the whole model and without
    the head), `change` (ablated minus base; above 0 the head helped) and `share`, which is `change / -base`: 1 when
    the score falls to 0 without the head, 0 when nothing changes, negative when it grows; any number may occur.
    `share` is NaN when the whole model has no in-context learning (base 0 or above).
    Shares need not add up to 1: where one head does another's work each looks idle, where two need each other both
    carry the whole. So compare with the joint ablation of a set, the last row if `together` names one.

    Args:
        tokens: sequences, [batch, pos], long enough for the score.
        kind: as in `ablated_logits`; a mean is taken over the tokens themselves.
        together: heads to ablate all at once.
        measure: the score, from losses; for other tokens than 50 and 500, `partial(icl_score, early=.., late=..)`.

    Raises:
        ValueError: as in `ablation_sweep`, for the joint ablation too, and what `measure` raises.

    Source: Olsson et al. 2022, argument 3.
    """
    together = sorted(check_heads(model, together))
    rows = [{"heads": row.pop("head")} | row for row in ablation_sweep(model, tokens, measure, kind).rows()]
    if together:
        measured = measure(ablated_losses(model, tokens, together, kind))
        ablated, base = _number(measured, together).item(), rows[0]["base"]
        joint = {"heads": " + ".join(f"{layer}.{head}" for layer, head in together), "layer": None}
        rows.append(rows[0] | joint | {"ablated": ablated, "change": ablated - base})
    return [row | {"share": row["change"] / -row["base"] if row["base"] < 0 else math.nan} for row in rows]


def before_and_after_vector(
    before: Float[Tensor, "*examples i"], after: Float[Tensor, "*examples i"]
) -> Float[Tensor, "*examples i"]:
    """What the phase change did to each token's loss: end minus start of its window, scaled to length 1.

    Args:
        before, after: per-token losses in nats at the start and at the end of `phase_change_window`, same tokens.

    Raises:
        ValueError: shapes that differ, empty, NaN or infinite losses, or no difference at all.

    Source: Olsson et al. 2022, argument 3.
    """
    _check_losses(before=before, after=after)
    difference = after - before
    length = torch.linalg.vector_norm(difference)
    if length == 0:
        raise ValueError("before and after are the same losses: their difference has length 0 and no direction")
    return difference / length


def before_and_after_score(
    vector: Float[Tensor, "*examples i"], ablated: Float[Tensor, "*examples i"], unablated: Float[Tensor, "*examples i"]
) -> float:
    """How far an ablation moves the losses along the phase change: `vector . (ablated - unablated)`, in nats.

    Negative: the ablation undoes the phase change; 0: it does something else; at most the length of the difference.
    For all heads at once: `ablation_sweep(model, tokens, lambda losses: (vector * losses).sum()).change`.

    Args:
        vector: from `before_and_after_vector`, on the same tokens.
        ablated, unablated: per-token losses in nats with and without the ablation.

    Raises:
        ValueError: shapes that differ, empty, NaN or infinite values, a vector that is not of length 1.

    Source: Olsson et al. 2022, argument 3.
    """
    _check_losses(vector=vector, ablated=ablated, unablated=unablated)
    length = torch.linalg.vector_norm(vector).item()
    if abs(length - 1) > 1e-3:
        raise ValueError(f"vector must have length 1, as before_and_after_vector makes it; got length {length:.4g}")
    return (vector * (ablated - unablated)).sum().item()


def _one_at_a_time(
    model: Transformer, tokens: Tensor, kind: str, means: Tensor | None, of: str
) -> Iterator[tuple[Head | None, Tensor]]:
    """Losses or logits without ablation, as (None, output), then with each head ablated, as (head, output).

    What lies before the head is taken from the first run; only the layers after it are run again. A head of the last
    layer, with no MLP after it, has none: its losses follow from the first run's logits.
    """
    kept = {}

    def tap(name: str, layer: int, value: Tensor) -> Tensor:
        if name in tap.names:
            kept[name, layer] = value
        return value

    tap.names = {"z", "resid_mid", "resid_post"} | ({"pattern"} if kind == "pattern_preserving" else set())
    read = model_input(tokens, of)
    resid = model.residual(read, tap)
    last = model.config.n_layers - 1
    fast_last = of == "losses" and ("resid_mid", last) not in kept
    if fast_last:
        whole, *without = _last_layer(model, resid, kept["z", last], tokens, means)
    else:
        whole = losses_or_logits(model, resid, tokens, of)
    yield None, whole
    forced = ablation_tap(set(), saved=kept) if kind == "pattern_preserving" else None
    _, qk_positions = model.embed(read)
    for layer, head in product(range(last if fast_last else last + 1), range(model.config.n_heads)):
        block = model.blocks[layer]
        lost = kept["z", layer][:, head] @ block.attn.W_O[head]  # b p d
        lost = lost if means is None else lost - means[layer, head]
        if ("resid_mid", layer) in kept:  # the MLP of this layer reads what the head writes
            resid = kept["resid_mid", layer] - lost
            resid = resid + block.mlp_out(resid, None)
        else:
            resid = kept["resid_post", layer] - lost
        for later in model.blocks[layer + 1 :]:
            resid = later(resid, qk_positions, forced)
        yield (layer, head), losses_or_logits(model, resid, tokens, of)
    if fast_last:
        yield from (((last, head), losses) for head, losses in enumerate(without))


def _last_layer(
    model: Transformer, resid: Tensor, z: Tensor, tokens: Tensor, means: Tensor | None
) -> Float[Tensor, "runs b p"]:
    """Losses of the whole model, then without each head of the last layer: its share of the logits has rank d_head.

    `logits = resid @ U / scale + bias` with the final norm folded into U; without head h the first product loses
    `z_h @ (W_O_h @ U)`, and the scale is that of the residual stream without the head.
    """
    check_tokens(tokens[:, 1:], model.config)  # -100 would be taken for "do not count this one"
    norm, W_O = model.final_norm, model.blocks[-1].attn.W_O
    U = folded(norm, model.W_U)
    bias = U.new_zeros(U.shape[1]) if model.b_U is None else model.b_U
    bias = bias + norm_bias(norm, model.W_U)
    W_OU = W_O @ U  # h e v
    heads = range(model.config.n_heads)
    rows = rows_at_once(model.config.d_vocab, U.device)
    losses = [[] for _ in range(1 + len(heads))]
    pieces = (resid.flatten(0, 1), z.transpose(1, 2).flatten(0, 1), tokens[:, 1:].flatten().long())  # n d, n h e, n
    for resid, z, targets in zip(*(piece.split(rows) for piece in pieces), strict=True):
        product_whole = resid @ U
        logits = torch.addcmul(bias, product_whole, 1 / norm_scale(norm, resid))
        losses[0].append(F.cross_entropy(logits.float(), targets, reduction="none"))
        for head in heads:
            resid_without = torch.addmm(resid, z[:, head], W_O[head], alpha=-1)
            product_with_mean = product_whole
            if means is not None:
                resid_without += means[-1, head]
                product_with_mean = product_whole + means[-1, head] @ U
            inverse_scale = 1 / norm_scale(norm, resid_without)
            logits = torch.addcmul(bias, product_with_mean, inverse_scale)
            logits.addmm_(z[:, head] * inverse_scale, W_OU[head], alpha=-1)
            losses[1 + head].append(F.cross_entropy(logits.float(), targets, reduction="none"))
    return torch.stack([torch.cat(of_run) for of_run in losses]).view(-1, *tokens[:, 1:].shape).cpu()


def _heads(at: Head | None) -> list[Head]:
    return [] if at is None else [at]


def _number(value: Tensor | float | int, ablated: Sequence[Head]) -> Tensor:
    """What a measure gave, as a tensor of numbers on the CPU."""
    value = torch.as_tensor(value).cpu()
    value = value if value.is_floating_point() else value.float()
    if not value.isfinite().all():
        names = " + ".join(f"{layer}.{head}" for layer, head in ablated)
        where = f"head{'s' * (len(ablated) > 1)} {names} ablated" if ablated else "the whole model"
        raise ValueError(f"measure gave NaN or infinity for {where}; it must give finite numbers")
    return value


def _check_losses(**losses: Tensor) -> None:
    shapes = {name: list(value.shape) for name, value in losses.items()}
    for name, value in losses.items():
        if value.numel() == 0 or value.shape != next(iter(losses.values())).shape:
            raise ValueError(f"need tensors of one shape that are not empty, got {shapes}")
        if not value.isfinite().all():
            raise ValueError(f"{name} contains NaN or infinity")
