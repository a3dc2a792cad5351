import math
from functools import partial
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.icl import (
    bootstrap,
    icl_score,
    index_slope,
    log_bins,
    log_derivative,
    loss_derivative,
    loss_map,
    windowed_icl_score,
)

SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(4, 12), st.integers(0, 10**6))


def random_losses(shape):
    *sizes, seed = shape
    return torch.rand(*sizes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 5


def mean_at(losses, token):
    """Mean over examples of the loss of one token, counted from 1."""
    return sum(row[token - 1] for row in losses.tolist()) / len(losses)


@settings(max_examples=40, deadline=None)
@given(SHAPES, st.data())
def test_icl_scores_equal_loops(shape, data):
    losses = random_losses(shape)
    n = losses.shape[-1]
    early = data.draw(st.integers(1, n - 1))
    late = data.draw(st.integers(early + 1, n))
    window = data.draw(st.integers(0, min(early - 1, n - late)))
    for s, snapshot in enumerate(losses):
        at_late = [mean_at(snapshot, token) for token in range(late - window, late + window + 1)]
        at_early = [mean_at(snapshot, token) for token in range(early - window, early + window + 1)]
        expected = sum(at_late) / len(at_late) - sum(at_early) / len(at_early)
        assert icl_score(losses, early, late, window)[s].item() == pytest.approx(expected)
        windows = (early - window, early), (late, late + window)
        expected = sum(mean_at(snapshot, t) for t in range(late, late + window + 1)) / (window + 1)
        expected -= sum(mean_at(snapshot, t) for t in range(early - window, early + 1)) / (window + 1)
        assert windowed_icl_score(losses, *windows)[s].item() == pytest.approx(expected)


@settings(max_examples=40, deadline=None)
@given(SHAPES, st.sampled_from(["index", "ln index"]), st.data())
def test_the_slope_equals_the_textbook_formula(shape, against, data):
    losses = random_losses(shape)
    first = data.draw(st.integers(1, losses.shape[-1] - 1))
    last = data.draw(st.integers(first + 1, losses.shape[-1]))
    for s, snapshot in enumerate(losses):
        x = [math.log(token) if against == "ln index" else token for token in range(first, last + 1)]
        y = [mean_at(snapshot, token) for token in range(first, last + 1)]
        mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
        cov = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
        expected = cov / sum((a - mean_x) ** 2 for a in x)
        assert index_slope(losses, against, first, last)[s].item() == pytest.approx(expected, abs=1e-9)


def test_tokens_are_counted_from_one_after_the_start_token():
    losses = torch.zeros(4, 511)
    losses[:, 49], losses[:, 499] = 3.0, 2.5  # tokens 50 and 500
    assert icl_score(losses).item() == pytest.approx(-0.5)
    assert windowed_icl_score(losses, (50, 50), (500, 500)).item() == pytest.approx(-0.5)
    losses[:, 48:51] = 3.0
    losses[:, 498:501] = 1.0
    assert icl_score(losses, window=1).item() == pytest.approx(-2.0)
    losses[:, 461:] = 1.0  # tokens 462 to 511, the default window
    losses[:, 25:75] = 4.0  # tokens 26 to 75
    assert windowed_icl_score(losses).item() == pytest.approx(-3.0)
    losses[:, [25, 74]], losses[:, [461, 510]] = 9.0, 6.0  # the ends of both windows count
    assert windowed_icl_score(losses).item() == pytest.approx(-3.0 - 2 * 5 / 50 + 2 * 5 / 50)
    losses[:, [24, 75, 460]] = 99.0  # what lies beside them does not
    assert windowed_icl_score(losses).item() == pytest.approx(-3.0)
    line = torch.arange(1, 101).expand(2, 100) * 0.25
    assert index_slope(line, "index").item() == pytest.approx(0.25, abs=1e-5)
    assert index_slope(line.log(), "ln index").item() == pytest.approx(1, abs=1e-5)


def test_both_terms_are_means_trap_the_order_of_averaging_does_not_matter(generator):
    """seeds 001 and 003 write the score once without the average."""
    losses = torch.rand(50, 60, generator=generator)
    one_by_one = torch.stack([icl_score(losses[i : i + 1], 10, 50) for i in range(50)])
    assert icl_score(losses, 10, 50).item() == pytest.approx(one_by_one.mean().item(), abs=1e-6)
    assert one_by_one.std() > 0.1  # a single example says little


def test_early_and_late_are_not_interchangeable(generator):
    falling = torch.linspace(5, 3, 100).expand(3, 100)
    assert icl_score(falling, 10, 90) < 0 and windowed_icl_score(falling, (1, 10), (91, 100)) < 0
    for wrong in (lambda: icl_score(falling, 90, 10), lambda: windowed_icl_score(falling, (91, 100), (1, 10))):
        with pytest.raises(ValueError, match="early"):
            wrong()


def test_measures_of_a_difference_are_differences_of_measures(generator):
    one, two = torch.rand(2, 30, 80, generator=generator)
    for measure, options in (
        (icl_score, {"early": 5, "late": 70}),
        (windowed_icl_score, {"early": (1, 9), "late": (60, 80)}),
        (index_slope, {"against": "index"}),
    ):
        difference = measure(one, **options) - measure(two, **options)
        torch.testing.assert_close(measure(one - two, **options), difference, atol=1e-6, rtol=1e-4)


def test_the_defaults_are_what_the_docstrings_say(generator):
    losses = torch.rand(4, 600, generator=generator)
    assert index_slope(losses) == index_slope(losses, "ln index", first=1, last=600)
    assert icl_score(losses) == icl_score(losses, 50, 500, 0)
    assert all(map(torch.equal, loss_derivative(losses), loss_derivative(losses, bins=12)))
    x = torch.arange(1, 601).float()
    assert all(map(torch.equal, log_derivative(x, losses), log_derivative(x, losses, bins=12)))
    one = bootstrap(index_slope, losses, torch.Generator().manual_seed(0))
    two = bootstrap(index_slope, losses, torch.Generator().manual_seed(0), samples=1000, level=0.95)
    assert torch.equal(one.low, two.low) and torch.equal(one.high, two.high)
    few = bootstrap(index_slope, losses[:2], generator, samples=2)
    assert few.low <= few.high  # two examples are enough to be asked for, though not to be trusted


def test_float32_agrees_with_float64(generator):
    losses = torch.rand(3, 64, 512, generator=generator, dtype=torch.float64) * 5
    for measure in (icl_score, windowed_icl_score, index_slope):
        torch.testing.assert_close(measure(losses.float()).double(), measure(losses), atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_losses_of_half_precision_are_measured_in_float32(dtype, generator):
    half = synthetic(generator, sets=1, examples=9)[0].to(dtype)
    for measure in (index_slope, partial(windowed_icl_score, early=(1, 5), late=(30, 40))):
        assert torch.equal(measure(half), measure(half.float()))
        found, expected = (bootstrap(measure, x, torch.Generator().manual_seed(1), 50) for x in (half, half.float()))
        assert torch.equal(found.low, expected.low) and torch.equal(found.value, expected.value)
    for found, expected in zip(loss_derivative(half), loss_derivative(half.float()), strict=True):
        assert torch.equal(found, expected)
    assert loss_map({0: half}).equals(loss_map({0: half.float()}))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_agrees_with_the_cpu(generator):
    losses = torch.rand(3, 16, 512, generator=generator)
    for measure in (icl_score, windowed_icl_score, index_slope, lambda x: loss_derivative(x)[1]):
        torch.testing.assert_close(measure(losses.cuda()).cpu(), measure(losses), atol=1e-5, rtol=1e-4)
    one, two = (bootstrap(icl_score, x, torch.Generator().manual_seed(0)) for x in (losses, losses.cuda()))
    torch.testing.assert_close(two.low.cpu(), one.low, atol=1e-5, rtol=1e-4)
    assert loss_map({0: losses[0].cuda()}).shape == (1, 512)


def synthetic(generator, sets, examples, tokens=40):
    """Sets of examples whose mean falls by 1 nat per unit of ln(index), each example with a level of its own."""
    curve = 5 - torch.arange(1, tokens + 1, dtype=torch.float64).log()
    level = torch.randn(sets, examples, 1, generator=generator, dtype=torch.float64)
    return curve + level + torch.randn(sets, examples, tokens, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_the_interval_covers_the_truth_at_its_nominal_rate(generator, level):
    losses = synthetic(generator, sets=1000, examples=60)
    for measure, options, truth in (
        (icl_score, {"early": 5, "late": 35}, math.log(5 / 35)),
        (index_slope, {}, -1.0),
    ):
        estimate = bootstrap(measure, losses, generator, samples=300, level=level, **options)
        covered = ((estimate.low <= truth) & (truth <= estimate.high)).double().mean().item()
        assert covered == pytest.approx(level, abs=0.035)  # of 1000 sets; sharing draws makes them a little dependent


def test_the_bootstrap_equals_a_loop_and_the_seed_decides():
    losses = synthetic(torch.Generator().manual_seed(1), sets=2, examples=7)
    options = {"early": 2, "late": 30}
    estimate = bootstrap(icl_score, losses, torch.Generator().manual_seed(5), samples=40, level=0.9, **options)
    drawn = torch.randint(7, (40, 7), generator=torch.Generator().manual_seed(5))
    for s in range(2):
        means = [icl_score(losses[s][row], **options).item() for row in drawn]
        low, high = torch.tensor(means, dtype=torch.float64).quantile(torch.tensor([0.05, 0.95], dtype=torch.float64))
        assert estimate.value[s].item() == pytest.approx(icl_score(losses[s], **options).item())
        assert (estimate.low[s].item(), estimate.high[s].item()) == pytest.approx((low.item(), high.item()))
    again = bootstrap(icl_score, losses, torch.Generator().manual_seed(5), samples=40, level=0.9, **options)
    assert torch.equal(estimate.low, again.low)
    other = bootstrap(icl_score, losses, torch.Generator().manual_seed(6), samples=40, level=0.9, **options)
    assert not torch.equal(estimate.low, other.low)


def test_paired_examples_give_a_narrow_interval_of_the_difference(generator):
    shared = torch.randn(40, 1, generator=generator) * torch.linspace(-1, 1, 40)  # hard and easy examples
    one, two = (shared + 0.05 * torch.randn(40, 40, generator=generator) for _ in range(2))

    def width(losses):
        estimate = bootstrap(icl_score, losses, generator, early=5, late=35)
        return (estimate.high - estimate.low).item()

    assert width(one - two) < 0.2 * width(one)


def test_fewer_examples_make_a_wider_interval(generator):
    losses = synthetic(generator, sets=1, examples=400)[0]
    widths = []
    for n in (25, 100, 400):
        estimate = bootstrap(windowed_icl_score, losses[:n], generator, early=(1, 5), late=(30, 40))
        assert estimate.low < estimate.value < estimate.high
        widths.append((estimate.high - estimate.low).item())
    assert widths[0] / widths[1] == pytest.approx(2, rel=0.4) and widths[1] / widths[2] == pytest.approx(2, rel=0.4)


def test_a_measure_that_is_no_mean_is_refused(generator):
    losses = synthetic(generator, sets=1, examples=9)[0]
    with pytest.raises(ValueError, match="mean over examples"):
        bootstrap(lambda losses: losses.mean(-1).amax(-1), losses, generator)
    with pytest.raises(ValueError, match="mean over examples"):
        bootstrap(lambda losses: losses.mean(), losses, generator)


def test_the_loss_map_has_a_row_a_step_and_counts_tokens_from_one(generator):
    losses = torch.rand(4, 6, generator=generator)
    table = loss_map({200: losses, 0: losses + 1})
    assert list(table.index) == [0, 200] and table.index.name == "step"
    assert list(table.columns) == [1, 2, 3, 4, 5, 6] and table.columns.name == "index"
    for token in range(1, 7):
        assert table.loc[200, token] == pytest.approx(mean_at(losses, token), abs=1e-6)
    assert table.equals(loss_map({0: (losses + 1).mean(0), 200: losses.mean(0)}))


@settings(max_examples=30, deadline=None)
@given(st.integers(3, 600), st.integers(2, 30), st.floats(-3, 3), st.floats(-2, 2))
def test_the_derivative_of_a_plus_b_ln_i_is_b(tokens, bins, a, b):
    losses = (a + b * torch.arange(1, tokens + 1, dtype=torch.float64).log()).expand(2, 3, tokens)
    index, derivative = loss_derivative(losses, bins)
    assert derivative.shape == (2, len(index)) and len(index) < bins
    assert (index.diff() > 0).all() and index[0] > 1 and index[-1] < tokens
    torch.testing.assert_close(derivative, torch.full_like(derivative, b), atol=1e-8, rtol=1e-8)


def test_the_derivative_finds_where_a_curve_bends(generator):
    index = torch.arange(1, 513, dtype=torch.float64)
    curve = 5 - (index / 64).log().clamp(min=0)  # flat up to token 64, then 1 nat per unit of ln
    losses = curve + 0.1 * torch.randn(200, 512, generator=generator)
    middle, derivative = loss_derivative(losses, bins=12)
    assert derivative[middle < 40].abs().max() < 0.15
    torch.testing.assert_close(
        derivative[middle > 110], torch.full_like(derivative[middle > 110], -1), atol=0.1, rtol=0
    )


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0.1, 1e6), min_size=2, max_size=30, unique=True), st.integers(2, 9), st.integers(0, 10**6))
def test_the_derivative_equals_a_loop_over_bins(values, bins, seed):
    x = torch.tensor(sorted(values), dtype=torch.float64)
    y = torch.rand(len(x), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    width = math.log(x[-1] / x[0]) / bins
    groups = {}
    for i, value in enumerate(x.tolist()):
        exact = (math.log(value) - math.log(x[0])) / width
        if exact != pytest.approx(round(exact), abs=1e-9) or round(exact) in (0, bins):
            groups.setdefault(min(math.floor(exact + 1e-12), bins - 1), []).append(i)
        else:
            return  # on an edge, rounding decides
    means = [(sum(math.log(x[i]) for i in g) / len(g), sum(y[i].item() for i in g) / len(g)) for g in groups.values()]
    middle, derivative = log_derivative(x, y, bins)
    assert len(middle) == len(means) - 1
    for m, (one, two) in enumerate(pairwise(means)):
        assert middle[m].item() == pytest.approx(math.exp((one[0] + two[0]) / 2))
        assert derivative[m].item() == pytest.approx((two[1] - one[1]) / (two[0] - one[0]))


def test_bins_cover_everything_once():
    means = log_bins(torch.arange(1, 513, dtype=torch.float64), 12)
    assert ((means > 0).sum(0) == 1).all()
    torch.testing.assert_close(means.sum(1), torch.ones(len(means), dtype=torch.float64))


G = torch.Generator().manual_seed(0)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: icl_score(torch.rand(2, 100)), "late=500.*sequences of 100 tokens"),
        (lambda: icl_score(torch.rand(2, 600), window=60), "early=50.*window=60"),
        (lambda: icl_score(torch.rand(2, 600), window=-1), "window=-1"),
        (lambda: icl_score(torch.rand(2, 600), 50, 50), "early=50, late=50, window=0 do not fit"),
        (lambda: icl_score(torch.rand(2, 600), early=600 / 12), "early must be a whole number, got 50.0"),
        (lambda: icl_score(torch.full((2, 600), torch.nan)), "NaN"),
        (lambda: icl_score(torch.rand(0, 600)), "not be empty"),
        (lambda: icl_score(torch.rand(600)), r"\[\.\.\., example, index\].*got \[600\]"),
        (lambda: windowed_icl_score(torch.rand(2, 500)), r"late=\(462, 511\).*sequences of 500 tokens"),
        (lambda: windowed_icl_score(torch.rand(2, 99), (0, 5), (6, 9)), r"early=\(0, 5\)"),
        (lambda: windowed_icl_score(torch.rand(2, 99), (5, 4), (6, 9)), r"early=\(5, 4\)"),
        (lambda: index_slope(torch.rand(2, 9), "log"), "against must be one of.*got 'log'"),
        (lambda: index_slope(torch.rand(2, 9), last=9 / 3), "last must be a whole number, got 3.0"),
        (lambda: index_slope(torch.rand(2, 9), first=9), "first=9, last=9 do not fit"),
        (lambda: index_slope(torch.rand(2, 9), last=10), "last=10 do not fit sequences of 9"),
        (lambda: index_slope(torch.full((2, 9), torch.inf)), "infinity"),
        (lambda: bootstrap(index_slope, torch.rand(1, 9), G), "2 examples.*got 1"),
        (lambda: bootstrap(index_slope, torch.rand(3, 9), G, level=1.0), "0 < level < 1.*1.0"),
        (lambda: bootstrap(index_slope, torch.rand(3, 9), G, samples=1), "samples must be at least 2, got 1"),
        (lambda: bootstrap(icl_score, torch.rand(3, 9), G), "late=500"),
        (lambda: loss_map({}), "must not be empty"),
        (lambda: loss_map({0: torch.rand(2, 5), 1: torch.rand(2, 6)}), r"one number of tokens, got \[5, 6\]"),
        (lambda: loss_map({3: torch.rand(2, 5, 6)}), r"step 3 must be \[example, index\]"),
        (lambda: loss_map({3: torch.full((2, 5), torch.nan)}), "NaN"),
        (lambda: loss_derivative(torch.rand(2, 1)), "at least 2 of x"),
        (lambda: loss_derivative(torch.rand(2, 9), bins=1), "bins must be at least 2, got 1"),
        (lambda: loss_derivative(torch.rand(2, 9), bins=2.5), "bins must be a whole number, got 2.5"),
        (lambda: loss_derivative(torch.full((2, 9), torch.nan)), "NaN"),
        (lambda: log_derivative(torch.tensor([0.0, 1.0]), torch.rand(2)), "positive and rise"),
        (lambda: log_derivative(torch.tensor([2.0, 1.0]), torch.rand(2)), "positive and rise"),
        (lambda: log_derivative(torch.tensor([1.0, 2.0]), torch.tensor([1.0, torch.nan])), "finite"),
        (lambda: log_derivative(torch.tensor([1.0, 2.0]), torch.rand(3)), r"\[2\], \[3\]"),
    ],
)
def test_bad_input(call, message, unchecked):
    with pytest.raises(ValueError, match=message):
        call()


