"""Sums and means: task arithmetic, weight averaging, Model Stock, SLERP, layer directions."""

import math
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Literal

from torch import Tensor

from explorer.editing.layers import layer_name
from explorer.editing.methods import Option, merging_method
from explorer.editing.methods.pieces import Coefficients, Vectors, by_tensor, weighted_sum
from explorer.editing.task_vector import TaskVector, count_blocks
from explorer.errors import RecipeError

# Beyond this cosine two directions count as parallel and SLERP is a straight line (mergekit's).
_PARALLEL = 0.9995


@merging_method(reference="Ilharco et al. 2023, Editing Models with Task Arithmetic", linear=True)
def task_arithmetic(vectors: Vectors, coefficients: Coefficients) -> TaskVector:
    """The weighted sum of task vectors, sum_t c_t tau_t; a negative weight forgets."""
    return weighted_sum(vectors, lambda task, key: coefficients[task])


def mean_weights(coefficients: Mapping[str, float]) -> dict[str, float]:
    """c_t / T, T the number of tasks that take part."""
    return {task: c / len(coefficients) for task, c in coefficients.items()}


@merging_method(reference="Wortsman et al. 2022, Model soups", weights=mean_weights)
def weight_averaging(vectors: Vectors, coefficients: Coefficients) -> TaskVector:
    """The mean of the task vectors, (1/T) sum_t c_t tau_t; at c = 1 the mean of the models."""
    return task_arithmetic(vectors, mean_weights(coefficients))


@merging_method(
    reference="Jang et al. 2024, Model Stock: All We Need Is Just a Few Fine-Tuned Models"
)
def model_stock(vectors: Vectors, coefficients: Coefficients) -> TaskVector:
    """The mean, drawn towards the base the more the task vectors disagree, tensor by tensor.

    t mean_t(c_t tau_t) with t = T cos / (1 + (T-1) cos), cos the mean cosine of pairs of c_t tau_t
    (the paper's ratio for two models and its extension to T). One task is taken as it is (t = 1).
    A cosine below 0, or with a tensor that is zero, counts as 0: such a tensor stays at the base.
    """
    return by_tensor(vectors, coefficients, _stock)


def _stock(tau: Tensor) -> Tensor:
    n = len(tau)
    if n == 1:
        return tau[0]
    rows = tau.reshape(n, -1)
    products = (rows @ rows.T).double()
    lengths = products.diagonal().sqrt()
    cosines = (products / lengths.outer(lengths)).nan_to_num(0.0, 0.0, 0.0).fill_diagonal_(0.0)
    cosine = min(max(float(cosines.sum()) / (n * (n - 1)), 0.0), 1.0)
    return tau.mean(0) * (n * cosine / (1 + (n - 1) * cosine))


@merging_method(reference="Shoemake 1985, Animating Rotation with Quaternion Curves")
def slerp(
    vectors: Vectors,
    coefficients: Coefficients,
    t: Annotated[float, Option("place between the tasks, in alphabetical order", 0, 1, 0.01)] = 0.5,
    by: Literal["whole", "tensor"] = "whole",
) -> TaskVector:
    """Along the arc from one task vector to another, for exactly two tasks.

    sin((1-t) w)/sin(w) a + sin(t w)/sin(w) b, w the angle between a = c_1 tau_1 and
    b = c_2 tau_2, of the whole vectors or tensor by tensor; the straight line (1-t) a + t b where
    they are parallel or one is zero. Raises RecipeError for another number of tasks.
    """
    if len(vectors) != 2:
        raise RecipeError(
            f"SLERP goes from one task vector to another, but the recipe has {len(vectors)}: "
            "give exactly two tasks a coefficient."
        )
    first = next(iter(vectors))
    whole = _arc(vectors, coefficients, t) if by == "whole" else None

    @cache
    def arc(key: str) -> tuple[float, float]:
        one = {task: TaskVector({key: vector[key]}) for task, vector in vectors.items()}
        return whole or _arc(one, coefficients, t)

    return weighted_sum(
        vectors, lambda task, key: coefficients[task] * arc(key)[0 if task == first else 1]
    )


def _arc(vectors: Vectors, coefficients: Coefficients, t: float) -> tuple[float, float]:
    """The weights of a = c_1 tau_1 and b = c_2 tau_2 at the place t of the arc between them."""
    a, b = vectors.values()
    cosine = math.copysign(1.0, math.prod(coefficients.values())) * a.cosine(b)
    if not abs(cosine) <= _PARALLEL:  # also where one is zero and the cosine is nan
        return 1 - t, t
    angle = math.acos(cosine)
    return math.sin((1 - t) * angle) / math.sin(angle), math.sin(t * angle) / math.sin(angle)


@merging_method(reference="this project: a control for methods that weigh layers by magnitude")
def layer_directions(vectors: Vectors, coefficients: Coefficients) -> TaskVector:
    """Every task as long as the others in every layer: only directions are summed.

    In each depth l (input, each block, output): r_l sum_t c_t tau_t,l / ||tau_t,l||, where
    r_l = mean_t ||tau_t,l||. Lengths are taken before the coefficients, so that a task that moved
    far in a layer does not outvote the others there. A layer that a task did not move gives 0.
    """
    first = next(iter(vectors.values()))
    depth = count_blocks(first)
    lengths = {task: vector.by_layer(depth) for task, vector in vectors.items()}
    mean = {
        layer: math.fsum(lengths[task][layer] for task in vectors) / len(vectors)
        for layer in next(iter(lengths.values()))
    }

    layers = {key: layer_name(key, depth) for key in first}

    def factor(task: str, key: str) -> float:
        length = lengths[task][layers[key]]
        return coefficients[task] * mean[layers[key]] / length if length else 0.0

    return weighted_sum(vectors, factor)
