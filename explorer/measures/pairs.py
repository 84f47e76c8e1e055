"""All pairs: the mean disentanglement error of every two tasks of a model."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.compute.run import Run
from explorer.compute.store import Store
from explorer.errors import RecipeError, UnknownNameError
from explorer.measures.disentanglement import ErrorMap, option_pairs
from explorer.measures.grid import Alphas
from explorer.measures.map_summary import disentanglement_summary
from explorer.recipe import DEFAULT_METHOD, Recipe
from explorer.tasks.task import Split

if TYPE_CHECKING:
    import xarray as xr

    from explorer.editing.schedule import Schedule
    from explorer.models.model import Model

LONG_NAMES = {
    "mean_error": "disentanglement error, mean over the map",
    "search_region_error": "disentanglement error, mean over [0, 1]",
}
Maps = dict[tuple[str, str], ErrorMap]
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
    method: str = DEFAULT_METHOD,
    options: Mapping[str, Any] | Sequence[tuple[str, Any]] = (),
    split: Split = "test",
    precision: str = "auto",
    store: Store | bool = True,
) -> "Run[xr.Dataset]":
    """Mean disentanglement error of every pair of tasks (all of the model's, or some).

        ex.disentanglement_pairs(m).result()["mean_error"].plot()

    Variables over (task1, task2), symmetric: mean_error, the mean of both terms over the map, and
    search_region_error, that over coefficients in [0, 1]; over (task1, task2, alpha1, alpha2) the
    maps themselves, error, the mean of both terms where task1 has alpha1 and task2 alpha2 (with
    other points on one axis than on the other, each pair in one order only). All nan on the
    diagonal and where a pair is not measured yet; n (task1) is how many images of each task are
    used. Each pair is the map of
    ``disentanglement`` with the same arguments (9 points of [-3, 3] unless ``alphas`` are given)
    and is kept in the same store. A partial follows every cell of a map, so that one may stop or
    turn to something else within it; ``attrs["current"]`` names the pair being measured.
    Raises RecipeError, ImageError and UnknownNameError at once, before anything is computed.
    """
    names = list(dict.fromkeys(model.tasks if tasks is None else tasks))
    for name in names:
        if name not in model.tasks:
            raise UnknownNameError("task vector", name, model.tasks)
    if len(names) < 2:
        raise RecipeError("A matrix of pairs needs two different tasks or more.")
    points = PAIR_POINTS if alphas is None else alphas
    edit = Recipe(model.name, {}, schedule, method, option_pairs(options), space)
    maps = {
        pair: ErrorMap.checked(
            model, pair, points, n, edit, seed=seed, split=split, precision=precision, store=store
        )
        for pair in itertools.combinations(names, 2)
    }
    return Run(lambda run: _partials(run, names, maps), title=f"pairs of {model.name}")


def _partials(run: Run, names: list[str], maps: Maps) -> Iterator["xr.Dataset"]:
    matrix = _Matrix(names, maps)
    for k, (pair, work) in enumerate(maps.items()):

        def share(fraction: float, k: int = k) -> None:
            run.checkpoint((k + fraction) / len(maps))

        for found in work.steps(share):
            if found is not None:
                matrix.enter(pair, found)
            yield matrix.dataset(" and ".join(pair))


class _Matrix:
    """What is known of the pairs so far."""

    def __init__(self, names: list[str], maps: Maps) -> None:
        self._names, self._pairs, self._done = names, len(maps), 0
        shape = (len(names), len(names))
        self._errors = {name: np.full(shape, np.nan) for name in LONG_NAMES}
        self._grid = next(iter(maps.values())).grid
        cells = (len(self._grid.alpha1), len(self._grid.alpha2))
        self._maps = np.full(shape + cells, np.nan)
        images = {
            task: n
            for work in maps.values()
            for task, n in zip(work.subset.tasks, work.subset.counts, strict=True)
        }
        self._n = np.array([images[name] for name in names])
        self._attrs = next(iter(maps.values())).attrs()

    def enter(self, pair: tuple[str, str], found: "xr.Dataset") -> None:
        """Take the complete map of a pair."""
        i, j = map(self._names.index, pair)
        summary = disentanglement_summary(found)["mean_error"].values
        for matrix, value in zip(self._errors.values(), summary, strict=False):
            matrix[i, j] = matrix[j, i] = value
        self._maps[i, j] = found["error"].mean("task").values
        if self._grid.alpha1 == self._grid.alpha2:
            self._maps[j, i] = self._maps[i, j].T
        self._done += 1
        self._attrs |= {key: found.attrs[key] for key in ("precision", "stored")}

    def dataset(self, current: str) -> "xr.Dataset":
        """All of it; ``current`` is the pair being measured."""
        import xarray as xr

        complete = self._done == self._pairs
        share = {"units": "1"}
        errors = {
            name: (("task1", "task2"), matrix.copy(), share | {"long_name": LONG_NAMES[name]})
            for name, matrix in self._errors.items()
        }
        over = ("task1", "task2", "alpha1", "alpha2")
        maps = {"error": (over, self._maps.copy(), share | {"long_name": "disentanglement error"})}
        return xr.Dataset(
            errors | maps | {"n": ("task1", self._n, {"long_name": "images of the task used"})},
            coords={
                "task1": self._names,
                "task2": list(self._names),
                "alpha1": list(self._grid.alpha1),
                "alpha2": list(self._grid.alpha2),
            },
            attrs=self._attrs
            | {
                "n": int(self._n.max()),
                "pairs_done": self._done,
                "pairs": self._pairs,
                "complete": int(complete),
                "current": "" if complete else current,
            },
        )
