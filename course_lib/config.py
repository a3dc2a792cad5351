"""The shape of a model, and the checks of what is given to one."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass, fields
from numbers import Real

import torch
from torch import Tensor

POSITIONS = ("qk", "residual", "rotary")
GELUS = ("exact", "tanh")
COUNTS = ("n_layers", "n_heads", "d_model", "d_head", "d_vocab", "n_ctx")
INTEGERS = (torch.int64, torch.int32)  # what tokens and positions are given in: PyTorch looks up no others

Head = tuple[int, int]  # (layer, head), both from 0

# Younger than the first recorded runs: `to_dict` leaves them out at their defaults, so that old checkpoints match.
LATER_FIELDS = (
    "parallel_residual",
    "gelu",
    "attn_biases",
    "unembed_bias",
    "norm_eps",
    "rotary_share",
    "rotary_base",
)


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a model. A plain `ModelConfig()` is the course's two-layer attention-only transformer."""

    n_layers: int = 2
    n_heads: int = 4
    d_model: int = 128
    d_head: int = 32
    d_vocab: int = 1024
    n_ctx: int = 256
    d_mlp: int = 0  # 0: attention-only
    positions: str = "qk"  # "qk": added to the inputs of queries and keys only, so that values carry no position
    learned_positions: bool = True  # False: fixed sinusoids, which train faster at long contexts
    layer_norm: bool = False  # off by default: at this size it delays the induction circuit (chapter 6)
    smeared_keys: bool = False  # every key also sees the key before it (chapter 7)
    # What published models need: GPT-2, GPT-NeoX and Pythia (`course_lib.pretrained`).
    parallel_residual: bool = False  # attention and MLP of a layer read the same residual stream (GPT-NeoX)
    gelu: str = "exact"  # "tanh": the approximation of GPT-2
    attn_biases: bool = False  # b_Q b_K b_V b_O
    unembed_bias: bool = False  # b_U
    norm_eps: float = 1e-5  # added to the variance in every LayerNorm
    rotary_share: float = 1.0  # of the d_head dimensions of each query and key, those that turn with the position
    rotary_base: float = 10_000.0  # the slowest pair turns by about 1/rotary_base radians a position

    def __post_init__(self) -> None:
        check_counts(**{name: getattr(self, name) for name in COUNTS})
        check_counts(0, d_mlp=self.d_mlp)
        for name, allowed in (("positions", POSITIONS), ("gelu", GELUS)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {allowed}, got {getattr(self, name)!r}")
        if self.parallel_residual and not self.d_mlp:
            raise ValueError("parallel_residual needs an MLP, got d_mlp 0")
        check_positive(norm_eps=self.norm_eps)
        if self.positions == "rotary":
            self._check_rotary()
        elif not self.learned_positions and self.d_model % 2:
            raise ValueError(f"sinusoidal positions need an even d_model, got {self.d_model}")

    def _check_rotary(self) -> None:
        if not self.learned_positions:
            raise ValueError(
                "rotary positions are no vectors that sinusoids could replace: leave learned_positions True"
            )
        check_positive(rotary_share=self.rotary_share, rotary_base=self.rotary_base)
        if self.rotary_share > 1 or self.rotary_dim < 2 or self.rotary_dim % 2:
            raise ValueError(
                "rotary_share must lie in 0..1 and turn an even number of dimensions, at least 2, "
                f"got {self.rotary_share} of d_head {self.d_head}, which is {self.rotary_dim}"
            )

    @property
    def rotary_dim(self) -> int:
        """How many dimensions of each query and key turn with the position, if positions are rotary."""
        return int(self.d_head * self.rotary_share)

    def to_dict(self) -> dict[str, int | float | str | bool]:
        """The configuration as plain values, for a checkpoint or a report; `ModelConfig(**values)` is its inverse."""
        values = {field.name: (getattr(self, field.name), field.default) for field in fields(self)}
        return {
            name: value for name, (value, default) in values.items() if name not in LATER_FIELDS or value != default
        }


def check_whole(name: str, value: object) -> None:
    """Raise a `ValueError` unless `value` is a whole number, of Python, numpy or PyTorch."""
    try:
        operator.index(value)
    except TypeError:
        raise ValueError(f"{name} must be a whole number, got {value!r}") from None


def check_counts(least: int = 1, **counts: object) -> None:
    """Raise a `ValueError` that names the first of `counts` that is no whole number of at least `least`."""
    for name, value in counts.items():
        check_whole(name, value)
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")


def check_positive(**values: object) -> None:
    """Raise a `ValueError` that names the first of `values` that is no finite number above 0."""
    for name, value in values.items():
        if not isinstance(value, Real) or not 0 < value < math.inf:
            raise ValueError(f"{name} must be above 0 and finite, got {value!r}")


def check_integers(name: str, values: Tensor, size: int) -> None:
    """Raise a `ValueError` unless `values` are int64 or int32, all of them in 0..size - 1."""
    if values.dtype not in INTEGERS:
        raise ValueError(f"{name} must be int64 or int32 integers, got {values.dtype}")
    if values.numel() == 0 or (values.is_cuda and torch.cuda.is_current_stream_capturing()):
        return  # while a CUDA graph is recorded there are no values to look at
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= size:
        raise ValueError(f"{name} must lie in 0..{size - 1}, got values from {low} to {high}")


def check_shape(tokens: Tensor, positions: int) -> None:
    """Raise a `ValueError` unless `tokens` are [batch, pos], with a sequence and at least so many positions."""
    if tokens.ndim != 2 or len(tokens) == 0 or tokens.shape[1] < positions:
        wanted = f"[batch, pos] with at least 1 sequence and {positions} position{'s' * (positions > 1)}"
        raise ValueError(f"tokens must have shape {wanted}, got {list(tokens.shape)}")


def check_tokens(tokens: Tensor, config: ModelConfig) -> None:
    """Raise a `ValueError` that names what is wrong with `tokens` for a model of this configuration."""
    if not isinstance(tokens, Tensor) or tokens.ndim != 2 or tokens.numel() == 0:
        got = list(tokens.shape) if isinstance(tokens, Tensor) else type(tokens).__name__
        raise ValueError(f"tokens must be a tensor of shape [batch, pos] and not be empty, got {got}")
    if tokens.shape[1] > config.n_ctx:
        raise ValueError(f"tokens has {tokens.shape[1]} positions, the model's context n_ctx is {config.n_ctx}")
    check_integers("tokens", tokens, config.d_vocab)


def check_head(config: ModelConfig, layer: int, head: int) -> None:
    """Raise a `ValueError` unless the model has this head; layers and heads count from 0."""
    check_whole("layer", layer)
    check_whole("head", head)
    if not 0 <= layer < config.n_layers or not 0 <= head < config.n_heads:
        raise ValueError(
            f"head {layer}.{head} does not exist: layers 0..{config.n_layers - 1}, heads 0..{config.n_heads - 1}"
        )
