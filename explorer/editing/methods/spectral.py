"""Methods that work on the singular values of weight matrices: Iso-C, Iso-CTS, TSV-M.

They act on the tensors with two axes, in open_clip's layout (query, key and value in one matrix;
the positional embedding and the projection are matrices too). Every other tensor is the mean of
c_t tau_t over the tasks, as in the authors' code.
"""

from typing import Annotated

import torch
from torch import Tensor

from explorer.editing.interrupting import step
from explorer.editing.methods import Option, merging_method
from explorer.editing.methods.pieces import Coefficients, Vectors, by_tensor
from explorer.editing.task_vector import TaskVector

_ISO = "Marczak et al. 2025, No Task Left Behind: Isotropic Model Merging"


@merging_method(reference=f"{_ISO} (Iso-C)")
def iso_c(vectors: Vectors, coefficients: Coefficients) -> TaskVector:
    """The sum with a flat spectrum: U mean(s) V^T of each matrix sum_t c_t tau_t = U s V^T.

    Where a matrix lacks rank, the directions it does not have are made up by the SVD.
    """

    def flat(tau: Tensor) -> Tensor:
        if tau.ndim != 3:
            return tau.mean(0)
        u, s, vt = torch.linalg.svd(tau.sum(0), full_matrices=False)
        return s.mean() * u @ vt

    return by_tensor(vectors, coefficients, flat)


@merging_method(reference=f"{_ISO} (Iso-CTS)")
def iso_cts(
    vectors: Vectors,
    coefficients: Coefficients,
    common: Annotated[float, Option("share of directions taken from the sum", 0, 1, 0.05)] = 0.8,
) -> TaskVector:
    """A flat spectrum over the sum's leading directions and some of each task's own.

    Of the r directions of a matrix, k = r - T round((r - int(common r))/T) come from
    sum_t c_t tau_t and (r-k)/T from each c_t tau_t without its part in the span of the former.
    Both sides are made orthonormal together (polar factor), and every direction gets the mean of
    the singular values that came along. The authors' ``iso.py``.
    """

    def flat(tau: Tensor) -> Tensor:
        if tau.ndim != 3:
            return tau.mean(0)
        u, s, vt = torch.linalg.svd(tau.sum(0), full_matrices=False)
        r = len(s)
        own = round((r - int(common * r)) / len(tau))
        own -= own * len(tau) > r  # rounded up to more directions than there are
        k = r - own * len(tau)
        left, values, right = [u[:, :k]], [s[:k]], [vt[:k]]
        for matrix in tau:
            step()
            rest = matrix - u[:, :k] @ (u[:, :k].T @ matrix)
            u_t, s_t, vt_t = torch.linalg.svd(rest, full_matrices=False)
            left.append(u_t[:, :own])
            values.append(s_t[:own])
            right.append(vt_t[:own])
        return torch.cat(values).mean() * _polar(torch.cat(left, 1)) @ _polar(torch.cat(right))

    return by_tensor(vectors, coefficients, flat)


@merging_method(reference="Gargiulo et al. 2025, Task Singular Vectors (TSV-Merge)")
def tsv_m(vectors: Vectors, coefficients: Coefficients) -> TaskVector:
    """Each task's leading singular vectors, made orthogonal to the other tasks', with its values.

    From each matrix c_t tau_t the first max(1, int(r/T)) singular triplets; side by side they are
    U, S, V, and the result is polar(U) S polar(V)^T. The authors' ``TSVM_utils.py``.
    """

    def decorrelated(tau: Tensor) -> Tensor:
        if tau.ndim != 3:
            return tau.mean(0)
        rank = max(1, min(tau.shape[1:]) // len(tau))
        left, values, right = [], [], []
        for matrix in tau:
            step()
            u, s, vt = torch.linalg.svd(matrix, full_matrices=False)
            left.append(u[:, :rank])
            values.append(s[:rank])
            right.append(vt[:rank])
        return _polar(torch.cat(left, 1)) * torch.cat(values) @ _polar(torch.cat(right))

    return by_tensor(vectors, coefficients, decorrelated)


def _polar(matrix: Tensor) -> Tensor:
    """The nearest matrix with orthonormal columns or rows: U V^T of U s V^T."""
    u, _, vt = torch.linalg.svd(matrix, full_matrices=False)
    return u @ vt
