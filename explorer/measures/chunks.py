"""Chunks: how far changes reach. Correlation by distance, susceptibility, connected blocks.

Covariances of the change of two patches are over the trajectories of one starting picture, then
averaged over pictures, before any ratio is taken (Sclocchi et al. 2025, arXiv 2410.13770, sections
3 and 4). The same statistics on a tree, by tree distance, are in ``explorer.hierarchy.chunks``.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.errors import ImageError
from explorer.hierarchy.chunks import RESAMPLES
from explorer.measures.crossing import first_below

if TYPE_CHECKING:
    import xarray as xr


def chunk_statistics(
    change: Any, threshold: float | None = None, seed: int = 0, resamples: int = RESAMPLES
) -> "xr.Dataset":
    """Statistics of a change field, each with a bootstrap error (``..._error``).

        chunks = ex.chunk_statistics(ex.change_field(result, kind="blocks"))
        chunks.susceptibility.plot()
        chunks.correlation.plot(hue="level")

    ``change`` is a Dataset of ``ex.change_field``, or its variable. With C_ij the covariance of
    the changes of patches i and j over trajectories, averaged over pictures:

    - ``correlation`` (level, distance): mean of C_ij over the pairs at a Euclidean distance on the
      patch grid, one value for every r^2 that occurs; distance 0 is the variance.
      ``relative_correlation`` is the same over its value at 0.
    - ``susceptibility`` (level): sum_ij C_ij / sum_i C_ii over all ordered pairs; nan where
      nothing varies. Of blocks of b patches that change as one, independently, it is b.
    - ``correlation_length`` (level), in patches: the distance at which relative_correlation first
      falls below 1/e, linear between distances; nan where it never does.
    - ``changed`` (level): share of patches whose change is above ``threshold`` (None: Otsu's, of
      all levels together; it is in the attrs). ``block_size``: mean size, in patches, of the
      chunk, connected changed patches (4 neighbours), that a changed patch belongs to.
      ``largest_block``: share of the picture in the largest one. ``block_count`` (level, size):
      chunks of each size in a picture.

    Errors come of drawing pictures again with replacement, each with its trajectories, from
    ``seed``; of a single picture, its trajectories are drawn again, which says nothing of other
    pictures (attrs ``error_over``). Raises ImageError for fewer than two trajectories.
    """
    field = change["change"] if hasattr(change, "data_vars") else change
    values, levels = _checked(field)
    limit = otsu_threshold(values) if threshold is None else float(threshold)
    groups = _Distances.of(*values.shape[-2:])
    draws = _Resampling.of(values.shape[1], values.shape[2], resamples, seed)
    rows = [_of_level(level, limit, groups, draws) for level in values]
    attrs = dict(getattr(change, "attrs", {}))
    attrs |= {
        "threshold": limit,
        "resamples": resamples,
        "bootstrap_seed": seed,
        "error_over": "trajectories"
        if values.shape[1] == 1
        else "pictures with their trajectories",
        "correlation_length": "first distance with relative correlation below 1/e",
        "neighbours": 4,
    }
    return _dataset(rows, levels, groups, values.shape[-2] * values.shape[-1], attrs)


def otsu_threshold(values: np.ndarray, bins: int = 256) -> float:
    """The threshold that parts values into two classes of largest variance between them.

    Otsu 1979 (IEEE Transactions on Systems, Man and Cybernetics 9, equation 18), on a histogram
    of ``bins`` bins. Of values that are all alike it is that value.
    """
    low, high = float(values.min()), float(values.max())
    if low == high:
        return low
    counts, edges = np.histogram(values, bins=bins, range=(low, high))
    share = np.cumsum(counts) / counts.sum()
    middle = (edges[:-1] + edges[1:]) / 2
    mean = np.cumsum(counts * middle) / counts.sum()
    with np.errstate(invalid="ignore", divide="ignore"):
        between = (mean[-1] * share - mean) ** 2 / (share * (1 - share))
    best = np.flatnonzero(between >= np.nanmax(between) * (1 - 1e-12))
    return float(edges[1:][best].mean())  # the middle, where the gap between classes is empty


@dataclass(frozen=True)
class _Distances:
    """Displacements on a grid, grouped by exact squared distance.

    ``group`` (2 rows - 1, 2 columns - 1) numbers the group of each displacement; ``pairs`` counts
    ordered pairs of patches in each.
    """

    distance: np.ndarray
    group: np.ndarray
    pairs: np.ndarray
    shape: tuple[int, int]

    @classmethod
    def of(cls, rows: int, columns: int) -> "_Distances":
        dy, dx = np.arange(1 - rows, rows)[:, None], np.arange(1 - columns, columns)[None]
        squared, group = np.unique(dy**2 + dx**2, return_inverse=True)
        group = group.reshape(2 * rows - 1, 2 * columns - 1)
        pairs = np.bincount(group.ravel(), weights=((rows - abs(dy)) * (columns - abs(dx))).ravel())
        return cls(np.sqrt(squared), group, pairs, (rows, columns))

    def products(self, fields: np.ndarray) -> np.ndarray:
        """Sum of f_i f_j over the pairs of each group: (..., rows, columns) -> (..., groups)."""
        rows, columns = self.shape
        padded = (2 * rows - 1, 2 * columns - 1)
        # Zeros around the field keep the circular correlation from meeting its own other side.
        power = np.abs(np.fft.rfft2(fields, s=padded)) ** 2
        lagged = np.fft.fftshift(np.fft.irfft2(power, s=padded), axes=(-2, -1))
        flat = lagged.reshape(-1, padded[0] * padded[1])
        member = np.eye(len(self.distance))[self.group.ravel()]
        return (flat @ member).reshape(*fields.shape[:-2], -1)


@dataclass(frozen=True)
class _Resampling:
    """How often each picture is drawn, or, of a single picture, each of its trajectories.

    ``data`` (resamples, data) and ``samples`` (resamples, samples), shares that sum to one. Both
    together would count the trajectories twice: pictures differ by them already.
    """

    data: np.ndarray
    samples: np.ndarray

    @classmethod
    def of(cls, data: int, samples: int, resamples: int, seed: int) -> "_Resampling":
        rng = np.random.default_rng([seed, 3])
        picked = rng.multinomial(data, np.full(data, 1 / data), size=resamples) / data
        even = np.full(samples, 1 / samples)
        if data > 1:
            return cls(picked, np.tile(even, (resamples, 1)))
        return cls(picked, rng.multinomial(samples, even, size=resamples) / samples)

    def mean(self, table: np.ndarray) -> np.ndarray:
        """(data, samples, k) -> the mean over both, of each resampling: (resamples, k)."""
        return np.einsum("bd,bs,dsk->bk", self.data, self.samples, table, optimize=True)


def _of_level(
    fields: np.ndarray, limit: float, groups: _Distances, draws: _Resampling
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Every statistic of one level with its error; ``fields`` (data, samples, rows, columns)."""
    found = {}
    sums, drawn = _covariances(fields, groups, draws)
    for name, of_sums in _OF_COVARIANCES.items():
        with np.errstate(invalid="ignore", divide="ignore"):
            found[name] = (of_sums(sums, groups), _spread(of_sums(drawn, groups)))
    sizes = _block_sizes(fields > limit)
    patches = fields.shape[-1] * fields.shape[-2]
    means, drawn = sizes.reshape(-1, sizes.shape[-1]).mean(0), draws.mean(sizes)
    for name, of_sizes in _OF_SIZES.items():
        with np.errstate(invalid="ignore", divide="ignore"):
            found[name] = (of_sizes(means, patches), _spread(of_sizes(drawn, patches)))
    largest = np.maximum.reduce(
        np.where(sizes > 0, np.arange(1, patches + 1), 0), axis=-1, keepdims=True
    )
    share = largest / patches
    found["largest_block"] = (share.mean(), _spread(draws.mean(share)[:, 0]))
    return found


