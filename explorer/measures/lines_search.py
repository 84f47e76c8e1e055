"""LiNeS on a merged model: alpha from the task vectors, beta from validation images."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.compute.run import Run, coarse_to_fine
from explorer.editing.methods import find_method
from explorer.editing.schedule import constant, lines
from explorer.editing.task_vector import TaskVector
from explorer.errors import RecipeError, UnknownNameError
from explorer.measures.trials import Trials, mean_known, relative
from explorer.recipe import DEFAULT_METHOD, Recipe
from explorer.tasks.task import Split

if TYPE_CHECKING:
    import xarray as xr

    from explorer.models.model import Model

Options = Mapping[str, Any] | Sequence[tuple[str, Any]]

TENTHS = tuple(round(i / 10, 1) for i in range(1, 11))
# The grids over which the papers choose the factor of the merged vector. LiNeS takes its beta from
# the same ones (section 5 there: beta replaces the factor, at no more cost).
_FACTORS = {
    "ties": tuple(round(i / 10, 1) for i in range(1, 16)),
    **dict.fromkeys(("iso_c", "iso_cts", "tsv_m"), tuple(round(i / 5, 1) for i in range(1, 16))),
}
# Methods whose papers have no such factor: without LiNeS they are taken as they are.
WITHOUT_FACTOR = ("weight_averaging", "model_stock", "slerp", "wudi")


def factor_grid(method: str, options: Options = ()) -> tuple[float, ...]:
    """The factors of the merged vector that are tried for a method without LiNeS.

    0.1 to 1 in tenths (task arithmetic, Consensus and others), to 1.5 (TIES), 0.2 to 3 in steps
    of 0.2 (Iso-C, Iso-CTS and TSV-M, whose authors search to 3 in tenths); 1 alone for
    the methods in WITHOUT_FACTOR. LARV has the factors of the method underneath.
    """
    method = underneath(method, options)
    return (1.0,) if method in WITHOUT_FACTOR else _FACTORS.get(method, TENTHS)


def beta_grid(method: str, options: Options = ()) -> tuple[float, ...]:
    """The values of beta that are tried: the method's factors, or tenths where it has none."""
    return _FACTORS.get(underneath(method, options), TENTHS)


def underneath(method: str, options: Options) -> str:
    """The method itself, or the one that it goes over."""
    option = find_method(method).options.get("merger")
    return str(dict(options).get("merger", option.default)) if option else method


def lines_alpha(vectors: Mapping[str, TaskVector], merged: TaskVector) -> float:
    """LiNeS's alpha for a merged vector: (1/N) ||sum_t tau_t||_1 / ||tau_merged||_1.

    Wang et al. 2024, section 4.2, in the L1 norm of the authors' code, over the image tower's
    parameters: 1/N for task arithmetic. Raises RecipeError where the merged vector is zero.
    """
    length = merged.l1
    if not length:
        raise RecipeError(
            "The merged vector is zero, so LiNeS has no alpha for it: choose another method, "
            "other options or other tasks."
        )
    return sum(vectors.values()).l1 / len(vectors) / length  # type: ignore[union-attr]  # at least one


@dataclass(frozen=True)
class MergeSearch:
    """One merging method on the same images: its recipes, and how good they are."""

    trials: Trials
    tuned: np.ndarray  # accuracy of each task's own fine-tuned model
    method: str
    options: tuple[tuple[str, Any], ...]

    @property
    def tasks(self) -> list[str]:
        return self.trials.tasks

    def with_lines(self, alpha: float, beta: float) -> Recipe:
        """The merged vector of coefficients 1 under LiNeS."""
        recipe = Recipe(self.trials.model.name, dict.fromkeys(self.tasks, 1.0), method=self.method)
        return recipe.replace(options=self.options, schedule=lines(alpha, beta))

    def with_factor(self, factor: float) -> Recipe:
        """The merged vector times a factor: as the coefficient where the method is a weighted sum,
        else as a constant schedule over the vector merged once."""
        recipe = self.with_lines(0.0, 0.0)
        if find_method(self.method).one_pass:
            return recipe.replace(
                schedule=None, coefficients=dict.fromkeys(self.tasks, float(factor))
            )
        return recipe.replace(schedule=None if factor == 1.0 else constant(factor))

    def alpha(self, run: Run) -> float:
        """The paper's alpha of this method and these tasks."""
        model = self.trials.model
        vectors = {task: model.task_vector(task) for task in self.tasks}
        merged = self.trials.engine.combined(self.with_lines(0.0, 0.0), run.checkpoint)
        assert merged is not None  # every coefficient is 1
        return lines_alpha(vectors, merged)

    def mean_normalized(self, accuracy: np.ndarray) -> np.ndarray:
        """Mean over tasks (the last axis) of accuracy / fine-tuned accuracy."""
        return mean_known(relative(accuracy, self.tuned))

    def choose(
        self,
        points: Sequence[float],
        recipe: Callable[[float], Recipe],
        run: Run,
        progress: float | None = None,
    ) -> float:
        """The point of highest mean normalized accuracy; ties go to the smaller one."""
        if len(points) == 1:
            return points[0]
        found = [self.trials.accuracies(recipe(x), run, progress) for x in sorted(points)]
        return sorted(points)[first_best(self.mean_normalized(np.array(found)))]


