"""What a session looks at through the schedule lens. Components are bound to this."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import param

from explorer.app.schedule import curve
from explorer.app.state import LensState
from explorer.editing.schedule import Schedule, lines
from explorer.errors import RecipeError, UnknownNameError
from explorer.recipe import DEFAULT_METHOD, Recipe

TABS = ("forgetting", "search", "compare")
ADAMERGING = ("without", "with")
USUAL_IMAGES = 200
MOST_IMAGES = 100_000


class ScheduleState(LensState):
    """The lens's state: one recipe with schedule and method, and a few choices of view.

    `focus` is the target task: the one that forgetting is measured for. Change the state through
    its methods, which validate and remember.
    """

    tab = param.Selector(default=TABS[0], objects=list(TABS))
    n = param.Integer(USUAL_IMAGES, doc="Images a task of what the tabs measure.")
    seed = param.Integer(0, doc="Which images the comparison takes.")
    adamerging = param.Boolean(False, doc="Whether the comparison ends with AdaMerging.")

    def __init__(
        self, tasks: Sequence[str], base: str, n_layers: int, control: str | None = None
    ) -> None:
        start = Recipe(base=base, coefficients={tasks[0]: 1.0}, schedule=lines(*curve.FIRST))
        super().__init__(tasks, start, control)
        self.n_layers = n_layers

    # What follows from the state

    @property
    def kind(self) -> str:
        """Which kind of schedule this is."""
        return curve.kind_of(self.recipe.schedule)

    @property
    def alpha_and_beta(self) -> tuple[float, float]:
        """Those of LiNeS or of one of its controls; the usual ones for another schedule."""
        return curve.ends(self.recipe.schedule)

    @property
    def single(self) -> bool:
        """Whether the recipe edits the target task alone, by its vector times a number."""
        plain = self.recipe.method == DEFAULT_METHOD and self.recipe.space == "weights"
        return plain and [*self.recipe.active] == [self.focus]

    # Changes of the schedule

    def set_schedule(
        self, schedule: Schedule | None, gesture: str | None = None, done: bool = True
    ) -> None:
        """Another schedule; done: False while it is being dragged."""
        self._check_schedule(schedule)
        self._change(self.recipe.replace(schedule=schedule), self.off, gesture, done, self.solo)

    def set_kind(self, kind: str) -> None:
        """Another kind of schedule, as near to the present one as it allows."""
        self.set_schedule(curve.reshaped(self.recipe.schedule, kind, self.n_layers))

    def set_values(self, values: Any, done: bool = True) -> None:
        """Move the handles of the curve, in the order of `curve.handles`."""
        numbers = [self._factor(x, "factor of a schedule") for x in values]
        moved = curve.with_values(self._drawn(), [round(x, 4) for x in numbers])
        self.set_schedule(moved, "schedule", done)

    def set_lines(self, alpha: Any, beta: Any, done: bool = True) -> None:
        """Alpha and beta of LiNeS or of one of its controls."""
        schedule = self._drawn(*curve.RAMPS)
        numbers = (
            round(self._factor(alpha, "LiNeS's alpha"), 4),
            round(self._factor(beta, "LiNeS's beta"), 4),
        )
        moved = Schedule(schedule.kind, (*numbers, *schedule.parameters[2:]), schedule.outside)
        self.set_schedule(moved, "schedule", done)

    def add_point(self, depth: Any, value: Any) -> None:
        """One point more on a piecewise schedule; depth 0 is the first block, 1 the last."""
        place = round(_number(depth, "depth of a point", 0, 1), 3)
        factor = round(self._factor(value, "factor of a schedule"), 4)
        self.set_schedule(curve.with_point(self._drawn("piecewise"), place, factor))

    def remove_point(self, index: Any) -> None:
        """One point less on a piecewise schedule."""
        self.set_schedule(curve.without_point(self._drawn("piecewise"), int(index)))

    def set_outside(self, outside: Any) -> None:
        """Whether ln_post and proj get alpha, as in the paper's code, or follow the last block."""
        schedule = self._drawn(*curve.LAID_OUT)
        self.set_schedule(Schedule(schedule.kind, schedule.parameters, outside))

    def set_order(self, seed: Any) -> None:
        """Another order of the blocks of a shuffled schedule."""
        whole = _whole(seed, "The seed of the order", 0, 2**31 - 1)
        self.set_schedule(curve.with_seed(self._drawn("shuffled_lines"), whole))

    # Changes of the method

    def set_method(self, name: str) -> None:
        """Another merging method, with its own options as they come."""
        from explorer.editing.methods import find_method

        method = find_method(name)
        options = {"task": self._first_active()} if method.per_task else {}
        recipe = self.recipe.replace(method=name, options=tuple(options.items()))
        self._change(recipe, self.off, solo=self.solo)

    def set_option(self, name: str, value: Any, done: bool = True) -> None:
        """An option of the method. One that is as it comes is not written into the recipe."""
        from explorer.editing.methods import find_method

        method = find_method(self.recipe.method)
        method.check_options({name: value})
        others = {key: x for key, x in self.recipe.options if key != name}
        if value != method.options[name].default:
            others[name] = value
        recipe = self.recipe.replace(options=tuple(others.items()))
        self._change(recipe, self.off, f"option {name}", done, self.solo)

    # Changes of the view

    def look_at(self, task: str) -> None:
        """The target task of forgetting."""
        if task not in self.tasks:
            raise UnknownNameError("task vector", task, self.tasks)
        super().look_at(task)

    def set_tab(self, tab: str) -> None:
        if tab not in TABS:
            raise UnknownNameError("tab", tab, TABS)
        self.tab = tab

    def set_n(self, n: Any) -> None:
        """Images a task of what the tabs measure."""
        self.n = _whole(n, "The number of images a task", 1, MOST_IMAGES)

    def set_seed(self, seed: Any) -> None:
        """Seed of the images of the comparison."""
        self.seed = _whole(seed, "The seed", 0, 2**31 - 1)

    def set_adamerging(self, there: Any) -> None:
        """Whether the comparison ends with AdaMerging: "with" or "without"."""
        if there not in ADAMERGING:
            raise UnknownNameError("answer to AdaMerging", str(there), ADAMERGING)
        self.adamerging = there == "with"

    # Validation, where values enter

    def _check(self, recipe: Recipe) -> None:
        from explorer.editing.methods import find_method

        super()._check(recipe)
        if recipe.space != "weights":
            raise RecipeError(
                f"This lens looks at merged weights, and a recipe in the {recipe.space!r} space "
                "has none; its accuracies are in the task-arithmetic lens."
            )
        self._check_schedule(recipe.schedule)
        find_method(recipe.method).check_options(dict(recipe.options))

    def _check_schedule(self, schedule: Schedule | None) -> None:
        if schedule is not None:
            schedule.terms(self.n_layers)  # refuses the numbers of another depth

    def _drawn(self, *kinds: str) -> Schedule:
        """The schedule, if it is of one of these kinds, or if there is one at all."""
        schedule = self.recipe.schedule
        if schedule is None or (kinds and schedule.kind not in kinds):
            wanted = " or ".join(curve.KINDS[kind] for kind in kinds) or "any kind"
            raise RecipeError(
                f"There is no schedule of the kind {wanted} on screen; choose it first."
            )
        return schedule

    def _factor(self, value: Any, name: str) -> float:
        return _number(value, name, *curve.bounds(self.recipe.schedule, self.n_layers))

    def _first_active(self) -> str:
        return next(iter(self.recipe.active), self.tasks[0])


def _number(value: Any, name: str, low: float, high: float) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not low <= value <= high:
        raise RecipeError(f"A {name} is a number between {low:g} and {high:g}, not {value!r}.")
    return float(value)


def _whole(value: Any, name: str, low: int, high: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise RecipeError(f"{name} must be a whole number from {low} to {high:,}, not {value!r}.")
    return value
