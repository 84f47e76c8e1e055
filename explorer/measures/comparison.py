"""Merging methods side by side, with and without LiNeS."""

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.compute.run import Run
from explorer.editing.adamerging import Learning, adamerged_recipe
from explorer.editing.methods import find_method, merging_methods
from explorer.errors import RecipeError, UnknownNameError
from explorer.measures.bootstrap import resampled
from explorer.measures.lines_search import (
    MergeSearch,
    Options,
    beta_grid,
    checked_merge,
    factor_grid,
    underneath,
)
from explorer.measures.trials import Trials, mean_known, relative
from explorer.recipe import DEFAULT_METHOD, Recipe
from explorer.tasks.task import Split, check_seed

if TYPE_CHECKING:
    import xarray as xr

    from explorer.models.model import Model

ZERO_SHOT, FINE_TUNED, ADAMERGING = "zero-shot", "fine-tuned", "adamerging"
RULE = (
    "factor (without LiNeS) or beta (with it; alpha = (1/N) ||sum of task vectors||_1 / ||merged "
    "vector||_1) of highest mean normalized accuracy on validation images"
)
_AGAINST = {
    "difference": "mean accuracy with LiNeS minus without",
    "low": "lower end of its 95 % interval",
    "high": "upper end of its 95 % interval",
}
NOT_COMPARED = ("layerwise",)
"""Methods that take numbers from elsewhere (AdaMerging has a row) and have none of their own."""


@dataclass(frozen=True)
class _Plan:
    """One row to come: a method, its options, with or without LiNeS."""

    method: str
    options: tuple[tuple[str, Any], ...]
    with_lines: bool

    @property
    def label(self) -> str:
        return f"{self.method} + LiNeS" if self.with_lines else self.method

    @property
    def grid(self) -> tuple[float, ...]:
        grid = beta_grid if self.with_lines else factor_grid
        return grid(self.method, self.options)


@dataclass(frozen=True)
class _Row:
    """One measured row."""

    label: str
    correct: list[np.ndarray]  # bool, one array a task
    recipe: str = ""
    method: str = ""
    with_lines: bool = False
    alpha: float = math.nan
    chosen: float = math.nan
    seconds: float = 0.0
    against: tuple[float, float, float] = (math.nan,) * 3  # of LiNeS: difference and its interval


def default_methods(n_tasks: int) -> list[str]:
    """The registered methods that make one model of that many tasks."""
    methods = merging_methods()
    left_out = {*NOT_COMPARED, *(["slerp"] if n_tasks != 2 else [])}
    return [name for name, x in methods.items() if not x.per_task and name not in left_out]


