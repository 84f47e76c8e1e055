"""LARV: every task vector rescaled layer by layer before any other method merges it.

Wang et al. 2026, "LARV: Data-Free Layer-wise Adaptive Rescaling Veneer for Model Merging"
(arXiv 2602.09413). The paper itself was not at hand: its abstract was, with a published review and
a public implementation for another kind of model that quotes its equations.

From these: a veneer over any merging method; a scale a layer for each task vector; two proxies a
layer that need weights only, the contrast e of effective ranks and the conflict c (a normalised
commutator, from both sides for rectangular matrices, standardised over the layers);
s = e^eta (l/L)^rho / (1 + softplus(c)), eta = 1, rho = 0.5; tiers of fixed scales by terciles of s,
or the continuous 1 + 0.5 tanh(gamma (s - 1)), gamma = 3.

Our choices where they are silent: the scales of the tiers (0.5 and 1.5, the ends of the continuous
rule, with 1 between them); two tiers divided at the median; the form for rectangular matrices for
square ones too; a layer is a block, its proxies the means over its matrices, and what is outside
the blocks stays as it is; each task vector by its own proxies; task arithmetic as the first merger.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from explorer.editing.interrupting import step
from explorer.editing.layers import layer_of
from explorer.editing.methods import Option, find_method, merging_method
from explorer.editing.methods.pieces import Coefficients, Vectors, working_dtype
from explorer.editing.task_vector import NamedTensors, TaskVector, count_blocks

Gate = Literal["three tiers", "two tiers", "continuous"]
Merger = Literal[
    "task_arithmetic",
    "weight_averaging",
    "ties",
    "dare",
    "breadcrumbs",
    "consensus",
    "iso_c",
    "iso_cts",
    "tsv_m",
    "wudi",
    "model_stock",
]


@merging_method(reference="Wang et al. 2026, LARV: Data-Free Layer-wise Adaptive Rescaling Veneer")
def larv(
    vectors: Vectors,
    coefficients: Coefficients,
    base: NamedTensors,
    merger: Annotated[Merger, Option("the method underneath, with its usual options")] = (
        "task_arithmetic"
    ),
    gate: Annotated[Gate, Option("how a layer's score becomes its scale")] = "three tiers",
    low: Annotated[float, Option("scale of the layers of lowest score", 0, 2, 0.05)] = 0.5,
    high: Annotated[float, Option("scale of the layers of highest score", 0, 2, 0.05)] = 1.5,
    eta: Annotated[float, Option("power of the contrast of effective ranks", 0, 3, 0.1)] = 1.0,
    rho: Annotated[float, Option("power of the relative depth", 0, 3, 0.1)] = 0.5,
    gamma: Annotated[float, Option("steepness of the continuous gate", 0, 10, 0.1)] = 3.0,
    seed: Annotated[int, Option("of a merger that draws numbers (dare)", 0, 2**31 - 1, 1)] = 0,
) -> TaskVector:
    """Damp shallow, conflicting layers of each task vector, strengthen deep ones, then merge.

    merger(s_t * tau_t, c_t), where s_t gives each block of tau_t a scale by its score
    (``scores``): ``low`` for the lowest third of the blocks, ``high`` for the highest, their
    mean between (two tiers: below and above the median); or continuously
    (high + low)/2 + (high - low)/2 tanh(gamma (score - 1)). A block that a task did not move has no
    score. What of this is the paper's and what is ours is said at the top of this file.
    """
    rescaled = {}
    for task, vector in vectors.items():
        scales = gated(scores(base, vector, eta, rho), gate, low, high, gamma)
        rescaled[task] = _rescaled(vector, scales)
    method = find_method(merger)
    options: dict[str, Any] = {"seed": seed} if "seed" in method.options else {}
    merged = method(rescaled, coefficients, **options)
    like = next(iter(vectors.values()))
    return TaskVector({key: x.to(like[key].dtype) for key, x in merged.items()})


def scores(
    base: NamedTensors, vector: TaskVector, eta: float = 1.0, rho: float = 0.5
) -> dict[int, float]:
    """e^eta (l/L)^rho / (1 + softplus(c)) of every block l = 1 ... L that moved, by l - 1.

    e and c are the block's ``proxies``; c is standardised over the blocks (population standard
    deviation; 0 where all are alike).
    """
    found = proxies(base, vector)
    conflicts = [c for _, c in found.values()]
    middle = math.fsum(conflicts) / max(1, len(conflicts))
    spread = math.sqrt(math.fsum((c - middle) ** 2 for c in conflicts) / max(1, len(conflicts)))
    depth = count_blocks(vector)
    return {
        layer: e**eta
        * ((layer + 1) / depth) ** rho
        / (1 + math.log1p(math.exp((c - middle) / spread if spread > 1e-8 else 0.0)))
        for layer, (e, c) in found.items()
    }


def gated(
    scores: Mapping[int, float],
    gate: Gate = "three tiers",
    low: float = 0.5,
    high: float = 1.5,
    gamma: float = 3.0,
) -> dict[int, float]:
    """The scale of every block that has a score."""
    middle = (high + low) / 2
    if gate == "continuous":
        half = (high - low) / 2
        return {i: middle + half * math.tanh(gamma * (s - 1)) for i, s in scores.items()}
    if not scores:
        return {}
    places = (1 / 3, 2 / 3) if gate == "three tiers" else (0.5, 0.5)
    values = torch.tensor(list(scores.values()), dtype=torch.float64)
    first, last = values.quantile(torch.tensor(places, dtype=torch.float64)).tolist()
    return {i: low if s < first else high if s > last else middle for i, s in scores.items()}


def proxies(base: NamedTensors, vector: TaskVector) -> dict[int, tuple[float, float]]:
    """(e, c) of every block that moved: means over its matrices W with a change D that is not zero.

    e = r(W) / r(D), r the effective rank; c the ``conflict`` of W and D.
    """
    depth = count_blocks(vector)
    found: dict[int, list[tuple[float, float]]] = {}
    for key, delta in vector.items():
        layer = layer_of(key, depth)
        weight = base[key].to(delta.device, working_dtype(delta))
        if layer is None or delta.ndim != 2 or not (delta.any() and weight.any()):
            continue
        step()
        change = delta.to(weight.dtype)
        contrast = effective_rank(weight) / effective_rank(change)
        found.setdefault(layer, []).append((contrast, conflict(weight, change)))
    return {
        layer: (
            math.fsum(e for e, _ in pairs) / len(pairs),
            math.fsum(c for _, c in pairs) / len(pairs),
        )
        for layer, pairs in sorted(found.items())
    }


def effective_rank(matrix: Tensor) -> float:
    """exp(-sum_j p_j log p_j), p_j = s_j^2 / sum s^2 over the singular values (Roy, Vetterli 2007,
    with energies). Between 1 and the rank, for a matrix that is not zero."""
    tall = matrix.double() if len(matrix) >= matrix.shape[1] else matrix.double().T
    energies = torch.linalg.eigvalsh(tall.T @ tall).clamp_(min=0)
    shares = energies / energies.sum()
    return float(torch.special.entr(shares).sum().exp())


def conflict(weight: Tensor, change: Tensor) -> float:
    """How far W and D are from commuting: the mean of ||W D^T - D W^T|| and ||W^T D - D^T W||
    (Frobenius), over ||W|| ||D||."""
    left, right = weight @ change.T, weight.T @ change
    apart = (left - left.T).norm() + (right - right.T).norm()
    return float(apart / (2 * weight.norm() * change.norm()))


def _rescaled(vector: TaskVector, scales: Mapping[int, float]) -> TaskVector:
    depth = count_blocks(vector)

    def scale(key: str) -> float:
        layer = layer_of(key, depth)
        return 1.0 if layer is None else scales.get(layer, 1.0)

    return TaskVector({key: scale(key) * x.to(working_dtype(x)) for key, x in vector.items()})
