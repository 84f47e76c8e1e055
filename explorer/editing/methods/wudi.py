"""WUDI: merged matrices whose interference with every task's inputs is small."""

from typing import Annotated

import torch
from torch import Tensor

from explorer.editing.interrupting import step
from explorer.editing.methods import Option, merging_method
from explorer.editing.methods.pieces import Coefficients, Vectors, by_tensor
from explorer.editing.task_vector import TaskVector

_BETAS, _EPSILON = (0.9, 0.999), 1e-8  # Adam's, as in the authors' code


@merging_method(
    reference="Cheng et al. 2025, Whoever Started the Interference Should End It (WUDI)"
)
def wudi(
    vectors: Vectors,
    coefficients: Coefficients,
    steps: Annotated[int, Option("steps of Adam", 0, 1000, 10)] = 300,
    learning_rate: Annotated[
        float, Option("step of Adam, in units of weights", 1e-7, 1e-2, 1e-7, scale="log")
    ] = 1e-5,
) -> TaskVector:
    """From the sum, descend on sum_t ||(tau - tau_t) tau_t^T||^2 / ||tau_t||^2 in each matrix.

    tau_t stands for c_t tau_t, whose rows approximate the inputs that the task's layer saw, so
    that no data are needed; its start is sum_t c_t tau_t, and Adam stops it early on purpose (the
    authors' ``wudi_main.py``). The gradient is 2 (tau A - B), where
    A = sum_t tau_t^T tau_t / ||tau_t||^2 and B = sum_t tau_t tau_t^T tau_t / ||tau_t||^2; a task
    that left the matrix alone takes no part.
    Acts on open_clip's layout; tensors that are no matrices are the mean over the tasks.
    """

    def descend(tau: Tensor) -> Tensor:
        if tau.ndim != 3:
            return tau.mean(0)
        return _descended(tau, steps, learning_rate)

    return by_tensor(vectors, coefficients, descend)


def _descended(tau: Tensor, steps: int, learning_rate: float) -> Tensor:
    merged = tau.sum(0)
    a = torch.zeros(tau.shape[2], tau.shape[2], dtype=tau.dtype, device=tau.device)
    b = torch.zeros_like(merged)
    for matrix in tau:
        square = matrix.square().sum()
        if square > 0:
            gram = matrix.T @ matrix / square
            a += gram
            b += matrix @ gram
    mean, variance = torch.zeros_like(merged), torch.zeros_like(merged)
    for i in range(1, steps + 1):
        step()
        gradient = 2 * (merged @ a - b)
        mean.lerp_(gradient, 1 - _BETAS[0])
        variance.mul_(_BETAS[1]).addcmul_(gradient, gradient, value=1 - _BETAS[1])
        root = (variance / (1 - _BETAS[1] ** i)).sqrt_().add_(_EPSILON)
        merged -= learning_rate / (1 - _BETAS[0] ** i) * mean / root
    return merged