def _covariances(
    fields: np.ndarray, groups: _Distances, draws: _Resampling
) -> tuple[np.ndarray, np.ndarray]:
    """Sum of C_ij over the pairs at each distance, and the same of every resampling.

    The covariance is unbiased: a resampling of n trajectories is centred on a mean of its own.
    """
    n = fields.shape[1]
    unbiased = n / (n - 1)
    centred = fields - fields.mean(1, keepdims=True)
    products = groups.products(centred)  # (data, samples, groups)
    by_picture = products.mean(1) * unbiased
    if len(fields) > 1:
        return by_picture.mean(0), draws.data @ by_picture
    mean = np.tensordot(draws.samples, centred[0], axes=1)
    drawn = draws.samples @ products[0] - groups.products(mean)
    return by_picture[0], drawn * unbiased**2


def _correlation(sums: np.ndarray, groups: _Distances) -> np.ndarray:
    return sums / groups.pairs


def _relative_correlation(sums: np.ndarray, groups: _Distances) -> np.ndarray:
    mean = sums / groups.pairs
    return mean / _positive(mean[..., :1])


def _susceptibility(sums: np.ndarray, groups: _Distances) -> np.ndarray:
    return sums.sum(-1) / _positive(sums[..., 0])


def _correlation_length(sums: np.ndarray, groups: _Distances) -> np.ndarray:
    return first_below(_relative_correlation(sums, groups), groups.distance, np.exp(-1))


