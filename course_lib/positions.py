"""How a model knows where a token stands: fixed sinusoids, rotary queries and keys, smeared keys."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from course_lib.config import check_counts

STD = 2.0  # of the entries, twice that of the token embeddings
FASTEST = 3.0  # radians a position, of the shortest wavelength; at pi its sines would vanish


def sinusoidal_positions(n_ctx: int, d_model: int) -> Float[Tensor, "p d"]:
    """Fixed position vectors: sines and cosines, as in Vaswani et al. 2017, 3.5, but fitted to what a head must tell.

    The wavelengths are spaced geometrically from about 2 to `n_ctx` positions. Neighbours are far apart in the shortest
    ones, so that a head can soon attend to one of them alone; longer ones than the context would tell nothing apart.
    Entries have standard deviation 2, twice that of the token embeddings.
    Wavelengths from 2 pi on, as in the source, delayed the previous-token head in trials on real text; so did a
    standard deviation of 1.

    Raises:
        ValueError: `n_ctx` below 1, a `d_model` that is not even and above 0.
    """
    check_counts(n_ctx=n_ctx, d_model=d_model)
    if d_model % 2:
        raise ValueError(f"sinusoidal positions need an even d_model, got {d_model}")
    slowest = min(2 * math.pi / n_ctx, FASTEST)
    rates = torch.logspace(math.log(FASTEST), math.log(slowest), d_model // 2, base=math.e, dtype=torch.float64)
    angles = torch.arange(n_ctx, dtype=torch.float64)[:, None] * rates  # p, d/2
    return (STD * math.sqrt(2) * torch.cat([angles.sin(), angles.cos()], dim=1)).float()


class Rotary(nn.Module):
    """Turns each query or key by angles that grow with its position, so that scores see only distances.

    The angles at position i are `i * base ** (-2 n / rotary_dim)`, n = 0 .. rotary_dim/2 - 1. They are computed in
    float32, as for the published models: in a context of 2048 that differs from exact angles by up to 1e-4.
    The table is no weight and is not saved. Source: Su et al. 2021, 3.2.

    Args of the constructor:
        n_ctx: number of positions.
        rotary_dim: dimensions of each query and key that turn: the first ones; an even number, at most d_head.
        base: of the wavelengths, 2 pi to about 2 pi base positions.
    """

    def __init__(self, n_ctx: int, rotary_dim: int, base: float | int = 10_000.0):
        super().__init__()
        rates = 1.0 / base ** (torch.arange(0, rotary_dim, 2).float() / rotary_dim)
        angles = torch.arange(n_ctx).float()[:, None] * rates  # p, rotary_dim/2
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, x: Float[Tensor, "b h p e"]) -> Float[Tensor, "b h p e"]:
        return rotate(x, self.cos[: x.shape[2]], self.sin[: x.shape[2]])


def rotate(
    x: Float[Tensor, "*b p e"], cos: Float[Tensor, "p half"], sin: Float[Tensor, "p half"]
) -> Float[Tensor, "*b p e"]:
    """Turn the plane of dimensions (n, half + n) by the angle in column n, for every n; leave the rest as it is.

    Pairing the first half with the second is the convention of GPT-NeoX; Su et al. 2021 pair neighbours.
    """
    half = cos.shape[1]
    first, second, still = x.split([half, half, x.shape[-1] - 2 * half], dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin, still], dim=-1)


def smear(k: Float[Tensor, "b h p e"], alpha: Float[Tensor, " h"]) -> Float[Tensor, "b h p e"]:
    """Mix each key with the key before it: `sigmoid(alpha) k_j + (1 - sigmoid(alpha)) k_{j-1}`.

    The first key has no predecessor and stays as it is. Source: Olsson et al. 2022, argument 2.
    """
    own = alpha.sigmoid()[:, None, None]
    smeared = own * k[:, :, 1:] + (1 - own) * k[:, :, :-1]
    return torch.cat([k[:, :, :1], smeared], dim=2)
