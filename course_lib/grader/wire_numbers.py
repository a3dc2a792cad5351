"""Tensors and numpy arrays as a few plain fields and raw bytes, checked against each other when they are read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from course_lib.grader.wire_limits import WireError

DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128),
        *(torch.int8, torch.int16, torch.int32, torch.int64, torch.bool),
        *(torch.uint8, torch.uint16, torch.uint32, torch.uint64),
    )
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
ARRAY_DTYPES = (
    *("float16", "float32", "float64", "complex64", "complex128", "bool"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
)
MAX_AXES = 32
MAX_NUMBERS = 2**48  # of a shape with no bytes behind it, such as that of an empty tensor


def order_of(value: Tensor) -> list[int]:
    """Axes from the longest stride to the shortest; empty for the usual order."""
    order = sorted(range(value.ndim), key=lambda axis: -value.stride(axis))
    return [] if order == list(range(value.ndim)) else order


def tensor_bytes(value: Tensor) -> bytes:
    """The numbers of a dense CPU tensor in the order of its strides."""
    value = value.detach().resolve_conj().resolve_neg()
    order = order_of(value)
    flat = (value.permute(order) if order else value).contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def checked_shape(shape: Any) -> list[int]:
    """A shape that can exist.

    Raises:
        WireError: anything else.
    """
    sizes = shape if type(shape) is list and len(shape) <= MAX_AXES else [None]
    if not all(type(size) is int and 0 <= size <= MAX_NUMBERS for size in sizes):
        raise WireError("a shape must be a short list of sizes")
    if math.prod(max(size, 1) for size in sizes) > MAX_NUMBERS:
        raise WireError("a shape is too large")
    return sizes


def checked_order(order: Any, n_axes: int) -> list[int]:
    """An order of all axes, or the empty list.

    Raises:
        WireError: anything else.
    """
    if type(order) is not list or not all(type(axis) is int for axis in order):
        raise WireError("an order must be a list of axes")
    if order and sorted(order) != list(range(n_axes)):
        raise WireError("an order must name every axis once")
    return order


def n_bytes(name: Any, shape: Sequence[int]) -> int:
    """How many bytes the numbers of a tensor take.

    Raises:
        WireError: a dtype that is not in `DTYPES`.
    """
    if type(name) is not str or name not in DTYPES:
        raise WireError("an unknown dtype")
    return math.prod(shape) * DTYPES[name].itemsize


def make_tensor(name: str, shape: Sequence[int], order: Sequence[int], raw: bytes) -> Tensor:
    """The tensor; the arguments were checked before."""
    dtype = DTYPES[name]
    if not raw:
        return torch.empty(shape, dtype=dtype, device="cpu")
    if dtype is torch.bool:
        flat = torch.frombuffer(bytearray(raw), dtype=torch.uint8) != 0  # a bool of any other byte is no bool
    else:
        flat = torch.frombuffer(bytearray(raw), dtype=dtype)
    if not order:
        return flat.reshape(shape)
    back = [order.index(axis) for axis in range(len(shape))]
    return flat.reshape([shape[axis] for axis in order]).permute(back)


def make_array(name: str, shape: Sequence[int], raw: bytes) -> np.ndarray:
    """The array; the arguments were checked before."""
    if name == "bool":
        return (np.frombuffer(raw, dtype=np.uint8) != 0).reshape(shape)
    return np.frombuffer(bytearray(raw), dtype=name).reshape(shape)
