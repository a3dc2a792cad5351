"""Models as configuration and parameters, rebuilt as the course's own class where they fit it."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

import torch
from torch import Tensor, nn

from course_lib.grading.values import OpaqueModule
from course_lib.model import ModelConfig, Transformer

MAX_SIZE, MAX_LAYERS = 2**31, 64
MAX_TABLE = 2**22  # numbers in the table of rotary positions, which is computed and does not travel
LEAST_PARTS = 4  # parameters of a layer
_TYPES = {field.name: type(field.default) for field in fields(ModelConfig)}


def config_of(model: nn.Module) -> dict[str, Any] | None:
    """The configuration as plain values, if it is one of ours."""
    config = getattr(model, "config", None)
    return asdict(config) if type(config) is ModelConfig else None


def make_config(values: Any) -> ModelConfig | None:
    """The configuration that these values stand for; None if they stand for none."""
    if type(values) is not dict or not all(_TYPES.get(name) is type(value) for name, value in values.items()):
        return None
    if any(type(value) is int and value > MAX_SIZE for value in values.values()):
        return None
    try:
        return ModelConfig(**values)
    except (ValueError, OverflowError):
        return None


def make_module(text: str, config: ModelConfig | None, state: dict[str, Tensor], fixed: set[str]) -> nn.Module:
    """A `Transformer` where configuration, names and shapes are those of one, else an `OpaqueModule`.

    Args:
        text: what to say of it, for an `OpaqueModule`.
        config: None if it has none.
        state: its parameters and buffers.
        fixed: names of the parameters that need no gradient.
    """
    if config is None or not _fits(config, state):
        return OpaqueModule(text, config, state)
    model = Transformer(config, seed=None)
    try:
        model.load_state_dict(state, assign=True)
    except RuntimeError:  # a parameter of whole numbers
        return OpaqueModule(text, config, state)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in fixed)
    return model


def _fits(config: ModelConfig, state: dict[str, Tensor]) -> bool:
    """True when a model of this configuration has just these parameters; nothing large is made to find out."""
    rotary = config.positions == "rotary"
    if config.n_layers > MAX_LAYERS:
        return False
    if config.n_layers * LEAST_PARTS > len(state) or (rotary and config.n_ctx * config.d_head > MAX_TABLE):
        return False
    try:
        with torch.device("meta"):
            wanted = Transformer(config, seed=None).state_dict()
    except (RuntimeError, OverflowError, MemoryError):
        return False
    return {name: value.shape for name, value in wanted.items()} == {name: value.shape for name, value in state.items()}