def test_defaults_are_the_documented_ones():
    losses = random_losses((6, 512, 3))
    assert torch.equal(windowed_icl_score(losses), windowed_icl_score(losses, (26, 75), (462, 511)))
    assert windowed_icl_score(losses).item() == pytest.approx(
        sum(mean_at(losses, n) for n in range(462, 512)) / 50 - sum(mean_at(losses, n) for n in range(26, 76)) / 50
    )
    assert torch.equal(index_slope(losses), index_slope(losses, "ln index", first=1, last=512))
    assert torch.equal(loss_derivative(losses)[1], loss_derivative(losses, bins=12)[1])
    x = torch.arange(1.0, 513.0)
    assert torch.equal(log_derivative(x, losses.mean(0))[1], log_derivative(x, losses.mean(0), bins=12)[1])
    usual = bootstrap(icl_score, losses, torch.Generator().manual_seed(1))
    stated = bootstrap(icl_score, losses, torch.Generator().manual_seed(1), samples=1000, level=0.95)
    assert torch.equal(usual.low, stated.low) and torch.equal(usual.high, stated.high)


def test_the_smallest_allowed_inputs_are_allowed():
    losses = random_losses((2, 9, 5))
    assert bootstrap(index_slope, losses, torch.Generator().manual_seed(0), samples=2).low.isfinite()
    whole = windowed_icl_score(losses, (1, 9), (2, 9))  # both windows may reach both ends
    assert whole.item() == pytest.approx(losses[:, 1:].mean().item() - losses.mean().item())
    assert windowed_icl_score(losses, (1, 1), (2, 2)).item() == pytest.approx(mean_at(losses, 2) - mean_at(losses, 1))
    for early, late in (((1, 3), (1, 5)), ((3, 4), (2, 5))):  # late must start after early
        with pytest.raises(ValueError, match="early="):
            windowed_icl_score(losses, early, late)
    with pytest.raises(ValueError, match="positive and rise"):
        log_derivative(torch.tensor([1.0, 1.0, 2.0]), torch.rand(3))
