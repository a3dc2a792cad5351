"""The transformer of the course: attention-only by default, small enough to read from top to bottom.

Letters in shape comments: b batch, p position (q query, k key), h head, d d_model, e d_head, v d_vocab.
Weights multiply from the right: `x @ W`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor, nn

from course_lib.config import ModelConfig, check_head, check_tokens
from course_lib.fast import causal_attention
from course_lib.positions import Rotary, sinusoidal_positions, smear

__all__ = ["Attention", "ModelConfig", "Transformer", "check_head", "check_tokens", "keep", "patterns", "smear"]

# A tap sees every named activation as it is made, and returns it, changed or not. One that has an attribute `names`
# is shown the costly ones, `attn_scores`, `pattern` and `result`, only if they are among them. One that has an
# attribute `attention` brings a function that is called in place of `causal_attention`.
Tap = Callable[[str, int, Tensor], Tensor]


class Attention(nn.Module):
    """All heads of one layer. Each head reads the residual stream and returns what it wants to add to it."""

    W_Q: Float[nn.Parameter, "n_heads d_model d_head"]
    W_K: Float[nn.Parameter, "n_heads d_model d_head"]
    W_V: Float[nn.Parameter, "n_heads d_model d_head"]
    W_O: Float[nn.Parameter, "n_heads d_head d_model"]
    b_Q: Float[nn.Parameter, "n_heads d_head"] | None
    b_K: Float[nn.Parameter, "n_heads d_head"] | None
    b_V: Float[nn.Parameter, "n_heads d_head"] | None
    b_O: Float[nn.Parameter, " d_model"] | None  # of the layer, not of any one head

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__()
        self.layer = layer
        heads, d_model, d_head = config.n_heads, config.d_model, config.d_head
        self.W_Q = nn.Parameter(torch.empty(heads, d_model, d_head))
        self.W_K = nn.Parameter(torch.empty(heads, d_model, d_head))
        self.W_V = nn.Parameter(torch.empty(heads, d_model, d_head))
        self.W_O = nn.Parameter(torch.empty(heads, d_head, d_model))
        self.b_Q = _bias(config.attn_biases, heads, d_head)
        self.b_K = _bias(config.attn_biases, heads, d_head)
        self.b_V = _bias(config.attn_biases, heads, d_head)
        self.b_O = _bias(config.attn_biases, d_model)
        rotary = config.positions == "rotary"
        self.rotate = Rotary(config.n_ctx, config.rotary_dim, config.rotary_base) if rotary else nn.Identity()
        if config.smeared_keys:
            self.alpha = nn.Parameter(torch.zeros(heads))  # sigmoid(0): half of each key is the one before it

    def forward(
        self, qk_input: Float[Tensor, "b p d"], v_input: Float[Tensor, "b p d"], tap: Tap | None = None
    ) -> Float[Tensor, "b p d"]:
        q, k = self.queries_and_keys(qk_input)
        v = _heads(v_input, self.W_V, self.b_V)
        q, k, v = (_offer(tap, name, self.layer, value) for name, value in (("q", q), ("k", k), ("v", v)))
        step_by_step = _wants(tap, "attn_scores", "pattern")
        attend = getattr(tap, "attention", causal_attention)
        z = self._step_by_step(q, k, v, tap) if step_by_step else attend(q, k, v)
        z = _offer(tap, "z", self.layer, z)  # b h p e
        if not _wants(tap, "result"):
            return _plus(einsum(z, self.W_O, "b h p e, h e d -> b p d"), self.b_O)
        result = tap("result", self.layer, einsum(z, self.W_O, "b h p e, h e d -> b h p d"))
        return _plus(result.sum(dim=1), self.b_O)

    def queries_and_keys(self, qk_input: Float[Tensor, "b p d"]) -> tuple[Tensor, Tensor]:
        """Queries and keys of every head, [b h p e] each, as they meet: rotated and smeared."""
        q = self.rotate(_heads(qk_input, self.W_Q, self.b_Q))
        k = self.rotate(_heads(qk_input, self.W_K, self.b_K))
        # smeared after the rotation: each key brings its own position, as with "qk"
        return q, smear(k, self.alpha) if hasattr(self, "alpha") else k

    def _step_by_step(self, q: Tensor, k: Tensor, v: Tensor, tap: Tap) -> Float[Tensor, "b h p e"]:
        """What `causal_attention` computes at once, with every step offered to the tap."""
        attn_scores = einsum(q, k, "b h q e, b h k e -> b h q k") / math.sqrt(q.shape[-1])
        future = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).triu(1)
        attn_scores = tap("attn_scores", self.layer, attn_scores.masked_fill(future, -torch.inf))
        pattern = tap("pattern", self.layer, attn_scores.softmax(dim=-1))
        return einsum(pattern, v, "b h q k, b h k e -> b h q e")


class MLP(nn.Module):
    """Two linear maps around a GELU, applied at each position by itself."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.W_in = nn.Parameter(torch.empty(config.d_model, config.d_mlp))
        self.b_in = nn.Parameter(torch.zeros(config.d_mlp))
        self.W_out = nn.Parameter(torch.empty(config.d_mlp, config.d_model))
        self.b_out = nn.Parameter(torch.zeros(config.d_model))
        self.approximate = "tanh" if config.gelu == "tanh" else "none"

    def forward(self, x: Float[Tensor, "b p d"]) -> Float[Tensor, "b p d"]:
        return F.gelu(x @ self.W_in + self.b_in, approximate=self.approximate) @ self.W_out + self.b_out


