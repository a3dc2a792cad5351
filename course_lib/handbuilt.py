"""Heads built by hand: the previous-token head and the induction circuit, weight by weight.

Everything multiplies from the right, `x @ W`, so a matrix reads on its rows and writes on its columns.
The models are one-hot throughout, and their residual stream is cut into the four slices of `subspaces`.
"""

from __future__ import annotations

import math

import torch

from course_lib.config import check_counts, check_positive
from course_lib.model import Attention, ModelConfig, Transformer


def subspaces(d_vocab: int, n_ctx: int) -> dict[str, slice]:
    """The parts of the hand-built residual stream, in order: slices of `d_model = 3 * d_vocab + n_ctx`.

    Args:
        d_vocab: number of tokens, token 0 being the start token.
        n_ctx: number of positions.

    Returns:
        `token` the current token; `previous` the token before it; `prediction` what `W_U` reads;
        `position` the position, which only queries and keys see.

    Raises:
        ValueError: `d_vocab` or `n_ctx` below 1.
    """
    check_counts(d_vocab=d_vocab, n_ctx=n_ctx)
    return {
        "token": slice(0, d_vocab),
        "previous": slice(d_vocab, 2 * d_vocab),
        "prediction": slice(2 * d_vocab, 3 * d_vocab),
        "position": slice(3 * d_vocab, 3 * d_vocab + n_ctx),
    }


def previous_token_model(d_vocab: int, n_ctx: int, sharpness: float = 100.0) -> Transformer:
    """A one-layer model whose head 0.0 writes "the token before me is A" into the subspace `previous`.

    Nothing writes to `prediction`, so its logits are all 0: it takes a note and predicts nothing.

    Args:
        d_vocab: number of tokens, token 0 being the start token.
        n_ctx: number of positions.
        sharpness: attention score of the wanted position before the softmax; every other position has 0.

    Raises:
        ValueError: `d_vocab` or `n_ctx` below 1; `sharpness` not a finite positive number.
    """
    model = _blank_model(1, d_vocab, n_ctx)
    _set_previous_token_head(model, sharpness)
    return model


def induction_circuit(d_vocab: int, n_ctx: int, sharpness: float = 100.0) -> Transformer:
    """A two-layer model that completes repeated sequences: previous-token head 0.0, induction head 1.0.

    It predicts the token that followed the earlier copies of the current token, and needs a start token in front:
    without one, position 0 attends to itself, and the first token looks as if it had followed itself.
    Arguments and errors as in `previous_token_model`.

    Source: the mechanism of Elhage et al. 2021, section on induction heads.
    """
    model = _blank_model(2, d_vocab, n_ctx)
    _set_previous_token_head(model, sharpness)
    _set_induction_head(model, sharpness)
    return model


@torch.no_grad()
def _blank_model(n_layers: int, d_vocab: int, n_ctx: int) -> Transformer:
    """Embedding, positions and unembedding are one-hot; all heads are still zero."""
    where = subspaces(d_vocab, n_ctx)
    config = ModelConfig(
        n_layers=n_layers,
        n_heads=1,
        d_model=where["position"].stop,
        d_head=max(d_vocab, n_ctx),  # one coordinate a position in layer 0, one a token in layer 1
        d_vocab=d_vocab,
        n_ctx=n_ctx,
        positions="qk",
    )
    model = Transformer(config)
    for weight in model.parameters():
        weight.zero_()
    model.W_E[:, where["token"]] = torch.eye(d_vocab)
    model.W_pos[:, where["position"]] = torch.eye(n_ctx)
    model.W_U[where["prediction"]] = torch.eye(d_vocab)
    return model


@torch.no_grad()
def _set_previous_token_head(model: Transformer, sharpness: float) -> None:
    n_ctx = model.config.n_ctx
    where, attn = subspaces(model.config.d_vocab, n_ctx), model.blocks[0].attn
    ask_for_the_one_before = torch.ones(n_ctx - 1).diag(-1)  # row i has its 1 in column i - 1; row 0 asks for nothing
    attn.W_Q[0, where["position"], :n_ctx] = _score_scale(attn, sharpness) * ask_for_the_one_before
    attn.W_K[0, where["position"], :n_ctx] = torch.eye(n_ctx)
    _set_copy(attn, where["token"], where["previous"])


@torch.no_grad()
def _set_induction_head(model: Transformer, sharpness: float) -> None:
    d_vocab = model.config.d_vocab
    where, attn = subspaces(d_vocab, model.config.n_ctx), model.blocks[1].attn
    attn.W_Q[0, where["token"], :d_vocab] = _score_scale(attn, sharpness) * torch.eye(d_vocab)
    attn.W_K[0, where["previous"], :d_vocab] = torch.eye(d_vocab)  # K-composition: the key is what head 0.0 wrote
    _set_copy(attn, where["token"], where["prediction"])


def _set_copy(attn: Attention, read: slice, write: slice) -> None:
    """Let head 0 carry the subspace `read` of the attended position to the subspace `write`, unchanged."""
    width = read.stop - read.start
    attn.W_V[0, read, :width] = torch.eye(width)
    attn.W_O[0, :width, write] = torch.eye(width)


def _score_scale(attn: Attention, sharpness: float) -> float:
    """The length of a query that gives a score of `sharpness` once attention has divided by sqrt(d_head)."""
    check_positive(sharpness=sharpness)
    return sharpness * math.sqrt(attn.W_Q.shape[-1])
