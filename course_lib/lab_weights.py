"""Weights for the Induction Lab: 8-bit codes that torch and the browser read alike, and the block of bytes it loads."""

from __future__ import annotations

from jaxtyping import Float, Int8
from torch import Tensor, int8

LEVELS = 127  # codes lie in -127..127

Codes = dict[str, Tensor]  # "codes" and "scales" of one weight


def quantised(weights: dict[str, Tensor]) -> dict[str, Codes]:
    """Every weight as 8-bit codes with one scale a column: `weight = codes * scales`, to about a hundredth.

    Scales are rounded to float16, as they are stored, before the codes are taken.

    Args:
        weights: a `state_dict`, each tensor with at least two axes.

    Returns:
        For each name `codes` (int8, same shape) and `scales` (float32, 1 along the second axis from the end).

    Raises:
        ValueError: a weight with fewer than two axes, such as a bias, for which a column has no scale; NaN, infinity.
    """
    return {name: _codes(name, weight.float()) for name, weight in weights.items()}


def _codes(name: str, weight: Float[Tensor, "*m"]) -> Codes:
    if weight.ndim < 2:
        raise ValueError(f"only matrices are quantised, {name} has shape {list(weight.shape)}")
    if not weight.isfinite().all():
        raise ValueError(f"{name} must be finite, got NaN or infinity")
    scales = (weight.abs().amax(dim=-2, keepdim=True) / LEVELS).clamp(min=1e-4).half().float()
    codes = (weight / scales).round().clamp(-LEVELS, LEVELS)
    return {"codes": codes.to(int8), "scales": scales}


def dequantised(packed: dict[str, Codes]) -> dict[str, Tensor]:
    """The inverse of `quantised`, up to the rounding: a `state_dict` in float32."""
    return {name: _weight(**part) for name, part in packed.items()}


def _weight(codes: Int8[Tensor, "*m r c"], scales: Float[Tensor, "*m 1 c"]) -> Float[Tensor, "*m r c"]:
    return codes.float() * scales


def block(weights: dict[str, Tensor] | dict[str, Codes]) -> tuple[list[dict], bytes]:
    """One block of bytes with all weights, and where each lies in it.

    Args:
        weights: a `state_dict`, sent in float32, or what `quantised` returned.

    Returns:
        layout: for each weight its `name`, `shape`, the offset `at` of its numbers, and the offset of its `scales`
            (None for float32 numbers). Everything is little-endian; float32 comes before the codes, so it is aligned.
        content: the bytes.
    """
    floats = {name: part["scales"] if isinstance(part, dict) else part for name, part in weights.items()}
    codes = {name: part["codes"] for name, part in weights.items() if isinstance(part, dict)}
    starts, pieces, size = {}, [], 0
    for kind, tensors in (("<f4", floats), ("i1", codes)):
        for name, tensor in tensors.items():
            pieces.append(tensor.detach().cpu().numpy().astype(kind).tobytes())
            starts[name, kind] = size
            size += len(pieces[-1])
    layout = []
    for name, part in weights.items():
        shape = list(codes[name].shape if name in codes else part.shape)
        scales = starts[name, "<f4"] if name in codes else None
        layout.append(
            {"name": name, "shape": shape, "at": starts[name, "i1" if name in codes else "<f4"], "scales": scales}
        )
    return layout, b"".join(pieces)
