"""Is one row better than another? The paired bootstrap over images."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.errors import RecipeError, UnknownNameError

if TYPE_CHECKING:
    import xarray as xr

_LEVEL = 0.95


def bootstrap_difference(
    result: "xr.Dataset", a: str, b: str, resamples: int = 2000, seed: int = 0
) -> dict[str, Any]:
    """How much more accurate row ``a`` of a comparison is than row ``b``, with a 95 % interval.

        ex.bootstrap_difference(table, "ties + LiNeS", "ties")

    The difference of mean accuracy (over tasks, then images). Both rows saw the same images, so
    images are resampled in pairs, with replacement and within each task (Efron and Tibshirani
    1993, percentile interval). An image counts +1, 0 or -1, hence a resample of a task is a draw of
    three counts, which is drawn directly. Returns difference, low, high, better ("a", "b", or
    "undecided" where the interval holds 0), resamples and seed.
    Raises UnknownNameError for a row that is not there.
    """
    return resampled(paired_differences(result, a, b), resamples, seed)


def resampled(
    differences: Sequence[np.ndarray], resamples: int = 2000, seed: int = 0
) -> dict[str, Any]:
    """``bootstrap_difference`` of what ``paired_differences`` gives: -1, 0 or 1 of every image of
    each task. Raises RecipeError for fewer than 100 resamples."""
    if resamples < 100 or resamples != int(resamples):
        raise RecipeError(f"A bootstrap takes at least 100 resamples, not {resamples!r}.")
    rng = np.random.default_rng(seed)
    means = np.mean([_resampled(d, int(resamples), rng) for d in differences], axis=0)
    low, high = np.quantile(means, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return {
        "difference": float(np.mean([d.mean() for d in differences])),
        "low": float(low),
        "high": float(high),
        "better": "a" if low > 0 else "b" if high < 0 else "undecided",
        "resamples": int(resamples),
        "seed": int(seed),
    }


def paired_differences(result: "xr.Dataset", a: str, b: str) -> list[np.ndarray]:
    """For each task the differences (-1, 0 or 1) of the images that both rows were tried on."""
    rows = [str(row) for row in result["row"].values]
    for row in (a, b):
        if row not in rows:
            raise UnknownNameError("row", row, rows)
    first, second = (result["correct"].sel(row=row).values for row in (a, b))
    seen = (first >= 0) & (second >= 0)
    pairs = zip(first, second, seen, strict=True)
    found = [x[there].astype(int) - y[there] for x, y, there in pairs if there.any()]
    if not found:
        raise RecipeError(f"The rows {a!r} and {b!r} have no image in common.")
    return found


def _resampled(difference: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Means of resamples of one task, (resamples,)."""
    n = len(difference)
    shares = [np.mean(difference == value) for value in (-1, 0, 1)]
    counts = rng.multinomial(n, shares, size=resamples)
    return (counts[:, 2] - counts[:, 0]) / n
