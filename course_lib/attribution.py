"""What each part of a model contributes, on given tokens: to logits, to attention scores, along one edge.

The residual stream is a sum of terms: `embedding`, `positions` (if they are in the stream), each head as "layer.head",
and where a model has them `b_O.layer`, the bias of a layer's heads, and `mlp.layer`. A constant stands as `bias`.
Everything here is linear in these terms and exact. LayerNorm is made linear by its frozen scale: each position keeps
the standard deviation of the whole stream, so a term is not asked what it does to that.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import einsum
from jaxtyping import Bool, Float, Int
from torch import Tensor

from course_lib.circuits import folded, norm_bias, norm_scale
from course_lib.composition import KINDS, check_order
from course_lib.config import INTEGERS, Head, check_integers
from course_lib.model import Attention, Tap, Transformer, check_head, check_tokens, smear

NUMBERS_LIMIT = 2**27  # that logit_attribution makes over the whole vocabulary: 512 MiB in float32


@torch.no_grad()
def logit_attribution(
    model: Transformer,
    tokens: Int[Tensor, "b p"],
    targets: Int[Tensor, "b n"] | None = None,
    positions: Int[Tensor, " n"] | None = None,
) -> dict[str, Tensor]:
    """Direct logit attribution: what each term of the residual stream adds to the logits. The terms sum to the logits.

    Logits, unbounded, in nats when two tokens are compared: take a second call's values away, since what a term adds
    to all tokens alike changes no probability. High: the term itself raises this token; what other parts make of it
    counts as theirs. With a final LayerNorm, its scale is frozen at each position.

    Args:
        model: any model of the course.
        tokens: what it reads, [batch, pos].
        targets: the token whose logit to explain at each of `positions`, [batch, n]; None takes the whole vocabulary.
        positions: where, [n], negative ones from the end; all by default.

    Returns:
        `{term: logits}`, [batch, n], or [batch, n, d_vocab] without targets; `bias` holds the biases of the final
        norm and of the unembedding, where there are any.

    Raises:
        ValueError: tokens that do not fit the model, targets or positions that do not fit the tokens, too many numbers.

    Source: Elhage et al. 2021 (the path expansion); the frozen scale is common practice since.
    """
    check_tokens(tokens, model.config)
    at = torch.arange(tokens.shape[1], device=tokens.device) if positions is None else positions
    _check_targets(model, tokens, targets, at)
    chosen = slice(None) if targets is None else targets.flatten()
    columns = model.W_U[:, chosen]  # d v, or d (b n)
    W = folded(model.final_norm, columns)

    def read(terms: Float[Tensor, "b t p d"]) -> Tensor:
        if targets is None:
            return terms[:, :, at] @ W
        return einsum(terms[:, :, at], W.unflatten(1, targets.shape), "b t n d, d b n -> b t n")

    names, values, resid = _read_terms(model, tokens, model.config.n_layers, read)
    scale = norm_scale(model.final_norm, resid)[:, at]  # b n 1
    parts = dict(zip(names, (values / (scale[:, None] if targets is None else scale.mT)).unbind(1), strict=True))
    bias = norm_bias(model.final_norm, columns)
    if model.b_U is not None:
        bias = bias + model.b_U[chosen]
    if isinstance(bias, Tensor):
        like = parts["embedding"]
        parts["bias"] = bias.expand_as(like) if targets is None else bias.view_as(like)
    return parts


@dataclass(frozen=True, eq=False)
class ScorePaths:
    """The attention scores of one head as a sum over (term of the query, term of the key): see `score_paths`."""

    names: tuple[str, ...]
    q: Float[Tensor, "term b p e"]  # divided by sqrt(d_head)
    k: Float[Tensor, "term b p e"]

    def path(self, query: str, key: str) -> Float[Tensor, "b q k"]:
        """Attention score that comes from one pair of terms, [batch, query_pos, key_pos]; 0 where the key is later.

        Raises:
            ValueError: a term that the head does not read.
        """
        if not {query, key} <= set(self.names):
            raise ValueError(f"query and key must be among {', '.join(self.names)}; got {query!r} and {key!r}")
        return (self.q[self.names.index(query)] @ self.k[self.names.index(key)].mT).tril()

    def total(self) -> Float[Tensor, "b q k"]:
        """All paths together: `attn_scores` of the head, [batch, query_pos, key_pos]; 0 where the key is later."""
        return (self.q.sum(dim=0) @ self.k.sum(dim=0).mT).tril()

    def mean(self, where: Bool[Tensor, "b q k"]) -> Float[Tensor, "term term"]:
        """Each path's score averaged over chosen (query, key) pairs, [query term, key term].

        Attention depends on differences along a row, so compare two choices: `mean(induction_targets(tokens))` minus
        the mean over other keys of the same queries.

        Args:
            where: True at the pairs to average over, [batch, query_pos, key_pos]; at least one.

        Raises:
            ValueError: `where` of another shape or type, empty, or True where the key is later than the query.
        """
        want = [*self.q.shape[1:3], self.q.shape[2]]  # b q k
        if list(where.shape) != want or where.dtype != torch.bool or not where.any():
            raise ValueError(f"where must be bool {want} with a True in it, got {where.dtype} {list(where.shape)}")
        if where.triu(1).any():
            raise ValueError("where must be False at keys later than their query, which no head can see")
        wanted = einsum(where.to(self.k), self.k, "b q k, u b k e -> u b q e")
        return einsum(self.q, wanted, "t b q e, u b q e -> t u") / where.sum()


@torch.no_grad()
def score_paths(model: Transformer, tokens: Int[Tensor, "b p"], layer: int, head: int) -> ScorePaths:
    """Decompose the attention scores of one head by path: which term of the query meets which term of the key.

    Scores are unbounded, after the division by sqrt(d_head), and the paths sum to them. High: this pair of terms makes
    the head attend there. Rotary positions and smeared keys act on each term alike, and LayerNorm by its frozen scale.

    Args:
        model, tokens: as in `logit_attribution`.
        layer, head: which head, both from 0.

    Returns:
        Its `names` are the terms that the head reads: those of the residual stream; with positions "qk" `positions`
        too; and `bias`, of the norm, the query and the key, where there are any. Each path is made when asked for.

    Raises:
        ValueError: no such head, tokens that do not fit the model.

    Source: Elhage et al. 2021 (QK circuits of two-layer models).
    """
    check_head(model.config, layer, head)
    norm, attn = model.blocks[layer].attn_norm, model.blocks[layer].attn
    pair = torch.cat([attn.W_Q[head], attn.W_K[head]], dim=1)  # d 2e
    W = folded(norm, pair)
    names, values, resid = _read_terms(model, tokens, layer, lambda terms: terms @ W)
    values = values / norm_scale(norm, resid)[:, None]  # b t p 2e
    more = {"positions": model.W_pos[: tokens.shape[1]] @ pair} if model.config.positions == "qk" else {}
    bias = norm_bias(norm, pair)
    if attn.b_Q is not None:
        bias = bias + torch.cat([attn.b_Q[head], attn.b_K[head]])
    if isinstance(bias, Tensor):
        more["bias"] = bias
    extra = [value.expand_as(values[:, 0]) for value in more.values()]
    q, k = torch.stack([*values.unbind(1), *extra], dim=1).chunk(2, dim=-1)
    q, k = attn.rotate(q) / math.sqrt(model.config.d_head), _smeared(attn, head, attn.rotate(k))
    return ScorePaths((*names, *more), q.transpose(0, 1), k.transpose(0, 1))


def path_ablation(model: Transformer, earlier: Head, later: Head, into: str) -> Tap:
    """Cut one edge: hide what `earlier` wrote from the queries, keys or values of `later`, and from nothing else.

    A tap, as in `model(tokens, tap=path_ablation(model, (0, 0), (1, 0), "K"))`. Every other reader still sees the
    earlier head, so what reaches `later` through heads and MLPs in between stays. With LayerNorm the scale stays frozen
    at that of the whole stream: exactly the terms of `score_paths` with this head go. Taps of several edges compose.

    Args:
        model: any model of the course; the tap is for this one.
        earlier, later: heads as (layer, head).
        into: which input of the later head, "Q", "K" or "V".

    Raises:
        ValueError: no such head, `earlier` not in a layer before that of `later`, another `into`.

    Source: the edges are the Q-, K- and V-composition of Elhage et al. 2021.
    """
    check_order(model.config, earlier, later)
    if into not in KINDS:
        raise ValueError(f"into must be one of {KINDS}, got {into!r}")
    block, head = model.blocks[later[0]], later[1]
    attn, seen = block.attn, {}

    def tap(name: str, layer: int, value: Tensor) -> Tensor:
        if (name, layer) == ("result", earlier[0]):
            seen["written"] = value[:, earlier[1]]  # b p d
        elif (name, layer) == ("resid_post", later[0] - 1):
            seen["scale"] = norm_scale(block.attn_norm, value)
        elif (name, layer) == (into.lower(), later[0]):
            W = folded(block.attn_norm, getattr(attn, f"W_{into}")[head])
            lost = (seen["written"] @ W / seen["scale"])[:, None]  # b 1 p e
            lost = lost if into == "V" else attn.rotate(lost)
            value = value.clone()
            value[:, head] -= (_smeared(attn, head, lost) if into == "K" else lost)[:, 0]
        return value

    return tap


def _read_terms(
    model: Transformer, tokens: Tensor, layers: int, read: Callable[[Tensor], Tensor]
) -> tuple[list[str], Tensor, Tensor]:
    """Names of the terms of the residual stream after `layers` layers, what `read` makes of them, and the stream.

    `read` gets [batch, term, pos, d_model] while the model runs, so that the terms are never all held.
    """
    names, values, stream = [], [], []

    def add(terms: Tensor, *called: str) -> None:
        names.extend(called)
        values.append(read(terms))

    def tap(name: str, layer: int, value: Tensor) -> Tensor:
        if name == "resid_pre":
            add(F.embedding(tokens, model.W_E)[:, None], "embedding")
            if model.config.positions == "residual":
                add(model.W_pos[: tokens.shape[1]].expand_as(value)[:, None], "positions")
        elif name == "result" and layer < layers:
            add(value, *(f"{layer}.{head}" for head in range(value.shape[1])))
            if model.config.attn_biases:
                add(model.blocks[layer].attn.b_O.expand_as(value[:, :1]), f"b_O.{layer}")
        elif name == "mlp_out" and layer < layers:
            add(value[:, None], f"mlp.{layer}")
        if (name, layer) == (("resid_post", layers - 1) if layers else ("resid_pre", 0)):
            stream.append(value)
        return value

    model.residual(tokens, tap)
    return names, torch.cat(values, dim=1), stream[0]


def _smeared(attn: Attention, head: int, k: Float[Tensor, "b t p e"]) -> Float[Tensor, "b t p e"]:
    """Key terms of one head, mixed with those of the position before if the model smears its keys."""
    return smear(k, attn.alpha[head].expand(k.shape[1])) if hasattr(attn, "alpha") else k


def _check_targets(model: Transformer, tokens: Tensor, targets: Tensor | None, at: Tensor) -> None:
    config, length = model.config, tokens.shape[1]
    if at.ndim != 1 or at.dtype not in INTEGERS or len(at) == 0 or int(at.min()) < -length or int(at.max()) >= length:
        wanted = f"int64 or int32 integers [n] in {-length}..{length - 1}, at least one"
        raise ValueError(f"positions must be {wanted}, got {at.dtype} {at.tolist()}")
    if targets is None:
        numbers = (config.n_layers * (config.n_heads + 2) + 3) * len(tokens) * len(at) * config.d_vocab  # at most
        if numbers > NUMBERS_LIMIT:
            raise ValueError(f"targets must be given here: all would make {numbers} numbers, over {NUMBERS_LIMIT}")
        return
    shape = [len(tokens), len(at)]
    if list(targets.shape) != shape:
        raise ValueError(f"targets must be token ids {shape}, [batch, n], got {list(targets.shape)}")
    check_integers("targets", targets, config.d_vocab)
