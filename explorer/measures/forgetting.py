"""What a task vector makes a model forget, and how much of that a schedule brings back."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.compute.run import Run, coarse_to_fine
from explorer.editing.methods import find_method
from explorer.editing.schedule import Schedule, lines
from explorer.errors import RecipeError, UnknownNameError
from explorer.measures.trials import Trials, mean_known, relative
from explorer.recipe import Recipe
from explorer.tasks.task import Split

if TYPE_CHECKING:
    import xarray as xr

    from explorer.models.model import Model

RULE = (
    "highest 2 x target + control, target = accuracy / fine-tuned accuracy, control = mean over "
    "the other tasks of accuracy / zero-shot accuracy; ties go to the larger alpha "
    "(LiNeS, Wang et al. 2024: beta = 1 - alpha)"
)
TARGET_WEIGHT = 2.0


def forgetting(
    m: "Model",
    task: str,
    schedules: "Mapping[str, Schedule] | None" = None,
    n: int | None = None,
    split: Split = "val",
    coefficient: float = 1.0,
    method: str = "task_arithmetic",
    options: Mapping[str, Any] | Sequence[tuple[str, Any]] = (),
) -> "Run[xr.Dataset]":
    """Target against control accuracy of one task vector under many schedules.

        found = ex.forgetting(m, "mnist").result()
        found.attrs["best"]

    LiNeS's rule for a single task: theta_0 + c s(depth) tau, s = ``ex.lines(alpha, 1 - alpha)``
    for alpha = 1.0, 0.9, ... 0.0 unless ``schedules`` (label -> schedule) are given, and the
    highest 2 target + control on validation images. Every partial holds the schedules tried so
    far, coarse to fine: over ``schedule`` target, control, tradeoff, pareto (no other schedule
    tried is at least as good in both and better in one), alpha and beta (nan where the schedule
    is not LiNeS) and schedule_json; accuracy over (schedule, task), zero_shot over task and
    fine_tuned, of the target. The other tasks include the control task.
    ``n`` limits the images of each task. Raises UnknownNameError for a task without a vector,
    RecipeError for what is no schedule.
    """
    if task not in m.tasks:
        raise UnknownNameError("task vector", task, m.tasks)
    if len(m.all_tasks) < 2:
        raise RecipeError(f"The model {m.name!r} has no other task that could be forgotten.")
    tried = _checked(default_schedules() if schedules is None else schedules)
    recipes = {
        label: Recipe(m.name, {task: coefficient}, schedule, method, options)  # type: ignore[arg-type]  # made a tuple there
        for label, schedule in tried.items()
    }
    find_method(method).check_options(dict(next(iter(recipes.values())).options))
    others = [other for other in m.all_tasks if other != task]
    trials = Trials.of(m, [task, *others], split, n)

    def partials(run: Run) -> Iterator["xr.Dataset"]:
        zero_shot = np.array([right.mean() for right in trials.zero_shot(run)])
        tuned = float(trials.fine_tuned(task, run).mean())
        found: dict[str, list[float]] = {}
        for label in coarse_to_fine(list(tried)):
            progress = len(found) / len(tried)
            found[label] = trials.accuracies(recipes[label], run, progress)
            so_far = {name: tried[name] for name in tried if name in found}
            accuracy = np.array([found[name] for name in so_far])
            more = {
                "task": task,
                "coefficient": float(coefficient),
                "method": method,
                "options": json.dumps(dict(recipes[label].options)),
                "rule": RULE,
            }
            attrs = trials.attrs(len(found) == len(tried), **more)
            yield _dataset(so_far, trials, accuracy, zero_shot, tuned, attrs)

    return Run(partials, title=f"forgetting under {task}")


def default_schedules() -> dict[str, Schedule]:
    """LiNeS's eleven candidates for one task: alpha = 1.0, 0.9, ... 0.0 and beta = 1 - alpha."""
    alphas = [round(1 - i / 10, 1) for i in range(11)]
    return {f"LiNeS {alpha:.1f}": lines(alpha, round(1 - alpha, 1)) for alpha in alphas}


def pareto_front(target: np.ndarray, control: np.ndarray) -> np.ndarray:
    """Which points (target, control) no other dominates: bool (n,). Equal points share the front.

    A point dominates another when it is at least as good in both and better in one.
    """
    at_least = (target[:, None] >= target) & (control[:, None] >= control)
    better = (target[:, None] > target) | (control[:, None] > control)
    return ~np.any(at_least & better, axis=0)


def _checked(schedules: object) -> dict[str, Schedule]:
    if not isinstance(schedules, Mapping) or not schedules:
        raise RecipeError(
            "Give the schedules as a mapping from labels to schedules, at least one, such as "
            f"{{'LiNeS': ex.lines(0.1, 0.9)}}, not {schedules!r}."
        )
    for label, schedule in schedules.items():
        if not isinstance(label, str) or not isinstance(schedule, Schedule):
            raise RecipeError(
                f"A schedule is built with ex.lines and the like and labelled by a text; "
                f"{label!r}: {schedule!r} is not."
            )
    return dict(schedules)


def _dataset(
    tried: dict[str, Schedule],
    trials: Trials,
    accuracy: np.ndarray,
    zero_shot: np.ndarray,
    tuned: float,
    attrs: dict[str, Any],
) -> "xr.Dataset":
    import xarray as xr

    target = relative(accuracy[:, 0], np.array(tuned))
    control = mean_known(relative(accuracy[:, 1:], zero_shot[1:]))
    tradeoff = TARGET_WEIGHT * target + control
    numbers = [s.parameters[:2] if s.kind == "lines" else (np.nan, np.nan) for s in tried.values()]
    alpha, beta = np.array(numbers, dtype=float).T
    best = max(range(len(tried)), key=lambda i: _rank(tradeoff[i], alpha[i], -i))
    over = "schedule"
    return xr.Dataset(
        {
            "target": (over, target, _about("accuracy on the task / fine-tuned accuracy")),
            "control": (over, control, _about("mean accuracy / zero-shot accuracy elsewhere")),
            "tradeoff": (over, tradeoff, _about("2 x target + control")),
            "pareto": (over, pareto_front(target, control)),
            "alpha": (over, alpha, _about("alpha of LiNeS")),
            "beta": (over, beta, _about("beta of LiNeS")),
            "schedule_json": (over, [json.dumps(s.to_data()) for s in tried.values()]),
            "accuracy": ((over, "task"), accuracy, _about("accuracy of the edited model")),
            "zero_shot": ("task", zero_shot, _about("accuracy of the base model")),
            "fine_tuned": ((), tuned, _about("accuracy on the task after fine-tuning")),
            "n": ("task", np.array(list(trials.sizes.values()))),
        },
        coords={"schedule": list(tried), "task": trials.tasks},
        attrs={**attrs, "best": list(tried)[best]},
    )


def _rank(tradeoff: float, alpha: float, place: int) -> tuple[float, float, int]:
    """How a schedule compares: by trade-off, then alpha, then the order given."""
    return (
        tradeoff if np.isfinite(tradeoff) else -np.inf,
        alpha if np.isfinite(alpha) else -np.inf,
        place,
    )


def _about(long_name: str) -> dict[str, str]:
    return {"units": "1", "long_name": long_name}
