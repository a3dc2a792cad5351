"""Turns values into the header and the raw bytes of a message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from course_lib.adapters import CourseModel, DrawnPatterns
from course_lib.grader import wire_models, wire_numbers
from course_lib.grader.wire_limits import KEYS, MAX_DIGITS, MAX_HEADER, Limits, plain_text
from course_lib.grading.values import describe, is_dense, is_tensor


class _TooMuch(Exception):
    """A container holds more values, or deeper ones, than a message may."""


class Writer:
    """Collects the raw bytes of tensors while the header is made."""

    def __init__(self, limits: Limits) -> None:
        self.chunks: list[bytes] = []
        self._limits = limits
        self._items_left, self._bytes_left = limits.max_items, limits.max_bytes - MAX_HEADER

    def node(self, value: Any, depth: int) -> list[Any]:
        """The header's list for a value."""
        before = len(self.chunks), self._items_left, self._bytes_left
        try:
            return self._node(value, depth)
        except _TooMuch:
            if depth > 1:  # a value of the outermost dictionary is left out as a whole
                raise
            n_chunks, self._items_left, self._bytes_left = before
            del self.chunks[n_chunks:]
            self._items_left -= 1
            return self._opaque(value)

    def _node(self, value: Any, depth: int) -> list[Any]:
        self._items_left -= 1
        if self._items_left < 0 or depth > self._limits.max_depth:
            raise _TooMuch
        write = self._WRITERS.get(type(value)) or (Writer._module if _is_module(value) else None)
        node = write(self, value, depth) if write else None
        return self._opaque(value) if node is None else node

    def _opaque(self, value: Any) -> list[Any]:
        return ["opaque", _described(value)[: self._limits.max_text]]

    def _integer(self, value: int, _depth: int) -> list[Any] | None:
        return ["int", f"{value:x}"] if value.bit_length() <= 4 * (MAX_DIGITS - 1) else None

    def _text(self, value: str, _depth: int) -> list[Any]:
        return ["str", plain_text(value, self._limits)]

    def _several(self, value: tuple | list, depth: int) -> list[Any] | None:
        if len(value) > self._items_left:
            raise _TooMuch
        return [type(value).__name__, [self.node(part, depth + 1) for part in value]]

    def _dict(self, value: dict, depth: int) -> list[Any] | None:
        if 2 * len(value) > self._items_left:
            raise _TooMuch
        keys = [self.node(key, depth + 1) if type(key) in KEYS else ["opaque"] for key in value]
        if any(key[0] == "opaque" for key in keys):
            return None
        return ["dict", [[key, self.node(part, depth + 1)] for key, part in zip(keys, value.values(), strict=True)]]

    def _tensor(self, value: Tensor, _depth: int) -> list[Any] | None:
        name, shape = wire_numbers.NAMES.get(value.dtype), list(value.shape)
        if name is None or len(shape) > wire_numbers.MAX_AXES:
            return None
        if value.device.type == "meta" or value.layout == torch.sparse_coo:
            return ["unstored", name, shape, "meta" if value.device.type == "meta" else "sparse"]
        if not is_dense(value) or value.device.type != "cpu" or not self._room(value.numel() * value.itemsize):
            return None
        self.chunks.append(wire_numbers.tensor_bytes(value))
        return ["tensor", name, shape, wire_numbers.order_of(value), value.requires_grad]

    def _array(self, value: np.ndarray | np.generic, _depth: int) -> list[Any] | None:
        name = value.dtype.name
        if name not in wire_numbers.ARRAY_DTYPES or not self._room(value.nbytes):
            return None
        self.chunks.append(value.astype(value.dtype.newbyteorder("=")).tobytes())
        return ["array", name, list(value.shape), isinstance(value, np.generic)]

    def _room(self, n_bytes: int) -> bool:
        if n_bytes > self._bytes_left:
            return False
        self._bytes_left -= n_bytes
        return True

    def _module(self, value: nn.Module, depth: int) -> list[Any] | None:
        state = value.state_dict()
        if not all(type(name) is str and is_tensor(part) for name, part in state.items()):
            return None
        fixed = [name for name, parameter in value.named_parameters() if not parameter.requires_grad]
        parts = [self.node(part, depth + 1) for part in (wire_models.config_of(value), dict(state), fixed)]
        return ["module", _described(value), bool(value.training), *parts]

    def _adapter(self, value: CourseModel, depth: int) -> list[Any]:
        return ["adapter", self.node(value.model, depth + 1)]

    def _patterns(self, value: DrawnPatterns, depth: int) -> list[Any]:
        return ["patterns", self.node(value.by_token, depth + 1), self.node(value.by_position, depth + 1)]

    _WRITERS: dict[type, Callable[..., list[Any] | None]] = {  # noqa: RUF012 - never changed
        type(None): lambda writer, value, depth: ["none"],
        bool: lambda writer, value, depth: ["bool", value],
        int: _integer,
        float: lambda writer, value, depth: ["float", value.hex()],
        str: _text,
        tuple: _several,
        list: _several,
        dict: _dict,
        Tensor: _tensor,
        nn.Parameter: _tensor,
        np.ndarray: _array,
        **dict.fromkeys((np.dtype(name).type for name in wire_numbers.ARRAY_DTYPES), _array),
        CourseModel: _adapter,
        DrawnPatterns: _patterns,
    }


def _is_module(value: Any) -> bool:
    try:
        return issubclass(type(value), nn.Module)
    except Exception:
        return False


def _described(value: Any) -> str:
    """What `describe` says, of an object that may do anything when it is asked."""
    try:
        return plain_text(describe(value))
    except Exception:
        return "an object that cannot be described"
