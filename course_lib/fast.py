"""The two operations on which training spends its time, written so that the CPU wastes little of it.

Both compute what a few lines of plain PyTorch compute; the tests compare them with those lines.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

COLUMN_BYTES = 256  # attention of so many queries together: 64 in float32, 128 in bfloat16, over the keys they can see
# Logits are made, used and forgotten in pieces of at most this size. Each piece adds to the gradient of all of W_U, so
# smaller ones take more time; larger ones take more memory.
ROWS_AT_ONCE, LOGITS_AT_ONCE = 512, 2**21
ON_A_GPU = 16  # times as much at once: it has no small cache to fill, and each start of a kernel costs time


def rows_at_once(d_vocab: int, device: torch.device) -> int:
    """How many rows of logits are made together: at least 1."""
    rows = min(ROWS_AT_ONCE, LOGITS_AT_ONCE // d_vocab)
    return max(1, rows * (ON_A_GPU if device.type == "cuda" else 1))


def causal_attention(
    q: Float[Tensor, "b h p e"], k: Float[Tensor, "b h p e"], v: Float[Tensor, "b h p e"]
) -> Float[Tensor, "b h p e"]:
    """Every query's mean of the values up to its own position, weighted by the softmax of its scaled scores.

    The same as `F.scaled_dot_product_attention(q, k, v, is_causal=True)`, to rounding. On a GPU it is that function.
    On a CPU it takes the queries block by block. A block needs no keys after its last query, which saves up to half
    of the arithmetic. Where gradients are needed it keeps the pattern for the backward pass, where the fused kernel
    makes it again: a bit more than half of batch * heads * positions² numbers.
    """
    if q.is_cuda:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    dtype = _dtype_of_products(q)
    with torch.autocast("cpu", enabled=False):
        return _CausalAttention.apply(q.to(dtype), k.to(dtype), v.to(dtype))


class _CausalAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        ctx.shape = q.shape
        q, k, v = (x.flatten(0, 1) for x in (q * q.shape[-1] ** -0.5, k, v))  # batch*head p e
        z, patterns = torch.empty_like(q), []
        for queries, keys, pattern in _pattern_blocks(q, k):
            z[:, queries] = torch.bmm(pattern, v[:, keys])
            if any(ctx.needs_input_grad):
                patterns.append(pattern)
        ctx.save_for_backward(q, k, v, *patterns)
        return z.view(ctx.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v, *patterns = ctx.saved_tensors
        grad_z = grad_z.flatten(0, 1)
        grad_q, grad_k, grad_v = torch.empty_like(q), None, None
        for (queries, keys), pattern in reversed(list(zip(_blocks(q), patterns, strict=True))):
            grad_pattern = torch.bmm(grad_z[:, queries], v[:, keys].mT)
            grad_scores = torch._softmax_backward_data(grad_pattern, pattern, -1, pattern.dtype)
            grad_q[:, queries] = torch.bmm(grad_scores, k[:, keys])
            to_k, to_v = torch.bmm(grad_scores.mT, q[:, queries]), torch.bmm(pattern.mT, grad_z[:, queries])
            if grad_k is None:  # the last queries come first: they see all keys
                grad_k, grad_v = to_k, to_v
            else:  # not baddbmm_: very slow here in bfloat16
                grad_k[:, keys] += to_k
                grad_v[:, keys] += to_v
        grad_q *= q.shape[-1] ** -0.5
        return tuple(grad.view(ctx.shape) for grad in (grad_q, grad_k, grad_v))


def attention_at(
    q: Float[Tensor, "b h p e"],
    k: Float[Tensor, "b h p e"],
    v: Float[Tensor, "b h p e"] | None,
    at: tuple[Int[Tensor, " n"], Int[Tensor, " n"], Int[Tensor, " n"]],
) -> tuple[Float[Tensor, "n h"], Float[Tensor, "b h p e"] | None]:
    """Single entries of the attention pattern of every head, and with `v` what `causal_attention` gives.

    The pattern is made a block of queries at a time, so that it never stands in memory as a whole. No gradients.

    Args:
        at: the entries, as indices of batch, query and key.
    """
    batch, query, key = at
    found, z = q.new_empty(len(query), q.shape[1]), None
    q_flat, k_flat = (q * q.shape[-1] ** -0.5).flatten(0, 1), k.flatten(0, 1)  # batch*head p e
    if v is not None:
        v_flat, z = v.flatten(0, 1), torch.empty(v.shape, dtype=v.dtype, device=v.device)
        z_flat = z.flatten(0, 1)
    for queries, keys, pattern in _pattern_blocks(q_flat, k_flat):
        here = ((query >= queries.start) & (query < queries.stop)).nonzero()[:, 0]
        found[here] = pattern.unflatten(0, q.shape[:2])[batch[here], :, query[here] - queries.start, key[here]]
        if v is not None:
            z_flat[:, queries] = torch.bmm(pattern, v_flat[:, keys])
    return found, z


def _pattern_blocks(q: Float[Tensor, "n p e"], k: Float[Tensor, "n p e"]) -> Iterator[tuple[slice, slice, Tensor]]:
    """The attention pattern, a block of queries at a time, with those queries and the keys that they can see.

    `q` is scaled already, n is batch * heads.
    """
    future = None
    for queries, keys in _blocks(q):
        scores = torch.bmm(q[:, queries], k[:, keys].mT)  # n query key
        size = scores.shape[1]
        if future is None:
            future = scores.new_full((size, size), -torch.inf).triu(1)
        scores[..., queries] += future[:size, :size]
        yield queries, keys, scores.softmax(dim=-1)


def _blocks(q: Float[Tensor, "n p e"]) -> Iterator[tuple[slice, slice]]:
    """Blocks of queries, each with the keys that it can see."""
    positions = q.shape[1]
    size = COLUMN_BYTES // q.element_size() * (ON_A_GPU if q.is_cuda else 1)
    for start in range(0, positions, size):
        end = min(start + size, positions)
        yield slice(start, end), slice(0, end)


def linear_cross_entropy(
    x: Float[Tensor, "n d"], W: Float[Tensor, "d v"], b: Float[Tensor, " v"] | None, targets: Int[Tensor, " n"]
) -> Float[Tensor, ""]:
    """Mean cross-entropy in nats of the logits `x @ W + b`, which never stand in memory all at once.

    The same as `F.cross_entropy(x @ W + b, targets)`, to rounding. The gradient of a piece of logits is known as soon
    as the piece is: softmax minus one-hot. So the gradients of `x`, `W` and `b` are computed in the forward pass, and
    the backward pass only scales them. Products are made in the dtype of the autocast region, the rest in float32
    or better.

    Args:
        x: rows to unembed, such as the final residual stream.
        W, b: unembedding, and its bias or None.
        targets: the right token of each row, 0..v-1.
    """
    dtype = _dtype_of_products(x)
    with torch.autocast(x.device.type, enabled=False):
        return _LinearCrossEntropy.apply(x.to(dtype), W.to(dtype), b, targets)


def _dtype_of_products(x: Tensor) -> torch.dtype:
    """That of the autocast region that this runs in, or else that of x."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, W: Tensor, b: Tensor | None, targets: Tensor) -> Tensor:
        exact = torch.promote_types(x.dtype, torch.float32)
        rows = rows_at_once(W.shape[1], x.device)
        loss = torch.zeros((), dtype=exact, device=x.device)
        grad_x, grad_W = [], torch.zeros_like(W, dtype=exact)
        grad_b = None if b is None else torch.zeros_like(b, dtype=exact)
        for x_part, target in zip(x.split(rows), targets[:, None].split(rows), strict=True):
            logits = x_part @ W if b is None else x_part @ W + b.to(x.dtype)
            probs = logits.softmax(dim=-1, dtype=exact)
            # log p(target) = log p(likeliest token) - how far its logit lies below that of the likeliest
            below = logits.amax(dim=-1, keepdim=True).to(exact) - logits.gather(1, target).to(exact)
            loss += (below - probs.amax(dim=-1, keepdim=True).log()).sum()
            probs.scatter_add_(1, target, probs.new_full(target.shape, -1.0))  # the gradient, times the number of rows
            grad_logits = probs.to(x.dtype)
            grad_x.append(grad_logits @ W.T)
            grad_W += x_part.T @ grad_logits
            if b is not None:
                grad_b += probs.sum(dim=0)
            del logits, probs, grad_logits  # before the next piece is made
        ctx.save_for_backward(torch.cat(grad_x), grad_W, grad_b)
        ctx.dtypes = x.dtype, W.dtype, None if b is None else b.dtype
        return loss / len(x)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
        grads = ctx.saved_tensors
        scale = grad_loss / len(grads[0])
        return *(None if g is None else (g * scale).to(dtype) for g, dtype in zip(grads, ctx.dtypes, strict=True)), None
