"""Where a curve first falls below a height."""

import numpy as np


def first_below(curve: np.ndarray, distance: np.ndarray, height: float) -> np.ndarray:
    """Where a curve (..., distance) first falls below a height, linear between distances: (...).

    nan where it never does, and where it is not known at the first distance.
    """
    below = curve < height
    j = np.maximum(below.argmax(-1), 1)[..., None]
    before, after = (np.take_along_axis(curve, at, -1)[..., 0] for at in (j - 1, j))
    there = below.any(-1) & np.isfinite(curve[..., 0])
    drop = np.where(there, before - after, 1.0)
    along = (before - height) / drop
    start, end = distance[j[..., 0] - 1], distance[j[..., 0]]
    return np.where(there, start + along * (end - start), np.nan)
