"""Weight disentanglement: how often a joint edit predicts otherwise than the edit of one task."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.compute.device import fast_dtype
from explorer.compute.run import Run
from explorer.compute.store import Store
from explorer.editing.methods import find_method
from explorer.errors import RecipeError, UnknownNameError
from explorer.measures.error_map import Predictions, class_dtype, error_map
from explorer.measures.fine_tuned import FineTuned
from explorer.measures.grid import Alphas, Cell, Grid
from explorer.measures.kept_cells import KeptCells
from explorer.measures.plane import Counts, Plane, Subset, plane_of
from explorer.measures.provenance import provenance
from explorer.recipe import DEFAULT_METHOD, Recipe
from explorer.tasks.task import Split, check_count, check_seed

if TYPE_CHECKING:
    import xarray as xr

    from explorer.editing.schedule import Schedule
    from explorer.models.model import Model

# Images a task of the first picture, and seconds between two partial results of a stage.
PREVIEW = 48
PACE_S = 0.25

Checkpoint = Callable[[float], None]


def disentanglement(
    model: "Model",
    tasks: Sequence[str],
    alphas: Alphas | None = None,
    n: int | None = 2048,
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
    """Weight-disentanglement error of two tasks on a grid of coefficients, coarse to fine.

        ex.disentanglement(m, ("mnist", "letters")).result()["error"].mean("task").plot()

    Ortiz-Jimenez et al. 2023, eq. 2, the two terms apart: error(task=t, alpha1, alpha2) is the
    share of task t's images on which theta_0 + a1 tau1 + a2 tau2 predicts another class than
    theta_0 + a_t tau_t, each through task t's own head (0 to 1; labels play no part). Beside it:
    accuracy of the joint edit, standard_error sqrt(e (1 - e) / n), measured (1, or 0 where a
    partial shows the nearest cell's value), and over images predicted, single1, single2 (the
    two single-task edits), label, image_index; by task n, fine_tuned and zero_shot accuracy.

    ``alphas`` are the points of both axes or a pair of lists (alpha1, alpha2); None is 21 points
    of [-3, 3]. ``n`` images a task (at most; None for all) are drawn with ``seed``. ``space`` and
    ``schedule`` are those of a Recipe. A ``method`` that is not linear merges each cell, and its
    single-task edit is the method applied to that vector alone.
    Raises RecipeError, ImageError and UnknownNameError at once, before anything is computed.
    """
    edit = Recipe(model.name, {}, schedule, method, option_pairs(options), space)
    work = ErrorMap.checked(
        model, tasks, alphas, n, edit, seed=seed, split=split, precision=precision, store=store
    )
    title = f"disentanglement of {' and '.join(work.subset.tasks)}"
    return Run(lambda run: work.partials(run.checkpoint), title)


def checked_pair(model: "Model", tasks: Sequence[str]) -> tuple[str, str]:
    """Two different tasks that have a vector. Raises RecipeError, UnknownNameError."""
    names = [tasks] if isinstance(tasks, str) else list(tasks)
    for name in names:
        if name not in model.tasks:
            raise UnknownNameError("task vector", name, model.tasks)
    if len(names) != 2 or names[0] == names[1]:
        given = " and ".join(map(repr, names)) or "none"
        raise RecipeError(f"A map compares the edits of two different tasks; {given} was given.")
    return names[0], names[1]


def checked_method(recipe: Recipe) -> None:
    """Raise RecipeError for options a method lacks, and in a linear space for no weighted sum."""
    method = find_method(recipe.method)
    method.check_options(dict(recipe.options))
    if recipe.space != "weights" and not method.one_pass:
        raise RecipeError(
            f"The method {recipe.method!r} is not linear; the {recipe.space!r} space is made "
            "for task_arithmetic."
        )


@dataclass(frozen=True)
class _Stage:
    """One resolution: which points, how many images of each task."""

    grid: Grid
    counts: Counts

    @property
    def images(self) -> int:
        """Images of all cells together."""
        return sum(self.counts) * len(self.grid.visits())


@dataclass(frozen=True)
class ErrorMap:
    """What is measured, checked before anything is computed."""

    subset: Subset
    recipe: Recipe
    grid: Grid
    precision: str
    store: Store | None

    @classmethod
    def checked(
        cls,
        model: "Model",
        tasks: Sequence[str],
        alphas: Alphas | None,
        n: int | None,
        recipe: Recipe,
        *,
        seed: int,
        split: Split,
        precision: str,
        store: Store | bool,
    ) -> "ErrorMap":
        """The map of two tasks; ``recipe`` gives space, schedule and method. Raises the errors
        of ``disentanglement``."""
        pair = checked_pair(model, tasks)
        recipe = recipe.replace(coefficients=dict.fromkeys(pair, 1.0))
        checked_method(recipe)
        n1, n2 = (check_count(n, model.n_images(task, split), task) for task in pair)
        fast_dtype(model.device, precision)  # refuses an unknown precision
        subset = Subset(model, pair, split, check_seed(seed), (n1, n2))
        kept_in = Store() if store is True else store or None
        return cls(subset, recipe, Grid.of(alphas), precision, kept_in)

    def stages(self) -> list[_Stage]:
        """5 x 5 with few images, then 9 x 9 and the whole grid with all of them."""
        first, *finer = self.grid.stages()
        few = tuple(min(n, PREVIEW) for n in self.subset.counts)
        stages = [_Stage(first, (few[0], few[1]))]
        stages += [_Stage(grid, self.subset.counts) for grid in finer or [self.grid]]
        return stages if stages[0] != stages[-1] else stages[:1]

    def partials(self, checkpoint: Checkpoint) -> Iterator["xr.Dataset"]:
        """Every partial result, of every stage."""
        yield from (found for found in self._steps(checkpoint, preview=True) if found is not None)

    def steps(self, checkpoint: Checkpoint) -> Iterator["xr.Dataset | None"]:
        """The complete map without partials; None after every cell before it, so that one may turn
        to something else."""
        for found in self._steps(checkpoint, preview=False):
            yield found if found is not None and found.attrs["complete"] else None

    def _steps(self, checkpoint: Checkpoint, preview: bool) -> Iterator["xr.Dataset | None"]:
        """After every cell a partial result, or None while the last one is less than PACE_S old;
        without ``preview`` the last stage only."""
        classes = class_dtype(max(len(self.subset.head(t).class_names) for t in range(2)))
        kept = KeptCells(self.subset, self.recipe, self.precision, classes, self.store)
        plane = plane_of(self.subset, self.recipe, self.precision)
        tuned = FineTuned(self.subset, self.recipe, kept, plane, self.store)
        with closing(plane), closing(kept), closing(tuned):
            stages = self.stages() if preview else self.stages()[-1:]
            if preview and all(kept.get(cell) for cell in stages[0].grid.visits()):
                stages = [_Stage(grid, self.subset.counts) for grid in self.grid.stages()]
            progress = _Progress(checkpoint, sum(s.images for s in stages))
            before = found = None
            for k, stage in enumerate(stages):
                predictions = Predictions(stage.grid, stage.counts, classes)
                fine_tuned = tuned.accuracies(stage.counts, progress.begin)
                for done, cells, due in self._fill(predictions, plane, kept, progress):
                    if not due:
                        yield None
                        continue
                    kept.flush()
                    attrs = {"stage": k + 1, "stages": len(stages)} | self.attrs(stage)
                    attrs |= {"precision": plane.precision, "stored": kept.note}
                    attrs |= {"cells_done": done, "cells": cells}
                    attrs["complete"] = int(k + 1 == len(stages) and done == cells)
                    found = error_map(predictions, self.subset, fine_tuned, attrs, before)
                    yield found
                before = found

    def _fill(
        self, predictions: Predictions, plane: Plane, kept: KeptCells, progress: "_Progress"
    ) -> Iterator[tuple[int, int, bool]]:
        """(cells done, cells, whether a result is due) after every cell: one is every PACE_S
        seconds, and when all are done."""
        grid, counts = predictions.grid, predictions.counts
        axes, shown_at = {*grid.axis_cells()}, time.monotonic()
        n_axis, n_cells = len(axes), len(grid.visits())
        for i, (cell, classes) in enumerate(self._classes(grid, counts, plane, kept, progress), 1):
            predictions.put(cell, classes)
            progress.advance(sum(counts))
            axes.discard(cell)
            # Axes may lie outside the points shown: begin when a cell of the map itself is there.
            shown = not axes and n_axis < i and time.monotonic() - shown_at > PACE_S
            yield i, n_cells, shown or i == n_cells
            if shown:
                shown_at = time.monotonic()

    def _classes(
        self, grid: Grid, counts: Counts, plane: Plane, kept: KeptCells, progress: "_Progress"
    ) -> Iterator[tuple[Cell, list[np.ndarray]]]:
        """Every cell with its classes. What is known comes first: a finer map never begins
        coarser than the one before."""
        keep = counts == self.subset.counts
        missing = []
        for cell in grid.visits():
            known = kept.get(cell) if keep else None
            if known is None:
                missing.append(cell)
            else:
                yield cell, known
        computed = plane.stream(missing, counts, progress.begin)
        for cell, classes in zip(missing, computed, strict=True):
            if keep:
                kept.put(cell, classes)
            yield cell, classes

    def attrs(self, stage: _Stage | None = None) -> dict[str, Any]:
        """What a result of a stage says of itself; of the last without one."""
        stage = stage or self.stages()[-1]
        return provenance(
            self.subset.model,
            space=self.recipe.space,
            schedule=self.recipe.schedule.to_text() if self.recipe.schedule else "",
            method=self.recipe.method,
            options=json.dumps(dict(self.recipe.options)),
            split=self.subset.split,
            seed=self.subset.seed,
            n=int(max(stage.counts)),
            resolution=f"{stage.grid} of {self.grid}",
        )


class _Progress:
    """How far a map is, in images of cells; ``checkpoint`` is that of its run."""

    def __init__(self, checkpoint: Checkpoint, total: int) -> None:
        self._checkpoint, self._total, self._done = checkpoint, total, 0

    def advance(self, images: int) -> None:
        """A cell of so many images is finished."""
        self._done += images
        self._checkpoint(self._done / self._total)

    def begin(self, n_images: int) -> None:
        """Before every batch: raises RunCancelled when the run was cancelled."""
        self._checkpoint(self._done / self._total)


def option_pairs(
    options: Mapping[str, Any] | Sequence[tuple[str, Any]],
) -> tuple[tuple[str, Any], ...]:
    """A method's options as a Recipe holds them."""
    return tuple(options.items()) if isinstance(options, Mapping) else tuple(options)