class Block(nn.Module):
    """An attention-only layer: `resid_post = resid_pre + attention`."""

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__()
        self.layer = layer
        self.attn_norm = _norm(config)
        self.attn = Attention(config, layer)

    def forward(self, resid_pre: Tensor, qk_positions: Tensor | None, tap: Tap | None = None) -> Tensor:
        resid_post = resid_pre + self.attn_out(resid_pre, qk_positions, tap)
        return _offer(tap, "resid_post", self.layer, resid_post)

    def attn_out(self, resid: Tensor, qk_positions: Tensor | None, tap: Tap | None) -> Tensor:
        """What the heads read from `resid`, and together want to add."""
        return self.attn(*self.attn_inputs(resid, qk_positions), tap)

    def attn_inputs(self, resid: Tensor, qk_positions: Tensor | None) -> tuple[Tensor, Tensor]:
        """What queries and keys are made of, and what values are made of."""
        x = self.attn_norm(resid)
        return x if qk_positions is None else x + qk_positions, x


class MLPBlock(Block):
    """A layer with an MLP: `resid_mid = resid_pre + attention`, `resid_post = resid_mid + mlp`."""

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__(config, layer)
        self.mlp_norm = _norm(config)
        self.mlp = MLP(config)

    def forward(self, resid_pre: Tensor, qk_positions: Tensor | None, tap: Tap | None = None) -> Tensor:
        resid_mid = _offer(tap, "resid_mid", self.layer, resid_pre + self.attn_out(resid_pre, qk_positions, tap))
        resid_post = resid_mid + self.mlp_out(resid_mid, tap)
        return _offer(tap, "resid_post", self.layer, resid_post)

    def mlp_out(self, resid: Tensor, tap: Tap | None) -> Tensor:
        """What the MLP reads from `resid`, and wants to add."""
        return _offer(tap, "mlp_out", self.layer, self.mlp(self.mlp_norm(resid)))


class ParallelBlock(MLPBlock):
    """As in GPT-NeoX, both parts read the same stream: `resid_post = resid_pre + attention + mlp`."""

    def forward(self, resid_pre: Tensor, qk_positions: Tensor | None, tap: Tap | None = None) -> Tensor:
        resid_post = resid_pre + self.attn_out(resid_pre, qk_positions, tap) + self.mlp_out(resid_pre, tap)
        return _offer(tap, "resid_post", self.layer, resid_post)


class Transformer(nn.Module):
    """A GPT-style decoder. `model(tokens)` gives logits; `tap` sees or edits what happens on the way.

    Args of the constructor:
        config: shape of the model.
        seed: draws the initial weights; the same seed gives the same weights. None leaves them to be loaded.
    """

    W_E: Float[nn.Parameter, "d_vocab d_model"]
    W_pos: Float[Tensor, "n_ctx d_model"] | None  # a buffer if it is fixed; none if positions are rotary
    W_U: Float[nn.Parameter, "d_model d_vocab"]
    b_U: Float[nn.Parameter, " d_vocab"] | None

    def __init__(self, config: ModelConfig, seed: int | None = 0):
        super().__init__()
        self.config, self.seed = config, seed
        self.W_E = nn.Parameter(torch.empty(config.d_vocab, config.d_model))
        positions = torch.empty(config.n_ctx, config.d_model)
        if config.positions == "rotary":
            self.W_pos = None
        elif config.learned_positions:
            self.W_pos = nn.Parameter(positions)
        else:
            self.register_buffer("W_pos", positions)
        kind = ParallelBlock if config.parallel_residual else MLPBlock if config.d_mlp else Block
        self.blocks = nn.ModuleList(kind(config, layer) for layer in range(config.n_layers))
        self.final_norm = _norm(config)
        self.W_U = nn.Parameter(torch.empty(config.d_model, config.d_vocab))
        self.b_U = _bias(config.unembed_bias, config.d_vocab)
        if seed is not None:
            initialise(self, seed)

    def forward(self, tokens: Int[Tensor, "b p"], tap: Tap | None = None) -> Float[Tensor, "b p v"]:
        """Next-token logits.

        Args:
            tokens: token ids, [batch, pos], each below `d_vocab`; at most `n_ctx` positions.
            tap: called as `tap(name, layer, value)` for every activation; what it returns is used instead.
                Without one, the pass keeps nothing and uses fused attention.

        Raises:
            ValueError: tokens of a wrong shape or type, out of the vocabulary, or longer than the context.
        """
        return self.unembed(self.residual(tokens, tap))

    def residual(self, tokens: Int[Tensor, "b p"], tap: Tap | None = None) -> Float[Tensor, "b p d"]:
        """The residual stream after the last layer: `forward` without the unembedding. Same arguments and errors."""
        resid, qk_positions = self.embed(tokens)
        resid = _offer(tap, "resid_pre", 0, resid)
        for block in self.blocks:
            resid = block(resid, qk_positions, tap)
        return resid

    def embed(self, tokens: Int[Tensor, "b p"]) -> tuple[Float[Tensor, "b p d"], Float[Tensor, "p d"] | None]:
        """The residual stream before the first layer, and what each layer adds to the input of queries and keys.

        Raises:
            ValueError: as in `forward`.
        """
        check_tokens(tokens, self.config)
        resid = F.embedding(tokens, self.W_E)
        if self.config.positions == "rotary":
            return resid, None
        positions = self.W_pos[: tokens.shape[1]]
        return (resid, positions) if self.config.positions == "qk" else (resid + positions, None)

    def unembed(self, resid: Float[Tensor, "*b d"]) -> Float[Tensor, "*b v"]:
        """The logits that a residual stream stands for: final norm, `W_U`, and `b_U` where the model has one."""
        return _plus(self.final_norm(resid) @ self.W_U, self.b_U)


