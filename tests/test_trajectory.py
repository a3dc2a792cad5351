import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.trajectory import (
    fixed_token_losses,
    pca_trajectories,
    phase_change_window,
    speed_order,
    token_positions,
    training_speed,
)

TOKENS = np.arange(41) * 0.25e6


def sigmoid_fall(center, width, drop, tokens=TOKENS):
    return -drop / (1 + np.exp(-(tokens - center) / width))


@pytest.mark.parametrize("center", [3e6, 5e6, 7e6])
@pytest.mark.parametrize("noise", [0.0, 0.005])
def test_the_window_lies_around_a_known_change(center, noise):
    rng = np.random.default_rng(0)
    start, end = phase_change_window(TOKENS, sigmoid_fall(center, 0.3e6, 0.3) + noise * rng.standard_normal(41))
    assert start < center < end
    assert end - start < 3e6


def test_no_change_no_window():
    rng = np.random.default_rng(0)
    assert phase_change_window(TOKENS, 0.01 * rng.standard_normal(41)) is None
    assert phase_change_window(TOKENS, np.zeros(41)) is None
    assert phase_change_window(TOKENS, -sigmoid_fall(5e6, 0.3e6, 0.3)) is None  # a rise is not a phase change


def test_the_window_of_a_straight_fall_is_all_of_it():
    assert phase_change_window(TOKENS, -TOKENS / 1e7, smooth=1) == (0.0, 10e6)


@pytest.mark.parametrize("noise", [0.01, 0.02, 0.03, 0.1])
def test_noise_alone_makes_a_window_in_few_of_many_runs(noise):
    rng = np.random.default_rng(1)
    found = sum(phase_change_window(TOKENS, noise * rng.standard_normal(41)) is not None for _ in range(200))
    assert found <= 14  # 7%; without the check against the run's own noise it is three in four at noise 0.1


@pytest.mark.parametrize(
    "noise, records, smooth, share", [(0.02, 41, 3, 1.0), (0.03, 41, 3, 0.97), (0.03, 101, 9, 0.97)]
)
def test_a_change_is_found_in_noise_of_a_tenth_of_its_size(noise, records, smooth, share):
    rng, tokens = np.random.default_rng(2), np.linspace(0, 10e6, records)
    right = 0
    for _ in range(200):
        center = rng.uniform(3e6, 7e6)
        icl = sigmoid_fall(center, 0.3e6, 0.3, tokens) + noise * rng.standard_normal(records)
        window = phase_change_window(tokens, icl, smooth=smooth)
        right += window is not None and window[0] < center < window[1]
    assert right >= share * 200


def test_a_small_drop_is_found_only_when_asked_for():
    icl = sigmoid_fall(5e6, 0.3e6, 0.04)
    assert phase_change_window(TOKENS, icl) is None
    start, end = phase_change_window(TOKENS, icl, min_drop=0.02)
    assert start < 5e6 < end


def test_the_slope_is_per_token_not_per_record():
    tokens = np.array([0, 1, 2, 3, 4, 5, 6, 16, 17, 18, 19, 20]) * 1e6
    icl = np.array([0, 0, 0, 0, -0.1, -0.2, -0.2, -0.4, -0.4, -0.4, -0.4, -0.4])  # slower from 6M to 16M, though larger
    assert phase_change_window(tokens, icl, smooth=1) == (3e6, 5e6)


def test_share_decides_how_far_the_window_reaches():
    icl = np.array([0, 0, 0, -0.1, -0.5, -0.9, -1.0, -1.0, -1.0, -1.0, -1.0])
    assert phase_change_window(range(11), icl, smooth=1, share=0.5) == (3, 5)
    assert phase_change_window(range(11), icl, smooth=1, share=0.2) == (2, 6)


@pytest.mark.parametrize(
    "tokens, icl, options, message",
    [
        ([1, 2, 3], [0, 0], {"smooth": 1}, "as many tokens as scores"),
        ([1, 2, 3], [0, 0, 0], {"smooth": 3}, "at least 5"),
        ([1], [0], {"smooth": 1}, "at least 3 of each, got \\(1,\\)"),
        ([1, 2, 3], [0, 0, 0], {"smooth": 2}, "odd"),
        ([1, 3, 2], [0, 0, 0], {"smooth": 1}, "rise"),
        ([1, 2, 3], [0, float("nan"), 0], {"smooth": 1}, "NaN"),
        ([1, 2, 3], [0, 0, 0], {"smooth": 1, "share": 0.0}, "share must lie above 0.*got 0.0"),
        ([1, 2, 3], [0, 0, 0], {"smooth": 0}, "smooth must be at least 1, got 0"),
        ([1, 2, 3], [0, 0, 0], {"smooth": 1.5}, "smooth must be a whole number, got 1.5"),
        ([1, 2, 3], [0, 0, 0], {"smooth": 1, "min_drop": float("nan")}, "min_drop must be 0 or more, got nan"),
        ([1, 2, 3], [0, 0, 0], {"smooth": 1, "min_drop": -0.1}, "min_drop must be 0 or more, got -0.1"),
    ],
)
def test_bad_input_of_the_window(tokens, icl, options, message, unchecked):
    with pytest.raises(ValueError, match=message):
        phase_change_window(tokens, icl, **options)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9), st.integers(0, 10**6))