def _positive(variance: np.ndarray) -> np.ndarray:
    """Variances, nan where nothing varies (to rounding)."""
    return np.where(variance > 1e-12, variance, np.nan)


_OF_COVARIANCES = {
    "correlation": _correlation,
    "relative_correlation": _relative_correlation,
    "susceptibility": _susceptibility,
    "correlation_length": _correlation_length,
}


def _block_sizes(changed: np.ndarray) -> np.ndarray:
    """How many connected blocks of each size, 1 to all patches: (data, samples, patches)."""
    from scipy.ndimage import label

    patches = changed.shape[-1] * changed.shape[-2]
    found = np.zeros((*changed.shape[:2], patches))
    for place in np.ndindex(*changed.shape[:2]):
        numbers, n = label(changed[place])
        if n:
            sizes = np.bincount(numbers.ravel())[1:]
            found[place] = np.bincount(sizes, minlength=patches + 1)[1:]
    return found


def _block_count(counts: np.ndarray, patches: int) -> np.ndarray:
    return counts


def _changed(counts: np.ndarray, patches: int) -> np.ndarray:
    return counts @ np.arange(1, patches + 1) / patches


def _block_size(counts: np.ndarray, patches: int) -> np.ndarray:
    sizes = np.arange(1, patches + 1)
    total = counts @ sizes
    return counts @ sizes**2 / np.where(total > 0, total, np.nan)


_OF_SIZES = {"block_count": _block_count, "changed": _changed, "block_size": _block_size}


def _spread(drawn: np.ndarray) -> np.ndarray:
    """Standard deviation over resamplings in which the statistic exists; nan of fewer than two."""
    known = np.isfinite(drawn)
    n = known.sum(0)
    mean = np.where(known, drawn, 0).sum(0) / np.maximum(n, 1)
    squares = np.where(known, (drawn - mean) ** 2, 0).sum(0)
    return np.where(n > 1, np.sqrt(squares / np.maximum(n - 1, 1)), np.nan)


def _checked(field: Any) -> tuple[np.ndarray, Any]:
    """(level, datum, sample, y, x) float64 and the level coordinate. Raises ImageError."""
    needed = {"sample", "y", "x"}
    if not hasattr(field, "dims") or not needed <= set(field.dims):
        raise ImageError(
            "Chunk statistics are taken of a change field with dimensions level, sample, y, x; "
            "make one with ex.change_field."
        )
    if "level" not in field.dims:
        field = field.expand_dims("level")
    if "datum" not in field.dims:
        field = field.expand_dims("datum")
    values = field.transpose("level", "datum", "sample", "y", "x").values.astype(np.float64)
    if values.shape[2] < 2:
        raise ImageError(
            "A covariance is over at least two trajectories; noise the picture with samples=2 "
            "or more."
        )
    if not np.isfinite(values).all():
        raise ImageError("This change field holds numbers that are not finite.")
    return values, field["level"] if "level" in field.coords else np.arange(len(values))


_WORDS = {
    "correlation": "covariance of the changes of two patches",
    "relative_correlation": "correlation over its value at distance 0",
    "susceptibility": "susceptibility chi",
    "correlation_length": "distance at which the correlation has fallen to 1/e",
    "changed": "share of patches changed",
    "block_size": "mean size of the chunk of a changed patch",
    "largest_block": "share of the picture in the largest chunk",
    "block_count": "chunks of this size in a picture",
}
_UNITS = {"correlation_length": "patches", "block_size": "patches"}
_LAST = {"correlation": "distance", "relative_correlation": "distance", "block_count": "size"}


def _dataset(
    rows: list[dict[str, tuple[np.ndarray, np.ndarray]]],
    levels: Any,
    groups: _Distances,
    patches: int,
    attrs: dict[str, Any],
) -> "xr.Dataset":
    import xarray as xr

    variables = {}
    for name, words in _WORDS.items():
        dims = ("level", _LAST[name]) if name in _LAST else ("level",)
        units = {"units": _UNITS.get(name, "1")}
        value, error = (np.array([row[name][i] for row in rows]) for i in (0, 1))
        variables[name] = (dims, value, {"long_name": words, **units})
        variables[f"{name}_error"] = (dims, error, {"long_name": "bootstrap error", **units})
    long = {"long_name": "distance on the patch grid", "units": "patches"}
    coords = {
        "level": levels if hasattr(levels, "dims") else ("level", levels),
        "distance": ("distance", groups.distance, long),
        "size": ("size", np.arange(1, patches + 1), {"long_name": "size", "units": "patches"}),
    }
    return xr.Dataset(variables, coords=coords, attrs=attrs)