def _norm(config: ModelConfig) -> nn.Module:
    return nn.LayerNorm(config.d_model, eps=config.norm_eps) if config.layer_norm else nn.Identity()


def _bias(wanted: bool, *shape: int) -> nn.Parameter | None:
    return nn.Parameter(torch.zeros(shape)) if wanted else None


def _heads(
    x: Float[Tensor, "b p d"], W: Float[Tensor, "h d e"], b: Float[Tensor, "h e"] | None
) -> Float[Tensor, "b h p e"]:
    """`x W`, and its bias where there is one, for every head."""
    y = einsum(x, W, "b p d, h d e -> b h p e")
    return y if b is None else y + b[:, None]


def _plus(x: Tensor, b: Tensor | None) -> Tensor:
    return x if b is None else x + b


def _offer(tap: Tap | None, name: str, layer: int, value: Tensor) -> Tensor:
    return value if tap is None else tap(name, layer, value)


def _wants(tap: Tap | None, *names: str) -> bool:
    """Whether the tap is to be shown one of these costly activations."""
    return tap is not None and not getattr(tap, "names", {*names}).isdisjoint(names)


@torch.no_grad()
def initialise(model: Transformer, seed: int) -> None:
    """Draw the initial weights from `seed`: embeddings and positions of std 1, maps uniform in +-1/sqrt(fan-in).

    The large embeddings matter: with the usual std of 0.02 the induction circuit forms several times later.
    """
    generator = torch.Generator().manual_seed(seed)
    model.W_E.normal_(0, 1, generator=generator)
    if isinstance(model.W_pos, nn.Parameter):
        model.W_pos.normal_(0, 1, generator=generator)
    elif model.W_pos is not None:
        model.W_pos.copy_(sinusoidal_positions(*model.W_pos.shape))
    for name, weight in model.named_parameters():
        if name in ("W_E", "W_pos") or "W_" not in name:  # biases stay 0, norms the identity
            continue
        bound = model.config.d_model**-0.5 if not name.endswith("W_out") else model.config.d_mlp**-0.5
        weight.uniform_(-bound, bound, generator=generator)


@torch.no_grad()
def keep(model: Transformer, tokens: Int[Tensor, "b p"], names: str | Iterable[str]) -> dict[tuple[str, int], Tensor]:
    """Run the model and keep the named activations of every layer, as `{(name, layer): value}`.

    Names, one or several: `resid_pre q k v attn_scores pattern z result resid_post`, with an MLP `mlp_out` and, unless
    the residual is parallel, `resid_mid`; `resid_pre` stands for layer 0 only. `q` and `k` are as they meet: rotated
    and smeared.
    The unembedding is not computed.

    Raises:
        ValueError: a name that the model does not produce; tokens as in `Transformer.forward`.
    """
    seen, kept = {"attn_scores", "pattern", "result"}, {}

    def tap(name: str, layer: int, value: Tensor) -> Tensor:
        seen.add(name)
        if name in tap.names:
            kept[name, layer] = value
        return value

    tap.names = {names} if isinstance(names, str) else set(names)
    model.residual(tokens, tap)
    if tap.names - seen:
        raise ValueError(f"no activation named {sorted(tap.names - seen)}; this model has {sorted(seen)}")
    return kept


def patterns(model: Transformer, tokens: Int[Tensor, "b p"]) -> Float[Tensor, "layer b h q k"]:
    """Every head's attention pattern, [layer, batch, head, query_pos, key_pos]; each row sums to 1."""
    kept = keep(model, tokens, ["pattern"])
    return torch.stack([kept["pattern", layer] for layer in range(model.config.n_layers)])
