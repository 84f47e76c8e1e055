"""Grouping vectors without labels, and how well groups agree with the truth."""

import numpy as np

RESTARTS = 30
STEPS = 30


def k_means(points: np.ndarray, k: int, seed: int = 0, restarts: int = RESTARTS) -> np.ndarray:
    """Group of each point, int64 (n): the tightest of ``restarts`` k-means++ runs.

    ``points`` (n, dimensions). Equal points share a group; with fewer distinct points than ``k``
    some groups stay empty (Arthur and Vassilvitskii 2007).
    """
    rng = np.random.default_rng([seed, 6])
    best, tightest = np.zeros(len(points), np.int64), np.inf
    for _ in range(restarts):
        groups, inertia = _one_run(points, k, rng)
        if inertia < tightest:
            best, tightest = groups, inertia
    return best


def _one_run(points: np.ndarray, k: int, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    centres = _spread_centres(points, k, rng)
    groups = np.full(len(points), -1)
    for _ in range(STEPS):
        distances = _squared_distances(points, centres)
        found = distances.argmin(1)
        if (found == groups).all():
            break
        groups = found
        sums = np.zeros_like(centres)
        np.add.at(sums, groups, points)
        counts = np.bincount(groups, minlength=len(centres))[:, None]
        centres = np.where(counts > 0, sums / np.maximum(counts, 1), centres)
    return groups, float(_squared_distances(points, centres).min(1).sum())


def _spread_centres(points: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """k-means++: each further centre with probability ~ squared distance to the nearest so far."""
    centres = [points[rng.integers(len(points))]]
    nearest = ((points - centres[0]) ** 2).sum(1)
    for _ in range(k - 1):
        running = nearest.cumsum()
        if running[-1] <= 0:
            break
        at = min(np.searchsorted(running, rng.random() * running[-1], "right"), len(points) - 1)
        centres.append(points[at])
        nearest = np.minimum(nearest, ((points - centres[-1]) ** 2).sum(1))
    return np.array(centres)


def _squared_distances(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    lengths = (points**2).sum(1)[:, None] + (centres**2).sum(1)
    return np.maximum(lengths - 2 * points @ centres.T, 0)


def agreement(found: np.ndarray, truth: np.ndarray) -> float:
    """Adjusted Rand index of two groupings of the same things: 1 equal, about 0 by chance.

    Both int64 (n). The share of pairs on which they agree, less what chance gives (Hubert and
    Arabie 1985). Two groupings without any pair to disagree on agree: 1.
    """
    rows, columns = (np.unique(x, return_inverse=True)[1] for x in (found, truth))
    table = np.bincount(rows * (columns.max() + 1) + columns).astype(float)

    def pairs(counts: np.ndarray) -> float:
        return float((counts * (counts - 1)).sum() / 2)

    together = pairs(table)
    of_found, of_truth = pairs(np.bincount(rows) * 1.0), pairs(np.bincount(columns) * 1.0)
    everything = len(found) * (len(found) - 1) / 2
    chance = of_found * of_truth / everything if everything else 0.0
    most = (of_found + of_truth) / 2
    return 1.0 if most == chance else (together - chance) / (most - chance)
