"""All pairs: the mean disentanglement error of every two tasks of a model."""

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from explorer.compute.run import Run
from explorer.compute.store import Store
from explorer.errors import RecipeError, UnknownNameError
from explorer.measures.disentanglement import ErrorMap
from explorer.measures.grid import Alphas
from explorer.measures.map_summary import disentanglement_summary
from explorer.recipe import Recipe
from explorer.tasks.task import Split

if TYPE_CHECKING:
    import xarray as xr

    from explorer.editing.schedule import Schedule
    from explorer.models.model import Model

PAIR_POINTS = tuple(round(-3 + 0.75 * i, 10) for i in range(9))


def disentanglement_pairs(
    model: "Model",
    tasks: Sequence[str] | None = None,
    n: int | None = 128,
    alphas: Alphas | None = None,
    space: str = "weights",
    schedule: "Schedule | None" = None,
    seed: int = 0,
    *,
    split: Split = "test",
    precision: str = "auto",
    store: Store | bool = True,
) -> "Run[xr.Dataset]":
    """Mean disentanglement error of every pair of tasks (all of the model's, or some).

        ex.disentanglement_pairs(m).result()["mean_error"].plot()

    Variables over (task1, task2), symmetric: mean_error, the mean of both terms over the map, and
    search_region_error, that over coefficients in [0, 1]; nan on the diagonal and where a pair is
    not measured yet. Each pair is the map of ``disentanglement`` with the same arguments (9 points
    of [-3, 3] unless ``alphas`` are given) and is kept in the same store. A partial follows
    every partial of a map, so that one may stop or turn to something else within it;
    ``attrs["current"]`` names the pair being measured.
    """
    names = list(dict.fromkeys(model.tasks if tasks is None else tasks))
    for name in names:
        if name not in model.tasks:
            raise UnknownNameError("task vector", name, model.tasks)
    if len(names) < 2:
        raise RecipeError("A matrix of pairs needs two different tasks or more.")
    points = PAIR_POINTS if alphas is None else alphas
    edit = Recipe(model.name, {}, schedule, space=space)
    maps = {
        pair: ErrorMap.checked(
            model, pair, points, n, edit, seed=seed, split=split, precision=precision, store=store
        )
        for pair in itertools.combinations(names, 2)
    }
    return Run(lambda run: _partials(run, names, maps), title=f"pairs of {model.name}")


def _partials(
    run: Run, names: list[str], maps: dict[tuple[str, str], ErrorMap]
) -> Iterator["xr.Dataset"]:
    shape = (len(names), len(names))
    errors = {name: np.full(shape, np.nan) for name in ("mean_error", "search_region_error")}
    for k, (pair, work) in enumerate(maps.items()):

        def share(fraction: float, k: int = k) -> None:
            run.checkpoint((k + fraction) / len(maps))

        for found in work.partials(share, preview=False):
            if found.attrs["complete"]:
                i, j = map(names.index, pair)
                summary = disentanglement_summary(found)["mean_error"].values
                for matrix, value in zip(errors.values(), summary, strict=False):
                    matrix[i, j] = matrix[j, i] = value
            done = k + found.attrs["complete"]
            yield _dataset(names, errors, found, done, len(maps), " and ".join(pair))


def _dataset(
    names: list[str],
    errors: dict[str, np.ndarray],
    found: "xr.Dataset",
    done: int,
    n_pairs: int,
    current: str,
) -> "xr.Dataset":
    import xarray as xr

    long_names = {
        "mean_error": "disentanglement error, mean over the map",
        "search_region_error": "disentanglement error, mean over [0, 1]",
    }
    kept = ("cells", "cells_done", "stage", "stages")
    attrs = {key: value for key, value in found.attrs.items() if key not in kept}
    attrs |= {"pairs_done": done, "pairs": n_pairs, "complete": int(done == n_pairs)}
    attrs["current"] = "" if done == n_pairs else current
    return xr.Dataset(
        {
            name: (
                ("task1", "task2"),
                matrix.copy(),
                {"units": "1", "long_name": long_names[name]},
            )
            for name, matrix in errors.items()
        },
        coords={"task1": names, "task2": list(names)},
        attrs=attrs,
    )
