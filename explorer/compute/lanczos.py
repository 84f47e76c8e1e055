"""Largest eigenpairs of a symmetric operator that is known only by its products with vectors."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Eigenpairs:
    """``values`` (k,), largest first; ``vectors`` (n, k) of length one; ``residuals`` (k,) are
    ||K v - lambda v||, each a bound on the error of its value."""

    values: np.ndarray
    vectors: np.ndarray
    residuals: np.ndarray


def lanczos(
    product: Callable[[np.ndarray], np.ndarray], start: np.ndarray, most: int
) -> Iterator[Callable[[int], Eigenpairs]]:
    """Lanczos' iteration with full reorthogonalisation, one product a step, ``most`` at most.

    Yields after every step a function k -> the k best Ritz pairs so far (Golub and Van Loan,
    Matrix Computations, section 10.1). Unlike scipy's eigsh it can be looked at on the way, and
    no product is repeated for a higher rank.
    """
    basis = [start / np.linalg.norm(start)]
    diagonal: list[float] = []
    beside: list[float] = []
    for _ in range(min(most, len(start))):
        image = product(basis[-1])
        diagonal.append(float(image @ basis[-1]))
        rows = np.array(basis)
        for _ in range(2):  # twice is enough: Parlett, after Kahan
            image = image - rows.T @ (rows @ image)
        beside.append(float(np.linalg.norm(image)))
        yield _ritz(rows, np.array(diagonal), np.array(beside))
        if beside[-1] <= 1e-10 * max(map(abs, diagonal)):
            return  # the basis spans all there is
        basis.append(image / beside[-1])


def _ritz(
    rows: np.ndarray, diagonal: np.ndarray, beside: np.ndarray
) -> Callable[[int], Eigenpairs]:
    def best(k: int) -> Eigenpairs:
        from scipy.linalg import eigh_tridiagonal

        values, inner = eigh_tridiagonal(diagonal, beside[:-1])
        values, inner = values[::-1][:k], inner[:, ::-1][:, :k]
        return Eigenpairs(values, rows.T @ inner, beside[-1] * np.abs(inner[-1]))

    return best
