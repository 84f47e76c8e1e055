"""Searches for coefficients on the validation split: one for all tasks, or one that forgets."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.compute.run import Run, coarse_to_fine
from explorer.errors import NothingFeasibleError, RecipeError, UnknownNameError
from explorer.measures.trials import Trials, relative
from explorer.recipe import Recipe
from explorer.tasks.task import Split

if TYPE_CHECKING:
    import xarray as xr

    from explorer.editing.schedule import Schedule
    from explorer.models.model import Model

GRID = tuple(round(i / 20, 2) for i in range(21))


def best_shared_coefficient(
    m: "Model",
    grid: Sequence[float] = GRID,
    split: Split = "val",
    n: int | None = None,
    space: str = "weights",
    schedule: "Schedule | None" = None,
    tasks: Sequence[str] | None = None,
) -> "Run[xr.Dataset]":
    """One coefficient for the sum of all task vectors, chosen by mean normalized accuracy.

        found = ex.best_shared_coefficient(m).result()
        found.attrs["best_coefficient"]

    Ilharco et al. 2023, section 4: 21 points on [0, 1], validation images. Every partial holds
    the coefficients tried so far (coarse to fine, sorted): accuracy and normalized over
    (coefficient, task), mean_normalized and mean_accuracy over coefficient, in float32. Ties go
    to the smaller coefficient.
    """
    search = _Search.of(m, m.tasks if tasks is None else tasks, grid, split, n, space)
    for task in search.sizes:
        if task not in m.tasks:
            raise UnknownNameError("task vector", task, m.tasks)

    def partials(run: Run) -> Iterator["xr.Dataset"]:
        trials = search.trials
        tuned = np.array([trials.fine_tuned(task, run).mean() for task in search.sizes])
        found: dict[float, list[float]] = {}
        for c in coarse_to_fine(search.points):
            recipe = Recipe(m.name, dict.fromkeys(search.sizes, c), schedule, space=space)
            found[c] = search.accuracies(recipe, run, len(found))
            yield _shared_dataset(search, found, tuned)

    return Run(partials, title="best shared coefficient")


def negation(
    m: "Model",
    task: str,
    control: str | None = None,
    control_threshold: float = 0.95,
    grid: Sequence[float] = GRID,
    split: Split = "val",
    n: int | None = None,
    space: str = "weights",
    schedule: "Schedule | None" = None,
) -> "Run[xr.Dataset]":
    """How strongly a task can be forgotten (theta_0 - c tau) while the control task is kept.

        found = ex.negation(m, "mnist").result()
        recipe = ex.Recipe(coefficients={"mnist": -ex.negation_coefficient(found)})

    Ilharco et al. 2023, section 3: the lowest target accuracy among the strengths c at which the
    control keeps ``control_threshold`` of its zero-shot accuracy. Variables over coefficient (the
    strength c, positive): target, control, feasible (1 or 0). ``attrs["best_coefficient"]`` is
    nan and ``attrs["conclusion"]`` says so when no c > 0 is feasible; ``negation_coefficient``
    then raises NothingFeasibleError.
    """
    m.task(task)
    if task not in m.tasks:
        raise UnknownNameError("task vector", task, m.tasks)
    control = control or m.control
    if control is None:
        raise RecipeError(f"The model {m.name!r} has no control task; name one with control=...")
    if control == task:
        raise RecipeError(f"The control task must be another than {task!r}, which is forgotten.")
    search = _Search.of(m, [task, control], grid, split, n, space)

    def partials(run: Run) -> Iterator["xr.Dataset"]:
        base = search.accuracies(Recipe(m.name), run, 0)
        found: dict[float, list[float]] = {}
        for c in coarse_to_fine(search.points):
            recipe = Recipe(m.name, {task: -c}, schedule, space=space)
            found[c] = search.accuracies(recipe, run, len(found))
            yield _negation_dataset(search, found, base, control_threshold * base[1])

    return Run(partials, title=f"negation of {task}")


def negation_coefficient(found: "xr.Dataset") -> float:
    """The chosen strength of a ``negation`` result. Raises NothingFeasibleError if none is."""
    best = float(found.attrs["best_coefficient"])
    if np.isnan(best):
        raise NothingFeasibleError(found.attrs["conclusion"])
    return best


@dataclass(frozen=True)
class _Search:
    """What is searched where: checked points, and images of each task."""

    trials: Trials
    points: list[float]

    @classmethod
    def of(
        cls,
        m: "Model",
        tasks: Sequence[str],
        grid: Sequence[float],
        split: Split,
        n: int | None,
        space: str,
    ) -> "_Search":
        points = sorted({float(c) for c in grid})
        if not points or not np.isfinite(points).all():
            raise RecipeError("The grid of a search must hold at least one finite number.")
        return cls(Trials.of(m, tasks, split, n, space), points)

    @property
    def sizes(self) -> dict[str, int]:
        return self.trials.sizes

    def accuracies(self, recipe: Recipe, run: Run, done: int) -> list[float]:
        """Accuracy on each task of a recipe, the ``done``-th point."""
        return self.trials.accuracies(recipe, run, done / len(self.points))

    def attrs(self, n_found: int, **more: Any) -> dict[str, Any]:
        """Provenance of a partial result with ``n_found`` points."""
        return self.trials.attrs(n_found == len(self.points), **more)


def _shared_dataset(
    search: _Search, found: dict[float, list[float]], tuned: np.ndarray
) -> "xr.Dataset":
    import xarray as xr

    coefficients = np.array(sorted(found))
    accuracy = np.array([found[c] for c in coefficients])
    normalized = relative(accuracy, tuned)
    # A task on which even its own vector gets nothing right says nothing about the sum.
    known = tuned > 0
    mean = normalized[:, known].mean(1) if known.any() else np.zeros(len(coefficients))
    over = ("coefficient", "task")
    return xr.Dataset(
        {
            "accuracy": (over, accuracy, {"units": "1", "long_name": "accuracy of the sum"}),
            "normalized": (over, normalized, {"units": "1", "long_name": "normalized accuracy"}),
            "mean_normalized": ("coefficient", mean, {"units": "1"}),
            "mean_accuracy": ("coefficient", accuracy.mean(1), {"units": "1"}),
            "fine_tuned": ("task", tuned, {"units": "1"}),
            "n": ("task", np.array(list(search.sizes.values()))),
        },
        coords={"coefficient": coefficients, "task": list(search.sizes)},
        attrs=search.attrs(len(found), best_coefficient=float(coefficients[mean.argmax()])),
    )


def _negation_dataset(
    search: _Search, found: dict[float, list[float]], base: list[float], floor: float
) -> "xr.Dataset":
    import xarray as xr

    task, control_task = search.sizes
    coefficients = np.array(sorted(found))
    target, control = np.array([found[c] for c in coefficients]).T
    feasible = control >= floor
    allowed = feasible & (coefficients > 0)  # no edit at all forgets nothing
    best = float("nan")
    if allowed.any():
        best = float(coefficients[np.where(allowed, target, np.inf).argmin()])
    return xr.Dataset(
        {
            "target": ("coefficient", target, {"units": "1", "long_name": f"accuracy on {task}"}),
            "control": (
                "coefficient",
                control,
                {"units": "1", "long_name": f"accuracy on {control_task}"},
            ),
            "feasible": ("coefficient", feasible.astype(np.int8)),
        },
        coords={"coefficient": coefficients},
        attrs=search.attrs(
            len(found),
            task=task,
            control_task=control_task,
            control_floor=floor,
            target_zero_shot=base[0],
            control_zero_shot=base[1],
            best_coefficient=best,
            conclusion=_conclusion(task, control_task, base, found.get(best), best, floor),
        ),
    )


def _conclusion(
    task: str,
    control: str,
    base: list[float],
    chosen: list[float] | None,
    best: float,
    floor: float,
) -> str:
    if chosen is None:
        return (
            f"Nothing is feasible: every strength tried takes {control!r} below {floor:.3f}, so "
            f"{task!r} cannot be forgotten within the rule."
        )
    return (
        f"At strength {best:g}, {task!r} goes from {base[0]:.3f} to {chosen[0]:.3f} while "
        f"{control!r} goes from {base[1]:.3f} to {chosen[1]:.3f} (allowed: {floor:.3f})."
    )
