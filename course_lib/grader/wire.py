"""Values as bytes, and bytes as values: how inputs reach an untrusted process and results come back from it.

A message is a magic word, the length of a header, the header (JSON), and the raw numbers of all tensors in order.
Each value of the header is a list: its kind, and that kind's own fields. Nothing else is read, nothing is executed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from course_lib.adapters import CourseModel, DrawnPatterns
from course_lib.grader import wire_models, wire_numbers
from course_lib.grader.wire_numbers import WireError
from course_lib.grading.values import Opaque, describe, is_dense, is_tensor

MAGIC = b"IHG1"
MAX_HEADER = 4 << 20
MAX_DIGITS = 4096  # of a whole number, in base 16
_START = len(MAGIC) + 4


@dataclass(frozen=True)
class Limits:
    """What a message may hold.

    Attributes:
        max_bytes: of the whole message.
        max_depth: of containers in containers.
        max_items: values, those in containers included.
        max_text: characters of one text; longer ones are cut.
    """

    max_bytes: int = 64 << 20
    max_depth: int = 8
    max_items: int = 4096
    max_text: int = 500


def plain_text(text: str, limits: Limits = Limits()) -> str:
    """A text without control codes, cut."""
    if len(text) > limits.max_text:
        text = text[: limits.max_text - 3] + "..."
    return "".join(letter for letter in text if letter.isprintable() or letter in "\n\t")


def encode(value: Any) -> bytes:
    """The value as bytes. What is not known here, or larger than `Limits()` allows, becomes an `Opaque`."""
    writer = _Writer(Limits())
    header = json.dumps(writer.node(value, 0), allow_nan=False, separators=(",", ":")).encode()
    return b"".join((MAGIC, len(header).to_bytes(4, "big"), header, *writer.chunks))


def decode(data: bytes, limits: Limits = Limits()) -> Any:
    """The value that the bytes stand for, made of new tensors and of the course's own classes.

    Raises:
        WireError: the bytes are no such value, or one beyond the limits.
    """
    if len(data) > limits.max_bytes or data[: len(MAGIC)] != MAGIC or len(data) < _START:
        raise WireError("not a message, or too long a one")
    end = _START + int.from_bytes(data[len(MAGIC) : _START], "big")
    if end > min(len(data), _START + MAX_HEADER):
        raise WireError("a header that is cut off or too long")
    try:
        node = json.loads(data[_START:end].decode(), parse_constant=_refuse)
        reader = _Reader(memoryview(data)[end:], limits)
        value = reader.value(node, 0)
    except WireError:
        raise
    except (ValueError, TypeError, OverflowError, RecursionError, MemoryError, RuntimeError) as error:
        raise WireError(f"a header that cannot be read: {type(error).__name__}") from error
    if reader.left:
        raise WireError("more bytes than the header speaks of")
    return value


def names_of(data: bytes) -> list[str]:
    """The keys of an encoded dictionary of our own; its values are not read."""
    end = _START + int.from_bytes(data[len(MAGIC) : _START], "big")
    return [key[1] for key, _ in json.loads(data[_START:end])[1]]


def _refuse(name: str) -> None:
    raise WireError(f"{name} is no number of a header")


class _Writer:
    """Collects the raw bytes of tensors while the header is made."""

    def __init__(self, limits: Limits) -> None:
        self.chunks: list[bytes] = []
        self._limits = limits
        self._items_left, self._bytes_left = limits.max_items, limits.max_bytes - MAX_HEADER

    def node(self, value: Any, depth: int) -> list[Any]:
        """The header's list for a value."""
        self._items_left -= 1
        if self._items_left < 0 or depth > self._limits.max_depth:
            return self._opaque(value)
        write = self._WRITERS.get(type(value)) or (_Writer._module if _is_module(value) else None)
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
            return None
        return [type(value).__name__, [self.node(part, depth + 1) for part in value]]

    def _dict(self, value: dict, depth: int) -> list[Any] | None:
        if 2 * len(value) > self._items_left:
            return None
        return ["dict", [[self.node(key, depth + 1), self.node(part, depth + 1)] for key, part in value.items()]]

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


class _Reader:
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
        if not all(type(key) in (str, int, bool, float, type(None)) for key, _ in values):
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