def compare(
    m: "Model",
    methods: Sequence[str] | None = None,
    lines: Sequence[bool] = (False, True),
    tasks: Sequence[str] | None = None,
    n: int | None = None,
    seed: int = 0,
    split: Split = "test",
    options: Mapping[str, Options] | None = None,
    n_validation: int | None = None,
    precision: str = "auto",
    adamerging: bool | None = None,
) -> "Run[xr.Dataset]":
    """Merging methods side by side: each chosen on validation images, then measured once.

        result = ex.compare(m, ["task_arithmetic", "ties"]).result()
        print(ex.comparison_table(result))

    Rows: zero-shot, fine-tuned (each task by its own model), and every method (all that make one
    model of these tasks unless named) without and with LiNeS, as ``lines`` says. Without, the
    factor of the merged vector is chosen over ``factor_grid``; with LiNeS alpha follows from the
    task vectors and beta is chosen over ``beta_grid``; both by mean normalized accuracy on
    ``n_validation`` images a task (as many as ``n`` unless given), and never on ``split`` images
    of which ``n`` a task are measured (all when None). ``options`` are those of some methods by
    name. ``seed`` chooses which images are used where there are more, and is the seed of methods
    that have one (unless ``options`` say otherwise). Candidates are compared in the preview format
    of ``precision`` ("float32" for the slow and exact way); what is reported is float32.

    The last row is AdaMerging, which learns coefficients from the very images it is measured on,
    without their labels, and takes longer than all others together: an upper reference. Its recipe
    has them as the option ``factors`` of the method ``layerwise``.
    ``adamerging`` says whether it is there: unless said, where no ``methods`` are named. Its
    ``options`` are by, steps, batch, learning_rate and initial of ``ex.adamerging``.

    A Run of whole datasets, one row more each: accuracy and normalized over (row, task),
    mean_accuracy, mean_normalized, recipe (JSON, empty for fine-tuned, which no recipe makes),
    method, with_lines, alpha, chosen (the factor, or beta; nan where there is none), seconds, and
    lines_difference, lines_low and lines_high (the mean accuracy of a row with LiNeS minus that of
    the same method without, and its 95 % interval by ``ex.bootstrap_difference``; nan elsewhere)
    over row, and correct over (row, task, image): 1, 0, or -1 where a task has fewer images.
    Raises UnknownNameError, RecipeError, ImageError.
    """
    names, _ = checked_merge(m, tasks, DEFAULT_METHOD, ())
    chosen = default_methods(len(names)) if methods is None else _unique(methods)
    learned = methods is None if adamerging is None else adamerging
    given = dict(options or {})
    known = [*chosen, ADAMERGING] if learned else chosen
    if unknown := [name for name in given if name not in known]:
        raise UnknownNameError("method in this comparison", unknown[0], known)
    seed = check_seed(seed)
    plans = [
        _Plan(method, _options(m, names, method, given.get(method, ()), seed), bool(flag))
        for method in chosen
        for flag in dict.fromkeys(bool(flag) for flag in lines)
    ]
    if not plans:
        raise RecipeError("A comparison takes at least one method, with or without LiNeS.")
    engine = m.engine(precision)
    tested = Trials.of(m, names, split, n, seed=seed, engine=engine)
    n = n if n_validation is None else n_validation
    searched = Trials.of(m, names, "val", n, seed=seed, engine=engine, dtype=engine.fast_dtype)
    learning = _learning(tested, seed, given.get(ADAMERGING, ())) if learned else None
    n_plans = len(plans) + learned

    def partials(run: Run) -> Iterator["xr.Dataset"]:
        rows = _references(tested, run)
        yield _dataset(rows, tested, searched, plans, learning)
        tuned = np.array([searched.fine_tuned(task, run).mean() for task in names])
        for i, plan in enumerate(plans):
            search = MergeSearch(searched, tuned, plan.method, plan.options)
            rows.append(_measured(plan, search, tested, run, rows, i / n_plans))
            yield _dataset(rows, tested, searched, plans, learning)
        if learning:
            rows.append(_learned(learning, tested, run, len(plans) / n_plans, 1 / n_plans))
            yield _dataset(rows, tested, searched, plans, learning)

    return Run(partials, title="comparison of merging methods")


def _unique(methods: Sequence[str]) -> list[str]:
    return [methods] if isinstance(methods, str) else list(dict.fromkeys(methods))


def _options(
    m: "Model", tasks: list[str], method: str, given: Options, seed: int
) -> tuple[tuple[str, Any], ...]:
    """The options of a method, checked; the comparison's seed where it, or the method that it
    goes over, takes one."""
    if "seed" in find_method(underneath(method, given)).options:
        given = {"seed": seed, **dict(given)}
    return checked_merge(m, tasks, method, given)[1]


def _references(tested: Trials, run: Run) -> list[_Row]:
    base = Recipe(tested.model.name)
    began = time.perf_counter()
    zero_shot = _Row(
        ZERO_SHOT,
        tested.zero_shot(run),
        base.to_json(),
        seconds=time.perf_counter() - began,
    )
    began = time.perf_counter()
    right = [tested.fine_tuned(task, run) for task in tested.tasks]
    return [zero_shot, _Row(FINE_TUNED, right, seconds=time.perf_counter() - began)]


def _measured(
    plan: _Plan,
    search: MergeSearch,
    tested: Trials,
    run: Run,
    before: Sequence[_Row],
    progress: float,
) -> _Row:
    began = time.perf_counter()
    run.checkpoint(progress)
    alpha = search.alpha(run) if plan.with_lines else math.nan

    def recipe(x: float) -> Recipe:
        return search.with_lines(alpha, x) if plan.with_lines else search.with_factor(x)

    chosen = search.choose(plan.grid, recipe, run, progress)
    final = recipe(chosen)
    row = _Row(
        plan.label,
        tested.correct(final, run, progress),
        final.to_json(),
        plan.method,
        plan.with_lines,
        alpha,
        chosen,
        time.perf_counter() - began,
    )
    return replace(row, against=_against(row, before))