def checked_merge(
    m: "Model", tasks: Sequence[str] | None, method: str, options: Options
) -> tuple[list[str], tuple[tuple[str, Any], ...]]:
    """The tasks and options of a search. Raises UnknownNameError or RecipeError."""
    names = list(m.tasks if tasks is None else [tasks] if isinstance(tasks, str) else tasks)
    for task in names:
        if task not in m.tasks:
            raise UnknownNameError("task vector", task, m.tasks)
    if not names or len(set(names)) != len(names):
        raise RecipeError("A search takes at least one task, each once.")
    found = find_method(method)
    chosen = Recipe(method=method, options=options).options  # type: ignore[arg-type]  # made a tuple there
    found.check_options(dict(chosen))
    if found.per_task:
        raise RecipeError(
            f"The method {method!r} makes a model for one task, which cannot be measured on all "
            "of them; merge with 'consensus' instead."
        )
    return names, chosen


def first_best(values: np.ndarray) -> int:
    """The place of the highest value, the first of equals; nan counts least."""
    return int(np.where(np.isnan(values), -np.inf, values).argmax())


def lines_search(
    m: "Model",
    tasks: Sequence[str] | None = None,
    method: str = DEFAULT_METHOD,
    options: Options = (),
    alphas: Sequence[float] | None = None,
    betas: Sequence[float] | None = None,
    n: int | None = None,
    split: Split = "val",
) -> "Run[xr.Dataset]":
    """LiNeS's alpha and beta for a merged model, and the whole plane around them.

        found = ex.lines_search(m, method="ties").result()
        found.attrs["paper_alpha"], found.attrs["paper_beta"]

    The paper's rule for several tasks: alpha from ``lines_alpha``, beta the best on validation
    images (mean normalized accuracy) over the grid that the method has for its factor. First that
    row is measured, then the method alone over its factors, then every (alpha, beta): ``alphas``
    are 0 to 3 times the paper's in half steps unless given (the paper's is always one of them),
    ``betas`` the method's grid. Every partial is whole: accuracy over (alpha, beta, task),
    mean_normalized and mean_accuracy over (alpha, beta), nan where not tried yet; over
    ``coefficient`` constant_normalized and constant_accuracy, of the method alone. ``attrs``:
    paper_alpha, paper_beta, best_alpha, best_beta, constant_best, and each one's recipe in JSON
    (paper_recipe, best_recipe, constant_recipe; empty, and the numbers nan, while unknown).
    Ties go to the smaller numbers.
    Raises UnknownNameError, RecipeError, ImageError.
    """
    names, chosen = checked_merge(m, tasks, method, options)
    trials = Trials.of(m, names, split, n)
    given = None if alphas is None else _finite(alphas, "alphas")
    beta_axis = beta_grid(method, chosen) if betas is None else _finite(betas, "betas")

    def partials(run: Run) -> Iterator["xr.Dataset"]:
        tuned = np.array([trials.fine_tuned(task, run).mean() for task in names])
        search = MergeSearch(trials, tuned, method, chosen)
        run.checkpoint()
        alpha = search.alpha(run)
        around = given if given is not None else [alpha * i / 2 for i in range(7)]
        plane = _Plane(search, alpha, sorted({alpha, *around}), list(beta_axis))
        for cell in plane.order():
            plane.measure(cell, run)
            yield plane.dataset()

    return Run(partials, title=f"LiNeS on {method}")


Cell = tuple[float, float]


