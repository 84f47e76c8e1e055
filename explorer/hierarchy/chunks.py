"""Statistics of which leaves change together: correlation by tree distance, susceptibility.

sigma_i = +1 where a leaf changed and -1 where not; covariances are over the trajectories of one
starting string, then averaged over strings (Sclocchi et al. 2025, arXiv 2410.13770, section 3).
Everything follows from the variance of the number of changes in the blocks of leaves below a
node: blocks of s^l leaves hold all pairs up to tree distance l, so that no pair is ever visited.
Arrays of changes are (leaves, strings, trajectories), leaves in the order of ``messages``.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from explorer.hierarchy.mean_field_theory import correlation_length_of, susceptibility_of

RESAMPLES = 200


def block_variance(sigma: Tensor, s: int, L: int) -> Tensor:
    """Sum over blocks of s^l leaves of the variance of their summed sigma: (strings, L + 1).

    ``sigma`` float (s^L, strings, trajectories); the unbiased variance over trajectories.
    """
    found = []
    for height in range(L + 1):
        if height:
            sigma = sigma.view(s, -1, *sigma.shape[1:]).sum(0)
        found.append(sigma.var(dim=-1).sum(0))
    return torch.stack(found, dim=-1)


def changes_by_chunk(changed: Sequence[Tensor], s: int) -> Tensor:
    """How many leaves each depth moved, (depth, strings, trajectories).

    A changed leaf belongs to the topmost node of the unbroken line of changed nodes above it:
    all leaves below that node which changed with it are one chunk. ``changed`` bool (nodes,
    strings, trajectories) a depth, root first.
    """
    reached = [changed[-1].to(torch.int32)]
    for nodes in reversed(changed[:-1]):
        reached.append(reached[-1].view(s, *nodes.shape).sum(0, dtype=torch.int32) * nodes)
    totals = torch.stack([leaves.sum(0) for leaves in reached[::-1]])
    totals[1:] -= totals[:-1].clone()
    return totals


def correlation(variance: np.ndarray, s: int) -> np.ndarray:
    """C (..., distance) from the mean ``block_variance`` over strings (..., L + 1).

    The blocks of height l hold (s - 1) s^(l - 1) ordered pairs a leaf more than those below.
    """
    distance = np.arange(variance.shape[-1])
    leaves = float(s) ** distance[-1]
    partners = np.where(distance > 0, (s - 1) * float(s) ** (distance - 1), 1.0)
    return np.diff(variance, axis=-1, prepend=0) / (leaves * partners)


def susceptibility(variance: np.ndarray, s: int) -> np.ndarray:
    """chi = sum_ij C_ij / sum_i C_ii over all ordered pairs, from the mean ``block_variance``."""
    return susceptibility_of(correlation(variance, s), s)


def correlation_length(variance: np.ndarray, s: int) -> np.ndarray:
    """Distance in leaves at which C(r) has fallen to C(0) / e, from the mean ``block_variance``."""
    return correlation_length_of(correlation(variance, s), s)


def bootstrap_error(
    table: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray], seed: int
) -> np.ndarray:
    """Standard error of ``statistic(mean over strings)`` when strings are drawn again.

    ``table`` (..., strings, k): the strings are resampled with replacement ``RESAMPLES`` times,
    the same way for every leading index; the statistic takes (..., k). Of a single string the
    error is not known: nan.
    """
    n = table.shape[-2]
    rng = np.random.default_rng([seed, 2])
    weights = rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES) / n
    means = np.einsum("bn,...nk->b...k", weights, table)
    # A statistic that some resample does not have (a length beyond the string) has no error.
    spread = np.asarray(statistic(means)).std(axis=0, ddof=1)
    return spread if n > 1 else np.full_like(spread, np.nan)