def _against(row: _Row, before: Sequence[_Row]) -> tuple[float, float, float]:
    """What LiNeS adds to its method, with the interval; nan where there is nothing to compare."""
    plain = next((x for x in before if row.with_lines and x.label == row.method), None)
    if plain is None:
        return _Row.against
    pairs = zip(row.correct, plain.correct, strict=True)
    found = resampled([a.astype(int) - b for a, b in pairs])
    return found["difference"], found["low"], found["high"]


def _learning(tested: Trials, seed: int, options: Options) -> Learning:
    """AdaMerging on the images of the trials."""
    n = max(tested.sizes.values())
    return Learning.of(tested.model, tested.tasks, tested.split, n, seed, **dict(options))


def _learned(learning: Learning, tested: Trials, run: Run, progress: float, share: float) -> _Row:
    """AdaMerging's row; it is ``share`` of the whole and begins at ``progress``."""
    began = time.perf_counter()
    for found in learning.partials(lambda done: run.checkpoint(progress + share * done)):
        coefficients = found
    recipe = adamerged_recipe(learning.model, coefficients)
    return _Row(
        f"{ADAMERGING} (unlabelled {tested.split} images)",
        tested.correct(recipe, run, progress + share),
        recipe.to_json(),
        ADAMERGING,
        seconds=time.perf_counter() - began,
    )


def _dataset(
    rows: list[_Row],
    tested: Trials,
    searched: Trials,
    plans: list[_Plan],
    learning: Learning | None,
) -> "xr.Dataset":
    import xarray as xr

    sizes = list(tested.sizes.values())
    correct = np.full((len(rows), len(sizes), max(sizes)), -1, np.int8)
    for i, row in enumerate(rows):
        for j, right in enumerate(row.correct):
            correct[i, j, : len(right)] = right
    accuracy = np.array([[right.mean() for right in row.correct] for row in rows])
    normalized = relative(accuracy, accuracy[1])  # the second row is fine-tuned
    grids = {plan.label: plan.grid for plan in plans}
    learned = (
        f"{learning.steps} steps on unlabelled {tested.split} images, those it is measured on"
        if learning
        else ""
    )
    attrs = tested.attrs(
        len(rows) == len(plans) + 2 + bool(learning),
        rule=RULE,
        adamerging=learned,
        grids=json.dumps(grids),
        n_validation=json.dumps(searched.sizes),
        precision=f"float32, candidates in {str(searched.dtype).removeprefix('torch.')}",
        options=json.dumps({plan.method: dict(plan.options) for plan in plans if plan.options}),
    )
    return xr.Dataset(
        {
            "accuracy": (("row", "task"), accuracy, _about("accuracy")),
            "normalized": (("row", "task"), normalized, _about("accuracy / fine-tuned accuracy")),
            "mean_accuracy": ("row", accuracy.mean(1), _about("mean accuracy over tasks")),
            "mean_normalized": ("row", mean_known(normalized), _about("mean normalized accuracy")),
            "correct": (
                ("row", "task", "image"),
                correct,
                {"long_name": "1 right, 0 wrong, -1 no such image"},
            ),
            "recipe": ("row", [row.recipe for row in rows]),
            "method": ("row", [row.method for row in rows]),
            "with_lines": ("row", [row.with_lines for row in rows]),
            "alpha": ("row", [row.alpha for row in rows], _about("alpha of LiNeS")),
            "chosen": ("row", [row.chosen for row in rows], _about("chosen factor, or beta")),
            "seconds": ("row", [row.seconds for row in rows], {"units": "s"}),
            **{
                f"lines_{name}": ("row", [row.against[i] for row in rows], _about(text))
                for i, (name, text) in enumerate(_AGAINST.items())
            },
            "n": ("task", np.array(sizes)),
        },
        coords={"row": [row.label for row in rows], "task": tested.tasks},
        attrs=attrs,
    )


def _about(long_name: str) -> dict[str, str]:
    return {"units": "1", "long_name": long_name}
