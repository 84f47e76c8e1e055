"""A few numbers for an error map: over the whole, where coefficients are searched, at the best."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import xarray as xr

REGIONS = ("map", "search region", "best accuracy")
# Where coefficients are looked for in practice (the box drawn by Ortiz-Jimenez et al. 2023).
SEARCH_REGION = (0.0, 1.0)


def disentanglement_summary(dataset: "xr.Dataset") -> "xr.Dataset":
    """Mean error of a ``disentanglement`` result over regions of its map.

        ex.disentanglement_summary(found)["mean_error"].to_series()

    The regions: "map", every cell; "search region", those with both coefficients in [0, 1];
    "best accuracy", the one measured cell where normalized accuracy (accuracy / fine_tuned, mean
    of the two tasks) is largest, ties going to the smaller coefficients. Variables: error
    (region, task), mean_error (region) the mean of the two terms, cells (region) how many; nan
    where a region has no cell. ``attrs``: best_alpha1, best_alpha2, best_normalized.
    """
    import xarray as xr

    a1, a2 = dataset["alpha1"].values, dataset["alpha2"].values
    error = dataset["error"].values
    i, j, normalized = _best(dataset)
    low, high = SEARCH_REGION
    inside = np.outer((a1 >= low) & (a1 <= high), (a2 >= low) & (a2 <= high))
    best = np.zeros_like(inside)
    best[i, j] = True
    masks = [np.ones_like(inside), inside, best]
    rows = [error[:, m].mean(1) if m.any() else np.full(len(error), np.nan) for m in masks]
    by_task = np.array(rows)
    share = {"units": "1"}
    return xr.Dataset(
        {
            "error": (("region", "task"), by_task, share | {"long_name": "mean error"}),
            "mean_error": ("region", by_task.mean(1), share | {"long_name": "mean of both terms"}),
            "cells": ("region", np.array([int(m.sum()) for m in masks])),
        },
        coords={"region": list(REGIONS), "task": dataset["task"].values},
        attrs=dataset.attrs
        | {
            "best_alpha1": float(a1[i]),
            "best_alpha2": float(a2[j]),
            "best_normalized": normalized,
        },
    )


def _best(dataset: "xr.Dataset") -> tuple[int, int, float]:
    """Row, column and mean normalized accuracy of the best measured cell."""
    tuned = dataset["fine_tuned"].values[:, None, None]
    # A task on which even its own vector gets nothing right says nothing about a sum.
    normalized = np.divide(
        dataset["accuracy"].values, tuned, out=np.zeros(dataset["accuracy"].shape), where=tuned > 0
    ).mean(0)
    value = np.where(dataset["measured"].values == 1, normalized, -np.inf)
    reach = np.add.outer(np.abs(dataset["alpha1"].values), np.abs(dataset["alpha2"].values))
    place = np.lexsort((reach.ravel(), -value.ravel()))[0]
    i, j = np.unravel_index(place, value.shape)
    return int(i), int(j), float(normalized[i, j])
