"""The fixed position vectors: what the recipe of chapter 6 rests on."""

import math

import pytest
import torch

from course_lib.positions import FASTEST, STD, sinusoidal_positions


@pytest.mark.parametrize("n_ctx", [81, 256, 512])
def test_each_plane_turns_at_its_own_rate_from_the_fastest_to_one_turn_a_context(n_ctx):
    table = sinusoidal_positions(n_ctx, 64).double() / STD
    sines, cosines = table.split(32, dim=1)
    torch.testing.assert_close(sines**2 + cosines**2, torch.full_like(sines, 2.0), atol=1e-5, rtol=0)
    turned = torch.atan2(sines[1], cosines[1])  # radians from position 0 to position 1
    assert turned[0] == pytest.approx(FASTEST, abs=1e-5) and turned[-1] == pytest.approx(2 * math.pi / n_ctx, abs=1e-5)
    ratios = turned[1:] / turned[:-1]
    torch.testing.assert_close(ratios, ratios.mean().expand_as(ratios), atol=1e-4, rtol=0)


def test_a_neighbour_is_far_away():
    table = sinusoidal_positions(512, 128)
    unit = table / table.norm(dim=1, keepdim=True)
    assert unit[100] @ unit[99] < 0.75  # with wavelengths from 2 pi on it is 0.94
    assert table.std().item() == pytest.approx(2.0, rel=0.05)


@pytest.mark.parametrize("n_ctx", [1, 2, 3])
def test_tiny_contexts_work(n_ctx):
    assert sinusoidal_positions(n_ctx, 2).isfinite().all()


@pytest.mark.parametrize(
    "n_ctx, d_model, message",
    [(0, 4, "n_ctx must be at least 1"), (4, 0, "d_model must be at least 1"), (4, 5, "even d_model, got 5")],
)
def test_a_shape_that_no_table_can_have_is_refused(n_ctx, d_model, message):
    with pytest.raises(ValueError, match=message):
        sinusoidal_positions(n_ctx, d_model)