def test_fixed_token_losses_equal_a_loop(snapshots, examples, length, seed):
    generator = torch.Generator().manual_seed(seed)
    losses = torch.rand(snapshots, examples, length, generator=generator)
    positions = token_positions(examples, length, generator)
    assert positions.min() >= 0 and positions.max() < length
    vectors = fixed_token_losses(losses, positions)
    for s in range(snapshots):
        assert vectors[s].tolist() == [losses[s, b, positions[b]].item() for b in range(examples)]
        assert torch.equal(fixed_token_losses(losses[s], positions), vectors[s])


def test_positions_follow_from_the_seed_and_use_the_whole_sequence():
    positions = token_positions(5000, 8, torch.Generator().manual_seed(2))
    assert torch.equal(positions, token_positions(5000, 8, torch.Generator().manual_seed(2)))
    assert (positions.bincount(minlength=8) > 500).all()


def planted(generator, noise=0.0):
    """Three models whose snapshots lie in one plane of a 30-dimensional space, with known coordinates."""
    plane = torch.linalg.qr(torch.randn(30, 2, generator=generator, dtype=torch.float64))[0].T
    t = torch.linspace(0, 1, 12, dtype=torch.float64)
    paths = {"a": torch.stack([9 * t, t**2], 1), "b": torch.stack([7 * t, -(t**2)], 1), "c": torch.stack([t, t], 1)[:5]}
    series = {}
    for model, path in paths.items():
        series[model] = 4 + path @ plane + noise * torch.randn(len(path), 30, generator=generator, dtype=torch.float64)
    return series, paths, plane


def test_pca_finds_a_planted_plane(generator):
    series, paths, plane = planted(generator)
    result = pca_trajectories(series)
    assert result.explained.sum().item() == pytest.approx(1) and result.explained[0] > result.explained[1]
    inside = result.components @ plane.T @ plane
    torch.testing.assert_close(inside, result.components)  # the two components span the plane
    mean = torch.cat(list(paths.values())).mean(0)
    for model, path in paths.items():  # distances in the plane are those of the planted paths
        torch.testing.assert_close(
            torch.cdist(result.coordinates[model], result.coordinates[model]), torch.cdist(path, path)
        )
        norms = result.coordinates[model].norm(dim=1)
        torch.testing.assert_close(norms, (path - mean).norm(dim=1))
        torch.testing.assert_close(result.mean + result.coordinates[model] @ result.components, series[model])


def test_pca_equals_the_eigendecomposition_of_the_covariance(generator):
    series, _, _ = planted(generator, noise=0.2)
    result = pca_trajectories(series, components=4)
    stacked = torch.cat(list(series.values()))
    values, vectors = torch.linalg.eigh(torch.cov(stacked.T))
    values, vectors = values.flip(0), vectors.flip(1).T
    torch.testing.assert_close(result.explained, (values / values.sum())[:4])
    for component, vector in zip(result.components, vectors, strict=False):
        assert abs(component @ vector).item() == pytest.approx(1, abs=1e-9)
        assert component[component.abs().argmax()] > 0
    coordinates = torch.cat(list(result.coordinates.values()))
    torch.testing.assert_close(
        coordinates.T @ coordinates / (len(stacked) - 1), values[:4].diag(), atol=1e-9, rtol=1e-6
    )


def test_pca_equals_scikit_learn(generator):
    decomposition = pytest.importorskip("sklearn.decomposition")
    series, _, _ = planted(generator, noise=0.2)
    result = pca_trajectories(series)
    theirs = decomposition.PCA(2).fit(torch.cat(list(series.values())).numpy())
    np.testing.assert_allclose(result.explained, theirs.explained_variance_ratio_)
    for ours, component in zip(result.components.numpy(), theirs.components_, strict=True):
        sign = np.sign(component[np.abs(component).argmax()])
        np.testing.assert_allclose(ours, sign * component, atol=1e-9)


