"""From a measured map to what is drawn: one layer of numbers on the full grid, and hover columns.

Pure functions over the datasets of `ex.disentanglement`; no panel, no torch. A picture is always
complete: where only a coarser grid is measured, every cell shows the nearest measured one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import xarray as xr

LAYERS = (
    "error",
    "error1",
    "error2",
    "accuracy",
    "normalized",
    "accuracy1",
    "accuracy2",
)
TERMS = ("mean", "sum")
BETTER_HIGH = ("accuracy", "normalized", "accuracy1", "accuracy2")
"""Layers in which a high number is good: their colours run the other way round."""


def layer_name(layer: str, titles: tuple[str, str], terms: str = "mean") -> str:
    """What a layer is called on screen; titles are those of the two tasks."""
    return {
        "error": f"disentanglement error, {terms} of both tasks",
        "error1": f"disentanglement error of {titles[0]}",
        "error2": f"disentanglement error of {titles[1]}",
        "accuracy": "accuracy, mean of both tasks",
        "normalized": "normalized accuracy, mean of both tasks",
        "accuracy1": f"accuracy on {titles[0]}",
        "accuracy2": f"accuracy on {titles[1]}",
    }[layer]


def layer_values(result: xr.Dataset, layer: str, terms: str = "mean") -> np.ndarray:
    """The layer's numbers (alpha1, alpha2), shares of 1 (sums of two: of 2)."""
    error, accuracy = result["error"].values, result["accuracy"].values
    if layer == "error":
        return error.sum(0) if terms == "sum" else error.mean(0)
    if layer in ("error1", "error2"):
        return error[int(layer[-1]) - 1]
    if layer == "accuracy":
        return accuracy.mean(0)
    if layer == "normalized":
        ceiling = result["fine_tuned"].values[:, None, None]
        shares = np.divide(accuracy, ceiling, out=np.zeros_like(accuracy), where=ceiling > 0)
        return shares.mean(0)
    return accuracy[int(layer[-1]) - 1]


def nearest_places(coarse: np.ndarray, fine: np.ndarray) -> np.ndarray:
    """For every point of `fine` the place in `coarse` (both ascending, 1-D) nearest to it."""
    return np.abs(fine[:, None] - coarse[None, :]).argmin(1)


def upsampled(
    values: np.ndarray, coarse: tuple[np.ndarray, np.ndarray], fine: np.ndarray
) -> np.ndarray:
    """values (..., coarse[0], coarse[1]) on the grid fine x fine, by the nearest cell."""
    rows, columns = (nearest_places(axis, fine) for axis in coarse)
    return values[..., rows[:, None], columns[None, :]]


def measured(result: xr.Dataset, alphas: np.ndarray) -> np.ndarray:
    """Whether each cell (alpha1, alpha2) of the full grid is itself computed."""
    full = np.zeros((len(alphas), len(alphas)), bool)
    rows, columns = (nearest_places(alphas, result[name].values) for name in ("alpha1", "alpha2"))
    full[np.ix_(rows, columns)] = result["measured"].values.astype(bool)
    return full


def columns(
    result: xr.Dataset, alphas: np.ndarray, layer: str, terms: str = "mean"
) -> dict[str, list[np.ndarray]]:
    """Columns of the map's data source, one 2-D array each with alpha2 down the rows, as drawn.

    `value` is the layer shown, `veil` 1 where the cell is not computed yet; the rest is for hover.
    """
    axes = (result["alpha1"].values, result["alpha2"].values)
    error, accuracy, deviation = (
        upsampled(result[name].values, axes, alphas)
        for name in ("error", "accuracy", "standard_error")
    )
    done = measured(result, alphas)
    first, second = np.meshgrid(alphas, alphas, indexing="ij")
    planes = {
        "value": upsampled(layer_values(result, layer, terms), axes, alphas),
        "veil": ~done,
        "alpha1": first,
        "alpha2": second,
        "mean": error.mean(0),
        "sum": error.sum(0),
    }
    for t in range(2):
        planes |= {
            f"error{t + 1}": error[t],
            f"deviation{t + 1}": deviation[t],
            f"accuracy{t + 1}": accuracy[t],
        }
    drawn = {name: [np.ascontiguousarray(p.T, np.float32)] for name, p in planes.items()}
    return drawn


def colour_limits(
    values: Iterable[np.ndarray], layer: str, terms: str, fitted: bool
) -> tuple[float, float]:
    """Ends of the colour bar all maps share: 0 and 1 (2 for a sum), or fitted to the values."""
    if not fitted:
        return 0.0, 2.0 if layer == "error" and terms == "sum" else 1.0
    every = [plane for plane in values if plane.size]
    if not every:
        return 0.0, 1.0
    low = float(min(plane.min() for plane in every))
    high = float(max(plane.max() for plane in every))
    return (low, high) if high - low > 1e-6 else (low, low + 0.01)


def at_cell(
    result: xr.Dataset, point: tuple[float, float]
) -> tuple[tuple[float, float], Mapping[str, np.ndarray], bool]:
    """The cell nearest to point: its coefficients, its numbers (task,), and whether it is known."""
    i, j = (
        int(np.abs(result[name].values - x).argmin())
        for name, x in zip(("alpha1", "alpha2"), point, strict=True)
    )
    cell = (float(result["alpha1"].values[i]), float(result["alpha2"].values[j]))
    names = ("error", "accuracy", "standard_error")
    return (
        cell,
        {n: result[n].values[:, i, j] for n in names},
        bool(result["measured"].values[i, j]),
    )
