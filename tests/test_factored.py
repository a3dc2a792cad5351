"""What a factored matrix says of itself, against the same matrix multiplied out."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib import factored
from course_lib.factored import FactoredMatrix, diagonal_statistics, top_entries

sizes = st.tuples(st.integers(1, 7), st.integers(1, 9), st.integers(1, 7), st.integers(0, 2**31))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(a: int, r: int, b: int, seed: int = 0, dtype=torch.float64) -> FactoredMatrix:
    generator = seeded(seed)
    return FactoredMatrix(
        torch.randn(a, r, generator=generator, dtype=dtype), torch.randn(r, b, generator=generator, dtype=dtype)
    )


def outer(left: list[float], right: list[float]) -> FactoredMatrix:
    return FactoredMatrix(
        torch.tensor(left, dtype=torch.float64)[:, None], torch.tensor(right, dtype=torch.float64)[None]
    )


@settings(max_examples=60, deadline=None)
@given(sizes)
def test_every_reading_equals_that_of_the_dense_matrix(size):
    a, r, b, seed = size
    matrix = draw(a, r, b, seed)
    dense = torch.tensor([[sum(matrix.left[i] * matrix.right[:, j]) for j in range(b)] for i in range(a)])
    rows = torch.randint(a, (4,), generator=seeded(seed))
    columns = torch.randint(b, (4,), generator=seeded(seed))
    torch.testing.assert_close(matrix.dense(), dense)
    torch.testing.assert_close(matrix.T.dense(), dense.T)
    torch.testing.assert_close(matrix.rows(rows), dense[rows])
    torch.testing.assert_close(matrix.T.rows(columns), dense[:, columns].T)
    torch.testing.assert_close(matrix.entries(rows, columns), dense[rows, columns])
    assert matrix.shape == (a, b)
    assert matrix.norm() == pytest.approx(math.sqrt(sum(float(x) ** 2 for x in dense.flatten())))
    torch.testing.assert_close(matrix.compact_rows().T @ matrix.compact_rows(), dense.T @ dense)
    assert len(matrix.compact_rows()) == min(a, r)


@settings(max_examples=40, deadline=None)
@given(sizes, st.integers(1, 5), st.integers(1, 5))
def test_products_are_factored_and_never_of_higher_rank(size, inner, columns):
    a, r, b, seed = size
    first, second = draw(a, r, b, seed), draw(b, inner, columns, seed + 1)
    product = first @ second
    torch.testing.assert_close(product.dense(), first.dense() @ second.dense())
    assert product.left.shape[1] == min(r, inner)
    torch.testing.assert_close((first @ second.dense()).dense(), product.dense())
    torch.testing.assert_close((first.dense() @ second).dense(), product.dense())
    assert isinstance(first.dense() @ second, FactoredMatrix)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 2**31))
def test_eigenvalues_diagonal_and_trace(n, r, seed):
    matrix = draw(n, r, n, seed)
    dense, found = matrix.dense(), matrix.eigenvalues()
    assert len(found) == min(n, r)
    full = torch.cat([found, torch.zeros(n - len(found))])
    for power in range(1, n + 1):  # equal power sums up to n: the same n eigenvalues, whatever their order
        expected = torch.linalg.matrix_power(dense, power).trace()
        scale = float(full.abs().pow(power).sum()) + 1e-6
        assert abs(complex(full.pow(power).sum()) - float(expected)) < 1e-8 * scale
    torch.testing.assert_close(matrix.diagonal(), dense.diagonal())
    assert matrix.trace() == pytest.approx(float(dense.trace()), abs=1e-9)
    assert matrix.trace() == pytest.approx(float(found.sum().real), abs=1e-8)


def test_float32_agrees_with_float64():
    wide, narrow = draw(40, 8, 40), draw(40, 8, 40)
    narrow = FactoredMatrix(narrow.left.float(), narrow.right.float())
    assert narrow.norm() == pytest.approx(wide.norm(), rel=1e-6)
    assert narrow.trace() == pytest.approx(wide.trace(), rel=1e-5)
    torch.testing.assert_close(narrow.dense().double(), wide.dense(), rtol=1e-5, atol=1e-5)


def test_the_norm_of_a_product_that_cancels_is_not_lost_in_rounding():
    """Squaring factors would leave an error of 1e-4 here: the product is 1e-6 of its factors."""
    left = torch.tensor([[1.0, 1.0]])
    right = torch.tensor([[1.0], [-1.0 + 2.0**-20]])
    assert FactoredMatrix(left, right).norm() == pytest.approx(2.0**-20, rel=0.15)


# ---- passes over all rows


@pytest.mark.parametrize("at_once", [1, 13, 2**22])
def test_top_entries_do_not_depend_on_the_size_of_the_pieces(monkeypatch, at_once):
    monkeypatch.setattr(factored, "ENTRIES_AT_ONCE", at_once)
    matrix = draw(9, 3, 6)
    dense = matrix.dense()
    values, columns = top_entries(matrix, 2)
    assert values.shape == columns.shape == (9, 2)
    for row in range(9):
        order = sorted(range(6), key=lambda column: -dense[row, column])
        assert columns[row].tolist() == order[:2]
        torch.testing.assert_close(values[row], dense[row, order[:2]])
    assert top_entries(matrix, 6)[1].sort(dim=1).values.tolist() == [list(range(6))] * 9
    some = torch.tensor([7, 0, 7])
    torch.testing.assert_close(top_entries(matrix, 2, some)[1], columns[some])


@pytest.mark.parametrize("at_once", [1, 13, 2**22])
def test_diagonal_statistics_equal_an_explicit_loop(monkeypatch, at_once):
    monkeypatch.setattr(factored, "ENTRIES_AT_ONCE", at_once)
    matrix = draw(7, 3, 7)
    dense, found = matrix.dense(), diagonal_statistics(matrix)
    rest = [float(dense[i, j]) for i in range(7) for j in range(7) if i != j]
    mean = sum(rest) / len(rest)
    assert found.mean == pytest.approx(sum(float(dense[i, i]) for i in range(7)) / 7)
    assert found.rest_mean == pytest.approx(mean)
    assert found.rest_std == pytest.approx(math.sqrt(sum((x - mean) ** 2 for x in rest) / len(rest)))
    ranks = [sum(float(dense[i, j] > dense[i, i]) for j in range(7)) for i in range(7)]
    assert found.ranks.tolist() == ranks
    for k in (1, 3, 7):
        assert found.share_in_top(k) == pytest.approx(sum(rank < k for rank in ranks) / 7)
    assert found.share_in_top(7) == 1


def test_pieces_hold_all_rows_in_order_and_few_entries_at_once(monkeypatch):
    monkeypatch.setattr(factored, "ENTRIES_AT_ONCE", 13)
    matrix = draw(9, 3, 6)
    pieces = list(matrix.pieces())
    assert [len(rows) for rows, _ in pieces] == [2, 2, 2, 2, 1]  # two rows of 6 are at most 13 entries
    assert torch.cat([rows for rows, _ in pieces]).tolist() == list(range(9))
    torch.testing.assert_close(torch.cat([dense for _, dense in pieces]), matrix.dense())
    monkeypatch.setattr(factored, "ENTRIES_AT_ONCE", 5)
    assert [len(rows) for rows, _ in matrix.pieces()] == [1] * 9  # a row is never split


def test_the_spread_of_large_float32_entries_is_not_lost_in_rounding():
    generator = seeded()
    left = torch.cat([torch.full((50, 1), 1000.0), torch.randn(50, 1, generator=generator)], dim=1)
    right = torch.cat([torch.ones(1, 50), torch.randn(1, 50, generator=generator)])
    dense = FactoredMatrix(left, right).dense().double()
    rest = dense[~torch.eye(50, dtype=torch.bool)]
    found = diagonal_statistics(FactoredMatrix(left, right))
    assert found.rest_std == pytest.approx(float(rest.std(correction=0)), rel=1e-6)
    assert found.rest_mean == pytest.approx(float(rest.mean()), rel=1e-9)


def test_a_factored_matrix_cannot_be_changed():
    matrix = draw(2, 1, 2)
    with pytest.raises(AttributeError):
        matrix.left = torch.zeros(2, 1)
    assert matrix == matrix and matrix != draw(2, 1, 2)  # the same object, or not: entries are not compared


def test_an_identity_copies_and_a_shift_does_not():
    identity = FactoredMatrix(torch.eye(5), torch.eye(5))
    found = diagonal_statistics(identity)
    assert (found.mean, found.rest_mean, found.rest_std, found.share_in_top(1)) == (1, 0, 0, 1)
    shifted = diagonal_statistics(FactoredMatrix(torch.eye(5), torch.eye(5).roll(1, dims=1)))
    assert shifted.mean == 0 and shifted.share_in_top(1) == 0 and shifted.share_in_top(2) == 1


def test_a_vocabulary_of_50257_is_read_without_its_square():
    """2.5 billion entries would be 10 GB; the factors are 3 MB."""
    matrix = draw(50257, 8, 50257, dtype=torch.float32)
    assert matrix.eigenvalues().shape == (8,)
    assert matrix.trace() == pytest.approx(float(matrix.eigenvalues().real.sum()), rel=1e-3)
    assert matrix.norm() == pytest.approx(50257 * math.sqrt(8), rel=0.05)
    assert matrix.rows(torch.tensor([3, 50256])).shape == (2, 50257)
    with pytest.raises(ValueError, match="50257 x 50257"):
        matrix.dense()


# ---- bad input


def test_dense_takes_as_many_entries_as_its_limit_and_not_one_more():
    matrix = draw(4, 2, 5)
    assert matrix.dense(limit=20).shape == (4, 5)
    with pytest.raises(ValueError, match="limit allows 19 entries"):
        matrix.dense(limit=19)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: FactoredMatrix(torch.ones(2, 3), torch.ones(2, 3)), ["left", "right", "[2, 3]"]),
        (lambda: FactoredMatrix(torch.ones(2), torch.ones(2, 3)), ["left", "[2]"]),
        (lambda: draw(2, 1, 3).trace(), ["square", "2 x 3"]),
        (lambda: draw(2, 1, 3).eigenvalues(), ["square", "2 x 3"]),
        (lambda: FactoredMatrix(torch.full((2, 1), torch.nan), torch.ones(1, 2)).eigenvalues(), ["NaN"]),
        (lambda: draw(2, 1, 3).rows(torch.tensor([2])), ["indices", "0..1", "2"]),
        (lambda: draw(2, 1, 3).rows(torch.tensor([-1])), ["indices", "-1"]),
        (lambda: draw(2, 1, 3).rows(torch.tensor([0.5])), ["indices", "integers"]),
        (lambda: draw(2, 1, 3).rows(torch.tensor([True, False])), ["indices", "bool"]),
        (lambda: draw(2, 1, 3).rows(torch.tensor([0, 1], dtype=torch.uint8)), ["indices", "uint8"]),  # PyTorch: a mask
        (lambda: draw(2, 1, 3).rows(torch.zeros(0, dtype=torch.long)), ["indices", "at least one"]),
        (lambda: draw(2, 1, 3).rows(torch.tensor([[0]])), ["indices", "[n]"]),
        (lambda: draw(2, 1, 3).entries(torch.tensor([2]), torch.tensor([0])), ["rows", "0..1"]),
        (lambda: draw(2, 1, 3).entries(torch.tensor([0]), torch.tensor([3])), ["columns", "0..2"]),
        (lambda: draw(2, 1, 3).entries(torch.tensor([0, 1]), torch.tensor([0])), ["2 rows", "1 columns"]),
        (lambda: top_entries(draw(2, 1, 3), 0), ["k", "1..3", "0"]),
        (lambda: top_entries(draw(2, 1, 3), 1.5), ["k", "whole number", "1.5"]),
        (lambda: top_entries(draw(2, 1, 3), 4), ["k", "1..3", "4"]),
        (lambda: top_entries(draw(2, 1, 3), 1, torch.tensor([5])), ["rows", "5"]),
        (lambda: diagonal_statistics(draw(2, 1, 3)), ["square", "2 x 3"]),
        (lambda: diagonal_statistics(FactoredMatrix(torch.full((2, 1), torch.nan), torch.ones(1, 2))), ["NaN"]),
        (lambda: diagonal_statistics(outer([1e300, 1.0], [1.0, 1e300])), ["infinite"]),  # beside the diagonal
        (lambda: diagonal_statistics(outer([1e200, 0.0], [1e200, 0.0])), ["infinite"]),  # on it alone
        (lambda: diagonal_statistics(draw(1, 1, 1)), ["2 x 2", "1 x 1"]),
        (lambda: diagonal_statistics(draw(2, 1, 2)).share_in_top(0), ["k", "at least 1"]),
    ],
)
def test_bad_input_is_named(call, words, unchecked):
    with pytest.raises(ValueError) as error:
        call()
    for word in words:
        assert word in str(error.value)
