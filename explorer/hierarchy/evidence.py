"""The four ways to noise a string, and what a noised leaf says about the symbol that was there.

A likelihood is an array (..., leaves, v), proportional to p(what is seen of the leaf | symbol).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from explorer.errors import GrammarError, UnknownNameError


def epsilon_likelihood(leaves: Tensor, v: int, eps: float) -> Tensor:
    """Belief mixing: lambda(x) = (1 - eps) [x is the leaf] + eps / v.

    ``leaves`` int64 (..., d) -> float32 (..., d, v). Nothing is drawn: eps is no flip probability
    but the share of each leaf's belief that is spread over all symbols (Sclocchi et al. 2024,
    arXiv 2402.16991, the epsilon process).
    """
    eps = check_level(eps, "epsilon")
    return _peaked(leaves, v, 1 - eps + eps / v, eps / v)


def masking_likelihood(leaves: Tensor, v: int, masked: Tensor) -> Tensor:
    """Absorbing noise: an unmasked leaf is certain, a ``masked`` one says nothing (1 / v).

    ``leaves`` int64 and ``masked`` bool (..., d) -> float32 (..., d, v) (Sclocchi et al. 2025,
    arXiv 2410.13770, masking diffusion).
    """
    return torch.where(masked[..., None], 1 / v, _peaked(leaves, v, 1.0, 0.0))


def uniform_likelihood(observed: Tensor, v: int, level: float) -> Tensor:
    """Uniform noise: a leaf was drawn anew among all v symbols with probability ``level``.

    lambda(x) = (1 - level) [x is the ``observed`` symbol] + level / v: the epsilon process' form,
    but around what is seen instead of the truth (D3PM, Austin et al. 2021, arXiv 2107.03006,
    with abar = 1 - level). int64 (..., d) -> float32 (..., d, v).
    """
    level = check_level(level)
    return _peaked(observed, v, 1 - level + level / v, level / v)


def gaussian_likelihood(x_t: Tensor, alpha_bar: float) -> Tensor:
    """Gaussian noise on one-hot symbols, x_t = sqrt(abar) e_x + sqrt(1 - abar) z.

    ``x_t`` (..., d, v) -> (..., d, v), lambda = softmax(x_t sqrt(abar) / (1 - abar)) from
    |x_t - sqrt(abar) e_x|^2. Without noise (abar = 1) the largest entry is certain.
    """
    alpha_bar = check_level(alpha_bar, "alpha_bar")
    if alpha_bar == 1:
        return _peaked(x_t.argmax(-1), x_t.shape[-1], 1.0, 0.0)
    return torch.softmax(x_t * (alpha_bar**0.5 / (1 - alpha_bar)), dim=-1)


@dataclass(frozen=True)
class Process:
    """A way to noise: its ``name``, what its ``level`` (0 to 1) means, and how it is done.

    ``likelihood(leaves, v, level, numbers)`` takes int64 leaves (trajectories, d) and the random
    ``numbers`` (trajectories, d, ...) that ``draw(rng, shape, v)`` made. They are the same at
    every level, so that moving the level changes what the level changes and nothing else.
    ``draw`` is None where nothing is random: all trajectories of a string then share one
    likelihood.
    """

    name: str
    level: str
    likelihood: Callable[[Tensor, int, float, Tensor | None], Tensor]
    draw: Callable[[np.random.Generator, tuple[int, int], int], np.ndarray] | None = None


def find_process(name: str) -> Process:
    """The process of that name. Raises UnknownNameError."""
    if name not in PROCESSES:
        raise UnknownNameError("process", name, PROCESSES)
    return PROCESSES[name]


def check_level(level: float, name: str = "The noise level") -> float:
    """``level`` as a float; GrammarError unless it is a number in [0, 1]."""
    try:
        number = float(level)
    except (TypeError, ValueError):
        number = float("nan")
    if not 0 <= number <= 1:
        raise GrammarError(f"{name} must lie in [0, 1], not {level!r}.")
    return number


def _peaked(symbols: Tensor, v: int, at_symbol: float, elsewhere: float) -> Tensor:
    likelihood = torch.full((*symbols.shape, v), elsewhere, device=symbols.device)
    return likelihood.scatter_(-1, symbols[..., None], at_symbol)


def _epsilon(leaves: Tensor, v: int, level: float, numbers: Tensor | None) -> Tensor:
    return epsilon_likelihood(leaves, v, level)


def _masking(leaves: Tensor, v: int, level: float, numbers: Tensor | None) -> Tensor:
    assert numbers is not None
    return masking_likelihood(leaves, v, numbers < level)


def _uniform(leaves: Tensor, v: int, level: float, numbers: Tensor | None) -> Tensor:
    # One number is both: whether the leaf is redrawn (its fraction) and as what (its whole part).
    assert numbers is not None
    symbol = numbers.long()
    return uniform_likelihood(torch.where(numbers - symbol < level, symbol, leaves), v, level)


def _gaussian(leaves: Tensor, v: int, level: float, numbers: Tensor | None) -> Tensor:
    assert numbers is not None
    one_hot = _peaked(leaves, v, (1 - level) ** 0.5, 0.0)
    return gaussian_likelihood(one_hot.add_(numbers, alpha=level**0.5), 1 - level)


def _fractions(rng: np.random.Generator, shape: tuple[int, int], v: int) -> np.ndarray:
    return rng.random(shape, dtype=np.float32)


def _symbols_and_fractions(rng: np.random.Generator, shape: tuple[int, int], v: int) -> np.ndarray:
    return rng.integers(v, size=shape) + rng.random(shape)


def _normals(rng: np.random.Generator, shape: tuple[int, int], v: int) -> np.ndarray:
    # torch draws them faster than numpy, which takes as long as everything else together.
    generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
    return torch.randn(*shape, v, generator=generator).numpy()


PROCESSES: dict[str, Process] = {
    process.name: process
    for process in (
        Process("epsilon", "belief mixing epsilon", _epsilon),
        Process("masking", "share of leaves masked, t / T", _masking, _fractions),
        Process("uniform", "probability that a leaf is redrawn", _uniform, _symbols_and_fractions),
        Process("gaussian", "noise variance 1 - alpha_bar", _gaussian, _normals),
    )
}