def test_pca_signs_are_fixed_and_float32_agrees(generator):
    series, _, _ = planted(generator, noise=0.2)
    one, turned = pca_trajectories(series), pca_trajectories({name: 8 - losses for name, losses in series.items()})
    torch.testing.assert_close(one.components, turned.components)  # mirrored data, same components
    torch.testing.assert_close(one.coordinates["a"], -turned.coordinates["a"])
    narrow = pca_trajectories({name: losses.float() for name, losses in series.items()})
    torch.testing.assert_close(narrow.coordinates["b"], one.coordinates["b"], atol=1e-4, rtol=0)
    assert list(one.coordinates) == ["a", "b", "c"] and one.coordinates["c"].shape == (5, 2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_agrees_with_the_cpu(generator):
    series, _, _ = planted(generator, noise=0.2)
    on_cpu, on_gpu = pca_trajectories(series), pca_trajectories({name: x.cuda() for name, x in series.items()})
    torch.testing.assert_close(on_gpu.coordinates["a"].cpu(), on_cpu.coordinates["a"], atol=1e-9, rtol=1e-9)
    losses, positions = torch.rand(2, 5, 9, generator=generator), token_positions(5, 9, generator)
    assert torch.equal(fixed_token_losses(losses.cuda(), positions).cpu(), fixed_token_losses(losses, positions))


def test_training_speed_of_a_known_curve():
    tokens = np.geomspace(1e4, 1e7, 200)
    middle, speed = training_speed(tokens, 9 - 0.7 * np.log(tokens))
    np.testing.assert_allclose(speed, -0.7)
    assert (np.diff(middle) > 0).all() and tokens[0] < middle[0] and middle[-1] < tokens[-1] and len(speed) == 11
    bent = np.where(tokens < 3e5, 8.0, 8.0 - 0.5 * np.log(tokens / 3e5))
    middle, speed = training_speed(tokens, bent)
    assert np.abs(speed[middle < 1.5e5]).max() < 1e-9 and np.allclose(speed[middle > 8e5], -0.5)


def test_the_speed_order_inverts_where_it_should():
    tokens = np.geomspace(1e4, 1e7, 300)
    runs = {
        "small": (
            tokens,
            9 - np.where(tokens < 3e5, 0.4 * np.log(tokens), 0.4 * np.log(3e5) + 0.1 * np.log(tokens / 3e5)),
        ),
        "large": (tokens, 9 - 0.2 * np.log(tokens)),
    }
    table = speed_order(runs, at=[5e4, 3e6])
    assert list(table.columns) == ["tokens", "model", "speed", "rank"]
    assert table["model"].tolist() == ["small", "large", "large", "small"]
    assert table["rank"].tolist() == [1, 2, 1, 2]
    np.testing.assert_allclose(table["speed"], [-0.4, -0.2, -0.2, -0.1], atol=1e-9)


NAN = torch.full((2, 3), torch.nan)
POSITIONS = torch.tensor([0, 1])


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: token_positions(0, 5, torch.Generator()), "examples must be at least 1, got 0"),
        (lambda: fixed_token_losses(torch.rand(2, 3), torch.tensor([0, 3])), r"0\.\.2, got values from 0 to 3"),
        (lambda: fixed_token_losses(torch.rand(2, 3), torch.tensor([-1, 2])), "got values from -1"),
        (lambda: fixed_token_losses(torch.rand(2, 3), POSITIONS.to(torch.uint8)), "positions must be int64 or int32"),
        (lambda: fixed_token_losses(torch.rand(4, 3, 3), POSITIONS), r"\[4, 3, 3\] and positions \[2\]"),
        (lambda: fixed_token_losses(torch.rand(0, 3), torch.zeros(0, dtype=torch.long)), r"got \[0, 3\]"),
        (lambda: fixed_token_losses(NAN, POSITIONS), "NaN"),
        (lambda: pca_trajectories({}), "same examples, got {}"),
        (lambda: pca_trajectories({"a": torch.rand(5, 4), "b": torch.rand(5, 3)}), r"'b': \[5, 3\]"),
        (lambda: pca_trajectories({"a": torch.rand(5)}), r"\[snapshot, example\].*'a': \[5\]"),
        (lambda: pca_trajectories({"a": torch.rand(1, 4)}), r"more snapshots.*got \[1, 4\]"),
        (lambda: pca_trajectories({"a": torch.rand(2, 4)}), "2 components need more snapshots"),
        (lambda: pca_trajectories({"a": torch.rand(9, 4)}, components=5), "5 components"),
        (lambda: pca_trajectories({"a": torch.rand(9, 4)}, components=0), "components must be at least 1, got 0"),
        (lambda: pca_trajectories({"a": torch.full((9, 4), 3.1)}), "equal"),
        (lambda: pca_trajectories({"a": torch.full((9, 4), torch.nan)}), "NaN"),
        (lambda: training_speed([5], [1.0]), "at least 2 records"),
        (lambda: training_speed([5, 6], [1.0]), r"\[2\] and \[1\]"),
        (lambda: training_speed([0, 6], [1.0, 2.0]), "leave out the record before training"),
        (lambda: training_speed([6, 5], [1.0, 2.0]), "rise"),
        (lambda: training_speed([5, 6], [1.0, float("nan")]), "NaN"),
        (lambda: training_speed([5, 6], [1.0, 0.5], bins=1), "bins must be at least 2"),
        (lambda: speed_order({}, [1]), "at least one model"),
        (
            lambda: speed_order({"a": ([1, 10, 100], [3, 2, 1])}, [1e6]),
            r"a has a speed from .* tokens, not at \[1000000",
        ),
    ],
)
def test_bad_input(call, message, unchecked):
    with pytest.raises(ValueError, match=message):
        call()
