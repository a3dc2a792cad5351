"""Matrices of low rank, kept as two thin factors: what can be known of a large circuit without multiplying it out.

A circuit over a vocabulary of 50,000 tokens has 2.5 billion entries but, in a head of 64 dimensions, rank 64.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from course_lib.config import check_counts, check_integers, check_whole

DENSE_LIMIT = 2**26  # entries that `dense` makes without being asked twice: 256 MiB in float32
ENTRIES_AT_ONCE = 2**22  # of a piece in a pass over all rows


@dataclass(frozen=True, eq=False)
class FactoredMatrix:
    """The matrix `left @ right`, [a, b], of rank at most r, never multiplied out unless asked by `dense`.

    `@` with another factored matrix, or with a matrix on either side, gives a factored matrix again.

    Args of the constructor:
        left: [a, r].
        right: [r, b].

    Raises:
        ValueError: not two matrices that multiply.
    """

    left: Float[Tensor, "a r"]
    right: Float[Tensor, "r b"]

    def __post_init__(self) -> None:
        if self.left.ndim != 2 or self.right.ndim != 2 or self.left.shape[1] != self.right.shape[0]:
            shapes = f"{list(self.left.shape)} and {list(self.right.shape)}"
            raise ValueError(f"left and right must be matrices [a, r] and [r, b], got {shapes}")

    @property
    def shape(self) -> tuple[int, int]:
        """(a, b), as of the product."""
        return self.left.shape[0], self.right.shape[1]

    @property
    def T(self) -> FactoredMatrix:
        """The transpose, [b, a]."""
        return FactoredMatrix(self.right.T, self.left.T)

    def __matmul__(self, other: FactoredMatrix | Tensor) -> FactoredMatrix:
        if isinstance(other, Tensor):
            return FactoredMatrix(self.left, self.right @ other)
        inner = self.right @ other.left  # r of this one, r of the other: the smaller becomes the rank
        if inner.shape[0] <= inner.shape[1]:
            return FactoredMatrix(self.left, inner @ other.right)
        return FactoredMatrix(self.left @ inner, other.right)

    def __rmatmul__(self, other: Tensor) -> FactoredMatrix:
        return FactoredMatrix(other @ self.left, self.right)

    def dense(self, limit: int = DENSE_LIMIT) -> Float[Tensor, "a b"]:
        """All entries, [a, b].

        Raises:
            ValueError: more than `limit` entries; give a higher limit if you do want them.
        """
        a, b = self.shape
        if a * b > limit:
            raise ValueError(
                f"limit allows {limit} entries and this matrix has {a} x {b} = {a * b}: "
                "take rows(), entries(), diagonal(), or ask with a higher limit"
            )
        return self.left @ self.right

    def rows(self, indices: Int[Tensor, " n"]) -> Float[Tensor, "n b"]:
        """Some rows, [n, b]; for some columns, `.T.rows(indices)`.

        Raises:
            ValueError: a row that does not exist.
        """
        _check_indices("indices", indices, self.shape[0])
        return self.left[indices] @ self.right

    def entries(self, rows: Int[Tensor, " n"], columns: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Single entries, [n]: those at (rows[i], columns[i]).

        Raises:
            ValueError: a row or column that does not exist, or not as many of one as of the other.
        """
        _check_indices("rows", rows, self.shape[0])
        _check_indices("columns", columns, self.shape[1])
        if rows.shape != columns.shape:
            raise ValueError(f"rows and columns must pair up, got {len(rows)} rows and {len(columns)} columns")
        return (self.left[rows] * self.right.T[columns]).sum(dim=-1)

    def diagonal(self) -> Float[Tensor, " a"]:
        """The entries (i, i), [a], of a square matrix. Raises ValueError if it is not square."""
        self._check_square("a diagonal")
        return (self.left * self.right.T).sum(dim=-1)

    def trace(self) -> float:
        """The sum of the diagonal, which is the sum of the eigenvalues. Raises ValueError if not square."""
        return float(self.diagonal().sum())

    def eigenvalues(self) -> Tensor:
        """The eigenvalues that can differ from 0, complex, [min(r, a)]; the other a - r are 0.

        They are those of `right @ left`, [r, r]. Real parts can be negative, and complex ones come in pairs.

        Raises:
            ValueError: not square, or entries that are not finite.
        """
        self._check_square("eigenvalues")
        small = self.right @ self.left if self.left.shape[1] < self.shape[0] else self.left @ self.right
        if not small.isfinite().all():
            raise ValueError("left or right contains NaN or infinity, or overflows when multiplied: no eigenvalues")
        return torch.linalg.eigvals(small)

    def norm(self) -> float:
        """The Frobenius norm: root of the sum of all squared entries. 0 or more."""
        return float(torch.linalg.matrix_norm(self.compact_rows()))

    def compact_rows(self) -> Float[Tensor, "s b"]:
        """A matrix C of at most r rows with `C^T C = M^T M`: rotating the rows into few changes no norm.

        So `C @ X` has the norm of `M @ X` for every X. More exact than squaring the factors.
        """
        return torch.linalg.qr(self.left, mode="r").R @ self.right

    def pieces(self, rows: Int[Tensor, " n"] | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """All rows, or those given, a few at a time: pairs of row numbers [m] and dense rows [m, b]."""
        if rows is None:
            rows = torch.arange(self.shape[0], device=self.left.device)
        for some in rows.split(max(1, ENTRIES_AT_ONCE // self.shape[1])):
            yield some, self.rows(some)

    def _check_square(self, what: str) -> None:
        if self.shape[0] != self.shape[1]:
            raise ValueError(f"{what} needs a square matrix, this one is {self.shape[0]} x {self.shape[1]}")


def top_entries(
    matrix: FactoredMatrix, k: int, rows: Int[Tensor, " n"] | None = None
) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]:
    """The k largest entries of each row and the columns they stand in, largest first, without holding all rows.

    In a full OV circuit: the tokens whose logits a head raises most when it attends to the token of that row.

    Args:
        matrix: any factored matrix, [a, b].
        k: how many a row, 1 to b.
        rows: which rows; all by default.

    Returns:
        Values and column numbers, [rows, k] each.

    Raises:
        ValueError: a `k` outside 1..b, a row that does not exist, no rows.
    """
    check_whole("k", k)
    if not 1 <= k <= matrix.shape[1]:
        raise ValueError(f"k must lie in 1..{matrix.shape[1]}, the number of columns, got {k}")
    if rows is not None:
        _check_indices("rows", rows, matrix.shape[0])
    found = [dense.topk(k, dim=-1) for _, dense in matrix.pieces(rows)]
    return torch.cat([top.values for top in found]), torch.cat([top.indices for top in found])


@dataclass(frozen=True, eq=False)
class DiagonalStatistics:
    """How the diagonal of a square matrix stands out from the rest of it; see `diagonal_statistics`."""

    mean: float  # of the diagonal
    rest_mean: float  # of all other entries
    rest_std: float
    ranks: Int[Tensor, " a"]  # how many entries of its row are larger than the diagonal's: 0 is the largest

    def share_in_top(self, k: int) -> float:
        """Share of rows, 0..1, in which fewer than k entries are larger than the diagonal's; 1 is perfect copying.

        Raises:
            ValueError: k below 1.
        """
        check_counts(k=k)
        return (self.ranks < k).double().mean().item()


def diagonal_statistics(matrix: FactoredMatrix) -> DiagonalStatistics:
    """The diagonal against the rest, in one pass over the rows that never holds all of them.

    For a full OV circuit a large diagonal means copying: each token raises its own logit. For a full QK circuit it
    means that a token attends to its own copies; for a composed one, to what followed its own copies.

    Args:
        matrix: square, at least 2 x 2.

    Raises:
        ValueError: a matrix that is not square, smaller, or with entries that are not finite.
    """
    size, diagonal = matrix.shape[0], matrix.diagonal()
    if size < 2:
        raise ValueError(f"matrix must be at least 2 x 2, got {size} x {size}")
    total, squares, ranks = 0.0, 0.0, []
    for rows, dense in matrix.pieces():
        own = dense.gather(1, rows[:, None])  # as rounded in this product, so that ties are ties
        ranks.append((dense > own).sum(dim=1))
        rest = dense.double().scatter(1, rows[:, None], 0.0)
        total, squares = total + rest.sum().item(), squares + rest.square().sum().item()
    if not math.isfinite(squares) or not diagonal.isfinite().all():  # no entry is larger than NaN: rank 0
        raise ValueError("matrix has entries that are NaN or infinite")
    mean = total / (size * (size - 1))
    variance = max(squares / (size * (size - 1)) - mean**2, 0.0)
    return DiagonalStatistics(diagonal.double().mean().item(), mean, variance**0.5, torch.cat(ranks))


def _check_indices(name: str, indices: Tensor, size: int) -> None:
    if indices.ndim != 1 or len(indices) == 0:
        raise ValueError(f"{name} must be integers [n], at least one, got {list(indices.shape)}")
    check_integers(name, indices, size)
