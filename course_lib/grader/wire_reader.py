"""Turns the header and the raw bytes of a message into values, or refuses them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from course_lib.adapters import CourseModel, DrawnPatterns
from course_lib.grader import wire_models, wire_numbers
from course_lib.grader.wire_limits import KEYS, MAX_DIGITS, Limits, WireError, plain_text
from course_lib.grading.values import Opaque, is_dense


class Reader:
    """Reads values, and takes the raw bytes of tensors in the order in which they come."""

    def __init__(self, raw: memoryview, limits: Limits) -> None:
        self._raw, self._limits = raw, limits
        self._items_left = limits.max_items

    @property
    def left(self) -> int:
        """Bytes that nothing has taken."""
        return len(self._raw)

    def value(self, node: Any, depth: int) -> Any:
        """The value of one list of the header."""
        self._items_left -= 1
        if self._items_left < 0 or depth > self._limits.max_depth:
            raise WireError("too many values, or too deep in each other")
        if type(node) is not list or not node or type(node[0]) is not str or node[0] not in self._READERS:
            raise WireError("an unknown kind of value")
        return self._READERS[node[0]](self, depth, *node[1:])

    def _bool(self, _depth: int, value: Any) -> bool:
        return _is(bool, value)

    def _integer(self, _depth: int, digits: Any) -> int:
        if len(_is(str, digits)) > MAX_DIGITS + 1:
            raise WireError("too large a number")
        return int(digits, 16)

    def _float(self, _depth: int, digits: Any) -> float:
        if len(_is(str, digits)) > 40:
            raise WireError("too long a number")
        return float.fromhex(digits)

    def _text(self, _depth: int, text: Any) -> str:
        return plain_text(_is(str, text), self._limits)

    def _opaque(self, _depth: int, text: Any) -> Opaque:
        return Opaque(plain_text(_is(str, text), self._limits))

    def _list(self, depth: int, parts: Any) -> list[Any]:
        return [self.value(part, depth + 1) for part in _is(list, parts)]

    def _tuple(self, depth: int, parts: Any) -> tuple[Any, ...]:
        return tuple(self._list(depth, parts))

    def _dict(self, depth: int, pairs: Any) -> dict[Any, Any]:
        values = [(self.value(key, depth + 1), self.value(part, depth + 1)) for key, part in _is(list, pairs)]
        if not all(type(key) in KEYS for key, _ in values):
            raise WireError("a key must be a text or a number")
        return dict(values)

    def _take(self, n_bytes: int) -> bytes:
        if n_bytes > len(self._raw):
            raise WireError("fewer bytes than the header speaks of")
        taken, self._raw = bytes(self._raw[:n_bytes]), self._raw[n_bytes:]
        return taken

    def _tensor(self, _depth: int, name: Any, shape: Any, order: Any, grad: Any) -> Tensor:
        shape = wire_numbers.checked_shape(shape)
        order = wire_numbers.checked_order(order, len(shape))
        made = wire_numbers.make_tensor(name, shape, order, self._take(wire_numbers.n_bytes(name, shape)))
        return made.requires_grad_(_is(bool, grad))

    def _unstored(self, _depth: int, name: Any, shape: Any, where: Any) -> Tensor:
        shape = wire_numbers.checked_shape(shape)
        wire_numbers.n_bytes(name, shape)
        dtype = wire_numbers.DTYPES[name]
        if where == "meta":
            return torch.empty(shape, dtype=dtype, device="meta")
        places = torch.empty(len(shape), 0, dtype=torch.int64, device="cpu")
        return torch.sparse_coo_tensor(places, torch.empty(0, dtype=dtype), shape, check_invariants=True)

    def _array(self, _depth: int, name: Any, shape: Any, scalar: Any) -> Any:
        shape = wire_numbers.checked_shape(shape)
        if _is(str, name) not in wire_numbers.ARRAY_DTYPES or (_is(bool, scalar) and shape):
            raise WireError("an unknown kind of array")
        n_bytes = int(np.dtype(name).itemsize) * int(np.prod(shape, dtype=object))
        made = wire_numbers.make_array(name, shape, self._take(n_bytes))
        return made[()] if scalar else made

    def _module(self, depth: int, text: Any, training: Any, *parts: Any) -> nn.Module:
        config, state, fixed = (self.value(part, depth + 1) for part in parts)
        if type(state) is not dict or type(fixed) is not list:
            raise WireError("a model must have parameters by name")
        if not all(type(name) is str and is_dense(part) for name, part in state.items()):
            raise WireError("parameters must be tensors")
        known = {name for name in fixed if type(name) is str}
        text = plain_text(_is(str, text), self._limits)
        return wire_models.make_module(text, wire_models.make_config(config), state, known).train(_is(bool, training))

    def _adapter(self, depth: int, model: Any) -> CourseModel:
        return CourseModel(self.value(model, depth + 1))

    def _patterns(self, depth: int, *parts: Any) -> DrawnPatterns:
        by_token, by_position = (self.value(part, depth + 1) for part in parts)
        if not (is_dense(by_token) and is_dense(by_position)):
            raise WireError("scores must be tensors")
        return DrawnPatterns(by_token, by_position)

    _READERS: dict[str, Callable[..., Any]] = {  # noqa: RUF012 - never changed
        "none": lambda reader, depth: None,
        "bool": _bool,
        "int": _integer,
        "float": _float,
        "str": _text,
        "opaque": _opaque,
        "list": _list,
        "tuple": _tuple,
        "dict": _dict,
        "tensor": _tensor,
        "unstored": _unstored,
        "array": _array,
        "module": _module,
        "adapter": _adapter,
        "patterns": _patterns,
    }


def _is(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise WireError(f"a field must be a {kind.__name__}")
    return value