class _Plane:
    """The (alpha, beta) plane of one search as far as it is measured."""

    def __init__(
        self, search: MergeSearch, paper: float, alphas: list[float], betas: list[float]
    ) -> None:
        self.search, self.paper = search, paper
        self.alphas, self.betas = alphas, betas
        self.factors = list(factor_grid(search.method, search.options))
        n_tasks = len(search.tasks)
        self.accuracy = np.full((len(alphas), len(betas), n_tasks), np.nan)
        self.constant = np.full((len(self.factors), n_tasks), np.nan)

    def order(self) -> list[float | Cell]:
        """What is tried when: the paper's row, the method alone, the rows from coarse to fine."""
        others = [alpha for alpha in self.alphas if alpha != self.paper]
        rows = [self.paper, *coarse_to_fine(others)] if others else [self.paper]
        columns = coarse_to_fine(self.betas)
        cells = [(alpha, beta) for alpha in rows for beta in columns]
        first = len(columns)
        return [*cells[:first], *coarse_to_fine(self.factors), *cells[first:]]

    def measure(self, point: float | Cell, run: Run) -> None:
        """Accuracies at a point of the plane, or of the method alone at a factor."""
        trials = self.search.trials
        progress = self._n_measured() / self._n_points()
        if isinstance(point, tuple):
            found = trials.accuracies(self.search.with_lines(*point), run, progress)
            self.accuracy[self.alphas.index(point[0]), self.betas.index(point[1])] = found
        else:
            found = trials.accuracies(self.search.with_factor(point), run, progress)
            self.constant[self.factors.index(point)] = found

    def dataset(self) -> "xr.Dataset":
        """A complete, labelled copy of what is known."""
        import xarray as xr

        normalized = self.search.mean_normalized(self.accuracy)
        alone = self.search.mean_normalized(self.constant)
        plane, over = ("alpha", "beta"), "coefficient"
        trials = self.search.trials
        return xr.Dataset(
            {
                "mean_normalized": (plane, normalized, _about("mean normalized accuracy")),
                "mean_accuracy": (plane, self.accuracy.mean(-1), _about("mean accuracy")),
                "accuracy": ((*plane, "task"), self.accuracy.copy(), _about("accuracy")),
                "constant_normalized": (over, alone, _about("mean normalized accuracy alone")),
                "constant_accuracy": (over, self.constant.mean(-1), _about("mean accuracy alone")),
                "fine_tuned": ("task", self.search.tuned, _about("fine-tuned accuracy")),
                "n": ("task", np.array(list(trials.sizes.values()))),
            },
            coords={
                "alpha": self.alphas,
                "beta": self.betas,
                "coefficient": self.factors,
                "task": self.search.tasks,
            },
            attrs=self._attrs(normalized, alone),
        )

    def _attrs(self, normalized: np.ndarray, alone: np.ndarray) -> dict[str, Any]:
        search, row = self.search, self.alphas.index(self.paper)
        paper_beta = self.betas[first_best(normalized[row])]
        best = np.unravel_index(first_best(normalized.ravel()), normalized.shape)
        best_alpha, best_beta = self.alphas[int(best[0])], self.betas[int(best[1])]
        tried = bool(np.isfinite(alone).any())
        factor = self.factors[first_best(alone)] if tried else float("nan")
        return search.trials.attrs(
            self._n_measured() == self._n_points(),
            method=search.method,
            options=json.dumps(dict(search.options)),
            rule="alpha = (1/N) ||sum of task vectors||_1 / ||merged vector||_1, beta on the grid",
            paper_alpha=self.paper,
            paper_beta=paper_beta,
            paper_recipe=search.with_lines(self.paper, paper_beta).to_json(),
            best_alpha=best_alpha,
            best_beta=best_beta,
            best_recipe=search.with_lines(best_alpha, best_beta).to_json(),
            constant_best=factor,
            constant_recipe=search.with_factor(factor).to_json() if tried else "",
        )

    def _n_measured(self) -> int:
        plane, alone = self.accuracy[..., 0], self.constant[:, 0]
        return int(np.isfinite(plane).sum() + np.isfinite(alone).sum())

    def _n_points(self) -> int:
        return self.accuracy[..., 0].size + len(self.factors)


def _finite(values: Sequence[float], name: str) -> list[float]:
    try:
        points = sorted({float(x) + 0.0 for x in values})
    except (TypeError, ValueError):
        points = []
    if not points or not np.isfinite(points).all():
        raise RecipeError(f"The {name} of a search are finite numbers, at least one: {values!r}.")
    return points


def _about(long_name: str) -> dict[str, str]:
    return {"units": "1", "long_name": long_name}
